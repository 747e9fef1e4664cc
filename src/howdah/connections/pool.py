"""A pool of connections for threads: psycopg_pool's, with a fair line before it.

    with howdah.Pool(dsn, size=20) as pool:
        with pool.connection() as conn: ...
        with pool.reserve(5) as conns: ...

What it adds: a connection is looked at before it is handed out; `reserve`; opening under
a budget; errors and `stats` that say who holds what; a connection that is forgotten comes
back. `poolasync` is its twin.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from typing import Any

import psycopg
import psycopg_pool
from psycopg import Connection
from psycopg.rows import class_row
from psycopg_pool import ConnectionPool

from howdah.connections import pooling
from howdah.connections.budget import Budget, Reservation
from howdah.connections.line import Line, Use
from howdah.connections.pooling import Desk
from howdah.connections.poolstats import PoolStats, no_connection, no_slots, stats_of
from howdah.connections.reserved import ReservedConnection
from howdah.connections.share import Share, Size, divided, size_of
from howdah.connections.usage import SLOTS, Slots

__all__ = ["Pool", "works"]

_ASK_AGAIN_S = 0.1


def works(conn: Connection[Any]) -> None:
    """Look at a connection, and where it was idle for long ask the server.

    Raises:
        psycopg.OperationalError: It does not work.
    """
    if not pooling.is_quiet(conn):
        ConnectionPool.check_connection(conn)


class Pool(ConnectionPool[Connection[Any]]):
    """Connections that threads share; takes the place of a `psycopg_pool.ConnectionPool`.

    It is opened by its `with` block, by `open`, or by the first request.

    Args:
        dsn: The database; None: what the environment names, else the embedded server.
        size: How many connections at most, or the `Share` of the server's slots; None: the
            reservation's slots, else what the variable HOWDAH_POOL_SIZE says, else the
            share that HOWDAH_NODES and HOWDAH_PROCESSES say; see `howdah.connections.share`.
            A share is asked of the server when the pool is opened.
        name: Its name in errors and logs; None: one of its own.
        budget: A budget in which the pool takes `size` slots when it opens, waiting in
            line, and gives them back when it is closed.
        reservation: Slots that the caller holds, to open connections under.
        priority: Of its place in the budget's line.
        check: Called before a connection is handed out, raises where it does not work;
            None: none. By default its socket is looked at, and where it was idle for
            more than a second, the server is asked.
        **options: As psycopg_pool's: timeout, min_size, max_idle, kwargs, configure, ...
            Connections are opened when they are needed (min_size=0).

    Raises:
        UsageError: An argument makes no sense.
        Refused: The reservation has less than `size` slots.
    """

    def __init__(
        self,
        dsn: str | None = None,
        *,
        size: int | Share | None = None,
        name: str | None = None,
        budget: Budget | None = None,
        reservation: Reservation | None = None,
        priority: int = 0,
        check: Callable[[Connection[Any]], None] | None = works,
        **options: Any,
    ) -> None:
        pooling.check_arbiter(budget, reservation)
        self._desk = Desk(Line(1), size_of(size, reservation))
        self._budget, self._priority = budget, priority
        self._own: Reservation | None = None
        self._fit = check
        self._opening = threading.Lock()
        options = {"min_size": 0, **options}
        conninfo = pooling.conninfo_of(dsn, options.get("kwargs"))
        number = max(self._desk.size.number, options["min_size"] if self._desk.size.share else 1)
        super().__init__(conninfo, name=name, max_size=number, open=False, **options)
        self._desk.line.resize(number)
        if reservation is not None:
            self._open_under(reservation)

    def open(self, wait: bool = False, timeout: float = 30.0) -> None:
        """Reserve the pool's slots, where it has a budget, and open it.

        Args:
            wait: Whether to wait until `min_size` connections are open.
            timeout: How long to wait, in seconds; for the slots no longer than the pool's own.

        Raises:
            BudgetTimeout: The budget's slots were not to be had in time.
            PoolTimeout: Its share was to be asked of the server, which lets nobody in.
        """
        with self._opening:
            if self._desk.size.share is not None:
                self._take_share(self._desk.size.share, min(timeout, self.timeout))
            if self._budget is not None and self._own is None and self.closed:
                self._own = self._budget.reserve(
                    self.max_size,
                    timeout_s=min(timeout, self.timeout),
                    purpose=self.name,
                    priority=self._priority,
                )
                self._open_under(self._own)
        super().open(wait, timeout)

    def close(self, timeout: float = 5.0) -> None:
        """Close the pool, and give its slots back to the budget.

        Under a budget, connections that are in use are closed too.
        """
        super().close(timeout)
        if self._own is not None:
            self._own.release()

    def getconn(self, timeout: float | None = None) -> Connection[Any]:
        """Return a connection that works; `putconn` must follow. `connection` does both.

        Raises:
            PoolTimeout: None was to be had in time.
        """
        return self._take(Use.here(1), self.timeout if timeout is None else timeout)[0]

    def putconn(self, conn: Connection[Any]) -> None:
        """Give a connection back."""
        use = self._desk.sign_in(conn)
        super().putconn(conn)
        if use is not None:
            self._desk.line.leave(use)

    @contextmanager
    def reserve(
        self, count: int, timeout: float | None = None, *, purpose: str = ""
    ) -> Generator[list[Connection[Any]]]:
        """Have so many connections at once, all or none; wait in line for them.

        Who waits holds none, and is not overtaken by requests for fewer. At the end of the
        block each is committed, or rolled back where it raises, and all go back.

        Args:
            count: How many.
            timeout: How long to wait, in seconds; None: the pool's.
            purpose: What for; it stands in others' errors.

        Raises:
            Refused: The pool has not that many.
            PoolTimeout: They were not to be had in time.
        """
        if self._desk.size.share is not None:
            self.open(timeout=self.timeout)
        pooling.check_count(count, self._desk.line, self.name)
        use = Use.here(count, purpose)
        conns = self._take(use, self.timeout if timeout is None else timeout)
        try:
            with ExitStack() as blocks:
                for conn in conns:
                    blocks.enter_context(conn)
                yield conns
        finally:
            self._give_back(conns, use)

    def resize(self, min_size: int, max_size: int | None = None) -> None:
        """Change the size of a pool that has no slots of a budget."""
        pooling.check_resize(self._budget, self.connection_class)
        super().resize(min_size, max_size)
        self._desk.line.resize(self.max_size)
        self._desk.size = Size(self.max_size, "resized")

    def stats(self) -> PoolStats:
        """Return the pool's numbers."""
        desk = self._desk
        return stats_of(
            self.name,
            desk.line,
            self.get_stats(),
            size_from=desk.size.origin,
            timeouts=desk.timeouts,
            leaked=desk.leaked,
        )

    def _take_share(self, share: Share, timeout_s: float) -> None:
        """Ask for the pool's share, by a connection that is closed again."""
        asked = self._budget or self._ask_slots(time.monotonic() + timeout_s, timeout_s)
        size = divided(share, asked, self.name)
        self._min_size, self._max_size = min(self._min_size, size.number), size.number
        self._desk.line.resize(size.number)
        self._desk.size = size

    def _ask_slots(self, deadline: float, timeout_s: float) -> Slots:
        while True:
            try:
                conn = self._connect(max(deadline - time.monotonic(), 1))
                break
            except psycopg.Error as exc:
                if time.monotonic() > deadline:
                    raise no_connection(self.name, timeout_s, exc) from exc
                time.sleep(_ASK_AGAIN_S)
        try:
            with conn.cursor(row_factory=class_row(Slots)) as cursor:
                cursor.execute(SLOTS)
                slots = cursor.fetchone()
        finally:
            conn.close()
        assert slots is not None  # noqa: S101 - our own role and database exist
        return slots

    def _open_under(self, reservation: Reservation) -> None:
        self.connection_class = ReservedConnection
        self.kwargs = pooling.under(reservation, self.kwargs)

    def _take(self, use: Use, timeout_s: float) -> list[Connection[Any]]:
        self._desk.check_process()
        if self.closed and not self._opened:
            self.open(timeout=timeout_s)
        deadline = time.monotonic() + timeout_s
        self._reclaim()
        if not self._desk.line.enter(use, timeout_s, self._starve):
            self._desk.timeouts += 1
            raise no_slots(self.name, self._desk.line, use.slots, timeout_s)
        conns: list[Connection[Any]] = []
        try:
            while len(conns) < use.slots:
                conns.append(self._working(deadline))
        except BaseException as exc:
            self._give_back(conns, use)
            if isinstance(exc, psycopg_pool.PoolTimeout):
                raise no_connection(self.name, timeout_s, self._desk.last_error) from exc
            raise
        if use.slots == 1:
            self._desk.sign_out(conns[0], use)
        return conns

    def _give_back(self, conns: list[Connection[Any]], use: Use) -> None:
        try:
            for conn in conns:
                self._desk.sign_in(conn)
                super().putconn(conn)
        finally:
            self._desk.line.leave(use)

    def _working(self, deadline: float) -> Connection[Any]:
        # Not psycopg_pool's own check: after a restart it takes seconds to get through dead ones.
        while True:
            conn = super().getconn(max(deadline - time.monotonic(), 0.001))
            try:
                if self._fit is not None:
                    self._fit(conn)
            except Exception:  # noqa: BLE001  whatever is wrong with it, another one is to be had
                conn.close()
                super().putconn(conn)  # psycopg_pool opens another one in its place
            except BaseException:
                super().putconn(conn)
                raise
            else:
                return conn

    def _starve(self) -> None:
        self._desk.collect_garbage()
        self._reclaim()

    def _reclaim(self) -> None:
        """Have back what was forgotten: the garbage collector has closed the connection."""
        for use in self._desk.forgotten():
            pooling.tell_leak(self.name, use)
            with self._lock:
                self._nconns -= 1
            self._desk.line.leave(use)

    def _connect(self, timeout: float | None = None) -> Connection[Any]:
        # The only place where a failure to connect is seen: psycopg_pool logs it and tries again.
        try:
            conn = super()._connect(timeout)
        except Exception as exc:
            self._desk.last_error = exc
            raise
        self._desk.last_error = None
        return conn
