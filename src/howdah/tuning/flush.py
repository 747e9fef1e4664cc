"""How long the storage of the WAL takes to flush: as a file, and as a commit of the server.

The file is measured as pg_test_fsync does: 8 kB are written over in a file of
16 MB, and flushed. The commit is what a client waits for: it holds the flush,
whatever delays it, and the answer of synchronous standbys.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from psycopg import Connection

__all__ = ["commit_wait_s", "file_flush_s"]

_BLOCK = b"\x07" * 8192
_SEGMENT_BYTES = 16 << 20
_DURATION_S = 0.5
_MOST_COMMITS = 200
_DSYNC = {"open_datasync": getattr(os, "O_DSYNC", 0), "open_sync": os.O_SYNC}


def file_flush_s(folder: Path, method: str = "fdatasync") -> float | None:
    """Return the median time that writing 8 kB and flushing it takes, in seconds.

    Args:
        folder: On the file system of the WAL; the file has no name in it but for a moment.
        method: wal_sync_method.

    Returns:
        None where we may not write there.

    Source: pg_test_fsync.c of PostgreSQL.
    """
    try:
        descriptor, name = tempfile.mkstemp(prefix=".howdah-flush-", dir=folder)
    except OSError:
        return None
    try:
        try:
            for _ in range(_SEGMENT_BYTES // len(_BLOCK)):
                os.write(descriptor, _BLOCK)
            os.fsync(descriptor)
            if method in _DSYNC:
                os.close(descriptor)
                descriptor = os.open(name, os.O_RDWR | _DSYNC[method])
        finally:
            Path(name).unlink()
        return statistics.median(_flushes(descriptor, _call(method)))
    except OSError:
        return None  # the disk is full, or does not know the method
    finally:
        os.close(descriptor)


def _call(method: str) -> Callable[[int], object]:
    if method in _DSYNC:
        return lambda _: None  # the write itself flushes
    if sys.platform == "darwin" and method == "fsync_writethrough":
        import fcntl

        return lambda descriptor: fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
    return os.fsync if method == "fsync" else getattr(os, "fdatasync", os.fsync)


def _flushes(descriptor: int, flush: Callable[[int], object]) -> Iterator[float]:
    deadline = time.perf_counter() + _DURATION_S
    while (started := time.perf_counter()) < deadline:
        os.pwrite(descriptor, _BLOCK, 0)
        flush(descriptor)
        yield time.perf_counter() - started


_COMMIT = "SELECT pg_catalog.pg_logical_emit_message(true, 'howdah', '')"
_SYNCHRONOUS = "SELECT pg_catalog.set_config('synchronous_commit', %s, false)"


def commit_wait_s(conn: Connection[Any]) -> float:
    """Return how much longer a commit takes with synchronous_commit on than off, in seconds.

    Each commit writes one empty message to the WAL, and nothing else.

    Args:
        conn: In autocommit; its synchronous_commit is as before at the end.
    """
    before = conn.execute("SHOW synchronous_commit").fetchone()
    assert before is not None  # noqa: S101 - SHOW has one row
    try:
        medians = {}
        for value in ("on", "off"):
            conn.execute(_SYNCHRONOUS, [value])
            medians[value] = statistics.median(_commits(conn))
    finally:
        conn.execute(_SYNCHRONOUS, [before[0]])
    return max(medians["on"] - medians["off"], 0.0)


def _commits(conn: Connection[Any]) -> Iterator[float]:
    deadline = time.perf_counter() + _DURATION_S
    for _ in range(_MOST_COMMITS):
        started = time.perf_counter()
        conn.execute(_COMMIT)
        ended = time.perf_counter()
        yield ended - started
        if ended > deadline:
            return
