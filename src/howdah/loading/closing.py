"""The end of a load in the ledger: what it did, and that it is all on disk."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from psycopg import Connection

from howdah.loading.ledger import parameters
from howdah.loading.report import Outcome
from howdah.loading.target import Load

__all__ = ["close", "is_closed", "wait_for_disk"]

_CLOSE = """
    INSERT INTO howdah.loads (target, started_at, sources, skipped, records, rejects)
    SELECT %(target)s, %(loaded_at)s, %(sources)s, %(skipped)s, %(records)s, %(rejects)s
     WHERE NOT EXISTS (SELECT FROM howdah.loads
                        WHERE target = %(target)s AND started_at = %(loaded_at)s)
"""
# Not by pg_settings, which takes the server a millisecond.
_WAIT_FOR_DISK = """
    SET LOCAL synchronous_commit TO DEFAULT;
    SELECT set_config('synchronous_commit', 'on', true)
     WHERE current_setting('synchronous_commit') = 'off'
"""


def wait_for_disk(conn: Connection[Any]) -> None:
    """Have the commit of the transaction that the connection is in wait for the WAL before it."""
    conn.execute(_WAIT_FOR_DISK)


def close(conn: Connection[Any], load: Load, outcome: Outcome) -> None:
    """Note that a load came to its end; what it committed is on disk when this returns.

    Args:
        conn: A connection that is not in a transaction; the commit waits for all
            WAL before it.
        load: The load.
        outcome: All that it did.
    """
    values = parameters(
        load,
        sources=outcome.sources,
        skipped=outcome.skipped,
        records=outcome.records,
        rejects=outcome.rejects,
    )
    with conn.transaction():
        wait_for_disk(conn)
        conn.execute(_CLOSE, values)


_IS_CLOSED = """
    SELECT EXISTS (SELECT FROM howdah.loads
                    WHERE started_at = %(loaded_at)s AND target = ANY(%(targets)s))
"""


def is_closed(conn: Connection[Any], load: Load, targets: Sequence[int]) -> bool:
    """Say whether `close` was committed for a load, by the oids that its table may have then."""
    row = conn.execute(_IS_CLOSED, parameters(load, targets=targets)).fetchone()
    return row is not None and bool(row[0])
