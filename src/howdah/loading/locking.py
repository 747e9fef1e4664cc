"""Locks that others would feel: waited for a little at a time, so that they do not queue up."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

from psycopg import Connection, errors

from howdah import pg

__all__ = ["in_short_locks"]

T = TypeVar("T")

LOCK_TIMEOUT = "2s"
"""How long a lock is waited for, and others wait behind us, before we try again."""

TRIES = 30
_PAUSE_S = 0.1


def in_short_locks(conn: Connection[Any], work: Callable[[], T], tries: int = TRIES) -> T:
    """Do some work in a transaction, or a savepoint, that waits for no lock long.

    Args:
        conn: A connection.
        work: Done anew where a lock was not to be had.
        tries: How often.

    Returns:
        What the work returns.

    Raises:
        psycopg.errors.LockNotAvailable: Others held the lock all the time.
    """
    while True:
        tries -= 1
        try:
            with conn.transaction(), pg.settings(conn, {"lock_timeout": LOCK_TIMEOUT}):
                return work()
        except errors.LockNotAvailable:
            if not tries:
                raise
            time.sleep(_PAUSE_S)  # for those who waited behind us
