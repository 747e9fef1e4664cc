"""What a pool tells: its numbers, and its errors with who holds what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import psycopg_pool

from howdah.connections.line import Line
from howdah.errors import HowdahError

__all__ = ["PoolStats", "PoolTimeout", "no_connection", "no_slots", "stats_of"]

_SHOWN = 5


@dataclass(frozen=True, slots=True)
class PoolStats:
    """A pool in numbers, since it was opened.

    Attributes:
        name: The pool's.
        size: How many connections it may have.
        size_from: Where that number comes from.
        connections: How many it has, those on their way included.
        idle: Those of them that nobody uses.
        in_use: Slots that are taken.
        waiting: Requests in line.
        requests: Connections handed out, and asked for in vain.
        waits: Requests that had to wait in line.
        waited_s: How long they did, all together, in seconds.
        timeouts: Requests that gave up.
        opened: Connections that were opened, or tried to be.
        failed: Tries to open one that failed.
        lost: Connections found broken: before they were handed out, or when they came back.
        leaked: Connections that were never given back, and forgotten.
        holders: Who holds slots, the longest first.
    """

    name: str
    size: int
    size_from: str
    connections: int
    idle: int
    in_use: int
    waiting: int
    requests: int
    waits: int
    waited_s: float
    timeouts: int
    opened: int
    failed: int
    lost: int
    leaked: int
    holders: tuple[str, ...]


class PoolTimeout(HowdahError, psycopg_pool.PoolTimeout):
    """Raised when no connection was to be had in time; says who holds them, or why none opens.

    It is psycopg_pool's error too, and so an OperationalError: what handles these handles it.
    """


def stats_of(
    name: str,
    line: Line,
    measured: Mapping[str, int],
    *,
    size_from: str,
    timeouts: int,
    leaked: int,
) -> PoolStats:
    """Return a pool's numbers, from those that psycopg_pool keeps and the line's."""
    return PoolStats(
        name=name,
        size=line.slots,
        size_from=size_from,
        connections=measured.get("pool_size", 0),
        idle=measured.get("pool_available", 0),
        in_use=sum(use.slots for use in list(line.uses)),
        waiting=line.waiting,
        requests=measured.get("requests_num", 0) + timeouts,
        waits=line.waits,
        waited_s=line.waited_s,
        timeouts=timeouts + measured.get("requests_errors", 0),
        opened=measured.get("connections_num", 0),
        failed=measured.get("connections_errors", 0),
        lost=measured.get("connections_lost", 0) + measured.get("returns_bad", 0),
        leaked=leaked,
        holders=tuple(line.told()),
    )


def no_slots(name: str, line: Line, slots: int, timeout_s: float) -> PoolTimeout:
    """Return the error for a request that waited in vain for others."""
    told = line.told()
    shown = "; ".join(told[:_SHOWN])
    more = f"; and {len(told) - _SHOWN} more" if len(told) > _SHOWN else ""
    taken = sum(use.slots for use in list(line.uses))
    what = "a connection was" if slots == 1 else f"{slots} connections were"
    return PoolTimeout(
        f"In {timeout_s:g} s {what} not to be had from the pool {name!r}: {taken} of its "
        f"{line.slots} are in use: {shown}{more}.",
        next_step="Give connections back sooner, or make the pool larger: "
        "howdah connections shows what the server has left.",
    )


def no_connection(name: str, timeout_s: float, error: BaseException | None) -> PoolTimeout:
    """Return the error for a request for which no connection could be opened."""
    if isinstance(error, HowdahError):
        return PoolTimeout(
            f"The pool {name!r} could not connect in {timeout_s:g} s: {error.message}",
            next_step=error.next_step,
        )
    reason = " ".join(str(error).split()).rstrip(".") if error else "the server takes long"
    return PoolTimeout(
        f"The pool {name!r} could not connect in {timeout_s:g} s: {reason}.",
        next_step="Look at the server: howdah connections shows whether it has slots left.",
    )
