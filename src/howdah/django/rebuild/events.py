"""What a rebuild tells while it works."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happens.

    Attributes:
        step: "build", "carry over", ...
        detail: Of it, for people; empty at its begin and its end.
        seconds: It took; None while it goes on.
    """

    step: str
    detail: str = ""
    seconds: float | None = None


OnEvent = Callable[[Event], None]


class Clock:
    """Tells events, and adds up how long each step takes.

    Args:
        on_event: Takes each event.
    """

    def __init__(self, on_event: OnEvent) -> None:
        self._on_event = on_event
        self._started = time.monotonic()
        self.steps: dict[str, float] = {}

    @contextmanager
    def step(self, name: str) -> Generator[Callable[[str], None]]:
        """Time a step; yields what takes its details."""
        started = time.monotonic()
        self._on_event(Event(name))
        yield lambda detail: self._on_event(Event(name, detail))
        seconds = time.monotonic() - started
        self.steps[name] = self.steps.get(name, 0.0) + seconds
        self._on_event(Event(name, seconds=seconds))

    def total(self) -> float:
        """Return the seconds since the begin."""
        return time.monotonic() - self._started
