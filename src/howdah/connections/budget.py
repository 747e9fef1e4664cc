"""A number of connections that a whole fleet never exceeds, with PostgreSQL as the arbiter.

    budget = howdah.Budget("etl", limit=60)
    with budget.reserve(20, purpose="nightly import") as reservation:
        with howdah.Pool(dsn, reservation=reservation) as pool:
            ...

See `arbiter` for who gets slots when, and `reserved` for what is opened under them.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from psycopg import AsyncConnection, Connection

from howdah.connections.arbiter import Request
from howdah.connections.budgets import BudgetUse
from howdah.connections.control import Control, control
from howdah.connections.reserved import AsyncReservedConnection, Bound, ReservedConnection
from howdah.connections.ticket import Ticket
from howdah.dsn import choose
from howdah.errors import HowdahError, NoDatabase, UsageError

__all__ = ["Budget", "BudgetTimeout", "Reservation"]

logger = logging.getLogger(__name__)

LOST_AFTER_S = 10.0
"""How long after a machine has vanished its slots are free, by default, in seconds."""

_STEP_S = 0.5
_ENDING_S = 1.0
_SHOWN = 5


class BudgetTimeout(HowdahError):
    """Raised when slots were not to be had in the time that was given; it says who holds them."""


class Budget:
    """Connections that all processes of all hosts may hold together.

    Each process that reserves has one *control connection* to the arbiter's database,
    named "howdah budget ..." in pg_stat_activity. It is not among the budget's slots:
    leave room for one a process. It needs a session of its own: no pooler in transaction
    mode.

    Args:
        name: Its name in the arbiter's database.
        limit: Its slots, where there is no budget of that name yet; afterwards
            `howdah budget set` changes it. None: it must be there.
        dsn: The arbiter's database; the same for all who share the budget. None: what
            the environment names.
        lost_after_s: How long after this machine has vanished from the network its slots
            are free, in seconds; at least 2. A process that dies frees them at once.

    Raises:
        UsageError: The limit is below 1, or no database is named.
    """

    def __init__(
        self,
        name: str,
        limit: int | None = None,
        *,
        dsn: str | None = None,
        lost_after_s: float = LOST_AFTER_S,
    ) -> None:
        if limit is not None and limit < 1:
            raise UsageError(f"A budget of {limit} slots is none.", next_step="Give 1 or more.")
        if lost_after_s < 2:  # noqa: PLR2004  probes go out a second apart
            raise UsageError(f"lost_after_s={lost_after_s:g} is less than 2 seconds.")
        self.name = name
        self.dsn = _conninfo(dsn)
        self._first_limit = limit
        self._lost_after_s = lost_after_s

    @property
    def limit(self) -> int:
        """Its slots now."""
        return self._control.limit(self.name, self._first_limit)

    def use(self) -> BudgetUse:
        """Return who holds its slots and who waits for some."""
        self._control.limit(self.name, self._first_limit)
        found = self._control.use(self.name)
        return found or BudgetUse(self.name, self._first_limit or 0, 0, 0, (), ())

    def reserve(
        self,
        slots: int,
        *,
        timeout_s: float | None = None,
        purpose: str = "",
        priority: int = 0,
    ) -> Reservation:
        """Return a reservation of so many slots, all or nothing; wait in line for it.

        Who waits holds nothing. Whoever asks first is served first, and a request that
        does not fit yet is not overtaken by smaller ones. A process that holds one
        reservation and waits for another may wait for itself: take all at once.

        Args:
            slots: How many connections may be opened under it.
            timeout_s: How long to wait, in seconds; 0: not at all; None: as long as it takes.
            purpose: What for; others see it when they wait.
            priority: The higher, the earlier; overtakes every request of a lower one.

        Raises:
            BudgetTimeout: They were not to be had in time.
            Refused: The budget has not that many, or the role may not use it.
            NoDatabase: The arbiter cannot be reached.
        """
        ticket = self._ask(slots, purpose, priority)
        try:
            _wait(ticket, timeout_s)
            return Reservation(self, self._control, ticket)  # an interrupt may come as it is made
        except BaseException as exc:  # noqa: BLE001  raised again, or what says more
            error = self._given_up(ticket, exc, timeout_s)
            raise error from error.__cause__

    async def reserve_async(
        self,
        slots: int,
        *,
        timeout_s: float | None = None,
        purpose: str = "",
        priority: int = 0,
    ) -> Reservation:
        """Do as `reserve`, without keeping an event loop from its work."""
        asking = asyncio.ensure_future(asyncio.to_thread(self._ask, slots, purpose, priority))
        try:
            ticket = await asyncio.shield(asking)
        except asyncio.CancelledError:
            asking.add_done_callback(self._abandon)
            raise
        try:
            await asyncio.wait_for(asyncio.wrap_future(ticket.granted), timeout_s)
        except BaseException as exc:  # noqa: BLE001  raised again, or what says more
            error = await asyncio.shield(asyncio.to_thread(self._given_up, ticket, exc, timeout_s))
            raise error from error.__cause__
        return Reservation(self, self._control, ticket)

    @property
    def _control(self) -> Control:
        return control(self.dsn, self._lost_after_s)

    def _ask(self, slots: int, purpose: str, priority: int) -> Ticket:
        if slots < 1:
            raise UsageError(f"{slots} slots cannot be reserved.", next_step="Reserve 1 or more.")
        request = Request(self.name, slots, priority, purpose, socket.gethostname(), os.getpid())
        return self._control.ask(request, self._first_limit)

    def _given_up(
        self, ticket: Ticket, exc: BaseException, timeout_s: float | None
    ) -> BaseException:
        """Leave the line, and return the error that says why."""
        error = self._timed_out(ticket, timeout_s) if isinstance(exc, TimeoutError) else exc
        try:
            self._control.give_back(ticket, emptied=True)
        except HowdahError as lost:  # then the place in line went with the connection
            logger.info("budget %r: %s", self.name, lost)
        return error

    def _abandon(self, asking: asyncio.Future[Ticket]) -> None:
        if not asking.cancelled() and asking.exception() is None:
            ticket = asking.result()
            asyncio.get_running_loop().run_in_executor(
                None, lambda: self._control.give_back(ticket, emptied=True)
            )

    def _timed_out(self, ticket: Ticket, timeout_s: float | None) -> BudgetTimeout:
        use = self.use()
        asked = ticket.request.slots
        ahead = [one for one in use.line if one.id != ticket.id][:_SHOWN]
        facts = [f"{use.held} of {use.limit} are held"]
        if use.holders:
            facts[0] += f": {_some(use.holders)}"
        if ahead:
            facts.append(f"in line: {_some(ahead)}")
        return BudgetTimeout(
            f"{asked} slots of the budget {self.name!r} were not to be had in "
            f"{timeout_s or 0:g} s: {'; '.join(facts)}.",
            next_step=f"Watch it: howdah budget watch {self.name}; raise it: "
            f"howdah budget set {self.name} N; or wait longer (timeout_s).",
        )

    def __repr__(self) -> str:
        return f"Budget({self.name!r})"


class Reservation:
    """Slots of a budget that this process holds; a context manager gives them back.

    Attributes:
        budget: The budget.
        slots: How many.
        purpose: What for.
    """

    def __init__(self, budget: Budget, holder: Control, ticket: Ticket) -> None:
        self.budget = budget
        self.slots = ticket.request.slots
        self.purpose = ticket.request.purpose
        self._control = holder
        self._pid = os.getpid()
        self.bound = Bound(holder, ticket)

    @property
    def open(self) -> int:
        """How many connections are open under it."""
        return self.bound.open

    def connect(self, dsn: str | None = None, **kwargs: Any) -> Connection[Any]:
        """Open a connection under it; see `psycopg.connect` for the arguments.

        Args:
            dsn: The database; None: the arbiter's. Any database of the same server.
            **kwargs: As psycopg's.

        Raises:
            Refused: As many connections as slots are open.
        """
        self._check_process()
        conninfo = self.budget.dsn if dsn is None else dsn
        return ReservedConnection.connect(conninfo, bound=self.bound, **kwargs)

    async def connect_async(self, dsn: str | None = None, **kwargs: Any) -> AsyncConnection[Any]:
        """Open a connection under it, for asyncio; see `connect`."""
        self._check_process()
        conninfo = self.budget.dsn if dsn is None else dsn
        return await AsyncReservedConnection.connect(conninfo, bound=self.bound, **kwargs)

    def release(self) -> None:
        """Close what is open under it and give the slots back; more than once does no harm.

        The slots are free when the last backend has ended, which is at once as a rule.
        """
        if self.bound.over or self._pid != os.getpid():
            return
        try:
            self._control.give_back(self.bound.ticket, emptied=self.bound.empty(_ENDING_S))
        except HowdahError as exc:  # no arbiter, nothing held
            logger.info("budget %r: %s", self.budget.name, exc)

    def _check_process(self) -> None:
        if self._pid != os.getpid():
            raise UsageError(
                "This reservation belongs to the process that forked this one.",
                next_step="Reserve in each process, after the fork.",
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await asyncio.shield(asyncio.to_thread(self.release))

    def __repr__(self) -> str:
        return f"<Reservation of {self.slots} slots of {self.budget.name!r}>"


def _wait(ticket: Ticket, timeout_s: float | None) -> None:
    """Wait until slots are granted, in steps: who is about to wait for a lock misses a signal."""
    over = float("inf") if timeout_s is None else time.monotonic() + timeout_s
    while not ticket.granted.done() and (left := over - time.monotonic()) > 0:
        with suppress(TimeoutError):
            ticket.granted.result(min(left, _STEP_S))
    ticket.granted.result(0)


def _some(holders: Any) -> str:
    shown = [str(one) for one in holders[:_SHOWN]]
    if len(holders) > _SHOWN:
        shown.append(f"and {len(holders) - _SHOWN} more")
    return ", ".join(shown)


def _conninfo(dsn: str | None) -> str:
    chosen = choose(dsn)
    if chosen is None:
        raise NoDatabase(
            "No database is named for the budget.",
            next_step="Give dsn=..., or set HOWDAH_DSN or DATABASE_URL.",
        )
    return chosen.conninfo
