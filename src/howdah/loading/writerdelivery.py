"""One batch into the table: in one transaction, all of it or all but its bad rows.

First the batch is sent as a whole. If the server refuses it, it is sent again
in savepoints and halved until the bad rows stand alone: O(k log N) COPYs for k
of them, as in rejects.py. Constraints that are deferred to the commit are then
checked at once, so that they, too, blame a row.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
from psycopg import Connection

from howdah.errors import HowdahError, Refused
from howdah.loading import writerledger as ledger
from howdah.loading.writerqueue import Batch, RowFuture
from howdah.loading.writerrows import Layout
from howdah.loading.writerwire import converse

__all__ = ["Delivery", "is_passing", "refusal"]

_PASSING = ("08", "25006", "40", "53", "55P03", "57")
"""SQLSTATEs, or their classes, of what may work a moment later with the same rows.

Lost connections, a standby that is not promoted yet, deadlocks, no resources,
locks and statements that took too long, servers that stop or start.
Source: https://www.postgresql.org/docs/current/errcodes-appendix.html
"""


def is_passing(exc: psycopg.Error) -> bool:
    """Say whether the same rows may be accepted a moment later."""
    if exc.sqlstate is None:  # libpq's own: the connection is lost
        return isinstance(exc, psycopg.OperationalError)
    return exc.sqlstate.startswith(_PASSING)


def refusal(exc: psycopg.Error) -> Refused:
    """Return what a row's future fails with; psycopg's error is its cause."""
    reason = exc.diag.message_primary or str(exc)
    # For a value that cannot be read the context names its column; else it holds the whole row.
    where = (exc.diag.context or "").partition("\n")[0] if (exc.sqlstate or "")[:2] == "22" else ""
    refused = Refused(
        f"The row is not stored: {reason}{f' ({where})' if where else ''}.",
        next_step="Mend it and post it again; the other rows are not touched.",
    )
    refused.__cause__ = exc
    return refused


class Delivery:
    """A batch on its way to the server, through as many attempts as it takes.

    Args:
        batch: The rows.
        mark: The statement that marks it as committed, from `ledger.mark`; None: it may be doubled.

    Attributes:
        undecided: Whether a COMMIT was sent whose answer is not known.
        refused: The rows that are not part of the last COMMIT that was sent, and why.
    """

    def __init__(self, batch: Batch, mark: bytes | None) -> None:
        self.undecided = False
        self.refused: dict[RowFuture, HowdahError] = {}
        self._mark = mark
        self._whole = True
        self._earlier_undecided = False
        self._groups: dict[Layout, list[RowFuture]] = {}
        for row in batch.rows:
            self._groups.setdefault(row.layout, []).append(row)

    def attempt(self, conn: Connection[Any]) -> None:
        """Commit the batch; with a mark no more than once, however often this is called.

        Raises:
            psycopg.Error: The transaction is not committed, unless `undecided`.
        """
        self._earlier_undecided = self.undecided
        try:
            if self._whole:
                self._send_whole(conn)
            else:
                self._send_in_savepoints(conn)
        except psycopg.Error as exc:
            if exc.diag.severity_nonlocalized != "ERROR":
                raise  # the connection is lost
            converse(conn.pgconn, b"ROLLBACK")
            # An error is an answer: this attempt is not committed.
            self.undecided = self._earlier_undecided
            if ledger.is_committed_already(exc):
                self.undecided = False
            elif self._whole and not is_passing(exc):
                self._whole = False
                self.attempt(conn)
            else:
                raise

    def _send_whole(self, conn: Connection[Any]) -> None:
        copies = [layout.copy for layout in self._groups]
        script = [b"BEGIN", *self._marks(), *copies, b"COMMIT"]
        self._committed(converse(conn.pgconn, b"; ".join(script), self._data()))

    def _data(self) -> Iterator[bytes]:
        self._marked()
        *others, last = self._groups.values()
        for rows in others:
            yield _lines(rows)
        data = _lines(last)
        self.undecided, self.refused = True, {}
        yield data

    def _send_in_savepoints(self, conn: Connection[Any]) -> None:
        script = [b"BEGIN", b"SET CONSTRAINTS ALL IMMEDIATE", *self._marks()]
        converse(conn.pgconn, b"; ".join(script))
        self._marked()
        refused: dict[RowFuture, HowdahError] = {}
        for layout, rows in self._groups.items():
            # No rows at all: a table that is gone refuses even these.
            error = _copied(conn, layout, [])
            if error is None:
                _halve(conn, layout, rows, refused)
            else:
                refused |= {row: refusal(error) for row in rows}
        self.undecided, self.refused = True, refused
        self._committed(converse(conn.pgconn, b"COMMIT"))

    def _marks(self) -> list[bytes]:
        return [] if self._mark is None else [self._mark]

    def _marked(self) -> None:
        """Note that the mark could be inserted: no earlier attempt is committed."""
        if self._mark is not None:
            self.undecided = self._earlier_undecided = False

    def _committed(self, tags: list[bytes]) -> None:
        if tags[-1] != b"COMMIT":  # ROLLBACK: the transaction had failed
            raise psycopg.InternalError(f"the server answered {tags[-1].decode()} to COMMIT")
        self.undecided = False


def _lines(rows: list[RowFuture]) -> bytes:
    return b"".join([row.line for row in rows])


def _halve(
    conn: Connection[Any],
    layout: Layout,
    rows: list[RowFuture],
    refused: dict[RowFuture, HowdahError],
) -> None:
    error = _copied(conn, layout, rows)
    if error is None:
        return
    if len(rows) == 1:
        refused[rows[0]] = refusal(error)
        return
    middle = len(rows) // 2
    _halve(conn, layout, rows[:middle], refused)
    _halve(conn, layout, rows[middle:], refused)


def _copied(conn: Connection[Any], layout: Layout, rows: list[RowFuture]) -> psycopg.Error | None:
    """Copy rows in a savepoint; return the error where the server blames the rows."""
    script = b"; ".join([b"SAVEPOINT rows", layout.copy, b"RELEASE rows"])
    try:
        converse(conn.pgconn, script, [_lines(rows)])
    except psycopg.Error as exc:
        if is_passing(exc):
            raise
        converse(conn.pgconn, b"ROLLBACK TO rows; RELEASE rows")
        return exc
    return None
