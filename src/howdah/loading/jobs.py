"""A job of a load, done over this process's session, and again where the server was away."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from typing import Any, TypeAlias

import psycopg
from psycopg import Connection

from howdah import pg
from howdah.errors import HowdahError, NoDatabase
from howdah.loading import closing, ledger
from howdah.loading.asidelock import hold
from howdah.loading.forkjoin import emit
from howdah.loading.holders import blocked_by
from howdah.loading.limits import Limits
from howdah.loading.report import Event, Outcome
from howdah.loading.retrying import Patience, ends_session, passing_cause, reason_of
from howdah.loading.session import open_session
from howdah.loading.sources import STANDARD_INPUT
from howdah.loading.target import Load
from howdah.loading.work import FilesJob, Job, RangeJob, load_files, load_range

__all__ = [
    "cannot_be_read_again",
    "connect_early",
    "made_ready",
    "run",
    "run_here",
    "run_stream",
]


def run(job: Job, say: Callable[[Event], None] = emit) -> Outcome:
    """Do a job, and return what it has committed.

    Where the server is away it is begun anew: what was committed before is found
    in the ledger, and counts. Not for streams, which cannot be read anew.

    Args:
        job: What to do.
        say: Called with each part of the outcome as soon as it is committed.

    Raises:
        HowdahError: The server refuses what is not the data's fault; what is
            committed stays.
    """
    doing = f"load into {job.load.target}"
    patience = Patience(job.load.limits, say)
    with pg.explained(doing):
        while True:
            told = Told(say, patience)
            conn = None
            try:
                conn = connection(job)
                if isinstance(job, RangeJob):
                    return load_range(conn, job, told)
                return load_files(conn, job, told)
            except (psycopg.OperationalError, NoDatabase) as exc:
                told.take_back()
                blocked = blocked_by(conn, job.load.target.oid, exc)
                if conn is not None and ends_session(exc):
                    conn.close()
                patience.bear(exc, doing, blocked)


def run_here(job: Job, say: Callable[[Event], None], conn: Connection[Any]) -> Outcome:
    """Do a job in this thread; see `run`.

    Args:
        job: What to do.
        say: As for `run`.
        conn: An open session that is `made_ready`, and that is not closed. Where it is
            lost, the job opens others, and leaves none behind.
    """
    _connections[_key(job.conninfo, job.load)] = conn
    try:
        return run(job, say)
    finally:
        for key in [key for key in list(_connections) if key[0] == _whose()]:
            left = _connections.pop(key)
            if left is not conn:
                left.close()


class Told:
    """What a try at a job has said; it is taken back if the job is begun anew.

    Args:
        say: Who is told.
        patience: Begins anew with each commit.
    """

    def __init__(self, say: Callable[[Event], None], patience: Patience) -> None:
        self.total = Outcome()
        self._say = say
        self._patience = patience

    def __call__(self, outcome: Outcome) -> None:
        self.total += outcome
        if outcome.chunks:
            self._patience.reward()
        self._say(outcome)

    def take_back(self) -> None:
        if self.total != Outcome():
            self._say(Outcome() - self.total)


def run_stream(job: FilesJob, say: Callable[[Event], None]) -> Outcome:
    """Load what can be read only once, in one transaction: as a whole or not at all.

    Args:
        job: Streams alone.
        say: Called with each part of the outcome, before it is committed; what
            it raises undoes the whole.

    Raises:
        HowdahError: The server was away, or refuses; nothing is loaded.
    """
    doing = f"load into {job.load.target}"
    patience = Patience(job.load.limits, say)
    told = Told(say, patience)
    conn = _connected(job, patience, doing)
    try:
        with pg.explained(doing), conn.transaction():
            closing.wait_for_disk(conn)  # a crash must not take it: nobody has it any more
            load_files(conn, job, told)
    except HowdahError as exc:
        cause = passing_cause(exc)
        if cause is None:
            raise
        reason = reason_of(cause, blocked_by(conn, job.load.target.oid, cause))
        conn.close()
        conn = _connected(job, patience, doing)
        names = {file.name for file in job.files}
        if {source.name for source in ledger.ours(conn, job.load, names)} != names:
            raise cannot_be_read_again(job.files[0].path, reason) from exc
        # Only the answer to the COMMIT was lost.
    finally:
        conn.close()
    return told.total


def cannot_be_read_again(path: str, reason: str) -> HowdahError:
    """Return the error for a stream that would have to be read a second time."""
    what = "Standard input" if path == STANDARD_INPUT else f"The pipe {path!r}"
    return HowdahError(
        f"{what} cannot be read a second time, and the first time failed: {reason}.",
        next_step="Nothing of it is loaded. Run the command again and give it the same input.",
    )


def _connected(job: Job, patience: Patience, doing: str) -> Connection[Any]:
    while True:
        try:
            return connection(job)
        except NoDatabase as exc:
            patience.bear(exc, doing)


_Key: TypeAlias = tuple[tuple[int, int], str, Limits, bool, int]
_connections: dict[_Key, Connection[Any]] = {}


def _whose() -> tuple[int, int]:
    """Return whose a connection is: a forked process must not use its parent's, nor a thread's."""
    return os.getpid(), threading.get_ident()


# Long texts are compressed by the server: pglz takes several times as long as lz4, for about
# the same size. What an administrator or the column says stays.
# Source: https://www.postgresql.org/docs/current/runtime-config-client.html
_COMPRESS_QUICKLY = """
    SELECT set_config(name, 'lz4', false)
      FROM pg_catalog.pg_settings
     WHERE name = 'default_toast_compression' AND source = 'default' AND 'lz4' = ANY(enumvals)
"""


def connection(job: Job) -> Connection[Any]:
    """Return this thread's connection: its first job opens it, and the first after a loss."""
    return _connection(job.conninfo, job.load)


def connect_early(conninfo: str, load: Load) -> None:
    """Open a worker's connection while its first job is being cut.

    Where that fails, the job tries again, and says why it waits.
    """
    with suppress(psycopg.Error, HowdahError):
        _connection(conninfo, load)


def _connection(conninfo: str, load: Load) -> Connection[Any]:
    key = _key(conninfo, load)
    conn = _connections.get(key)
    if conn is None or conn.closed:
        conn = made_ready(open_session(conninfo, load.limits), load)
        try:
            hold(conn, load.target)
        except BaseException:
            conn.close()
            raise
        _connections[key] = conn
    return conn


def _key(conninfo: str, load: Load) -> _Key:
    return _whose(), conninfo, load.limits, _is_ordered(load), load.target.oid


def _is_ordered(load: Load) -> bool:
    columns = load.target.columns
    return columns is not None and columns.merges


def made_ready(conn: Connection[Any], load: Load, *, alone: bool = False) -> Connection[Any]:
    """Return a session of the loader, set up for jobs of a load; `alone`: for its only one."""
    # A crash of the server may then lose the last commits, rows and ledger
    # together. The load then finds that they are missing (session.py). Else a
    # worker sleeps while a chunk of WAL reaches the disk.
    if alone or not _is_ordered(load):  # what is merged must not come again behind what follows
        conn.execute("SET synchronous_commit = off")
    conn.execute(_COMPRESS_QUICKLY)
    _keep_freed_memory()
    return conn


@cache  # the second time the memory is not the kernel's any more: zeros are written, 20 ms
def _keep_freed_memory() -> None:
    """Have glibc keep what each batch frees for the next one, a sixth of this process's time.

    It gives memory back to the kernel above a threshold, which it raises to twice
    the size of the largest block that was ever freed; this one is never touched, as
    `bytes` asks for zeroed memory, where `bytearray` writes the zeros.

    Source: mallopt(3), M_MMAP_THRESHOLD.
    """
    bytes(24 << 20)  # glibc looks at blocks of up to 32 MiB
