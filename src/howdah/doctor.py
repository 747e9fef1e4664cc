"""One look over a server: findings as data, each with the command that mends it.

A finding is a fact against a threshold that is named in it. No finding is no
proof of health: only of these points.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, LiteralString

from psycopg import Connection

from howdah.connections.limit import facts, plan_limit
from howdah.connections.usage import Usage, usage
from howdah.server.drift import drifts
from howdah.server.settings import Setting, in_bytes, settings

__all__ = ["Finding", "findings"]

Area = Literal["connections", "memory", "configuration", "WAL", "migrations"]

_TIGHT = 0.8
_STUCK_S = 60.0
_LEAST_BUFFERS_SHARE = 0.05
_LEAST_MAX_WAL_BYTES = 1 << 30
_LIMIT_PAGE = "how-to/raise-the-connection-limit.md"
_CONFIG_PAGE = "reference/config.md"
_NAMES = ("shared_buffers", "max_wal_size", "fsync", "full_page_writes", "wal_level")


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that a person should see to.

    Attributes:
        id: Stable, for scripts: "connections.few-left".
        area: What it is about.
        text: What is the case, with the figures.
        mend: The command that mends it.
        page: In docs/.
    """

    id: str
    area: Area
    text: str
    mend: str
    page: str


def findings(conn: Connection[Any]) -> list[Finding]:
    """Return what a person should see to, as far as our role may see."""
    found = usage(conn)
    values = settings(conn, *_NAMES)
    return [
        *_connections(found),
        *_memory(conn, values),
        *_configuration(conn, values),
        *_wal(conn, values),
        *_migrations(conn),
    ]


def _connections(found: Usage) -> list[Finding]:
    slots = found.slots
    result = []
    if slots.used >= slots.ordinary * _TIGHT:
        text = f"{slots.used} of {slots.ordinary} ordinary connection slots are used"
        mend = f"howdah connections limit {slots.limit * 2}"
        result.append(Finding("connections.few-left", "connections", text, mend, _LIMIT_PAGE))
    stuck = [
        each
        for each in found.sessions
        if (each.state or "").startswith("idle in transaction") and (each.state_s or 0) > _STUCK_S
    ]
    if stuck:
        text = f"{len(stuck)} sessions hold a transaction open and do nothing for over a minute"
        mend = "howdah config set idle_in_transaction_session_timeout 60s"
        result.append(
            Finding("connections.idle-in-transaction", "connections", text, mend, _LIMIT_PAGE)
        )
    if found.grant is not None:
        text = f"the role {slots.role} does not see what other roles' sessions do"
        result.append(Finding("connections.hidden", "connections", text, found.grant, _LIMIT_PAGE))
    return result


def _memory(conn: Connection[Any], values: dict[str, Setting]) -> list[Finding]:
    known = facts(conn)
    if known is None:
        return []
    result = []
    plan = plan_limit(known)
    if not plan.fits:
        text = f"max_connections = {plan.now}, and the memory of the host affords {plan.affordable}"
        mend = f"howdah connections limit {plan.affordable} --apply"
        page = "how-to/size-the-connection-limit.md"
        result.append(Finding("memory.too-many-connections", "memory", text, mend, page))
    buffers = in_bytes(values["shared_buffers"])
    if buffers < known.ram_bytes * _LEAST_BUFFERS_SHARE:
        text = f"shared_buffers is {values['shared_buffers'].shown}, less than a twentieth of "
        text += f"{known.ram_bytes >> 20:,} MiB of memory"
        mend = f"howdah config set shared_buffers {known.ram_bytes >> 22}MB --restart"
        result.append(Finding("memory.small-buffers", "memory", text, mend, _CONFIG_PAGE))
    return result


def _configuration(conn: Connection[Any], values: dict[str, Setting]) -> list[Finding]:
    result = []
    for drift in drifts(conn):
        where = f" ({drift.file}, line {drift.line})" if drift.file else ""
        if drift.error:
            text = f"{drift.name or 'a line'} is wrong{where}: {drift.error}"
            found = Finding("configuration.error", "configuration", text, "howdah config diff", "")
        else:
            text = (
                f"{drift.name} is {drift.in_force}, and the files say otherwise{where}: it waits "
            )
            text += f"for a {drift.waits_for}"
            mend = "howdah server restart, or how the server is run"
            if drift.waits_for == "reload":
                mend = "SELECT pg_reload_conf();"
            found = Finding("configuration.waiting", "configuration", text, mend, "")
        result.append(_with_page(found))
    for name in ("fsync", "full_page_writes"):
        if values[name].value == "off":
            text = f"{name} is off: a crash of the host can corrupt the data for good"
            mend = f"howdah config set {name} on"
            result.append(
                Finding(f"configuration.{name}", "configuration", text, mend, _CONFIG_PAGE)
            )
    return result


def _with_page(found: Finding) -> Finding:
    return Finding(found.id, found.area, found.text, found.mend, _CONFIG_PAGE)


_SLOTS = """
    SELECT slot_name FROM pg_catalog.pg_replication_slots WHERE NOT active ORDER BY 1
"""
_ARCHIVER = """
    SELECT last_failed_wal FROM pg_catalog.pg_stat_archiver
     WHERE last_failed_time > coalesce(last_archived_time, '-infinity')
"""


def _wal(conn: Connection[Any], values: dict[str, Setting]) -> list[Finding]:
    result = []
    for name in _column(conn, _SLOTS):
        text = f"nobody reads the replication slot {name}: WAL is kept for it without end"
        mend = "SELECT pg_drop_replication_slot('...'), if its reader is gone for good"
        result.append(Finding("wal.idle-slot", "WAL", text, mend, _CONFIG_PAGE))
    for name in _column(conn, _ARCHIVER):
        text = f"archiving fails at {name}: WAL piles up until the disk is full"
        mend = "howdah config show archive_command"
        result.append(Finding("wal.archive-fails", "WAL", text, mend, _CONFIG_PAGE))
    if in_bytes(values["max_wal_size"]) < _LEAST_MAX_WAL_BYTES:
        text = f"max_wal_size is {values['max_wal_size'].shown}: loads checkpoint all the time"
        mend = "howdah config set max_wal_size 4GB"
        result.append(Finding("wal.small", "WAL", text, mend, _CONFIG_PAGE))
    return result


_INVALID = """
    SELECT format('%I.%I', n.nspname, c.relname)
      FROM pg_catalog.pg_index AS i
      JOIN pg_catalog.pg_class AS c ON c.oid = i.indexrelid
      JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
     WHERE NOT i.indisvalid
       AND NOT EXISTS (SELECT FROM pg_catalog.pg_stat_progress_create_index AS p
                        WHERE p.index_relid = i.indexrelid)
     ORDER BY 1
"""


def _migrations(conn: Connection[Any]) -> list[Finding]:
    return [
        Finding(
            "migrations.invalid-index",
            "migrations",
            f"the index {name} is invalid: a CREATE INDEX CONCURRENTLY failed half-way",
            f"REINDEX INDEX CONCURRENTLY {name};",
            _CONFIG_PAGE,
        )
        for name in _column(conn, _INVALID)
    ]


def _column(conn: Connection[Any], query: LiteralString) -> list[str]:
    return [str(row[0]) for row in conn.execute(query)]
