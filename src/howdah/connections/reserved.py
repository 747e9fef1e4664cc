"""Connections under a reservation: never more than its slots, each known to the arbiter.

The contract: a connection is opened only while its reservation holds its slots, and
only when fewer *backends* than slots exist under it. One that was closed counts until its
backend is gone; so do those of a reservation that is given back.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Self

import psycopg
from psycopg import AsyncConnection, Connection
from psycopg.rows import tuple_row

from howdah.connections import lifeline
from howdah.connections.control import Control
from howdah.connections.ticket import Ticket
from howdah.errors import HowdahError, Refused

__all__ = ["AsyncReservedConnection", "Bound", "ReservedConnection"]

AGAIN_S = 30.0
"""How long slots that were lost with the server are waited for, in seconds."""

ENDING_S = 10.0
"""How long the end of a backend is waited for, in seconds."""

_LOOK_S = 0.002

# Behind a pooler the backend is another's in a moment: it is not marked as ours, and the
# reservation counts connections to the pooler.
_TAG = b"""
    SELECT pg_backend_pid() = %(pid)s, CASE WHEN pg_backend_pid() = %(pid)s THEN
        pg_advisory_lock_shared(%(space)s, (%(id)s::bigint %% 2147483648)::int)::text END,
""" + lifeline.CLAUSES.encode()


class Bound:
    """The connections of one reservation.

    Args:
        control: The process's connection to the arbiter.
        ticket: The reservation.
        again_s: How long slots that were lost with the server are waited for, in seconds.
    """

    def __init__(self, control: Control, ticket: Ticket, again_s: float = AGAIN_S) -> None:
        self._control = control
        self.ticket = ticket
        self._again_s = again_s
        self._lock = threading.Lock()
        self._asking = threading.Lock()
        self._open: dict[int, weakref.ref[Any]] = {}
        self._ending: set[int] = set()
        self._coming = 0
        self.over = False
        _all.add(self)

    @property
    def open(self) -> int:
        """How many connections are open."""
        with self._lock:
            self._sort_out()
            return len(self._open)

    def lifeline(self, conninfo: str) -> str:
        """Return a connection string with which a vanished server is noticed."""
        return lifeline.client_side(conninfo, self._control.lost_after_s)

    def tag(self, conn: Connection[Any] | AsyncConnection[Any]) -> dict[str, Any]:
        """Return what a new connection says to the server, so that it is counted."""
        return {"pid": conn.info.backend_pid, **self._control.tag(self.ticket)}

    def empty(self, wait_s: float) -> bool:
        """Close what is open; return whether all backends have ended within `wait_s`."""
        deadline = time.monotonic() + wait_s
        with self._lock:
            self.over = True
            self._close_all()
        while self._ending:
            self._look()
            if self._ending and time.monotonic() > deadline:
                return False
            if self._ending:
                time.sleep(_LOOK_S)
        return True

    def forget_parent(self) -> None:
        """Close the sockets that a fork has copied: the server must see the parent's end."""
        for ref in self._open.values():
            conn = ref()
            if conn is not None and not conn.closed:
                with suppress(OSError):
                    os.close(conn.fileno())

    def enter(self) -> None:
        """Have a slot for a connection that is about to be opened; `leave` must follow.

        Raises:
            Refused: All slots have connections, or the reservation is over.
            HowdahError: The slots are lost, and not to be had again in time.
        """
        slots = self.ticket.request.slots
        deadline = time.monotonic() + ENDING_S
        with self._lock:
            if self.over:
                raise Refused(
                    f"The reservation of {slots} slots is given back.",
                    next_step="Open connections inside its with block.",
                )
            self._sort_out()
            if len(self._open) + self._coming >= slots:
                raise Refused(
                    f"The reservation has {slots} slots, and as many connections.",
                    next_step="Close one first, or reserve more slots at once.",
                )
            self._coming += 1
        try:
            while not self._look():
                self._lost()
            while len(self._open) + self._coming + len(self._ending) > slots:
                self._check_ending(deadline)
                time.sleep(_LOOK_S)
                self._look()
        except BaseException:
            with self._lock:
                self._coming -= 1
            raise

    def _check_ending(self, deadline: float) -> None:
        if time.monotonic() > deadline:
            raise HowdahError(
                f"Backends {sorted(self._ending)} of closed connections do not end.",
                next_step="See what they do in pg_stat_activity; pg_terminate_backend ends them.",
            )

    def _look(self) -> bool:
        """Forget backends that have ended; return whether the slots are still held."""
        with self._lock:
            ending = list(self._ending)
        held, existing = self._control.confirm(self.ticket, ending)
        with self._lock:
            self._ending -= set(ending) - existing
        return held

    def _lost(self) -> None:
        """Have the slots again; of the threads that miss them, one asks."""
        with self._asking:
            if self._look():
                return
            with self._lock:
                self._close_all()
            self._control.ask_again(self.ticket)
            request = self.ticket.request
            try:
                self.ticket.granted.result(self._again_s)
            except TimeoutError:
                self._control.give_back(self.ticket, emptied=True)
                raise HowdahError(
                    f"The {request.slots} slots of the budget {request.budget!r} were lost with "
                    f"the server, and not to be had again in {self._again_s:g} s.",
                    next_step=f"See who holds them: howdah budget list {request.budget}",
                ) from None

    def leave(self, conn: Connection[Any] | AsyncConnection[Any] | None, *, direct: bool) -> None:
        """Say which connection was opened, if one was.

        Args:
            conn: It, closed perhaps.
            direct: Whether its backend is its own, and not a pooler's.
        """
        with self._lock:
            self._coming -= 1
            if conn is not None:
                # The pid that a pooler tells is of its own making.
                self._open[conn.info.backend_pid if direct else -id(conn)] = weakref.ref(conn)

    def _sort_out(self) -> None:
        for pid, ref in list(self._open.items()):
            conn = ref()
            if conn is None or conn.closed:
                del self._open[pid]
                if pid > 0:
                    self._ending.add(pid)

    def _close_all(self) -> None:
        for ref in self._open.values():
            conn = ref()
            if conn is not None:
                with suppress(psycopg.Error):
                    conn.pgconn.finish()  # of either kind of connection, from any thread
        self._sort_out()


class ReservedConnection(Connection[Any]):
    """A connection under a reservation."""

    @classmethod
    def connect(cls, conninfo: str = "", **kwargs: Any) -> Self:
        """Connect when the reservation has a slot.

        Args:
            conninfo: As psycopg's.
            **kwargs: As psycopg's, and `bound`, the reservation's connections.

        Raises:
            Refused: It has none.
        """
        bound: Bound = kwargs.pop("bound")
        bound.enter()
        conn, direct = None, True
        try:
            conn = super().connect(bound.lifeline(conninfo), **kwargs)
            with conn.cursor(row_factory=tuple_row) as cursor:
                direct = cursor.execute(_TAG, bound.tag(conn)).fetchall()[0][0]
            if not conn.autocommit:
                conn.commit()
        except BaseException:
            if conn is not None:
                conn.close()
            raise
        finally:
            bound.leave(conn, direct=direct)
        return conn


class AsyncReservedConnection(AsyncConnection[Any]):
    """A connection under a reservation, for asyncio."""

    @classmethod
    async def connect(cls, conninfo: str = "", **kwargs: Any) -> Self:
        """Connect when the reservation has a slot; see `ReservedConnection.connect`."""
        bound: Bound = kwargs.pop("bound")
        await _in_thread(bound.enter, lambda: bound.leave(None, direct=True))
        conn, direct = None, True
        try:
            conn = await super().connect(bound.lifeline(conninfo), **kwargs)
            tag = await asyncio.to_thread(bound.tag, conn)
            async with conn.cursor(row_factory=tuple_row) as cursor:
                direct = (await (await cursor.execute(_TAG, tag)).fetchall())[0][0]
            if not conn.autocommit:
                await conn.commit()
        except BaseException:
            if conn is not None:
                await conn.close()
            raise
        finally:
            bound.leave(conn, direct=direct)
        return conn


async def _in_thread(do: Callable[[], None], undo: Callable[[], None]) -> None:
    """Do something in a thread; where the task is cancelled meanwhile, undo it when it is done."""
    doing = asyncio.get_running_loop().run_in_executor(None, do)
    try:
        await asyncio.shield(doing)
    except asyncio.CancelledError:
        doing.add_done_callback(lambda done: None if done.exception() else undo())
        raise


_all: weakref.WeakSet[Bound] = weakref.WeakSet()


def _after_fork() -> None:
    for one in list(_all):
        one.forget_parent()


os.register_at_fork(after_in_child=_after_fork)
