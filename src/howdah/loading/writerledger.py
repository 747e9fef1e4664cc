"""Which batch of a writer is committed, so that none is sent twice.

The contract: a batch's number is inserted first in the transaction of its rows.
Where the answer to COMMIT was lost, the same transaction is begun again: its
insert waits for the old transaction, if that is still alive, and then fails on
the primary key if it was committed.

`pg_xact_status` would need no table, and is wrong after a crash: a transaction
whose WAL had not reached the disk is forgotten with its number, and the next
one to get that number answers for it.
"""

from __future__ import annotations

from contextlib import suppress
from importlib.resources import files
from typing import Any, LiteralString
from uuid import UUID

import psycopg
from psycopg import Connection, errors, sql

from howdah import pg
from howdah.errors import Refused

__all__ = ["forget_lane", "install", "is_committed_already", "mark", "stop_predecessor"]

_DDL = "writerledger.sql"
_INSTALLED = "SELECT to_regclass('howdah.writer_batches') IS NOT NULL"
_MAY = "SELECT has_table_privilege('howdah.writer_batches', 'INSERT')"
# Of writers that were killed: nobody asks for a batch that is a day old.
_SWEEP = """
    DELETE FROM howdah.writer_batches WHERE committed_at < now() - make_interval(days => 1)
"""


def install(conn: Connection[Any]) -> None:
    """Create the table of batches where it is missing, and sweep it.

    Raises:
        Refused: The role may not create it, or not use it.
    """
    try:
        with conn.transaction():
            _create(conn)
            conn.execute(_SWEEP)
    except errors.InsufficientPrivilege as exc:
        raise _not_allowed(str(exc).splitlines()[0]) from exc
    if not _is_true(conn, _MAY):
        raise _not_allowed("INSERT is missing")


def _create(conn: Connection[Any]) -> None:
    if not _is_true(conn, _INSTALLED):
        # The loader's own lock: both create the schema.
        pg.xact_lock(conn, "howdah: install the ledger")
        ddl = files("howdah.loading").joinpath(_DDL).read_text()
        conn.execute(ddl.encode())  # bytes: a file of ours, not a literal of this module


def _not_allowed(reason: str) -> Refused:
    return Refused(
        f"The role may not use the table howdah.writer_batches: {reason}.",
        next_step="Let an administrator grant CREATE on the database, or make the table and "
        "grant USAGE on the schema howdah and SELECT, INSERT, DELETE on it; or open the "
        "writer with exactly_once=False: rows may then be doubled when a connection is lost.",
    )


def _is_true(conn: Connection[Any], query: LiteralString) -> bool:
    row = conn.execute(query).fetchone()
    return bool(row and row[0])


_MARK = """
    WITH older AS (
        DELETE FROM howdah.writer_batches WHERE writer = {writer} AND lane = {lane} AND batch < {batch}
    )
    INSERT INTO howdah.writer_batches (writer, lane, batch) VALUES ({writer}, {lane}, {batch})
"""  # noqa: E501


def mark(writer: UUID, lane: int, batch: int) -> bytes:
    """Return the statement that marks a batch as committed; it fails where it is so already."""
    return sql.SQL(_MARK).format(writer=str(writer), lane=lane, batch=batch).as_bytes()


def is_committed_already(exc: psycopg.Error) -> bool:
    """Say whether the statement of `mark` failed because the batch is committed."""
    where = (exc.diag.schema_name, exc.diag.table_name)
    return isinstance(exc, errors.UniqueViolation) and where == ("howdah", "writer_batches")


# By its name, not by its pid: that may be another's by now, and behind a pooler it always may.
_STOP = """
    SELECT pg_terminate_backend(pid)
      FROM pg_catalog.pg_stat_activity
     WHERE application_name = %s AND usename = session_user AND pid <> pg_backend_pid()
"""


def stop_predecessor(conn: Connection[Any]) -> None:
    """End the backend of the lane's last connection, where the server has not missed it yet.

    The lane's next batch would wait for its transaction, perhaps for hours.
    """
    with suppress(errors.InsufficientPrivilege):  # then we wait
        conn.execute(_STOP, [conn.info.parameter_status("application_name")])


_FORGET = "DELETE FROM howdah.writer_batches WHERE writer = %s AND lane = %s"


def forget_lane(conn: Connection[Any], writer: UUID, lane: int) -> None:
    """Remove a lane's row; it has nothing more to commit."""
    conn.execute(_FORGET, [writer, lane])
