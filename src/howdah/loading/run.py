"""load(): files and folders into a table, by a fork-join pool of workers.

    paths -> sources -> chunks --(fork)--> workers: read, frame, COPY, commit --(join)--> report

The parent looks, cuts and counts; all reading and writing is the workers' work.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from datetime import datetime
from functools import partial
from typing import Any, Literal

from psycopg import Connection

from howdah import pg
from howdah.dsn import choose
from howdah.loading import indexes, ledger, rejects, schema
from howdah.loading.columns import Columns
from howdah.loading.forkprocess import cpus
from howdah.loading.limits import Limits
from howdah.loading.readers import ReaderOptions, check_format
from howdah.loading.rejectlimit import RejectLimit
from howdah.loading.report import Event, LoadReport
from howdah.loading.rounds import Rounds
from howdah.loading.session import Session, by_own_session
from howdah.loading.sources import find
from howdah.loading.target import Load, Target, found, prepare

__all__ = ["latest_rejects", "load", "restore_indexes"]

_MOST_WORKERS = 8
"""Workers by default, at most: each holds a connection slot of the server."""


def load(
    paths: Iterable[str | os.PathLike[str]],
    *,
    dsn: str | None = None,
    table: str = "documents",
    workers: int | None = None,
    again: bool = False,
    columns: Columns | None = None,
    truncate: bool = False,
    replace: bool = False,
    defer_indexes: bool = False,
    stream_name: str | None = None,
    options: ReaderOptions | None = None,
    limits: Limits | None = None,
    max_rejects: int | None = None,
    on_reject: Literal["keep", "stop"] = "keep",
    on_event: Callable[[Event], None] | None = None,
) -> LoadReport:
    """Load files of any kind into a table, each record once.

    A source that is in the table and unchanged is skipped; one that has changed
    takes the place of its old rows. A load that was killed is gone on with by
    the same call. What cannot be read becomes a row of `howdah.rejects`.

    Args:
        paths: Files, folders, glob patterns, or `-` for standard input, which
            is loaded in one transaction.
        dsn: The database; None: what the environment names, else the embedded server.
        table: The table, `name` or `schema.name`; created when missing.
        workers: Worker processes, a connection each; None: one for each core
            that this process may use, 8 at most.
        again: Load sources again though they are unchanged.
        columns: Have a column for each attribute, and merge rows by a key; None: one
            jsonb column for all, but in a table that is there and has other columns.
        truncate: Empty the table first.
        replace: Load into a table aside that takes the table's place when all is
            loaded: readers see all old rows or all new ones.
        defer_indexes: Drop the table's indexes that are not unique for the time of the
            load, and build them again at its end, however it ends.
        stream_name: The source's name for what comes from standard input: loading
            under the same name again replaces its rows. None: a name of its own.
        options: How the sources are to be read; a source that was loaded with
            other options counts as changed.
        limits: How long to wait for a server that is away, and for locks; None: the
            defaults of `Limits`.
        max_rejects: Stop when there are more rejects than this; 0: at the first one.
            None: never.
        on_reject: "stop" is the same as `max_rejects=0`.
        on_event: Called in this process with what happens, for progress.

    Raises:
        UsageError: A path, the table's name or the options' format leads to nothing.
        NoDatabase: The server cannot be reached.
        Refused: The role may not, or the table has other columns.
        HowdahError: The server failed on the way, or there are more rejects than
            `max_rejects`; what is committed stays.
    """
    started = time.monotonic()
    say = RejectLimit(0 if on_reject == "stop" else max_rejects, on_event or (lambda _: None))
    name = pg.TableName.parse(table)
    moment = datetime.now().astimezone().isoformat(timespec="milliseconds")
    options, limits = options or ReaderOptions(), limits or Limits()
    check_format(options)
    files = find(paths, stream_name=stream_name or f"stdin {moment}", how=str(options))
    conninfo, doing = _conninfo(dsn), f"load into {name}"

    def prepared(conn: Connection[Any]) -> Target:
        schema.install(conn)
        target = prepare(conn, name, columns, files, options)
        indexes.restore_abandoned(conn, target)
        if truncate:
            from howdah.loading import replacing

            replacing.truncate(conn, target)
        if replace:  # else the first round forgets
            ledger.forget_if_emptied(conn, target)
        return target

    with Session(conninfo, limits, say) as session, pg.explained(doing), ExitStack() as stack:
        target = old = session.call(doing, prepared)
        session.table = old.oid
        # Each by a session of its own: locks say that they are needed until it ends.
        made = partial(by_own_session, conninfo, limits, say, doing)
        if replace:
            from howdah.loading import aside  # which other loads do not need

            target = stack.enter_context(made(lambda own: aside.beside(own, old)))
            session.hold(doing, target)
        if defer_indexes:
            into = target
            stack.enter_context(
                made(lambda own: indexes.deferred(own, conninfo, into, limits, say))
            )
        now = session.call(doing, _clock)
        this = Load(target, now, now if again else None, options, limits)
        rounds = Rounds(session, conninfo, this, say, old if replace else None)
        slowing = not (replace or defer_indexes)
        outcome = rounds.load(files, _workers(this, workers), tell_slowing=slowing)
    say.check()
    seconds = time.monotonic() - started
    return LoadReport(
        table=str(old),
        sources=outcome.sources,
        skipped=outcome.skipped,
        records=outcome.records,
        rows=outcome.rows,
        rejects=outcome.rejects,
        repaired=outcome.repaired,
        chunks=outcome.chunks,
        bytes=outcome.bytes,
        seconds=round(seconds, 3),
        records_per_second=round(outcome.records / seconds, 1),
    )


def latest_rejects(dsn: str, most: int) -> list[rejects.Reject]:
    """Return the rejects that were kept last in a database, without their bytes, newest first."""
    with pg.connect(dsn) as conn:
        return rejects.latest(conn, most)


def restore_indexes(table: str, *, dsn: str | None = None) -> list[str]:
    """Build the indexes of a table again that a killed load has dropped.

    Args:
        table: Its name, as in `load`.
        dsn: The database, as in `load`.

    Returns:
        The names of the indexes that were built.

    Raises:
        Refused: There is no such table.
        HowdahError: An index could not be built.
    """
    name = pg.TableName.parse(table)
    with pg.connect(_conninfo(dsn), application_name="howdah load") as conn:
        schema.install(conn)
        return indexes.restore_abandoned(conn, found(conn, name), wait=True)


def _conninfo(dsn: str | None) -> str:
    chosen = choose(dsn)
    if chosen is not None:
        return chosen.conninfo
    from howdah.server import ensure_running  # a load into a named database does not need it

    return ensure_running().conninfo()


def _clock(conn: Connection[Any]) -> datetime:
    row = conn.execute("SELECT clock_timestamp()").fetchone()
    assert row is not None  # noqa: S101 - a SELECT without FROM has one row
    moment: datetime = row[0]
    return moment


def _workers(load: Load, wanted: int | None) -> int:
    """Return how many workers to use: one where the order of the records matters."""
    if load.target.columns is not None and load.target.columns.merges:
        return 1
    return wanted or min(len(cpus()), _MOST_WORKERS)
