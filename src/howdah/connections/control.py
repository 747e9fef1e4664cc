"""The one control connection of a process to the arbiter, for all its reservations.

Moves are made by the threads that need them, one after the other. A thread of its own
waits for what the server has to tell: a request was granted, or the connection is gone.
It looks after the line too, since nobody tells when a holder dies: the first in line
looks often, the others now and then.
"""

from __future__ import annotations

import logging
import os
import select
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

import psycopg
from psycopg import sql

from howdah import pg
from howdah.connections import arbiter, lifeline
from howdah.connections.arbiter import Request, Session
from howdah.connections.budgets import BudgetUse, budgets, limit_of
from howdah.connections.ticket import Ticket
from howdah.errors import HowdahError, Refused

__all__ = ["Control", "close_all", "control"]

T = TypeVar("T")
logger = logging.getLogger(__name__)

FIRST_LOOKS_S = 0.05
OTHERS_LOOK_S = 1.0
IDLE_S = 30.0
"""How long a control connection is kept that nobody needs, in seconds."""

# A burst leaves many dead rows, through which a scan would go. Nothing outlives a crash.
_SESSION = """
    SELECT set_config('enable_seqscan', 'off', false), set_config('jit', 'off', false),
           set_config('synchronous_commit', 'off', false)
"""
_LIFELINE = b"SELECT " + lifeline.CLAUSES.encode()
_PROBES = 3
_MOST_NAME = 63


class Control:
    """A connection to the arbiter, opened when it is needed and after it was lost.

    Args:
        conninfo: The arbiter's database.
        lost_after_s: How long after this machine has vanished its slots are free.
    """

    def __init__(self, conninfo: str, lost_after_s: float) -> None:
        self.lost_after_s = lost_after_s
        self._conninfo = lifeline.client_side(conninfo, lost_after_s)
        self._lock = threading.RLock()
        self._session: Session | None = None
        self._left: int | None = None
        self._budgets: set[str] = set()
        self._tickets: dict[int, Ticket] = {}
        self._thread: threading.Thread | None = None
        self._woken, self._wake = socket.socketpair()
        self._woken.setblocking(False)
        self._wake.setblocking(False)

    def ask(self, request: Request, first_limit: int | None) -> Ticket:
        """Stand in line for slots.

        Args:
            request: What for, and how many.
            first_limit: The budget's limit where there is no budget yet.

        Raises:
            Refused: The budget has not that many, or the role may not.
            HowdahError: The server cannot be reached.
        """
        ticket = None
        try:
            with self._lock:
                ticket = self._move(lambda at: self._stand(at, request, first_limit))
                self._tickets[ticket.id] = ticket
                if not ticket.granted.done():
                    self._look_after(request.budget)
                    self._wake_up()
        except BaseException:  # interrupted, perhaps where the row is there and its id not told
            self._drop_stray(ticket)
            raise
        return ticket

    def ask_again(self, ticket: Ticket) -> None:
        """Stand in line anew for slots that were lost with the server."""
        with self._lock:
            self._tickets.pop(ticket.id, None)
            anew = self.ask(ticket.request, None)
            ticket.id, ticket.granted = anew.id, anew.granted
            self._tickets[ticket.id] = ticket

    def give_back(self, ticket: Ticket, *, emptied: bool) -> None:
        """Free slots, or leave the line.

        Args:
            ticket: Whose.
            emptied: Whether no backend is left under it; otherwise the slots are free
                when the last one is gone.
        """
        with self._lock:
            try:
                if not emptied:
                    self._move(lambda at: arbiter.let_go(at, ticket.id))
                elif self._move(lambda at: arbiter.free(at, ticket.request.budget, ticket.id)):
                    self._look_after(ticket.request.budget)
            finally:
                self._tickets.pop(ticket.id, None)

    def confirm(self, ticket: Ticket, backends: list[int]) -> tuple[bool, set[int]]:
        """Return whether slots are still held, and which of some backends still exist."""
        with self._lock:
            return self._move(lambda at: arbiter.still_granted(at, ticket.id, backends))

    def tag(self, ticket: Ticket) -> dict[str, Any]:
        """Return what a connection needs to be counted under a ticket."""
        with self._lock:
            space = self._move(lambda at: at.space)
        return {"space": space, "id": ticket.id, **lifeline.server_side(self.lost_after_s)}

    def use(self, budget: str) -> BudgetUse | None:
        """Return who holds a budget and who waits; None where there is none of that name."""
        with self._lock:
            found = self._move(lambda at: budgets(at.conn, [budget]))
        return found[0] if found else None

    def limit(self, budget: str, first_limit: int | None) -> int:
        """Return a budget's limit; make it where there is none."""
        with self._lock:
            return self._move(lambda at: limit_of(at.conn, budget, first_limit))

    def close(self) -> None:
        """Close the connection, for good; slots that are held are let go."""
        with self._lock:
            self._tickets.clear()
            self._disconnect()
            thread = self._thread
            self._wake_up()
        if thread is not None:
            thread.join()
        self._woken.close()
        self._wake.close()

    def forget_parent(self) -> None:
        """Close what a fork has copied: the server must see the parent's end."""
        self._woken.close()
        self._wake.close()
        if self._session is not None:
            with suppress(OSError):
                os.close(self._session.conn.fileno())

    def _stand(self, at: Session, request: Request, first_limit: int | None) -> Ticket:
        if request.budget not in self._budgets:
            limit_of(at.conn, request.budget, first_limit)
            self._budgets.add(request.budget)
        number, granted = arbiter.ask(at, request)
        ticket = Ticket(request, number)
        if granted:
            ticket.resolve()
        return ticket

    def _drop_stray(self, ticket: Ticket | None) -> None:
        with self._lock:
            if ticket is not None:
                self._tickets.pop(ticket.id, None)
            left, self._left = self._left, None
            if self._session is None:
                return
            try:
                arbiter.keep_only(self._session, list(self._tickets), left)
            except (psycopg.Error, HowdahError) as exc:  # then the row goes with the session
                logger.info("budgets: %s; connecting anew", exc)
                self._disconnect()

    def _move(self, work: Callable[[Session], T]) -> T:
        """Do something at the server; once more where the connection turns out to be lost."""
        at = self._connected()
        with pg.explained("keep the budget"):
            try:
                return work(at)
            except psycopg.OperationalError:
                if not at.conn.closed:
                    raise
            except (psycopg.Error, HowdahError):
                raise
            except BaseException:
                self._leave(at)
                raise
        self._disconnect()
        at = self._connected()
        with pg.explained("keep the budget"):
            return work(at)

    def _leave(self, at: Session) -> None:
        """Connect anew where an interrupt came in a transaction: psycopg's notion of it is torn."""
        self._left = at.backend
        self._disconnect()
        with suppress(psycopg.Error, HowdahError):  # at once, so that what we hold stays ours
            self._connected()

    def _connected(self) -> Session:
        if self._session is not None and self._session.conn.closed:
            self._disconnect()
        if self._session is None:
            self._session = self._open()
            try:
                for ticket in list(self._tickets.values()):
                    self._adopt(self._session, ticket)
            except BaseException:  # they are adopted by all means, or not connected to
                self._disconnect()
                raise
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="howdah budget", daemon=True)
                self._thread.start()
        return self._session

    def _disconnect(self) -> None:
        if self._session is not None:
            self._session.conn.close()
        self._session = None
        self._budgets.clear()

    def _open(self) -> Session:
        name = f"howdah budget {os.getpid()} {socket.gethostname()}"[:_MOST_NAME]
        conn = pg.open_connection(self._conninfo, application_name=name)
        try:
            conn.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
            at = arbiter.session(conn)
            if at.backend != conn.info.backend_pid:
                self._probe(at)
            conn.execute(_SESSION)
            conn.execute(_LIFELINE, lifeline.server_side(self.lost_after_s))
            channel = sql.Identifier(arbiter.CHANNEL.format(at.backend))
            conn.execute(sql.SQL("LISTEN {}").format(channel))
            conn.add_notify_handler(lambda told: self._tell({int(told.payload)}))
        except BaseException:
            conn.close()
            raise
        return at

    def _probe(self, at: Session) -> None:
        """Find out whether the pooler between gives our backend to others when we are idle."""
        for _ in range(_PROBES):
            with psycopg.connect(self._conninfo) as other:  # its transaction keeps a backend busy
                taken = arbiter.session(other).backend
                if at.backend == taken or arbiter.session(at.conn).backend != at.backend:
                    raise arbiter.not_a_session()

    def _adopt(self, at: Session, ticket: Ticket) -> None:
        found = arbiter.adopt(at, ticket.request.budget, ticket.id)
        if found:
            ticket.resolve()
        elif found is None and not ticket.granted.done():  # its place in line is lost
            del self._tickets[ticket.id]
            ticket.id, granted = arbiter.ask(at, ticket.request)
            self._tickets[ticket.id] = ticket
            if granted:
                ticket.resolve()
        # A granted one that is gone is asked for again when its owner needs it: see confirm.

    def _tell(self, granted: set[int]) -> None:
        for number in granted:
            if ticket := self._tickets.get(number):
                ticket.resolve()

    def _look_after(self, budget: str) -> None:
        waiting = {one.id: one for one in self._waiting() if one.request.budget == budget}
        places, granted = self._move(lambda at: arbiter.look(at, budget, list(waiting)))
        self._tell(granted)
        for place in places:
            ticket = waiting.pop(place.id, None)
            if ticket is None:
                continue
            ticket.ahead = place.ahead
            if place.granted:
                ticket.resolve()
            elif place.slots > place.limit:
                ticket.resolve(_too_many(ticket.request, place.limit))
        for ticket in waiting.values():
            ticket.resolve(
                HowdahError(f"The budget {budget!r} was dropped while we waited for it.")
            )

    def _run(self) -> None:
        """Wait for the server's word and look after the line, as long as there is a session."""
        idle_since = time.monotonic()
        while True:
            self._wait()
            try:
                with self._lock:
                    if self._tickets:
                        idle_since = time.monotonic()
                        self._attend()
                    elif self._session is None or time.monotonic() - idle_since > IDLE_S:
                        self._disconnect()
                        self._thread = None
                        return
            except (HowdahError, psycopg.Error) as exc:
                logger.info("budgets: %s; trying again", exc)
                time.sleep(OTHERS_LOOK_S / 2)

    def _attend(self) -> None:
        at = self._connected()
        try:
            at.conn.pgconn.consume_input()
        except psycopg.OperationalError:
            at = self._connected()  # at once, so that what we hold stays ours
        while told := at.conn.pgconn.notifies():
            self._tell({int(told.extra)})
        for budget in {ticket.request.budget for ticket in self._waiting()}:
            self._look_after(budget)

    def _waiting(self) -> list[Ticket]:
        return [ticket for ticket in self._tickets.values() if not ticket.granted.done()]

    def _wait(self) -> None:
        with self._lock:
            waiting = self._waiting()
            first = any(ticket.ahead == 0 for ticket in waiting)
            poll = select.poll()
            poll.register(self._woken, select.POLLIN)
            # Without anyone waiting, what arrives is for the thread that made a move.
            if waiting and self._session is not None and not self._session.conn.closed:
                poll.register(self._session.conn.fileno(), select.POLLIN)
        poll.poll(1000 * (FIRST_LOOKS_S if first else OTHERS_LOOK_S))
        with suppress(BlockingIOError):
            while self._woken.recv(1024):
                pass

    def _wake_up(self) -> None:
        with suppress(BlockingIOError):  # it is being woken already
            self._wake.send(b"w")


def _too_many(request: Request, limit: int) -> Refused:
    return Refused(
        f"{request.slots} connections never fit in the budget {request.budget!r} of {limit}.",
        next_step=f"Ask for {limit} at most, or run: howdah budget set {request.budget} "
        f"{request.slots}",
    )


_controls: dict[tuple[str, float], Control] = {}
_controls_lock = threading.Lock()


def control(conninfo: str, lost_after_s: float) -> Control:
    """Return the process's control connection to a database."""
    with _controls_lock:
        key = conninfo, lost_after_s
        if key not in _controls:
            _controls[key] = Control(conninfo, lost_after_s)
        return _controls[key]


def close_all() -> None:
    """Close the process's control connections; slots that are held are let go."""
    with _controls_lock:
        found = list(_controls.values())
        _controls.clear()
    for one in found:
        one.close()


def _after_fork() -> None:
    global _controls_lock  # noqa: PLW0603  held by a thread that the fork has not copied, perhaps
    _controls_lock = threading.Lock()
    for one in _controls.values():
        one.forget_parent()
    _controls.clear()


os.register_at_fork(after_in_child=_after_fork)
