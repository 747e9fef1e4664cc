"""A thread with a connection of its own, which commits batches until the queue is closed.

What passes (a lost connection, a restarting server, a deadlock) is waited out:
the batch is sent again after growing waits. A lane that has failed for too long
fails its batch and those behind it, each after one more try, until one succeeds.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import psycopg
from psycopg import Connection
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from howdah import pg
from howdah.errors import HowdahError, NoDatabase
from howdah.loading import writerledger as ledger
from howdah.loading.writerdelivery import Delivery, is_passing, refusal
from howdah.loading.writerqueue import Batch, Queue, RowFuture

__all__ = ["Lane", "Origin", "OutcomeUnknown", "abandoned"]

logger = logging.getLogger(__name__)

_FIRST_WAIT_S = 0.05
_LONGEST_WAIT_S = 5.0
# A peer that is gone without a word is noticed in about half a minute; libpq's
# own defaults are the system's: two hours where nothing is sent.
_KEEPALIVE = {
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "4",
    "tcp_user_timeout": "30000",
}


class OutcomeUnknown(HowdahError):
    """Raised for a row whose COMMIT was sent and never answered: it may be stored, or not."""


def abandoned() -> HowdahError:
    """Return what rows fail with that nobody waits for any more."""
    return HowdahError(
        "The writer was stopped before the row was committed.", next_step="Post it again."
    )


@dataclass(frozen=True, slots=True)
class Origin:
    """Whose lanes these are.

    Attributes:
        conninfo: The database.
        writer: Tells one writer from all others.
        name: The writer's name, for logs.
        exactly_once: Whether batches are marked in the database.
        retry_for_s: How long a lane goes on failing before rows do, in seconds.
    """

    conninfo: str
    writer: UUID
    name: str
    exactly_once: bool
    retry_for_s: float

    def connect(self, lane: int) -> Connection[Any]:
        """Return a connection for a lane, which closes it.

        Raises:
            NoDatabase: The server cannot be reached.
        """
        options: dict[str, Any] = {**_KEEPALIVE, **conninfo_to_dict(self.conninfo)}
        conninfo = make_conninfo(**options)
        name = f"howdah writer {self.writer.hex[:12]} {lane}"
        return pg.open_connection(conninfo, application_name=name)


class _Outage:
    """Since when a lane fails, and how long it waits before it tries again."""

    def __init__(self) -> None:
        self._since = time.monotonic()
        self.waits = _waits()

    def seconds(self) -> float:
        """Return how long it has lasted."""
        return time.monotonic() - self._since


def _waits() -> Iterator[float]:
    """Yield growing waits in seconds, the first none; random, so that lanes do not come at once."""
    yield 0.0
    longest = _FIRST_WAIT_S
    while True:
        yield longest * random.uniform(0.5, 1)  # noqa: S311  no secret
        longest = min(2 * longest, _LONGEST_WAIT_S)


class Lane:
    """Commits batches on one connection.

    Args:
        queue: Where the batches come from.
        origin: Whose lane it is.
        number: Which of the writer's lanes, from 0.
        conn: Its first connection; None: it opens one for its first batch.
    """

    def __init__(
        self, queue: Queue, origin: Origin, number: int, conn: Connection[Any] | None
    ) -> None:
        self._queue = queue
        self._origin = origin
        self._number = number
        self._conn = conn
        self._outage: _Outage | None = None
        self._lost_connection = False

    def run(self) -> None:
        """Commit batches until the queue is closed and empty."""
        number = 0
        try:
            while (batch := self._queue.take()) is not None:
                number += 1
                refused: dict[RowFuture, HowdahError] = {}
                try:
                    refused = self._deliver(batch, number)
                except Exception as exc:  # the top of a worker  # noqa: BLE001
                    refused = dict.fromkeys(batch.rows, _as_howdah(exc))
                finally:
                    self._report(batch, refused)
                    self._queue.settle(batch, refused)
        finally:
            self._end()

    def _deliver(self, batch: Batch, number: int) -> dict[RowFuture, HowdahError]:
        """Commit a batch, as often as it has to be tried; return the rows that are refused."""
        origin = self._origin
        mark = ledger.mark(origin.writer, self._number, number) if origin.exactly_once else None
        delivery = Delivery(batch, mark)
        while True:
            try:
                delivery.attempt(self._connection())
            except (psycopg.Error, NoDatabase) as exc:
                self._drop()
                if isinstance(exc, psycopg.Error) and not is_passing(exc):
                    raise
                self._wait_out(exc, undecided=delivery.undecided)
            else:
                self._outage = None
                return delivery.refused

    def _connection(self) -> Connection[Any]:
        if self._conn is None:
            conn = self._origin.connect(self._number)
            self._conn = conn
            if self._lost_connection and self._origin.exactly_once:
                ledger.stop_predecessor(conn)
            self._lost_connection = False
            logger.info("writer %r: lane %d is connected", self._origin.name, self._number)
        return self._conn

    def _drop(self) -> None:
        """Close the connection, or end its transaction where it can be used again."""
        conn = self._conn
        if conn is None:
            return
        try:
            conn.rollback()
        except psycopg.Error:
            conn.close()
            self._conn = None
            self._lost_connection = True

    def _wait_out(self, exc: Exception, *, undecided: bool) -> None:
        """Wait before the next attempt.

        Raises:
            OutcomeUnknown: It has taken too long, and a COMMIT is not answered.
            HowdahError: It has taken too long, and the batch is not committed.
        """
        origin = self._origin
        outage = self._outage
        if outage is None:
            outage = self._outage = _Outage()
            logger.warning("writer %r: a batch has to wait: %s", origin.name, exc)
        wait = next(outage.waits)
        stopped = self._queue.abandoned
        if not stopped.is_set() and outage.seconds() + wait <= origin.retry_for_s:
            stopped.wait(wait)
            return
        if undecided:
            raise OutcomeUnknown(
                f"The connection was lost at the commit, and for {origin.retry_for_s:g} s the "
                f"server could not be asked what became of the row: {exc}",
                next_step="Look for it in the table before you post it again.",
            ) from exc
        if stopped.is_set():
            raise abandoned() from exc
        raise HowdahError(
            f"The row is not stored: for {origin.retry_for_s:g} s the server took no rows: {exc}",
            next_step="Post it again when the server is back.",
        ) from exc

    def _report(self, batch: Batch, refused: dict[RowFuture, HowdahError]) -> None:
        if refused:
            first = next(iter(refused.values()))
            logger.warning(
                "writer %r: %d of %d rows are not stored; the first: %s",
                self._origin.name,
                len(refused),
                len(batch.rows),
                first.message,
            )

    def _end(self) -> None:
        conn = self._conn
        if conn is None:
            return
        if self._origin.exactly_once:
            with suppress(psycopg.Error):  # what stays is swept by another writer
                ledger.forget_lane(conn, self._origin.writer, self._number)
        conn.close()


def _as_howdah(exc: Exception) -> HowdahError:
    if isinstance(exc, HowdahError):
        return exc
    if isinstance(exc, psycopg.Error):
        return refusal(exc)
    error = HowdahError(f"The writer failed: {type(exc).__name__}: {exc}.")
    error.__cause__ = exc
    return error
