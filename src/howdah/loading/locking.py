"""Locks that others would feel: waited for a little at a time, so that they do not queue up."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

from psycopg import Connection, errors

from howdah import pg

__all__ = ["in_short_locks"]

T = TypeVar("T")

SHORT_S = 2
"""How long a lock is waited for, and others wait behind us, before we try again, in seconds."""

TRIES = 30
_PAUSE_S = 0.1


def in_short_locks(conn: Connection[Any], work: Callable[[], T], *, longest_s: int = SHORT_S) -> T:
    """Do some work in a transaction, or a savepoint, that waits for no lock long.

    Args:
        conn: A connection.
        work: Done anew where a lock was not to be had.
        longest_s: How long the last tries may wait, in seconds; the first one waits for
            `SHORT_S`.

    Returns:
        What the work returns.

    Raises:
        psycopg.errors.LockNotAvailable: Others held the lock all the time.
    """
    for number in range(1, TRIES + 1):
        timeout = f"{min(number * SHORT_S, longest_s)}s"
        try:
            with conn.transaction(), pg.settings(conn, {"lock_timeout": timeout}):
                return work()
        except errors.LockNotAvailable:
            if number == TRIES:
                raise
            time.sleep(_PAUSE_S)  # for those who waited behind us
    raise AssertionError
