"""What a plan depends on: the host, the server's settings, and what runs now."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
from psycopg import Connection, sql

from howdah import pg
from howdah.server import configuration
from howdah.server.host import disk_of, host
from howdah.server.runner import local_server
from howdah.server.settings import Setting, file_places
from howdah.server.settings import settings as all_settings
from howdah.tuning.costly import Costly, costly_statements
from howdah.tuning.flush import commit_wait_s, file_flush_s

__all__ = ["Activity", "Facts", "Host", "Writes", "read_facts"]

_MOST_COSTLY = 3
_COPY_ON_WRITE = ("zfs", "btrfs", "bcachefs")


@dataclass(frozen=True, slots=True)
class Host:
    """The machine of a server on this machine.

    Attributes:
        cores: That the server may use.
        memory_bytes: Of the host or the container, whichever is less.
        wal_free_bytes: Free on the file system of pg_wal.
        wal_filesystem: Its type: "ext4", "zfs"; "" where unknown.
        flush_s: Median of writing and flushing 8 kB there; None where we may not.
    """

    cores: int
    memory_bytes: int
    wal_free_bytes: int
    wal_filesystem: str = ""
    flush_s: float | None = None

    @property
    def copy_on_write(self) -> bool:
        """Whether pg_wal is on a file system that never writes in place."""
        return self.wal_filesystem in _COPY_ON_WRITE


@dataclass(frozen=True, slots=True)
class Writes:
    """Who writes the pages of tables and indexes, since pg_stat_io (16 and newer) was reset.

    Attributes:
        backends_bytes: By client backends that needed room in shared_buffers, COPY's own
            writing left out.
        background_bytes: By the checkpointer and the background writer.
        extended_bytes: By which client backends made files larger.
        backend_fsyncs: Flushes by client backends, as the checkpointer did not keep up.
    """

    backends_bytes: int = 0
    background_bytes: int = 0
    extended_bytes: int = 0
    backend_fsyncs: int = 0

    @property
    def by_backends(self) -> float:
        """The part of the writing that client backends had to do: 0.25 for a quarter."""
        return self.backends_bytes / max(self.backends_bytes + self.background_bytes, 1)


@dataclass(frozen=True, slots=True)
class Activity:
    """What runs now, and who depends on the WAL.

    Attributes:
        standbys: Connected standbys, base backups and WAL receivers.
        slots: Replication slots.
        archiving: Whether WAL is archived.
        recovering: Whether the server is itself a standby.
        checkpoints_timed: Since the statistics were reset.
        checkpoints_requested: The same; forced by max_wal_size, or asked for.
        wal_bytes: WAL written since pg_stat_wal was reset.
        wal_seconds: How long ago that was.
        wal_buffers_full: How often a backend had to write WAL since its buffers were full.
        wal_syncs: Flushes of WAL since then, by pg_stat_wal, or pg_stat_io of 18.
        writes: By whom pages are written; None before 16.
        costly: The inserts and updates that cost most; none without pg_stat_statements.
    """

    standbys: int = 0
    slots: int = 0
    archiving: bool = False
    recovering: bool = False
    checkpoints_timed: int = 0
    checkpoints_requested: int = 0
    wal_bytes: int = 0
    wal_seconds: float = 0.0
    wal_buffers_full: int = 0
    wal_syncs: int = 0
    writes: Writes | None = None
    costly: tuple[Costly, ...] = ()


@dataclass(frozen=True, slots=True)
class Facts:
    """All that a plan depends on.

    Attributes:
        major: 15 for PostgreSQL 15.18.
        version: "15.18".
        settings: By name, all of pg_settings.
        activity: What runs now.
        host: None where the server is on another machine.
        commit_wait_s: What a commit waits for the disk, and standbys; None on a standby.
        disposable: Whether Howdah started the server as one that may lose all it has.
    """

    major: int
    version: str
    settings: Mapping[str, Setting]
    activity: Activity
    host: Host | None = None
    commit_wait_s: float | None = None
    disposable: bool = False


_ACTIVITY = """
    SELECT (SELECT count(*) FROM pg_catalog.pg_stat_replication)::int AS standbys,
           (SELECT count(*) FROM pg_catalog.pg_replication_slots)::int AS slots,
           current_setting('archive_mode') <> 'off' AS archiving,
           pg_catalog.pg_is_in_recovery() AS recovering,
           {timed} AS checkpoints_timed, {requested} AS checkpoints_requested,
           wal_bytes::bigint AS wal_bytes, wal_buffers_full, {syncs} AS wal_syncs,
           extract(epoch FROM now() - stats_reset)::float8 AS wal_seconds
      FROM pg_catalog.pg_stat_wal
"""
_CHECKPOINTER = 17  # the major in which checkpoints got a view of their own
_SYNCS_MOVED = 18
_SYNCS = {
    "old": sql.SQL("wal_sync"),
    "new": sql.SQL(
        "(SELECT coalesce(sum(fsyncs), 0)::bigint FROM pg_catalog.pg_stat_io WHERE object = 'wal')"
    ),
}
_IO = 16
_WRITES = """
    SELECT coalesce(sum({written}) FILTER (WHERE backend_type = 'client backend'
                                             AND context = 'normal'), 0)::bigint AS backends_bytes,
           coalesce(sum({written}) FILTER (WHERE backend_type IN ('checkpointer',
                                           'background writer')), 0)::bigint AS background_bytes,
           coalesce(sum({extended}) FILTER (WHERE backend_type = 'client backend'),
                    0)::bigint AS extended_bytes,
           coalesce(sum(fsyncs) FILTER (WHERE backend_type = 'client backend'),
                    0)::bigint AS backend_fsyncs
      FROM pg_catalog.pg_stat_io
     WHERE object = 'relation'
"""
_BYTES = {  # 18 counts bytes, since an operation may be of several pages
    "old": (sql.SQL("writes * op_bytes"), sql.SQL("extends * op_bytes")),
    "new": (sql.SQL("write_bytes"), sql.SQL("extend_bytes")),
}
_COLUMNS = {
    "old": (
        sql.SQL("(SELECT checkpoints_timed FROM pg_catalog.pg_stat_bgwriter)"),
        sql.SQL("(SELECT checkpoints_req FROM pg_catalog.pg_stat_bgwriter)"),
    ),
    "new": (
        sql.SQL("(SELECT num_timed FROM pg_catalog.pg_stat_checkpointer)"),
        sql.SQL("(SELECT num_requested FROM pg_catalog.pg_stat_checkpointer)"),
    ),
}


def read_facts(conn: Connection[Any]) -> Facts:
    """Return the facts of a server, and of its host where that is this machine.

    It takes about a second and a half, which flushes are measured for.

    Args:
        conn: In autocommit.
    """
    major = conn.info.server_version // 10_000
    settings = all_settings(conn)
    activity = _activity(conn, major)
    return Facts(
        major=major,
        version=pg.whereabouts(conn).version,
        settings=settings,
        activity=activity,
        host=_host(conn, settings),
        commit_wait_s=None if activity.recovering else commit_wait_s(conn),
        disposable=_is_disposable(conn),
    )


def _is_disposable(conn: Connection[Any]) -> bool:
    # In the file that Howdah wrote; pg_settings does not show settings that nobody defined.
    return any(
        place.name == configuration.DISPOSABLE
        and place.value == "on"
        and Path(place.file).name == configuration.NAME
        for place in file_places(conn) or ()
    )


def _activity(conn: Connection[Any], major: int) -> Activity:
    timed, requested = _COLUMNS["new" if major >= _CHECKPOINTER else "old"]
    syncs = _SYNCS["new" if major >= _SYNCS_MOVED else "old"]
    query = sql.SQL(_ACTIVITY).format(timed=timed, requested=requested, syncs=syncs)
    found = pg.fetch_one(conn, Activity, query)
    assert found is not None  # noqa: S101 - pg_stat_wal has one row
    costly = tuple(costly_statements(conn)[:_MOST_COSTLY])
    return replace(found, writes=_writes(conn, major), costly=costly)


def _writes(conn: Connection[Any], major: int) -> Writes | None:
    if major < _IO:
        return None
    written, extended = _BYTES["new" if major >= _SYNCS_MOVED else "old"]
    query = sql.SQL(_WRITES).format(written=written, extended=extended)
    return pg.fetch_one(conn, Writes, query)


def _host(conn: Connection[Any], settings: Mapping[str, Setting]) -> Host | None:
    local = local_server(conn)
    if local is None:
        return None
    machine = host(local.pid)
    wal = local.data / "pg_wal"
    try:
        folder = wal.resolve(strict=True)
    except OSError:  # another OS user's
        folder = next(place for place in local.data.parents if os.access(place, os.X_OK))
    return Host(
        cores=machine.cores,
        memory_bytes=machine.memory.limit_bytes,
        wal_free_bytes=disk_of(folder).free_bytes,
        wal_filesystem=_filesystem(folder),
        flush_s=file_flush_s(folder, settings["wal_sync_method"].value),
    )


def _filesystem(folder: Path) -> str:
    """Return the type of the file system that a folder is on."""
    best = ("", "")
    for partition in psutil.disk_partitions(all=True):
        mounted = partition.mountpoint
        if folder.is_relative_to(mounted) and len(mounted) >= len(best[0]):
            best = (mounted, partition.fstype)
    return best[1]
