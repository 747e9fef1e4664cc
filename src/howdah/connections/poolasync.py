"""A pool of connections for asyncio's tasks: the twin of `pool`, which says what it adds.

async with howdah.AsyncPool(dsn, size=20) as pool:
async with pool.connection() as conn: ...
async with pool.reserve(5) as conns: ...
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import psycopg
import psycopg_pool
from psycopg import AsyncConnection
from psycopg.rows import class_row
from psycopg_pool import AsyncConnectionPool

from howdah.connections import pooling
from howdah.connections.budget import Budget, Reservation
from howdah.connections.line import Line, Use
from howdah.connections.pooling import Desk
from howdah.connections.poolstats import PoolStats, no_connection, no_slots, stats_of
from howdah.connections.reserved import AsyncReservedConnection
from howdah.connections.share import Share, Size, divided, size_of
from howdah.connections.usage import SLOTS, Slots

__all__ = ["AsyncPool", "works"]

_ASK_AGAIN_S = 0.1


async def works(conn: AsyncConnection[Any]) -> None:
    """Look at a connection, and where it was idle for long ask the server.

    Raises:
        psycopg.OperationalError: It does not work.
    """
    if not pooling.is_quiet(conn):
        await AsyncConnectionPool.check_connection(conn)


class AsyncPool(AsyncConnectionPool[AsyncConnection[Any]]):
    """Connections that tasks share; takes the place of a `psycopg_pool.AsyncConnectionPool`.

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
        check: Callable[[AsyncConnection[Any]], Awaitable[None]] | None = works,
        **options: Any,
    ) -> None:
        pooling.check_arbiter(budget, reservation)
        self._desk = Desk(Line(1), size_of(size, reservation))
        self._budget, self._priority = budget, priority
        self._own: Reservation | None = None
        self._fit = check
        self._opening = asyncio.Lock()
        options = {"min_size": 0, **options}
        conninfo = pooling.conninfo_of(dsn, options.get("kwargs"))
        number = max(self._desk.size.number, options["min_size"] if self._desk.size.share else 1)
        super().__init__(conninfo, name=name, max_size=number, open=False, **options)
        self._desk.line.resize(number)
        if reservation is not None:
            self._open_under(reservation)

    async def open(self, wait: bool = False, timeout: float = 30.0) -> None:
        """Reserve the pool's slots, where it has a budget, and open it.

        Args:
            wait: Whether to wait until `min_size` connections are open.
            timeout: How long to wait, in seconds; for the slots no longer than the pool's own.

        Raises:
            BudgetTimeout: The budget's slots were not to be had in time.
            PoolTimeout: Its share was to be asked of the server, which lets nobody in.
        """
        async with self._opening:
            if self._desk.size.share is not None:
                await self._take_share(self._desk.size.share, min(timeout, self.timeout))
            if self._budget is not None and self._own is None and self.closed:
                self._own = await self._budget.reserve_async(
                    self.max_size,
                    timeout_s=min(timeout, self.timeout),
                    purpose=self.name,
                    priority=self._priority,
                )
                self._open_under(self._own)
        await super().open(wait, timeout)

    async def close(self, timeout: float = 5.0) -> None:
        """Close the pool, and give its slots back to the budget.

        Under a budget, connections that are in use are closed too.
        """
        await super().close(timeout)
        if self._own is not None:
            await asyncio.to_thread(self._own.release)

    async def getconn(self, timeout: float | None = None) -> AsyncConnection[Any]:
        """Return a connection that works; `putconn` must follow. `connection` does both.

        Raises:
            PoolTimeout: None was to be had in time.
        """
        use = Use.here(1, who=_task())
        return (await self._take(use, self.timeout if timeout is None else timeout))[0]

    async def putconn(self, conn: AsyncConnection[Any]) -> None:
        """Give a connection back."""
        use = self._desk.sign_in(conn)
        await super().putconn(conn)
        if use is not None:
            self._desk.line.leave(use)

    @asynccontextmanager
    async def reserve(
        self, count: int, timeout: float | None = None, *, purpose: str = ""
    ) -> AsyncGenerator[list[AsyncConnection[Any]]]:
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
            await self.open(timeout=self.timeout)
        pooling.check_count(count, self._desk.line, self.name)
        use = Use.here(count, purpose, who=_task())
        conns = await self._take(use, self.timeout if timeout is None else timeout)
        try:
            async with AsyncExitStack() as blocks:
                for conn in conns:
                    await blocks.enter_async_context(conn)
                yield conns
        finally:
            await self._give_back(conns, use)

    async def resize(self, min_size: int, max_size: int | None = None) -> None:
        """Change the size of a pool that has no slots of a budget."""
        pooling.check_resize(self._budget, self.connection_class)
        await super().resize(min_size, max_size)
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

    async def _take_share(self, share: Share, timeout_s: float) -> None:
        """Ask for the pool's share, by a connection that is closed again."""
        asked = self._budget or await self._ask_slots(time.monotonic() + timeout_s, timeout_s)
        size = await asyncio.to_thread(divided, share, asked, self.name)
        self._min_size, self._max_size = min(self._min_size, size.number), size.number
        self._desk.line.resize(size.number)
        self._desk.size = size

    async def _ask_slots(self, deadline: float, timeout_s: float) -> Slots:
        while True:
            try:
                conn = await self._connect(max(deadline - time.monotonic(), 1))
                break
            except psycopg.Error as exc:
                if time.monotonic() > deadline:
                    raise no_connection(self.name, timeout_s, exc) from exc
                await asyncio.sleep(_ASK_AGAIN_S)
        try:
            async with conn.cursor(row_factory=class_row(Slots)) as cursor:
                await cursor.execute(SLOTS)
                slots = await cursor.fetchone()
        finally:
            await conn.close()
        assert slots is not None  # noqa: S101 - our own role and database exist
        return slots

    def _open_under(self, reservation: Reservation) -> None:
        self.connection_class = AsyncReservedConnection
        self.kwargs = pooling.under(reservation, self.kwargs)

    async def _take(self, use: Use, timeout_s: float) -> list[AsyncConnection[Any]]:
        self._desk.check_process()
        if self.closed and not self._opened:
            await self.open(timeout=timeout_s)
        deadline = time.monotonic() + timeout_s
        self._reclaim()
        if not await self._desk.line.enter_async(use, timeout_s, self._starve):
            self._desk.timeouts += 1
            raise no_slots(self.name, self._desk.line, use.slots, timeout_s)
        conns: list[AsyncConnection[Any]] = []
        try:
            while len(conns) < use.slots:
                conns.append(await self._working(deadline))
        except BaseException as exc:
            await self._give_back(conns, use)
            if isinstance(exc, psycopg_pool.PoolTimeout):
                raise no_connection(self.name, timeout_s, self._desk.last_error) from exc
            raise
        if use.slots == 1:
            self._desk.sign_out(conns[0], use)
        return conns

    async def _give_back(self, conns: list[AsyncConnection[Any]], use: Use) -> None:
        try:
            for conn in conns:
                self._desk.sign_in(conn)
                await super().putconn(conn)
        finally:
            self._desk.line.leave(use)

    async def _working(self, deadline: float) -> AsyncConnection[Any]:
        # Not psycopg_pool's own check: after a restart it takes seconds to get through dead ones.
        while True:
            conn = await super().getconn(max(deadline - time.monotonic(), 0.001))
            try:
                if self._fit is not None:
                    await self._fit(conn)
            except Exception:  # noqa: BLE001  whatever is wrong with it, another one is to be had
                await conn.close()
                await super().putconn(conn)  # psycopg_pool opens another one in its place
            except BaseException:
                await super().putconn(conn)
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
            self._nconns -= 1
            self._desk.line.leave(use)

    async def _connect(self, timeout: float | None = None) -> AsyncConnection[Any]:
        # The only place where a failure to connect is seen: psycopg_pool logs it and tries again.
        try:
            conn = await super()._connect(timeout)
        except Exception as exc:
            self._desk.last_error = exc
            raise
        self._desk.last_error = None
        return conn


def _task() -> str:
    task = asyncio.current_task()
    return task.get_name() if task else "a callback"
