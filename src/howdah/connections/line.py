"""Slots of one process, handed out in line, all or nothing, to threads and tasks.

Whoever asks first is served first; a request for many is not overtaken by requests for
few, and holds nothing while it waits.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import PurePath
from types import CodeType, FrameType
from typing import Any
from weakref import ref

__all__ = ["Line", "Use"]

# Whose frames are not the place that took the connection.
_PLUMBING = (
    "/howdah/connections/",
    "/howdah/django/",
    "/psycopg_pool/",
    "/contextlib.py",
    "/django/",
)
_PATIENCE_S = 1.0
"""How often those who wait look for slots that somebody has lost, in seconds."""


@dataclass(eq=False, slots=True)
class Use:
    """Slots that are taken.

    Attributes:
        slots: How many.
        purpose: What for.
        who: The thread, or the task, that took them.
        since: When, by the monotonic clock.
        code: The function that took them.
        line: Where in it.
        conn: The connection, where there is one.
    """

    slots: int
    purpose: str
    who: str
    since: float
    code: CodeType | None
    line: int
    conn: ref[Any] | None = None

    @classmethod
    def here(cls, slots: int, purpose: str = "", *, who: str | None = None) -> Use:
        """Return a use by the calling thread, at the line of its own code that calls us."""
        frame = _outside(sys._getframe(1))  # noqa: SLF001  what inspect does, at a hundredth of its price
        code, line = (frame.f_code, frame.f_lineno) if frame else (None, 0)
        who = threading.current_thread().name if who is None else who
        return cls(slots, purpose, who, time.monotonic(), code, line)

    @property
    def where(self) -> str:
        """The place, as in "views.py:12 in show"."""
        if self.code is None:
            return "somewhere"
        return f"{PurePath(self.code.co_filename).name}:{self.line} in {self.code.co_name}"

    def __str__(self) -> str:
        purpose = f" ({self.purpose})" if self.purpose else ""
        held = time.monotonic() - self.since
        return f"{self.slots} by {self.who}{purpose} for {held:,.1f} s, taken at {self.where}"


def _outside(frame: FrameType | None) -> FrameType | None:
    while frame is not None and any(part in frame.f_code.co_filename for part in _PLUMBING):
        frame = frame.f_back
    return frame


@dataclass(eq=False, slots=True)
class _Waiter:
    use: Use
    wake: Callable[[], object]
    served: bool = False


@dataclass(eq=False)
class Line:
    """Slots, and who waits for them.

    Attributes:
        slots: How many there are.
        uses: Who holds some.
        waits: How often somebody had to wait.
        waited_s: How long, in seconds, all waits together.
    """

    slots: int
    uses: set[Use] = field(default_factory=set)
    waits: int = 0
    waited_s: float = 0.0

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: deque[_Waiter] = deque()
        self._taken = 0

    @property
    def waiting(self) -> int:
        """How many stand in line."""
        return len(self._waiting)

    def enter(self, use: Use, timeout_s: float, meanwhile: Callable[[], None]) -> bool:
        """Take slots; return whether they were to be had in time.

        Args:
            use: How many, and by whom.
            timeout_s: How long to wait, in seconds.
            meanwhile: Called now and then while it waits.
        """
        gate = threading.Semaphore(0)
        waiter = self._stand(use, gate.release)
        if waiter is None:
            return True
        started = time.monotonic()
        try:
            while not gate.acquire(timeout=self._pause_s(started, timeout_s)):
                meanwhile()
                if time.monotonic() - started >= timeout_s:
                    break
        except BaseException:
            if not self._step_out(waiter):
                self.leave(use)
            raise
        return not self._step_out(waiter, started)

    async def enter_async(self, use: Use, timeout_s: float, meanwhile: Callable[[], None]) -> bool:
        """Take slots, for a task; see `enter`."""
        loop = asyncio.get_running_loop()
        gate = asyncio.Event()
        waiter = self._stand(use, lambda: loop.call_soon_threadsafe(gate.set))
        if waiter is None:
            return True
        started = time.monotonic()
        try:
            while not gate.is_set() and time.monotonic() - started < timeout_s:
                with suppress(TimeoutError):
                    await asyncio.wait_for(gate.wait(), self._pause_s(started, timeout_s))
                meanwhile()
        except BaseException:
            if not self._step_out(waiter):
                self.leave(use)
            raise
        return not self._step_out(waiter, started)

    def leave(self, use: Use) -> None:
        """Give slots back; more than once does no harm."""
        with self._lock:
            if use in self.uses:
                self.uses.discard(use)
                self._taken -= use.slots
                self._serve()

    def resize(self, slots: int) -> None:
        """Have another number of slots; what is taken stays so."""
        with self._lock:
            self.slots = slots
            self._serve()

    def told(self) -> list[str]:
        """Return who holds slots, the longest first, for a person."""
        with self._lock:
            uses = sorted(self.uses, key=lambda use: use.since)
        return [str(use) for use in uses]

    def _stand(self, use: Use, wake: Callable[[], object]) -> _Waiter | None:
        with self._lock:
            if not self._waiting and self._taken + use.slots <= self.slots:
                self._take(use)
                return None
            waiter = _Waiter(use, wake)
            self._waiting.append(waiter)
            self.waits += 1
            return waiter

    def _take(self, use: Use) -> None:
        self._taken += use.slots
        self.uses.add(use)

    def _serve(self) -> None:
        while self._waiting and self._taken + self._waiting[0].use.slots <= self.slots:
            waiter = self._waiting.popleft()
            waiter.served = True
            waiter.use.since = time.monotonic()
            self._take(waiter.use)
            waiter.wake()

    def _step_out(self, waiter: _Waiter, started: float | None = None) -> bool:
        """Leave the line; return False where it was our turn already."""
        with self._lock:
            if started is not None:
                self.waited_s += time.monotonic() - started
            if waiter.served:
                return False
            self._waiting.remove(waiter)
            self._serve()  # those behind us may fit
            return True

    @staticmethod
    def _pause_s(started: float, timeout_s: float) -> float:
        return max(0.0, min(_PATIENCE_S, started + timeout_s - time.monotonic()))
