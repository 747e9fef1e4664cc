"""Rows on their way to the server: gathered into batches, bounded, each with a future.

Any number of threads put rows, a few lanes take batches. The rows of a batch
share one condition and are settled together: a `concurrent.futures.Future` of
its own for each would cost more than all else that `post` does.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import Future
from concurrent.futures._base import FINISHED, RUNNING
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from howdah.errors import HowdahError, UsageError
from howdah.loading.writerrows import Layout

logger = logging.getLogger(__name__)

__all__ = ["Batch", "Limits", "Queue", "RowFuture", "WriterFull", "failed"]


class WriterFull(HowdahError):
    """Raised when no room came free in a writer within `timeout_s`; the row is not posted."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How rows are gathered.

    Attributes:
        linger_s: How long the first row of a batch waits for others, in seconds.
        batch_rows: A batch is full with so many rows.
        batch_bytes: A batch is full with so many bytes of COPY data.
        max_pending: Rows that may be posted and not settled.
        max_pending_bytes: The same in bytes; one row alone may be larger.
    """

    linger_s: float
    batch_rows: int
    batch_bytes: int
    max_pending: int
    max_pending_bytes: int


class RowFuture(Future[None]):
    """A posted row: None when it is committed, else a `HowdahError`. It cannot be cancelled."""

    # The standard's own fields; all that wait for a future look at these.
    _state = RUNNING
    _result = None
    _exception = None
    watched = False
    """Whether somebody has asked to be told: has `_waiters` or `_done_callbacks`."""

    def __init__(self, condition: threading.Condition, layout: Layout, line: bytes) -> None:
        # No super().__init__(): a condition and two lists for each row would cost
        # more than all the rest, most of it in the garbage collector.
        self._condition = condition
        self.layout = layout
        self.line = line

    def __getattr__(self, name: str) -> list[Any]:
        if name not in {"_waiters", "_done_callbacks"}:
            raise AttributeError(name)
        self.watched = True
        made: list[Any] = []
        setattr(self, name, made)
        return made

    def tell_waiters(self) -> None:
        """Tell `wait` and `as_completed`; the condition is held."""
        for waiter in self._waiters:
            (waiter.add_exception if self.exception(0) else waiter.add_result)(self)

    def call_back(self) -> None:
        """Call what was to be called when the row is done."""
        for callback in self._done_callbacks:
            try:
                callback(self)
            except Exception:
                logger.exception("a callback of a posted row failed")


def failed(error: HowdahError) -> Future[None]:
    """Return a future that has failed already."""
    future: Future[None] = Future()
    future.set_exception(error)
    return future


class Batch:
    """Rows that are committed together.

    Attributes:
        condition: That of their futures.
        rows: In the order in which they were posted.
        size_bytes: Of their lines together.
        full: Whether it takes no more rows.
        settled: Whether their futures are done.
    """

    __slots__ = ("condition", "full", "rows", "settled", "size_bytes")

    def __init__(self) -> None:
        self.condition = threading.Condition()
        self.rows: list[RowFuture] = []
        self.size_bytes = 0
        self.full = False
        self.settled = False

    def settle(self, refused: Mapping[RowFuture, HowdahError]) -> None:
        """Complete the futures: those in `refused` fail, the others are committed."""
        with self.condition:
            for row, error in refused.items():
                row._exception = error  # type: ignore[assignment]  # noqa: SLF001  its batch may
            for row in self.rows:
                row._state = FINISHED  # noqa: SLF001
                row.line = b""
                if row.watched:
                    row.tell_waiters()
            self.condition.notify_all()
        for row in self.rows:
            if row.watched:
                row.call_back()


class Queue:
    """Batches between those who post and the lanes.

    Args:
        limits: How rows are gathered, and how many may wait.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.abandoned = threading.Event()
        self._reset(None)

    def _reset(self, refusal: str | None) -> None:
        self._lock = threading.Lock()
        self._posted = threading.Condition(self._lock)
        self._room = threading.Condition(self._lock)
        self._settled = threading.Condition(self._lock)
        # One lane gathers, the others wait here: two that linger would halve the batches.
        self._turn = threading.Lock()
        self._waiting: deque[Batch] = deque()  # all but the last are full
        self._taken: set[Batch] = set()
        self._rows = 0
        self._size_bytes = 0
        self._hurried = 0
        self._when_room: list[Callable[[], None]] = []
        self._refusal = refusal

    @property
    def closed(self) -> bool:
        """Whether it takes no more rows."""
        return self._refusal is not None

    def put(self, layout: Layout, line: bytes, timeout_s: float | None) -> RowFuture:
        """Add a row; wait for room.

        Raises:
            UsageError: The queue is closed.
            WriterFull: There was no room within `timeout_s`.
        """
        with self._lock:
            if self._is_full(len(line)):
                self._await_room(len(line), timeout_s)
            return self._add(layout, line)

    def offer(self, layout: Layout, line: bytes, when_room: Callable[[], None]) -> RowFuture | None:
        """Add a row if there is room; else return None, and call `when_room` when there may be."""
        with self._lock:
            if self.closed or not self._is_full(len(line)):
                return self._add(layout, line)
            self._when_room.append(when_room)
            self._posted.notify()
            return None

    def _is_full(self, size_bytes: int) -> bool:
        limits = self._limits
        return self._rows > 0 and (
            self._rows >= limits.max_pending
            or self._size_bytes + size_bytes > limits.max_pending_bytes
        )

    def _await_room(self, size_bytes: int, timeout_s: float | None) -> None:
        def has_room() -> bool:
            return self.closed or not self._is_full(size_bytes)

        with self._hurry():
            came = self._room.wait_for(has_room, timeout_s)
        if not came:
            raise WriterFull(
                f"The writer has been full for {timeout_s:g} s: {self._rows} rows, "
                f"{self._size_bytes} bytes are not committed.",
                next_step="Turn the request away and try again later; "
                "more of them may wait with a greater max_pending.",
            )

    def _add(self, layout: Layout, line: bytes) -> RowFuture:
        if self._refusal is not None:
            raise UsageError(f"The row was not posted: {self._refusal}")
        waiting = self._waiting
        if not waiting or waiting[-1].full:
            waiting.append(Batch())
            if len(waiting) == 1:
                self._posted.notify()
        batch, size_bytes = waiting[-1], len(line)
        row = RowFuture(batch.condition, layout, line)
        batch.rows.append(row)
        batch.size_bytes += size_bytes
        self._rows += 1
        self._size_bytes += size_bytes
        limits = self._limits
        if len(batch.rows) >= limits.batch_rows or batch.size_bytes >= limits.batch_bytes:
            batch.full = True
            self._posted.notify()
        return row

    def take(self) -> Batch | None:
        """Return the next batch, which the caller settles; None when the queue is closed and empty.

        Waits for a row, and then as long as rows may linger: not for a full
        batch, nor while somebody flushes, closes or waits for room.
        """
        with self._turn, self._lock:
            self._posted.wait_for(lambda: self._waiting or self.closed)
            if not self._waiting:
                return None
            end = time.monotonic() + self._limits.linger_s
            while not self._is_urgent() and (left := end - time.monotonic()) > 0:
                self._posted.wait(left)
            if not self._waiting:  # abandoned meanwhile
                return None
            batch = self._waiting.popleft()
            self._taken.add(batch)
            return batch

    def _is_urgent(self) -> bool:
        return self.closed or self._hurried > 0 or bool(self._when_room) or self._waiting[0].full

    @contextmanager
    def _hurry(self) -> Generator[None]:
        """Let no batch linger, while somebody waits for what it holds."""
        self._hurried += 1
        self._posted.notify()
        try:
            yield
        finally:
            self._hurried -= 1

    def settle(self, batch: Batch, refused: Mapping[RowFuture, HowdahError]) -> None:
        """Complete the futures of a taken batch and make room."""
        batch.settle(refused)
        with self._lock:
            batch.settled = True
            self._taken.discard(batch)
            self._rows -= len(batch.rows)
            self._size_bytes -= batch.size_bytes
            self._room.notify_all()
            self._settled.notify_all()
            callbacks, self._when_room = self._when_room, []
        for callback in callbacks:
            callback()

    def flush(self) -> None:
        """Wait until every row that is posted by now is settled."""
        with self._lock:
            batches = [*self._taken, *self._waiting]
            with self._hurry():
                self._settled.wait_for(lambda: all(batch.settled for batch in batches))

    def close(self, reason: str) -> None:
        """Take no more rows; those that are posted are still delivered."""
        with self._lock:
            if self._refusal is None:
                self._refusal = reason
            self._posted.notify_all()
            self._room.notify_all()
            callbacks, self._when_room = self._when_room, []
        for callback in callbacks:
            callback()

    def abandon(self, reason: str, error: HowdahError) -> None:
        """Close, and fail every row that no lane has taken."""
        self.close(reason)
        self.abandoned.set()
        with self._lock:
            batches, self._waiting = [*self._waiting], deque()
        for batch in batches:
            self.settle(batch, dict.fromkeys(batch.rows, error))

    def forget_parent(self, reason: str) -> None:
        """Refuse everything: this is a forked child, whose parent has the lanes and the rows."""
        # New locks: a thread that does not exist here may have held the old ones.
        self._reset(reason)
