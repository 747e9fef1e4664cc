"""Single rows from any number of threads into a table, many to a transaction.

    post -> line of COPY text -> queue -> batch --(lane)--> BEGIN, mark, COPY, COMMIT -> futures

A row's future is done when the row is committed, and not before. What the
process loses when it dies are the rows whose futures were not done.
"""

from __future__ import annotations

import atexit
import os
import threading
import weakref
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

from howdah import pg
from howdah.dsn import choose
from howdah.errors import Refused, UsageError
from howdah.loading import writerledger as ledger
from howdah.loading.writerlane import Lane, Origin, abandoned
from howdah.loading.writerqueue import Limits, Queue, failed
from howdah.loading.writerrows import Layout, format_for

__all__ = ["Writer"]

ROW_BYTES = 256 << 20
"""The longest row: jsonb may have 256 MiB, and what COPY reads at once 1 GiB."""

_MOST_CONNECTIONS = 64
_CLOSED = "the writer is closed."
_FORKED = (
    "this process was forked from the one that opened the writer, which has its connections. "
    "Open a writer in each process, after the fork."
)


class Writer:
    """Writes rows that come one by one, from any thread, at the speed of COPY.

    A row is a mapping. If the table has the columns that `howdah load` makes
    (or is missing, and is then made so), it goes to `attributes`, with the
    writer's name as `source` and a running number as `record`. In any other
    table its keys are columns; columns that it leaves out get their defaults.

    Rows become visible in batches, one transaction each, in no certain order.
    A row that the server refuses fails alone. Where a connection is lost, its
    batch is sent again, and is in the table once.

    The end of a `with` block commits all that was posted, also where the block
    raises; only a second Ctrl-C, or `abandon`, gives up what is not committed.

    Args:
        dsn: The database; None: what the environment names, else the embedded server.
        table: The table, `name` or `schema.name`.
        name: The value of `source`, and the writer's name in logs; None: one of its own.
        connections: Connections, each with a thread, 1 to 64; opened when they are needed.
        linger_s: How long the first row of a batch waits for others, in seconds.
        batch_rows: How many rows a transaction has at most.
        batch_bytes: With how many bytes a batch is full.
        max_pending: How many rows may be posted and not committed.
        max_pending_bytes: The same in bytes of COPY data.
        retry_for_s: How long a lost connection, a full server or a lock is waited for
            before rows fail, in seconds.
        exactly_once: Whether each batch is marked in `howdah.writer_batches`, in its own
            transaction. Without it a batch whose commit was not answered is sent again
            and may be doubled.

    Raises:
        NoDatabase: The server cannot be reached.
        Refused: The role may not, or the table is none that COPY can fill.
        UsageError: An argument makes no sense.
    """

    def __init__(
        self,
        dsn: str | None,
        table: str,
        *,
        name: str | None = None,
        connections: int = 2,
        linger_s: float = 0.0005,
        batch_rows: int = 1000,
        batch_bytes: int = 1 << 20,
        max_pending: int = 10_000,
        max_pending_bytes: int = 64 << 20,
        retry_for_s: float = 60.0,
        exactly_once: bool = True,
    ) -> None:
        limits = Limits(linger_s, batch_rows, batch_bytes, max_pending, max_pending_bytes)
        _check(limits, connections, retry_for_s)
        writer = uuid4()
        self.name = name or f"writer {writer.hex[:12]}"
        origin = Origin(_conninfo(dsn), writer, self.name, exactly_once, retry_for_s)
        table_name = pg.TableName.parse(table)
        conn = origin.connect(0)
        try:
            if exactly_once:
                ledger.install(conn)
            self._format = format_for(conn, table_name, self.name)
        except BaseException:
            conn.close()
            raise
        self._queue = Queue(limits)
        self._lanes = [
            Lane(self._queue, origin, number, None if number else conn)
            for number in range(connections)
        ]
        self._threads = [
            # Daemons: a program that forgets to close would never end. See _close_all.
            threading.Thread(target=lane.run, name=f"howdah {self.name}", daemon=True)
            for lane in self._lanes
        ]
        for thread in self._threads:
            thread.start()
        _open_writers.add(self)
        weakref.finalize(self, self._queue.close, _CLOSED).atexit = False

    def post(self, row: Mapping[str, Any], *, timeout_s: float | None = None) -> Future[None]:
        """Hand over a row; return at once, or when there is room for it.

        The row is read before this returns: it may be changed afterwards.

        Args:
            row: Columns or attributes.
            timeout_s: How long to wait for room, in seconds; None: as long as it takes.

        Returns:
            A future that is None when the row is committed. It fails with `Refused` if
            the row cannot be stored (psycopg's error, if there is one, is its
            `__cause__`), with `OutcomeUnknown` or another `HowdahError` if the server was
            away for too long.

        Raises:
            UsageError: The writer is closed, or belongs to the process that forked this one.
            WriterFull: There was no room within `timeout_s`.
        """
        try:
            layout, line = self._line(row)
        except Refused as exc:
            return failed(exc)
        return self._queue.put(layout, line, timeout_s)

    def offer(self, row: Mapping[str, Any], when_room: Callable[[], None]) -> Future[None] | None:
        """Hand over a row if there is room, without waiting; for event loops.

        Args:
            row: Columns or attributes.
            when_room: Called once, in any thread, when it is worth trying again.

        Returns:
            As `post`; None if there is no room.

        Raises:
            UsageError: As `post`.
        """
        try:
            layout, line = self._line(row)
        except Refused as exc:
            return failed(exc)
        return self._queue.offer(layout, line, when_room)

    def _line(self, row: Mapping[str, Any]) -> tuple[Layout, bytes]:
        if type(row) is not dict and not isinstance(row, Mapping):
            raise Refused(
                f"A row is a mapping, not {type(row).__name__}.", next_step="Post a dict."
            )
        layout, line = self._format.line(row)
        if len(line) > ROW_BYTES:
            raise Refused(
                f"The row has {len(line)} bytes of COPY data, more than {ROW_BYTES}.",
                next_step="Store large values apart.",
            )
        return layout, line

    def flush(self) -> None:
        """Wait until the future of every row that was posted before is done.

        It raises nothing for rows that failed: their futures do.
        """
        self._queue.flush()

    def close(self) -> None:
        """Commit what was posted, and close the connections; more than once does no harm.

        Interrupted (a second Ctrl-C), it abandons what is not committed yet.
        """
        self._queue.close(_CLOSED)
        try:
            for thread in self._threads:
                thread.join()
        except BaseException:
            self.abandon()
            raise
        _open_writers.discard(self)

    def abandon(self) -> None:
        """Close without waiting: rows that are not on their way to the server fail."""
        _open_writers.discard(self)
        self._queue.abandon(_CLOSED, abandoned())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _forget_parent(self) -> None:
        self._threads = []
        self._queue.forget_parent(_FORKED)


def _check(limits: Limits, connections: int, retry_for_s: float) -> None:
    if not 1 <= connections <= _MOST_CONNECTIONS:
        raise UsageError(f"{connections} connections are not between 1 and {_MOST_CONNECTIONS}.")
    if min(limits.linger_s, retry_for_s) < 0:
        raise UsageError("linger_s and retry_for_s cannot be negative.")
    sizes = (limits.batch_rows, limits.batch_bytes, limits.max_pending, limits.max_pending_bytes)
    if min(sizes) < 1:
        raise UsageError("Limits of rows and bytes cannot be less than 1.")


def _conninfo(dsn: str | None) -> str:
    chosen = choose(dsn)
    if chosen is not None:
        return chosen.conninfo
    from howdah.server import ensure_running  # a named database does not need it

    return ensure_running().conninfo()


_open_writers: weakref.WeakSet[Writer] = weakref.WeakSet()


def _close_all() -> None:
    for writer in list(_open_writers):
        writer.close()


def _after_fork() -> None:
    for writer in list(_open_writers):
        writer._forget_parent()  # noqa: SLF001  one module


atexit.register(_close_all)
os.register_at_fork(after_in_child=_after_fork)
