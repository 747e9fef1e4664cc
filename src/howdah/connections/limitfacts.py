"""What the sum of a connection limit is made of.

The host's memory and limits, the server's settings, and the memory of one backend, measured
where it can be.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from psycopg import Connection, errors

from howdah.server.host import Host, host, private_memory
from howdah.server.runner import LocalServer, local_server
from howdah.server.settings import Setting, in_bytes, settings

__all__ = ["ESTIMATED_BYTES", "SHARED_PER_CONNECTION_BYTES", "Backend", "Facts", "facts"]

_MIB = 1 << 20

SHARED_PER_CONNECTION_BYTES = 50_000
"""Shared memory that grows with each connection: its PGPROC, its share of the lock table.

`postgres -C shared_memory_size` of PostgreSQL 15: 143 MB for 100 connections, 184 for 1,000,
378 for 5,000, with max_locks_per_transaction = 64, asked for by hand.
"""

ESTIMATED_BYTES = 4 * _MIB
"""Of one backend, where none can be measured: one that has touched some hundred tables."""

_REMOTE_CORES = 4
_ARTICLES_RSS_BYTES = 16 * _MIB
_SOME = 0.9
_NAMES = (
    "autovacuum_max_workers",
    "autovacuum_work_mem",
    "hash_mem_multiplier",
    "huge_pages",
    "huge_pages_status",
    "maintenance_work_mem",
    "max_connections",
    "max_files_per_process",
    "max_wal_senders",
    "max_worker_processes",
    "reserved_connections",
    "shared_buffers",
    "shared_memory_size",
    "superuser_reserved_connections",
    "work_mem",
)


@dataclass(frozen=True, slots=True)
class Backend:
    """The memory of one connection.

    Attributes:
        private_bytes: Private memory and page tables that the sum takes for each.
        rss_bytes: What the articles take: the mean RSS, shared buffers and all.
        measured: Of how many client backends; 0 for an estimate.
        how: Where the figure comes from, for people.
    """

    private_bytes: int
    rss_bytes: int
    measured: int
    how: str


@dataclass(frozen=True, slots=True)
class Facts:
    """All that the sum is made of, memory in bytes.

    Attributes:
        ram_bytes: RAM, or the control group's limit where that is less.
        ram_from: "RAM", "the control group" or "--ram".
        cores: CPUs.
        processes_limit: Processes that the server's account may have; None without a limit.
        max_connections: In force.
        shared_bytes: Shared memory in all, shared_buffers in it.
        shared_buffers_bytes: shared_buffers.
        work_mem_bytes: work_mem.
        hash_mem_multiplier: By how much a hash may go beyond work_mem.
        maintenance_bytes: What one autovacuum worker may take.
        autovacuum_workers: autovacuum_max_workers.
        background_processes: Processes besides the connections.
        backend: The memory of one connection.
        huge_pages_bytes: RAM set aside as huge pages that the server does not use.
        swap_bytes: Swap, which is not counted as memory.
        files_per_process: Files that each process may hold open: max_files_per_process, or
            the postmaster's RLIMIT_NOFILE where that is less.
        files_from: Which of them, for people.
        files_limit: fs.file-max, files of the whole machine; None where unknown.
    """

    ram_bytes: int
    ram_from: str
    cores: int
    processes_limit: int | None
    max_connections: int
    shared_bytes: int
    shared_buffers_bytes: int
    work_mem_bytes: int
    hash_mem_multiplier: float
    maintenance_bytes: int
    autovacuum_workers: int
    background_processes: int
    backend: Backend
    huge_pages_bytes: int = 0
    swap_bytes: int = 0
    files_per_process: int = 1000
    files_from: str = "max_files_per_process"
    files_limit: int | None = None


def facts(
    conn: Connection[Any], *, ram_bytes: int | None = None, cores: int | None = None
) -> Facts | None:
    """Return what the sum is made of.

    Args:
        conn: To the server.
        ram_bytes: The memory of its host, where we are not on it.
        cores: Its CPUs; None for those seen, or 4.

    Returns:
        None where the server is not on this machine and `ram_bytes` is not given.
    """
    local = local_server(conn)
    if local is None and ram_bytes is None:
        return None
    machine = host(local.pid) if local is not None else None
    found = settings(conn, *_NAMES)
    files, files_from = _files(found, machine)
    return Facts(
        ram_bytes=ram_bytes or (machine.memory.limit_bytes if machine else 0),
        ram_from=_ram_from(machine, ram_bytes),
        cores=cores or (machine.cores if machine else _REMOTE_CORES),
        processes_limit=machine.processes_limit if machine else None,
        max_connections=_whole(found, "max_connections"),
        shared_bytes=_shared(found),
        shared_buffers_bytes=in_bytes(found["shared_buffers"]),
        work_mem_bytes=in_bytes(found["work_mem"]),
        hash_mem_multiplier=float(found["hash_mem_multiplier"].value),
        maintenance_bytes=_maintenance(found),
        autovacuum_workers=_whole(found, "autovacuum_max_workers"),
        background_processes=8
        + _whole(found, "max_worker_processes")
        + _whole(found, "max_wal_senders")
        + _whole(found, "autovacuum_max_workers"),
        backend=_backend(conn, local),
        huge_pages_bytes=_idle_huge_pages(found, machine) if ram_bytes is None else 0,
        swap_bytes=machine.memory.swap_bytes if machine else 0,
        files_per_process=files,
        files_from=files_from,
        files_limit=machine.open_files_system if machine else None,
    )


def _files(found: dict[str, Setting], machine: Host | None) -> tuple[int, str]:
    """Return how many files a process may hold open, and which limit that is.

    Source: src/backend/storage/file/fd.c, set_max_safe_fds
    """
    setting = _whole(found, "max_files_per_process")
    own = machine.open_files_limit if machine else None
    if own is not None and own < setting:
        return own, "the postmaster's RLIMIT_NOFILE"
    return setting, "max_files_per_process"


def _idle_huge_pages(found: dict[str, Setting], machine: Host | None) -> int:
    """Return the huge pages that the server leaves unused: no backend can use them for itself."""
    memory = machine.memory if machine else None
    if memory is None or memory.limit_bytes < memory.total_bytes:
        return 0  # a control group counts them apart
    shared = _shared(found)
    status = found.get("huge_pages_status")  # PostgreSQL 17+
    if status is not None:
        is_used = status.value == "on"
    else:
        is_used = found["huge_pages"].value != "off" and memory.huge_page_bytes >= shared
    return max(0, memory.huge_page_bytes - shared) if is_used else memory.huge_page_bytes


def _ram_from(machine: Host | None, ram_bytes: int | None) -> str:
    if ram_bytes is not None or machine is None:
        return "given with --ram"
    if machine.memory.limit_bytes < machine.memory.total_bytes:
        return "limit of the control group"
    return "RAM of this host"


def _whole(found: dict[str, Setting], name: str) -> int:
    return int(found[name].value)


def _maintenance(found: dict[str, Setting]) -> int:
    own = in_bytes(found["autovacuum_work_mem"])
    return own if own >= 0 else in_bytes(found["maintenance_work_mem"])


def _shared(found: dict[str, Setting]) -> int:
    if "shared_memory_size" in found:  # PostgreSQL 15+
        return in_bytes(found["shared_memory_size"])
    connections = _whole(found, "max_connections") * SHARED_PER_CONNECTION_BYTES
    return int(in_bytes(found["shared_buffers"]) * 1.03) + 8 * _MIB + connections


_PIDS = """
    SELECT pid FROM pg_catalog.pg_stat_activity
     WHERE backend_type = 'client backend' OR (backend_type IS NULL AND datid IS NOT NULL)
"""
_CONTEXTS = "SELECT sum(total_bytes) FROM pg_catalog.pg_backend_memory_contexts"
_BESIDE_CONTEXTS_BYTES = 2 * _MIB


def _backend(conn: Connection[Any], local: LocalServer | None) -> Backend:
    """Measure where we may look into /proc, else estimate."""
    if local is not None:
        pids = [int(row[0]) for row in conn.execute(_PIDS)]
        if len(pids) > 1:  # our own has just read more of the catalog than most
            pids.remove(conn.info.backend_pid)
        found = [memory for pid in pids if (memory := private_memory(pid)) is not None]
        sizes = sorted(memory.total_bytes for memory in found)
        if sizes:
            rss = sum(memory.rss_bytes for memory in found) // len(found)
            return Backend(_most_of(sizes), rss, len(sizes), _measured(sizes))
    own = _contexts(conn)
    if own is None:
        how = "an estimate: no backend can be looked at, and our role sees no memory contexts"
        return Backend(ESTIMATED_BYTES, _ARTICLES_RSS_BYTES, 0, how)
    size = max(ESTIMATED_BYTES, own + _BESIDE_CONTEXTS_BYTES)
    how = "an estimate from pg_backend_memory_contexts of our own session"
    return Backend(size, _ARTICLES_RSS_BYTES, 0, how)


def _most_of(sizes: Sequence[int]) -> int:
    """Return a size that nine in ten do not exceed."""
    return sizes[min(len(sizes) - 1, int(len(sizes) * _SOME))]


def _measured(sizes: Sequence[int]) -> str:
    low, high = sizes[0] / _MIB, sizes[-1] / _MIB
    many = f"{len(sizes)} backends" if len(sizes) > 1 else "1 backend"
    return f"measured in /proc of {many}, {low:.1f} to {high:.1f} MiB; nine in ten have no more"


def _contexts(conn: Connection[Any]) -> int | None:
    try:
        with conn.transaction():
            row = conn.execute(_CONTEXTS).fetchone()
    except errors.InsufficientPrivilege:
        return None
    return int(row[0]) if row and row[0] is not None else None
