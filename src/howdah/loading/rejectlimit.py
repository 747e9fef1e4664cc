"""How many rejects a load bears."""

from __future__ import annotations

import threading
from collections.abc import Callable

from howdah.errors import HowdahError
from howdah.loading.report import Event, Outcome

__all__ = ["RejectLimit"]


class RejectLimit:
    """Passes a load's events on, and counts the rejects that they tell of.

    Args:
        most: How many there may be; None: any number.
        say: Called with each event, perhaps in a thread of the pool.
    """

    def __init__(self, most: int | None, say: Callable[[Event], None]) -> None:
        self._most = most
        self._say = say
        self._lock = threading.Lock()
        self._rejects = 0

    def __call__(self, event: Event) -> None:
        """Pass an event on."""
        if isinstance(event, Outcome):
            with self._lock:
                self._rejects += event.rejects
        self._say(event)

    def and_check(self, event: Event) -> None:
        """Pass an event on, and raise as `check` does."""
        self(event)
        self.check()

    def check(self) -> None:
        """Do nothing while there are few enough.

        Raises:
            HowdahError: There are more rejects than the load bears.
        """
        if self._most is not None and self._rejects > self._most:
            found = f"{self._rejects:,} reject" + ("" if self._rejects == 1 else "s")
            raise HowdahError(
                f"Stopped at {found}: no more than {self._most:,} are allowed.",
                next_step="What is committed stays, with its rejects: see 'howdah rejects list'. "
                "To go on, run the same command again, with a higher limit or the sources mended.",
            )
