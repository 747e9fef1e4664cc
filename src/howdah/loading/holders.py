"""Who holds a lock that the loader could not get."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg
from psycopg import Connection, errors

from howdah import pg

__all__ = ["Holder", "blocked_by", "holders"]


@dataclass(frozen=True, slots=True)
class Holder:
    """A session that holds a lock on a table which keeps writers out, or a row of the ledger.

    Attributes:
        relation: The table, as a person writes it.
        mode: The lock's mode, as pg_locks has it.
        pid: Its backend; None for a prepared transaction.
        role: Its role.
        application: Its application_name.
        query_start: When its current or last statement began; None where we may
            not see it (needs pg_read_all_stats).
    """

    relation: str
    mode: str
    pid: int | None
    role: str | None
    application: str | None
    query_start: datetime | None

    def __str__(self) -> str:
        who = "a prepared transaction" if self.pid is None else f"pid {self.pid}"
        facts = [f"role {self.role}"] if self.role else []
        facts += [f"application {self.application}"] if self.application else []
        if self.query_start is not None:
            facts.append(f"its statement began {self.query_start:%Y-%m-%d %H:%M:%S%z}")
        return f"{self.relation} is locked ({self.mode}) by {who}" + (
            f" ({', '.join(facts)})" if facts else ""
        )


# First those whose lock keeps all writers out of a table; then those that write
# to the ledger, and may hold one of its rows.
_HOLDERS = """
    SELECT relation::regclass::text AS relation, mode, pg_locks.pid,
           usename::text AS role, nullif(application_name, '') AS application, query_start
      FROM pg_catalog.pg_locks
      JOIN pg_catalog.pg_class ON pg_class.oid = relation
      LEFT JOIN pg_catalog.pg_stat_activity ON pg_stat_activity.pid = pg_locks.pid
     WHERE locktype = 'relation' AND granted
       AND pg_locks.database = (SELECT oid FROM pg_catalog.pg_database
                                 WHERE datname = current_database())
       AND pg_locks.pid IS DISTINCT FROM pg_backend_pid()
       AND (relation = %(table)s OR relnamespace = to_regnamespace('howdah'))
       AND (mode IN ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
            OR (mode = 'RowExclusiveLock' AND relkind = 'r' AND relation <> %(table)s))
     ORDER BY mode = 'RowExclusiveLock', query_start, pg_locks.pid
"""


def holders(conn: Connection[Any], table: int) -> list[Holder]:
    """Return who may keep a load into a table waiting, the likeliest first.

    A heuristic: a session that has given up waiting is in no queue any more, so
    PostgreSQL cannot be asked whom it waited for.

    Args:
        conn: A connection that is not in a failed transaction.
        table: The table's oid.
    """
    return pg.fetch_all(conn, Holder, _HOLDERS, {"table": table})


def blocked_by(conn: Connection[Any] | None, table: int, exc: Exception) -> str | None:
    """Return who held the lock, where `exc` says that one was not to be had in time."""
    if isinstance(exc, errors.LockNotAvailable) and conn is not None:
        with suppress(psycopg.Error):
            for holder in holders(conn, table):
                return str(holder)
        return "a lock on the table or on the ledger is held by a session that has ended since"
    return None
