"""How many connections a host affords: a sum that a person can check, term by term.

    RAM - padding - shared memory - work - maintenance  >=  connections x memory of one

Of one connection counts what only its backend has, its private memory and page
tables, and not its RSS: that counts the shared buffers again in each backend.
Measured on PostgreSQL 15: 1.3 MB idle, 3.5 MB after touching 300 tables, 14 MB
while sorting with work_mem = 64 MB; RSS says 16 to 196 MB of the same backends.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from psycopg import Connection, errors

from howdah.server.host import Host, host, private_memory
from howdah.server.runner import LocalServer, local_server
from howdah.server.settings import Setting, in_bytes, settings

__all__ = ["Backend", "Facts", "LimitPlan", "Remedy", "Term", "facts", "plan_limit"]

_MIB = 1 << 20

PADDING_SHARE = 0.10
"""What stays free for the kernel, the page cache and others: a choice, not a law of nature."""

LEAST_PADDING_BYTES = 256 * _MIB

SHARED_PER_CONNECTION_BYTES = 50_000
"""Shared memory that grows with each connection: its PGPROC, its share of the lock table.

`postgres -C shared_memory_size` of PostgreSQL 15: 143 MB for 100 connections, 184 for 1,000,
378 for 5,000, with max_locks_per_transaction = 64, asked for by hand.
"""

ACTIVE_PER_CORE = 4
"""How many sessions at once are taken to use work_mem: beyond that they wait for a CPU."""

ESTIMATED_BYTES = 4 * _MIB
"""Of one backend, where none can be measured: one that has touched some hundred tables."""

_REMOTE_CORES = 4
_ARTICLES_RSS_BYTES = 16 * _MIB
_SOME = 0.9
_NAMES = (
    "autovacuum_max_workers",
    "autovacuum_work_mem",
    "hash_mem_multiplier",
    "maintenance_work_mem",
    "max_connections",
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


@dataclass(frozen=True, slots=True)
class Term:
    """One term of the sum.

    Attributes:
        name: What it is.
        bytes: How much.
        how: The calculation, with units, for a person to check.
    """

    name: str
    bytes: int
    how: str


@dataclass(frozen=True, slots=True)
class Remedy:
    """One thing that, changed by itself, makes the wish affordable.

    Attributes:
        what: "work_mem", "shared_buffers", "RAM" or "processes".
        value: What it has to be, as one types it: "2048kB".
    """

    what: str
    value: str


@dataclass(frozen=True, slots=True)
class LimitPlan:
    """What limit a host affords, and whether a wish is within it.

    Attributes:
        now: max_connections in force.
        wish: The wish; None where only the answer was asked for.
        have: RAM and what is taken from it.
        one_bytes: What each connection takes.
        affordable: The greatest max_connections that fits.
        bound: What bounds it: "memory" or "processes".
        left_bytes: What is left with the wish, or with the limit in force;
            negative where it does not fit.
        remedies: Each of them alone makes the wish fit.
        articles: What the articles' formula gives.
        facts: What it was worked out from.
    """

    now: int
    wish: int | None
    have: tuple[Term, ...]
    one_bytes: int
    affordable: int
    bound: str
    left_bytes: int
    remedies: tuple[Remedy, ...]
    articles: int
    facts: Facts

    @property
    def fits(self) -> bool:
        """Whether the wish, or else the limit in force, fits."""
        return (self.wish or self.now) <= self.affordable


def plan_limit(
    facts: Facts,
    wish: int | None = None,
    *,
    active: int | None = None,
    padding_bytes: int | None = None,
) -> LimitPlan:
    """Work out what limit a host affords; a pure function.

    Args:
        facts: From `facts`.
        wish: The max_connections that is wanted.
        active: Sessions at once that use work_mem; None for 4 a core, at most
            the limit itself.
        padding_bytes: What is to stay free; None for a tenth of the RAM.
    """
    target = wish or facts.max_connections
    active = min(target, active or ACTIVE_PER_CORE * facts.cores)
    have = _terms(facts, active, padding_bytes)
    one = facts.backend.private_bytes + SHARED_PER_CONNECTION_BYTES
    room = sum(term.bytes for term in have)
    by_memory = max(0, room // one)
    affordable, bound = by_memory, "memory"
    if facts.processes_limit is not None:
        by_processes = max(0, facts.processes_limit - facts.background_processes)
        if by_processes < by_memory:
            affordable, bound = by_processes, "processes"
    left = room - target * one
    return LimitPlan(
        now=facts.max_connections,
        wish=wish,
        have=have,
        one_bytes=one,
        affordable=affordable,
        bound=bound,
        left_bytes=left,
        remedies=_remedies(facts, target, left, active, affordable, bound),
        articles=max(0, (facts.ram_bytes - facts.shared_buffers_bytes) // facts.backend.rss_bytes),
        facts=facts,
    )


def _terms(facts: Facts, active: int, padding_bytes: int | None) -> tuple[Term, ...]:
    padding = padding_bytes
    if padding is None:
        padding = max(LEAST_PADDING_BYTES, int(facts.ram_bytes * PADDING_SHARE))
    work = int(active * facts.work_mem_bytes * facts.hash_mem_multiplier)
    maintenance = facts.autovacuum_workers * facts.maintenance_bytes
    mib = f"{facts.work_mem_bytes / _MIB:,.1f} MiB"
    # The share of the connections in it is counted with the connections.
    shared = facts.shared_bytes - facts.max_connections * SHARED_PER_CONNECTION_BYTES
    return (
        Term("memory", facts.ram_bytes, facts.ram_from),
        Term("padding", -padding, "kernel, page cache, other programs"),
        Term("shared memory", -shared, "shared_buffers and what goes with them"),
        Term("work", -work, f"{active} active x work_mem {mib} x {facts.hash_mem_multiplier:g}"),
        Term(
            "maintenance",
            -maintenance,
            f"{facts.autovacuum_workers} autovacuum workers x "
            f"{facts.maintenance_bytes / _MIB:,.0f} MiB",
        ),
    )


def _remedies(
    facts: Facts, target: int, left: int, active: int, affordable: int, bound: str
) -> tuple[Remedy, ...]:
    if target <= affordable:
        return ()
    if bound == "processes":
        needed = target + facts.background_processes
        return (Remedy("processes", f"{needed} (ulimit -u, TasksMax= or pids.max)"),)
    found = []
    work_mem = facts.work_mem_bytes + left / (active * facts.hash_mem_multiplier)
    if work_mem >= 64 << 10:  # PostgreSQL's least work_mem
        found.append(Remedy("work_mem", f"{int(work_mem) >> 10}kB"))
    shared = facts.shared_buffers_bytes + left
    if shared >= 16 * _MIB:
        found.append(Remedy("shared_buffers", f"{shared // _MIB}MB"))
    ram = int((facts.ram_bytes - left) / (1 - PADDING_SHARE)) - int(
        facts.ram_bytes * PADDING_SHARE / (1 - PADDING_SHARE)
    )
    found.append(Remedy("RAM", f"{-(-ram // _MIB):,} MiB"))
    return tuple(found)


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
    )


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
