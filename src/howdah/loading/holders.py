"""Who holds a lock that the loader could not get."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime
from typing import Any

import psycopg
from psycopg import Connection, errors

__all__ = ["blocked_by"]

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
     LIMIT 1
"""


def blocked_by(conn: Connection[Any] | None, table: int, exc: Exception) -> str | None:
    """Return who likely held the lock, where `exc` says that one was not to be had in time.

    A heuristic: a session that has given up waiting is in no queue any more, so
    PostgreSQL cannot be asked whom it waited for.

    Args:
        conn: A connection that is not in a failed transaction.
        table: The table's oid.
        exc: Why it was not loaded.
    """
    if not isinstance(exc, errors.LockNotAvailable) or conn is None:
        return None
    with suppress(psycopg.Error):
        likeliest = conn.execute(_HOLDERS, {"table": table}).fetchone()
        if likeliest is not None:
            return _sentence(*likeliest)
    return "a lock on the table or on the ledger is held by a session that has ended since"


def _sentence(
    relation: str,
    mode: str,
    pid: int | None,
    role: str | None,
    application: str | None,
    query_start: datetime | None,
) -> str:
    """Return one of `_HOLDERS` in words; a prepared transaction has no pid."""
    who = "a prepared transaction" if pid is None else f"pid {pid}"
    facts = [f"role {role}"] if role else []
    facts += [f"application {application}"] if application else []
    if query_start is not None:  # which to see needs pg_read_all_stats
        facts.append(f"its statement began {query_start:%Y-%m-%d %H:%M:%S%z}")
    return f"{relation} is locked ({mode}) by {who}" + (f" ({', '.join(facts)})" if facts else "")
