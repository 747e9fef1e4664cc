"""How many connections a host affords: a sum that a person can check, term by term.

    RAM - padding - shared memory - work - maintenance  >=  connections x memory of one

Of one connection counts what only its backend has, its private memory and page
tables, and not its RSS: that counts the shared buffers again in each backend.
Measured on PostgreSQL 15: 1.3 MB idle, 3.5 MB after touching 300 tables, 14 MB
while sorting with work_mem = 64 MB; RSS says 16 to 196 MB of the same backends.
"""

from __future__ import annotations

from dataclasses import dataclass

from howdah.connections.limitfacts import SHARED_PER_CONNECTION_BYTES, Backend, Facts, facts

__all__ = ["Backend", "Check", "Facts", "LimitPlan", "Remedy", "Term", "facts", "plan_limit"]

_MIB = 1 << 20

_HUGE = "set aside and not used by the server; no backend can"

PADDING_SHARE = 0.10
"""What stays free for the kernel, the page cache and others: a choice, not a law of nature."""

_LEAST_FILES = 64
"""max_files_per_process is never less."""

LEAST_PADDING_BYTES = 256 * _MIB

ACTIVE_PER_CORE = 4
"""How many sessions at once are taken to use work_mem: beyond that they wait for a CPU."""


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
class Check:
    """A limit of the system beside the memory, as an inequality: limit >= needed.

    Attributes:
        name: "processes" or "files".
        limit: How many there may be; None without a limit.
        each: How many one process takes.
        others: Processes besides the connections.
        needed: By all, with the wish or the limit in force.
        how: The calculation, for a person to check.
    """

    name: str
    limit: int | None
    each: int
    others: int
    needed: int
    how: str

    @property
    def affordable(self) -> int | None:
        """The greatest max_connections that it allows; None: any."""
        return None if self.limit is None else max(0, self.limit // self.each - self.others)


@dataclass(frozen=True, slots=True)
class Remedy:
    """One thing that, changed by itself, makes the wish affordable.

    Attributes:
        what: "work_mem", "shared_buffers", "RAM", "processes" or "files".
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
        bound: What bounds it: "memory", "processes" or "files".
        checks: The limits of the system, beside the memory.
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
    checks: tuple[Check, ...]
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
    checks = _checks(facts, target)
    for check in checks:
        if check.affordable is not None and check.affordable < affordable:
            affordable, bound = check.affordable, check.name
    left = room - target * one
    return LimitPlan(
        now=facts.max_connections,
        wish=wish,
        have=have,
        one_bytes=one,
        affordable=affordable,
        bound=bound,
        checks=checks,
        left_bytes=left,
        remedies=_remedies(facts, target, left, active, affordable, bound),
        articles=max(0, (facts.ram_bytes - facts.shared_buffers_bytes) // facts.backend.rss_bytes),
        facts=facts,
    )


def _checks(facts: Facts, target: int) -> tuple[Check, ...]:
    others, files = facts.background_processes, facts.files_per_process
    all_of_them = target + others
    return (
        Check(
            "processes",
            facts.processes_limit,
            1,
            others,
            all_of_them,
            f"{target} connections + {others} other processes",
        ),
        Check(
            "files",
            facts.files_limit,
            files,
            others,
            all_of_them * files,
            f"{all_of_them:,} processes x {files:,} files at most ({facts.files_from})",
        ),
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
        Term(
            "huge pages", -facts.huge_pages_bytes, _HUGE if facts.huge_pages_bytes else "none idle"
        ),
        Term("swap", 0, f"{facts.swap_bytes / _MIB:,.0f} MiB, not counted: to swap is too slow"),
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
    if bound == "files":
        processes = target + facts.background_processes
        fewer = (facts.files_limit or 0) // processes
        return (
            Remedy("fs.file-max", f"{processes * facts.files_per_process} (sysctl)"),
            *([Remedy("max_files_per_process", f"{fewer}")] if fewer >= _LEAST_FILES else []),
        )
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
