"""How long a load bears with a server that is away, with locks and with rejects."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["LOCK_TIMEOUT_S", "Limits"]


@dataclass(frozen=True, slots=True)
class Limits:
    """What a load bears before it gives up.

    Attributes:
        retry_for_s: How long to try again where the server is away or refuses for
            the moment, in seconds since it last did something for us; 0: not at all.
        lock_timeout_s: How long to wait for a lock before saying who holds it and
            trying again, in seconds; None: what the role, the database or the
            connection string set, else `LOCK_TIMEOUT_S`.
    """

    retry_for_s: float = 120.0
    lock_timeout_s: float | None = None


LOCK_TIMEOUT_S = 30.0
"""How long a statement waits for a lock where nothing else is set, in seconds."""
