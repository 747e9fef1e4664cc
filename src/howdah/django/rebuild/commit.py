"""A transaction whose end is known, also where the answer to its COMMIT is lost.

Its number is asked for just before the COMMIT; after a lost connection a new
one asks the server what became of that number.
Source: https://www.postgresql.org/docs/current/functions-info.html (pg_xact_status)
"""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import Connection

from howdah.django.rebuild.databases import Database, connect
from howdah.errors import HowdahError, NoDatabase

_TIMEOUT_S = 30.0
_PATIENCE_S = 1.0
_POLL_S = 0.1

COMMITTED = "the connection was lost at the commit; the server says that it is committed"

_NUMBER = "SELECT pg_current_xact_id()::text"
_STATUS = "SELECT pg_xact_status(%s::xid8)"
# Our own session, which has not noticed: it would hold its locks until it does.
_END = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
     WHERE backend_xid::text::bigint = %s::bigint & 4294967295 AND usename = session_user
"""


class CommitLost(HowdahError):
    """Raised where a connection is lost after COMMIT was sent; see `is_committed`.

    Attributes:
        number: The transaction's.
    """

    def __init__(self, number: str) -> None:
        super().__init__("The connection was lost while the transaction was being committed.")
        self.number = number


@contextmanager
def transaction(conn: Connection[Any]) -> Generator[None]:
    """Run a transaction.

    Raises:
        CommitLost: The connection was lost at its COMMIT.
    """
    numbers: list[str] = []
    with _noticed(conn, numbers), conn.transaction():
        yield
        numbers.append(_number(conn))


def commit(conn: Connection[Any]) -> None:
    """Commit the transaction that a connection is in.

    Raises:
        CommitLost: The connection was lost.
    """
    with _noticed(conn, [_number(conn)]):
        conn.commit()


def is_committed(database: Database, lost: CommitLost) -> bool:
    """Find out what became of a COMMIT whose answer was lost; wait until the server knows.

    Raises:
        HowdahError: The server does not say.
    """
    started = time.monotonic()
    while (waited := time.monotonic() - started) < _TIMEOUT_S:
        try:
            with connect(database.conninfo(), database.aliases[0]) as conn:
                row = conn.execute(_STATUS, [lost.number]).fetchone()
                if row is not None and row[0] in {"committed", "aborted"}:
                    return bool(row[0] == "committed")
                if waited > _PATIENCE_S:
                    conn.execute(_END, [lost.number])
        except (NoDatabase, psycopg.OperationalError):
            pass  # it may be restarting
        time.sleep(_POLL_S)
    raise HowdahError(
        f"The connection was lost at the commit in {database.name!r}, and the server did not say "
        f"within {_TIMEOUT_S:.0f} s what became of it.",
        next_step="The tables are all as before, or all as rebuilt. Once the server answers, run "
        "the same command again.",
    )


def check_committed(database: Database, lost: CommitLost) -> None:
    """Pass where a COMMIT whose answer was lost came about.

    Raises:
        HowdahError: The server rolled it back, or does not say.
    """
    if not is_committed(database, lost):
        raise HowdahError(
            f"The connection to {database.name!r} was lost at the commit, and the server has "
            "rolled it back: all is as before.",
            next_step="Run the same command again.",
        ) from lost


def _number(conn: Connection[Any]) -> str:
    row = conn.execute(_NUMBER).fetchone()
    assert row is not None  # noqa: S101 - a SELECT without FROM has one row
    return str(row[0])


@contextmanager
def _noticed(conn: Connection[Any], numbers: list[str]) -> Generator[None]:
    try:
        yield
    except psycopg.OperationalError as exc:
        if numbers and conn.broken:
            raise CommitLost(numbers[0]) from exc
        raise
