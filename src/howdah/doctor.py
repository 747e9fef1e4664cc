"""One look over a server: findings as data, each with the command that mends it.

A finding is a fact against a threshold that is named in it. No finding is no
proof of health: only of these points.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, LiteralString

from psycopg import Connection

from howdah.connections.limit import facts, plan_limit
from howdah.connections.usage import Usage, usage
from howdah.loading.leftovers import dropped_indexes, tables_aside
from howdah.server.drift import drifts
from howdah.server.settings import Setting, in_bytes, settings

__all__ = ["AREAS", "Finding", "findings", "migration_findings"]

Area = Literal["connections", "memory", "configuration", "WAL", "loads", "migrations"]

_TIGHT = 0.8
_STUCK_S = 60.0
_SHOWN = 3
_LEAST_BUFFERS_SHARE = 0.05
_LEAST_MAX_WAL_BYTES = 1 << 30
_NAMES = ("shared_buffers", "max_wal_size", "fsync", "full_page_writes", "wal_level")


AREAS: dict[str, Area] = {
    "connections.few-left": "connections",
    "connections.hidden": "connections",
    "connections.idle-in-transaction": "connections",
    "memory.small-buffers": "memory",
    "memory.too-many-connections": "memory",
    "configuration.error": "configuration",
    "configuration.fsync": "configuration",
    "configuration.full_page_writes": "configuration",
    "configuration.waiting": "configuration",
    "wal.archive-fails": "WAL",
    "wal.idle-slot": "WAL",
    "wal.small": "WAL",
    "loads.dropped-indexes": "loads",
    "loads.table-aside": "loads",
    "migrations.ahead": "migrations",
    "migrations.conflict": "migrations",
    "migrations.invalid-index": "migrations",
    "migrations.unapplied": "migrations",
}
"""All that can be found, by id; each is explained in docs/reference/doctor.md."""

_PAGE = "reference/doctor.md"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that a person should see to.

    Attributes:
        id: Stable, for scripts: "connections.few-left".
        area: What it is about.
        text: What is the case, with the figures.
        mend: The command that mends it.
        page: In docs/, with its anchor.
    """

    id: str
    area: Area
    text: str
    mend: str
    page: str


def _finding(name: str, text: str, mend: str) -> Finding:
    return Finding(name, AREAS[name], text, mend, f"{_PAGE}#{name}")


def findings(conn: Connection[Any]) -> list[Finding]:
    """Return what a person should see to, as far as our role may see."""
    found = usage(conn)
    values = settings(conn, *_NAMES)
    return [
        *_connections(found),
        *_memory(conn, values),
        *_configuration(conn, values),
        *_wal(conn, values),
        *_loads(conn),
        *_migrations(conn),
    ]


def _connections(found: Usage) -> list[Finding]:
    slots = found.slots
    result = []
    if slots.used >= slots.ordinary * _TIGHT:
        text = f"{slots.used} of {slots.ordinary} ordinary connection slots are used"
        mend = f"howdah connections limit {slots.limit * 2}"
        result.append(_finding("connections.few-left", text, mend))
    stuck = [
        each
        for each in found.sessions
        if (each.state or "").startswith("idle in transaction") and (each.state_s or 0) > _STUCK_S
    ]
    if stuck:
        text = f"{len(stuck)} sessions hold a transaction open and do nothing for over a minute"
        mend = "howdah config set idle_in_transaction_session_timeout 60s"
        result.append(_finding("connections.idle-in-transaction", text, mend))
    if found.grant is not None:
        text = f"the role {slots.role} does not see what other roles' sessions do"
        result.append(_finding("connections.hidden", text, found.grant))
    return result


def _memory(conn: Connection[Any], values: dict[str, Setting]) -> list[Finding]:
    known = facts(conn)
    if known is None:
        return []
    result = []
    plan = plan_limit(known)
    if not plan.fits:
        text = f"max_connections = {plan.now}, and the host affords {plan.affordable} "
        text += f"(bound by its {plan.bound})"
        mend = f"howdah connections limit {plan.affordable} --apply"
        result.append(_finding("memory.too-many-connections", text, mend))
    buffers = in_bytes(values["shared_buffers"])
    if buffers < known.ram_bytes * _LEAST_BUFFERS_SHARE:
        text = f"shared_buffers is {values['shared_buffers'].shown}, less than a twentieth of "
        text += f"{known.ram_bytes >> 20:,} MiB of memory"
        mend = f"howdah config set shared_buffers {known.ram_bytes >> 22}MB --restart"
        result.append(_finding("memory.small-buffers", text, mend))
    return result


def _configuration(conn: Connection[Any], values: dict[str, Setting]) -> list[Finding]:
    result = []
    for drift in drifts(conn):
        where = f" ({drift.file}, line {drift.line})" if drift.file else ""
        if drift.error:
            text = f"{drift.name or 'a line'} is wrong{where}: {drift.error}"
            result.append(_finding("configuration.error", text, "howdah config diff"))
        else:
            text = (
                f"{drift.name} is {drift.in_force}, and the files say otherwise{where}: it waits "
            )
            text += f"for a {drift.waits_for}"
            mend = "howdah server restart, or how the server is run"
            if drift.waits_for == "reload":
                mend = "SELECT pg_reload_conf();"
            result.append(_finding("configuration.waiting", text, mend))
    for name in ("fsync", "full_page_writes"):
        if values[name].value == "off":
            text = f"{name} is off: a crash of the host can corrupt the data for good"
            mend = f"howdah config set {name} on"
            result.append(_finding(f"configuration.{name}", text, mend))
    return result


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
        result.append(_finding("wal.idle-slot", text, mend))
    for name in _column(conn, _ARCHIVER):
        text = f"archiving fails at {name}: WAL piles up until the disk is full"
        mend = "howdah config show archive_command"
        result.append(_finding("wal.archive-fails", text, mend))
    if in_bytes(values["max_wal_size"]) < _LEAST_MAX_WAL_BYTES:
        text = f"max_wal_size is {values['max_wal_size'].shown}: loads checkpoint all the time"
        mend = "howdah config set max_wal_size 4GB"
        result.append(_finding("wal.small", text, mend))
    return result


def _loads(conn: Connection[Any]) -> list[Finding]:
    result = []
    for each in dropped_indexes(conn):
        text = f"a killed load has left {each.count} of the indexes of {each.table} dropped"
        mend = f"howdah load --restore-indexes --table {shlex.quote(each.table)}"
        result.append(_finding("loads.dropped-indexes", text, mend))
    for aside in tables_aside(conn):
        text = f"a killed load has left the table {aside.name}, {aside.size_bytes >> 20:,} MiB"
        result.append(_finding("loads.table-aside", text, f"DROP TABLE {aside.name};"))
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
        _finding(
            "migrations.invalid-index",
            f"the index {name} is invalid: a CREATE INDEX CONCURRENTLY failed half-way",
            f"REINDEX INDEX CONCURRENTLY {name};",
        )
        for name in _column(conn, _INVALID)
    ]


def migration_findings(
    alias: str, unapplied: Sequence[str], conflicts: Sequence[str], ahead: Sequence[str]
) -> list[Finding]:
    """Return what a person should see to in a Django project; see `howdah.django.migrations`.

    Args:
        alias: The alias of DATABASES.
        unapplied: Migrations that its database has not.
        conflicts: Apps whose migrations end in two places.
        ahead: Of each app whose models say what no migration makes, a sentence.
    """
    result = []
    if unapplied:
        shown = ", ".join(unapplied[:_SHOWN])
        more = f" and {len(unapplied) - _SHOWN} more" if len(unapplied) > _SHOWN else ""
        text = f"the database of the alias {alias} lacks {shown}{more}"
        result.append(
            _finding("migrations.unapplied", text, f"manage.py migrate --database={alias}")
        )
    for app in conflicts:
        text = f"the migrations of {app} end in two places, so that none can be applied"
        result.append(
            _finding("migrations.conflict", text, f"manage.py makemigrations --merge {app}")
        )
    result += [_finding("migrations.ahead", one, "manage.py makemigrations") for one in ahead]
    return result


def _column(conn: Connection[Any], query: LiteralString) -> list[str]:
    return [str(row[0]) for row in conn.execute(query)]
