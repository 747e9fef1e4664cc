"""What a worker reads and since when, so that a reader's crash or hang costs one source.

A worker says which member of an archive it is about to read; when it is gone,
the parent knows which one to leave out. And it has itself killed where a reader
gives nothing for too long: by a signal, whose default action needs neither the
interpreter nor the lock that a library's endless loop may hold.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

__all__ = ["Reading", "Watch"]

T = TypeVar("T")

_REARM = 10
"""Which part of the limit may pass before progress counts: a system call a record is too much."""


@dataclass(frozen=True, slots=True)
class Reading:
    """A worker begins to read a member of an archive.

    Attributes:
        file: The name of the file that it is in.
        source: Its own name.
    """

    file: str
    source: str


class Watch:
    """Ends this process by SIGALRM when a reader gives nothing for too long.

    Only for a process whose death costs no more than a retry, in its main thread.

    Args:
        limit_s: How long a reader may take over one record, in seconds.
    """

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._armed_at = 0.0
        signal.signal(signal.SIGALRM, signal.SIG_DFL)

    def items(self, items: Iterable[T]) -> Iterator[T]:
        """Pass on what a reader yields; each item starts its time anew."""
        for item in items:
            if time.monotonic() - self._armed_at > self._limit_s / _REARM:
                self._arm()
            yield item

    def pieces(self, pieces: Iterator[T]) -> Iterator[T]:
        """Pass on what is made of the items; what the taker does with it takes no reader's time."""
        while True:
            self._arm()
            try:
                piece = next(pieces, None)
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
            if piece is None:
                return
            yield piece

    def _arm(self) -> None:
        self._armed_at = time.monotonic()
        signal.setitimer(signal.ITIMER_REAL, self._limit_s)
