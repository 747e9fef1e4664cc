"""A reservation of a budget as the process that asked for it knows it."""

from __future__ import annotations

from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field

from howdah.connections.arbiter import Request
from howdah.errors import HowdahError

__all__ = ["Ticket"]


@dataclass(eq=False)
class Ticket:
    """A reservation as its process knows it.

    Attributes:
        request: What was asked.
        id: Of the reservation; another one after it was lost and asked for again.
        granted: Done when the slots are held; fails when they never will be.
        ahead: How many stood before it in line at the last look.
    """

    request: Request
    id: int
    granted: Future[None] = field(default_factory=Future)
    ahead: int = 0

    def resolve(self, error: HowdahError | None = None) -> None:
        """Say that it is granted, or never will be."""
        with suppress(InvalidStateError):  # it was, already
            if error is None:
                self.granted.set_result(None)
            else:
                self.granted.set_exception(error)
