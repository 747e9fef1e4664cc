"""The writer for asyncio: the same threads and connections, and nothing that blocks a loop."""

from __future__ import annotations

import asyncio
import weakref
from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Any, Self

from howdah.errors import UsageError
from howdah.loading.writer import Writer

__all__ = ["AsyncWriter"]


class AsyncWriter:
    """A `Writer` for asyncio tasks, of one event loop or several.

    Args:
        dsn: As for `Writer`.
        table: As for `Writer`.
        **options: The other arguments of `Writer`.
    """

    def __init__(self, dsn: str | None, table: str, **options: Any) -> None:
        self._open = partial(Writer, dsn, table, **options)
        self._opened: Writer | None = None
        self._inboxes: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Inbox] = (
            weakref.WeakKeyDictionary()
        )

    async def open(self) -> None:
        """Connect and start the threads; `async with` does it.

        Raises:
            HowdahError: As `Writer`.
        """
        if self._opened is None:
            self._opened = await asyncio.to_thread(self._open)

    async def post(self, row: Mapping[str, Any]) -> None:
        """Return when the row is committed; for many at a time use tasks.

        The row is read before the first wait. A task that is cancelled once its
        row is posted takes nothing back.

        Raises:
            Refused: The row cannot be stored.
            UsageError: The writer is not open.
            OutcomeUnknown: As for `Writer.post`.
            HowdahError: The server was away for too long.
        """
        loop = asyncio.get_running_loop()
        inbox = self._inboxes.get(loop)
        if inbox is None:
            inbox = self._inboxes[loop] = _Inbox(loop)
        writer = self._writer
        while True:
            room = loop.create_future()
            future = writer.offer(row, partial(inbox.put, room, None))
            if future is not None:
                break
            await room
        committed = loop.create_future()
        future.add_done_callback(partial(inbox.put, committed))
        await committed

    async def flush(self) -> None:
        """Wait until every row that was posted before is committed or refused."""
        await asyncio.to_thread(self._writer.flush)

    async def close(self) -> None:
        """Commit what was posted, and close the connections; more than once does no harm."""
        if self._opened is not None:
            await asyncio.to_thread(self._opened.close)

    @property
    def _writer(self) -> Writer:
        if self._opened is None:
            raise UsageError(
                "The writer is not open.", next_step="Use it in 'async with', or await open()."
            )
        return self._opened

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()


class _Inbox:
    """What other threads have for the tasks of one loop: a loop is woken once for many."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = weakref.ref(loop)
        self._done: deque[tuple[asyncio.Future[None], Future[None] | None]] = deque()
        self._woken = False

    def put(self, waiter: asyncio.Future[None], outcome: Future[None] | None) -> None:
        """Complete a waiter, from any thread; None: without an outcome."""
        self._done.append((waiter, outcome))
        loop = self._loop()
        if not self._woken and loop is not None:
            self._woken = True
            with suppress(RuntimeError):  # the loop is closed: nobody waits
                loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        # First: what is put from now on may come too late for this turn.
        self._woken = False
        while self._done:
            waiter, outcome = self._done.popleft()
            if waiter.done():  # its task was cancelled
                continue
            error = outcome.exception() if outcome is not None else None
            if error is None:
                waiter.set_result(None)
            else:
                waiter.set_exception(error)
