"""For each setting, what it should be and why: pure functions of the facts.

A rule proposes; what a value may cost, and whether that is accepted, is for
`plan` to say. No rule lowers what somebody has set higher.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from howdah.tuning.facts import Facts

__all__ = ["RULES", "Proposal", "amount", "replication_in_use", "shown_size"]

_KB, _MB, _GB = 1 << 10, 1 << 20, 1 << 30
_UNITS: dict[str, float] = {
    "": 1,
    "B": 1,
    "kB": _KB,
    "8kB": 8 * _KB,
    "MB": _MB,
    "GB": _GB,
    "TB": _GB << 10,
}
_UNITS |= {"us": 1e-6, "ms": 1e-3, "s": 1, "min": 60, "h": 3600, "d": 86400}
_QUANTITY = re.compile(r"\s*(-?[\d.]+)\s*([A-Za-z]*)\s*")

_WRITER_DELAY_S = 0.02
_SLOW_FLUSH_S, _MOST_COMMIT_DELAY_S = 0.005, 0.01
_MUCH = 0.1  # of the writing that is the checkpointer's
_HOLD_BACK = 8  # pg_wal may take an eighth of what is free: max_wal_size is no hard limit


@dataclass(frozen=True, slots=True)
class Proposal:
    """A value for a setting.

    Attributes:
        value: As ALTER SYSTEM takes it.
        why: One line.
        effect: What it is expected to do here; None for what the catalogue says.
    """

    value: str
    why: str
    effect: str | None = None


Rule = Callable[[Facts, frozenset[str]], Proposal | None]


def amount(text: str, unit: str | None = None) -> float:
    """Return a quantity in bytes or seconds, or a bare number: "4GB", "15min", "16384" of "8kB"."""
    match = _QUANTITY.fullmatch(text)
    if match is None:
        raise ValueError(text)
    return float(match[1]) * _UNITS[match[2] or unit or ""]


def shown_size(size_bytes: float) -> str:
    """Return a size as PostgreSQL writes it, rounded down to whole MB: "4GB", "640MB"."""
    megabytes = int(size_bytes) // _MB
    return f"{megabytes // 1024}GB" if megabytes % 1024 == 0 else f"{megabytes}MB"


def replication_in_use(facts: Facts) -> list[str]:
    """Return what needs the WAL for more than crash recovery, in words; max_wal_senders aside."""
    activity, settings = facts.activity, facts.settings
    summarizing = settings.get("summarize_wal")
    found = [
        (activity.recovering, "the server is a standby"),
        (activity.standbys > 0, f"{activity.standbys} standbys or backups are connected"),
        (activity.slots > 0, f"{activity.slots} replication slots exist"),
        (activity.archiving, f"archive_mode is {settings['archive_mode'].value}"),
        (settings["wal_level"].value == "logical", "wal_level is logical, for decoding"),
        (summarizing is not None and summarizing.value == "on", "summarize_wal is on"),
    ]
    return [words for is_so, words in found if is_so]


def _now(facts: Facts, name: str) -> float:
    current = facts.settings[name]
    return amount(current.value, current.unit)


def _at_least(facts: Facts, name: str, wanted: float, why: str) -> Proposal | None:
    """Propose a size, in whole MB, unless what is set is as large."""
    wanted = int(wanted) // _MB * _MB
    return Proposal(shown_size(wanted), why) if wanted > _now(facts, name) else None


def _synchronous_commit(facts: Facts, _: frozenset[str]) -> Proposal | None:
    if facts.settings["synchronous_commit"].value == "off":
        return None
    wait = facts.commit_wait_s or 0.0
    lost = 3 * min(_now(facts, "wal_writer_delay"), _WRITER_DELAY_S)
    why = "each commit waits for the disk"
    if wait > 0:
        why += f", {_ms(wait)} here: at most {1 / wait:,.0f} commits/s on a connection"
    return Proposal(
        "off", why, f"commits wait for nothing; a crash loses at most the last {lost:g} s"
    )


def _commit_delay(facts: Facts, _: frozenset[str]) -> Proposal | None:
    """Propose a wait of a fifth of a flush, where that is long.

    The documentation starts from a half. 16 connections with a flush of 10 ms took 0.78 of the
    time with a tenth to a third, 0.84 with a half; with 2 ms it made no difference.
    Source: https://www.postgresql.org/docs/current/wal-configuration.html
    """
    wait = facts.commit_wait_s or 0.0
    standbys = facts.settings["synchronous_standby_names"].value
    if wait < _SLOW_FLUSH_S or standbys or _now(facts, "commit_delay") > 0:
        return None
    delay = round(min(wait / 5, _MOST_COMMIT_DELAY_S) * 1e4) * 100
    return Proposal(str(delay), f"a flush takes {_ms(wait)}: commits that come together share it")


def _wal_writer_delay(facts: Facts, _: frozenset[str]) -> Proposal | None:
    if _now(facts, "wal_writer_delay") <= _WRITER_DELAY_S:
        return None
    return Proposal("20ms", "the WAL writer should flush, so that loads need not do it themselves")


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.2g} ms"


def _max_wal_size(facts: Facts, wanted: frozenset[str]) -> Proposal | None:
    target = 16 * _GB if "bulk" in wanted else 4 * _GB
    if facts.host is not None:
        target = min(target, facts.host.wal_free_bytes // _HOLD_BACK // _GB * _GB)
    return _at_least(facts, "max_wal_size", target, _checkpoints(facts))


def _checkpoints(facts: Facts) -> str:
    activity = facts.activity
    total = activity.checkpoints_timed + activity.checkpoints_requested
    why = "checkpoints should come by time, not because the WAL is full"
    if activity.checkpoints_requested:
        why += f"; {activity.checkpoints_requested} of {total} so far were requested"
    return why


def _min_wal_size(facts: Facts, wanted: frozenset[str]) -> Proposal | None:
    largest = _max_wal_size(facts, wanted)
    size = amount(largest.value) if largest else _now(facts, "max_wal_size")
    why = "a burst finds files to recycle"
    if facts.host is not None and facts.host.copy_on_write:
        return None  # recycling costs there, see wal_recycle
    return _at_least(facts, "min_wal_size", min(size / 4, 2 * _GB), why)


def _checkpoint_timeout(facts: Facts, _: frozenset[str]) -> Proposal | None:
    if _now(facts, "checkpoint_timeout") >= amount("15min"):
        return None
    return Proposal(
        "15min",
        "after a checkpoint each page that changes goes to the WAL whole, once",
        "fewer page images; recovery after a crash takes up to three times as long",
    )


def _completion_target(facts: Facts, _: frozenset[str]) -> Proposal | None:
    if _now(facts, "checkpoint_completion_target") >= 0.9:  # noqa: PLR2004 - the default since 14
        return None
    return Proposal("0.9", "checkpoints should write evenly")


def _wal_buffers(facts: Facts, _: frozenset[str]) -> Proposal | None:
    # 64MB was no quicker: a COPY of 400,000 rows took 1.17 s of CPU with it, and 1.14 with 16MB.
    why = "one WAL segment, as PostgreSQL takes by itself from shared_buffers = 512MB on"
    if facts.activity.wal_buffers_full:
        why += f"; backends found them full {facts.activity.wal_buffers_full:,} times"
    return _at_least(facts, "wal_buffers", 16 * _MB, why)


def _shared_buffers(facts: Facts, _: frozenset[str]) -> Proposal | None:
    if facts.host is None:
        return None
    size = min(facts.host.memory_bytes // 4, 8 * _GB) // (64 * _MB) * (64 * _MB)
    why = f"a quarter of {facts.host.memory_bytes / _GB:.1f} GB of memory, at most 8GB"
    writes = facts.activity.writes
    if writes is not None and writes.by_backends > _MUCH:
        why += f"; backends had to write {writes.by_backends:.0%} of the pages themselves"
    return _at_least(facts, "shared_buffers", size, why)


def _maintenance_work_mem(facts: Facts, _: frozenset[str]) -> Proposal | None:
    if facts.host is None:
        return None
    size = min(facts.host.memory_bytes // 32, _GB)
    why = "indexes built after a load should sort in memory"
    return _at_least(facts, "maintenance_work_mem", size, why)


def _autovacuum_work_mem(facts: Facts, wanted: frozenset[str]) -> Proposal | None:
    larger = _maintenance_work_mem(facts, wanted)
    if larger is None or facts.settings["autovacuum_work_mem"].value != "-1":
        return None
    size = max(_now(facts, "maintenance_work_mem"), 64 * _MB)
    return Proposal(shown_size(size), "each autovacuum worker would take maintenance_work_mem too")


def _maintenance_workers(facts: Facts, _: frozenset[str]) -> Proposal | None:
    if facts.host is None:
        return None
    workers = min(facts.host.cores // 2, 4)
    if workers <= _now(facts, "max_parallel_maintenance_workers"):
        return None
    return Proposal(str(workers), f"half of {facts.host.cores} cores may build one index")


def _wal_compression(facts: Facts, _: frozenset[str]) -> Proposal | None:
    current = facts.settings["wal_compression"]
    if current.value != "off" or "lz4" not in (current.enum_values or ()):
        return None
    return Proposal("lz4", "page images after a checkpoint shrink for little CPU")


def _toast_compression(facts: Facts, _: frozenset[str]) -> Proposal | None:
    current = facts.settings["default_toast_compression"]
    if current.value == "lz4" or "lz4" not in (current.enum_values or ()):
        return None
    if facts.activity.standbys or facts.activity.slots:
        return None  # they may run on a build without lz4
    return Proposal("lz4", "values over 2 kB are compressed for a fraction of the CPU")


def _copy_on_write(facts: Facts, _: frozenset[str]) -> Proposal | None:
    if facts.host is None or not facts.host.copy_on_write:
        return None
    return Proposal("off", f"{facts.host.wal_filesystem} never writes a block in place")


def _vacuum_cost_limit(facts: Facts, _: frozenset[str]) -> Proposal | None:
    limit = _now(facts, "autovacuum_vacuum_cost_limit")
    if limit < 0:
        limit = _now(facts, "vacuum_cost_limit")
    if limit >= 1000:  # noqa: PLR2004 - the value proposed
        return None
    return Proposal("1000", "dead rows and old page images should be gone as fast as they come")


def _io_concurrency(facts: Facts, _: frozenset[str]) -> Proposal | None:
    if _now(facts, "effective_io_concurrency") >= 16:  # noqa: PLR2004 - the default since 18
        return None
    return Proposal("16", "the default of PostgreSQL 18, for the reads of large updates")


def _minimal(facts: Facts, _: frozenset[str]) -> Proposal | None:
    if facts.settings["wal_level"].value == "minimal":
        return None
    return Proposal("minimal", "rows copied into a new table need no WAL")


def _no_senders(facts: Facts, _: frozenset[str]) -> Proposal | None:
    if _now(facts, "max_wal_senders") == 0:
        return None
    return Proposal("0", "wal_level = minimal needs it")


def _backend_flush_after(facts: Facts, _: frozenset[str]) -> Proposal | None:
    """Propose the most; `plan` keeps it beside wal_level = minimal alone: else it slows loads."""
    if _now(facts, "backend_flush_after") > 0:
        return None
    return Proposal("2MB", "rows without WAL are flushed by the COMMIT: most should be by then")


def _off(facts: Facts, name: str, why: str) -> Proposal | None:
    return None if facts.settings[name].value == "off" else Proposal("off", why)


RULES: Mapping[str, Rule] = {
    "synchronous_commit": _synchronous_commit,
    "commit_delay": _commit_delay,
    "wal_writer_delay": _wal_writer_delay,
    "max_wal_size": _max_wal_size,
    "min_wal_size": _min_wal_size,
    "checkpoint_timeout": _checkpoint_timeout,
    "checkpoint_completion_target": _completion_target,
    "wal_compression": _wal_compression,
    "wal_init_zero": _copy_on_write,
    "wal_recycle": _copy_on_write,
    "wal_buffers": _wal_buffers,
    "shared_buffers": _shared_buffers,
    "maintenance_work_mem": _maintenance_work_mem,
    "autovacuum_work_mem": _autovacuum_work_mem,
    "max_parallel_maintenance_workers": _maintenance_workers,
    "effective_io_concurrency": _io_concurrency,
    "default_toast_compression": _toast_compression,
    "autovacuum_vacuum_cost_limit": _vacuum_cost_limit,
    "wal_level": _minimal,
    "max_wal_senders": _no_senders,
    "backend_flush_after": _backend_flush_after,
    "full_page_writes": lambda facts, _: _off(facts, "full_page_writes", "a disposable server"),
    "fsync": lambda facts, _: _off(facts, "fsync", "nothing of a disposable server must last"),
}
"""By setting, in the order of a plan. A setting that has no rule is explained and left alone."""
