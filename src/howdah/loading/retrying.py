"""Trying again, with growing waits, what failed because the server was away for the moment.

Which work may be tried again is the caller's to know: a worker's job may, since
the ledger tells it what of it is committed (ledger.py), also where the answer to
a COMMIT was lost; so may each call of the parent to the ledger. Which errors are
worth it is told here, by SQLSTATE: the server is starting or stopping, has no
slot, found a deadlock, or a lock was not to be had in time. All others are the
caller's.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterator
from itertools import count

import psycopg

from howdah.errors import HowdahError, NoDatabase
from howdah.loading.limits import Limits
from howdah.loading.report import Waiting

__all__ = ["Patience", "ends_session", "is_passing", "passing_cause", "reason_of", "waits"]

logger = logging.getLogger(__name__)

FIRST_WAIT_S = 0.25
LONGEST_WAIT_S = 10.0

_REASONS = {
    "40001": "the server could not serialize the transaction",
    "40P01": "the server found a deadlock",
    "53300": "the server has no free connection slot",
    "55P03": "a lock was not to be had",
    "57P03": "the server is starting or stopping",
}
# 57P01 and 57P02 are shutdowns, 57P05 and 25P03 are time-outs of idle sessions.
_LOST = {"57P01", "57P02", "57P05", "25P03"}


def is_passing(exc: BaseException) -> bool:
    """Return whether the same work may succeed in a moment.

    Source: https://www.postgresql.org/docs/current/errcodes-appendix.html
    """
    if isinstance(exc, NoDatabase):
        return True  # libpq gives no SQLSTATE where it cannot connect
    if not isinstance(exc, psycopg.OperationalError):
        return False
    state = exc.sqlstate
    # Without a SQLSTATE the error is libpq's own: the connection is gone.
    return state is None or state in _REASONS or state in _LOST or state.startswith("08")


def passing_cause(exc: Exception) -> Exception | None:
    """Return what of psycopg's or ours made `exc`, if the same work may succeed in a moment."""
    for found in (exc, exc.__cause__):
        if isinstance(found, Exception) and is_passing(found):
            return found
    return None


def ends_session(exc: Exception) -> bool:
    """Return whether the session is lost with an error that passes, not only its transaction."""
    state = exc.sqlstate if isinstance(exc, psycopg.Error) else None
    return state not in {"40001", "40P01", "55P03"}


def waits(chance: random.Random) -> Iterator[float]:
    """Yield how long to wait before each new try, in seconds: doubled up to a cap, with jitter.

    Between half of it and all of it, so that many workers do not come back at once.
    Source: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
    """
    for tries in count():
        longest = min(FIRST_WAIT_S * 2 ** min(tries, 30), LONGEST_WAIT_S)
        yield longest * chance.uniform(0.5, 1)


class Patience:
    """Waits before a new try, until the limit.

    Args:
        limits: How long to go on trying.
        say: Called before each wait.
        chance: What the jitter is taken from.
        clock: Seconds that never go back.
    """

    def __init__(
        self,
        limits: Limits,
        say: Callable[[Waiting], None],
        *,
        chance: random.Random | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limits = limits
        self._say = say
        self._chance = chance or random.Random()  # noqa: S311 - jitter keeps no secret
        self._clock = clock
        self._since: float | None = None
        self._waits = waits(self._chance)

    def reward(self) -> None:
        """Begin anew: the server has done something for us."""
        self._since = None
        self._waits = waits(self._chance)

    def bear(self, exc: Exception, doing: str, blocked_by: str | None = None) -> None:
        """Wait before a new try; raise where none is due.

        Args:
            exc: What went wrong.
            doing: What was tried, as in "load into documents".
            blocked_by: Who held the lock that was waited for, if anybody did.

        Raises:
            HowdahError: The limit is reached.
            Exception: `exc`, where it is none that passes.
        """
        if not is_passing(exc):
            raise exc
        now = self._clock()
        if self._since is None:
            self._since = now
        wait_s = next(self._waits)
        if now - self._since + wait_s > self._limits.retry_for_s:
            self._give_up(exc, doing, blocked_by)
        reason = reason_of(exc, blocked_by)
        logger.info("%s: %s; trying again in %.2f s", doing, reason, wait_s)
        self._say(Waiting(reason, round(wait_s, 2)))
        time.sleep(wait_s)

    def _give_up(self, exc: Exception, doing: str, blocked_by: str | None) -> None:
        tried = f"tried for {self._limits.retry_for_s:g} s"
        if blocked_by is not None:
            raise HowdahError(
                f"The server gave up waiting to {doing} ({tried}): {blocked_by}.",
                next_step="End that session or wait for it, then run the same command again: "
                "what is committed stays.",
            ) from exc
        said = exc.message if isinstance(exc, NoDatabase) else " ".join(str(exc).split())
        raise HowdahError(
            f"{reason_of(exc).capitalize()}: it could not {doing} ({tried}): {said.rstrip('.?')}.",
            next_step="Run the same command again when it is back: what is committed stays.",
        ) from exc


def reason_of(exc: Exception, blocked_by: str | None = None) -> str:
    """Return in a few words why work is to be tried again."""
    if blocked_by is not None:
        return blocked_by
    state = exc.sqlstate if isinstance(exc, psycopg.Error) else None
    return _REASONS.get(state or "", "the server is away")
