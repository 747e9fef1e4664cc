"""What the pool of threads and the pool of tasks have in common; nothing here waits."""

from __future__ import annotations

import gc
import logging
import os
import select
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from weakref import ref

import psycopg
from psycopg import AsyncConnection, Connection

from howdah.connections.budget import Budget, Reservation
from howdah.connections.line import Line, Use
from howdah.connections.share import Size
from howdah.dsn import choose
from howdah.errors import Refused, UsageError

__all__ = [
    "FRESH_S",
    "Desk",
    "check_arbiter",
    "check_count",
    "check_resize",
    "conninfo_of",
    "is_quiet",
    "tell_leak",
    "under",
]

logger = logging.getLogger(__name__)

FRESH_S = 1.0
"""How long after its last use a connection is taken for working if its socket is quiet,
in seconds; after that the server is asked."""

COLLECT_EVERY_S = 10.0
"""How often garbage is collected for those who wait in line, at most, in seconds."""

_USE = "_howdah_use"
_IDLE_SINCE = "_howdah_idle_since"


@dataclass(eq=False)
class Desk:
    """Where a pool's connections are signed out and in.

    Attributes:
        line: The pool's slots.
        pid: The process that the pool belongs to.
        timeouts: Requests that gave up.
        leaked: Connections that were forgotten, all together.
        last_error: Why no connection could be opened, when last tried.
        size: How many connections the pool may have, and why.
    """

    line: Line
    size: Size
    pid: int = field(default_factory=os.getpid)
    timeouts: int = 0
    leaked: int = 0
    last_error: BaseException | None = None
    _collected_at: float = float("-inf")
    _forgotten: deque[Use] = field(default_factory=deque)

    def sign_out(self, conn: Any, use: Use) -> None:
        """Note who has a connection."""
        setattr(conn, _USE, use)
        # The callback may come in the midst of anything, so it does next to nothing.
        use.conn = ref(conn, lambda _: self._forgotten.append(use))

    def sign_in(self, conn: Any) -> Use | None:
        """Note that a connection came back; return who had it."""
        use: Use | None = conn.__dict__.pop(_USE, None)
        if use is not None:
            use.conn = None
        setattr(conn, _IDLE_SINCE, time.monotonic())
        return use

    def forgotten(self) -> list[Use]:
        """Return uses whose connection was lost to the garbage collector, each once."""
        found = []
        while self._forgotten:
            use = self._forgotten.popleft()
            if use in self.line.uses:
                found.append(use)
        self.leaked += len(found)
        return found

    def collect_garbage(self) -> None:
        """Find connections that only a cycle of objects still knows; seldom, as it is slow."""
        if time.monotonic() - self._collected_at > COLLECT_EVERY_S:
            self._collected_at = time.monotonic()
            gc.collect()

    def check_process(self) -> None:
        """Refuse to serve a process that was forked from the pool's.

        Raises:
            UsageError: It is another one.
        """
        if os.getpid() != self.pid:
            raise UsageError(
                "This pool belongs to the process that forked this one.",
                next_step="Open a pool in each process, after the fork.",
            )


def is_quiet(conn: Connection[Any] | AsyncConnection[Any]) -> bool:
    """Return whether a connection was used a moment ago and nothing was heard of it since.

    A connection that the server has closed has its end to read.
    """
    if conn.closed:
        raise psycopg.OperationalError("the connection is closed")
    if time.monotonic() - conn.__dict__.get(_IDLE_SINCE, 0.0) > FRESH_S:
        return False
    poll = select.poll()
    poll.register(conn.pgconn.socket, select.POLLIN)
    return not poll.poll(0)


def conninfo_of(dsn: str | None, kwargs: Mapping[str, Any] | None) -> str:
    """Return a pool's connection string.

    Args:
        dsn: What it was given; None: what the environment names, else the embedded server.
        kwargs: Arguments for `connect`; with a database in them they are enough.
    """
    if dsn is None and kwargs and {"host", "dbname", "service"} & kwargs.keys():
        return ""
    chosen = choose(dsn)
    if chosen is not None:
        return chosen.conninfo
    from howdah.server import ensure_running  # a named database does not need it

    return ensure_running().conninfo()


def check_arbiter(budget: Budget | None, reservation: Reservation | None) -> None:
    """Check that a pool has one of them at most.

    Raises:
        UsageError: It has both.
    """
    if budget is not None and reservation is not None:
        raise UsageError(
            "A pool takes a budget or a reservation, not both.",
            next_step="With a reservation leave the budget out.",
        )


def check_count(count: int, line: Line, name: str) -> None:
    """Check that a pool may ever have so many connections at once.

    Raises:
        UsageError: It is below 1.
        Refused: The pool is smaller.
    """
    if count < 1:
        raise UsageError(f"{count} connections cannot be reserved.", next_step="Reserve 1 or more.")
    if count > line.slots:
        raise Refused(
            f"{count} connections never come from the pool {name!r} of {line.slots}.",
            next_step=f"Give the pool size={count}, or reserve {line.slots}.",
        )


def check_resize(budget: Budget | None, connection_class: type) -> None:
    """Check that a pool's size is its own.

    Raises:
        Refused: It holds slots of a budget.
    """
    if budget is not None or "Reserved" in connection_class.__name__:
        raise Refused(
            "A pool that holds slots of a budget keeps its size.",
            next_step="Close it, and open one of another size.",
        )


def under(reservation: Reservation, kwargs: Any) -> dict[str, Any]:
    """Return arguments for `connect` with which connections are the reservation's.

    Raises:
        UsageError: They are made by a function, for each connection anew.
    """
    if callable(kwargs):
        raise UsageError(
            "kwargs of a pool under a budget cannot be a function.", next_step="Give a dict."
        )
    return {**(kwargs or {}), "bound": reservation.bound}


def tell_leak(name: str, use: Use) -> None:
    """Warn of a connection that was taken and forgotten."""
    logger.warning(
        "pool %r: a connection taken by %s at %s was never given back, and is replaced",
        name,
        use.who,
        use.where,
    )
