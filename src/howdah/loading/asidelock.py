"""The lock by which a load keeps others from dropping the table that it loads aside (aside.py)."""

from __future__ import annotations

from typing import Any

from psycopg import Connection

from howdah.errors import HowdahError
from howdah.loading.target import Target

__all__ = ["hold", "is_called_so", "writers"]

_OID = "SELECT to_regclass(%s)::oid::bigint"
_LOCK_SHARED = "SELECT pg_advisory_lock_shared(hashtextextended(%s, 0))"


def hold(conn: Connection[Any], following: Target) -> None:
    """Keep other loads from dropping a table beside a target, as long as the session lasts.

    Nothing is held of a table that is not beside another.

    Args:
        conn: A new connection of those that write to the table, not in a transaction.
        following: The table.

    Raises:
        HowdahError: Another load has dropped it already.
    """
    if following.replaces is None:
        return
    conn.execute(_LOCK_SHARED, [writers(following.oid)])
    if not is_called_so(conn, following):
        raise HowdahError(
            f"Another load began to replace {following.replaces} while this one was cut off "
            "from the server; nothing of this one is in it.",
            next_step="Run the same command again when the other one is done.",
        )


def is_called_so(conn: Connection[Any], table: Target) -> bool:
    """Say whether the name of a table leads to it still, and not to another."""
    row = conn.execute(_OID, [table.identifier.as_string(conn)]).fetchone()
    return row is not None and bool(row[0] == table.oid)


def writers(oid: int) -> str:
    """Return the name of the lock that those hold, shared, who write to a table aside."""
    return f"howdah: write to {oid}"
