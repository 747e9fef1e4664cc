"""load(): files and folders into a table, by a fork-join pool of workers.

    paths -> sources -> chunks --(fork)--> workers: read, frame, COPY, commit --(join)--> report

The parent looks, cuts and counts; all reading and writing is the workers' work.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg import Connection

from howdah import pg
from howdah.dsn import choose
from howdah.errors import HowdahError, Refused
from howdah.loading import aside, indexes, ledger, rejects, replacing
from howdah.loading.begun import Begun, begin, finish
from howdah.loading.chunks import CHUNK_BYTES, cut
from howdah.loading.columns import Columns
from howdah.loading.forkjoin import ForkJoinPool, TaskTimedOut, WorkerDied
from howdah.loading.opening import open_file, splitter_of
from howdah.loading.readers import SplittingReader, UnreadableSource, load_readers
from howdah.loading.report import Event, LoadReport, Outcome, Planned
from howdah.loading.sampling import is_safe
from howdah.loading.sources import SourceFile, find
from howdah.loading.target import Load, Target, found, prepare
from howdah.loading.work import (
    FilesJob,
    Job,
    RangeJob,
    has_changed,
    how_cut,
    reject_changed,
    run,
)

__all__ = ["latest_rejects", "load", "restore_indexes"]

FILES_PER_JOB = 64
"""How many small files may share a task and a transaction."""

TIME_LIMIT_S = 300.0
"""How long a worker may take over a task of small files before it is killed, in seconds.

The files are then tried one by one, and the one that hangs becomes a reject.
"""

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
        on_event: Called in this process with what happens, for progress.

    Raises:
        UsageError: A path or the table's name leads to nothing.
        NoDatabase: The server cannot be reached.
        Refused: The role may not, or the table has other columns.
        HowdahError: The server failed on the way; what is committed stays.
    """
    started = time.monotonic()
    say = on_event or (lambda _: None)
    name = pg.TableName.parse(table)
    moment = datetime.now().astimezone().isoformat(timespec="milliseconds")
    files = find(paths, stream_name=stream_name or f"stdin {moment}")
    conninfo = _conninfo(dsn)
    with pg.connect(conninfo, application_name="howdah load") as conn, ExitStack() as stack:
        ledger.install(conn)
        old = target = prepare(conn, name, columns, files)
        indexes.restore_abandoned(conn, target)
        if truncate:
            replacing.truncate(conn, target)
        ledger.forget_if_emptied(conn, target)
        if replace:
            target = stack.enter_context(aside.beside(conn, target))
        now = _clock(conn)
        this = Load(target, now, now if again else None)
        todo, skipped = _without_finished(conn, this, files)
        size = sum(file.size_bytes for file in todo)
        slow = size >= indexes.SLOW_BYTES and not (replace or defer_indexes)
        slowing = tuple(indexes.deferrable(conn, target)) if slow else ()
        say(Planned(str(old), len(todo), skipped, size, slowing))
        outcome = Outcome(skipped=skipped)
        deferring = indexes.deferred(conn, conninfo, target, say)
        with deferring if defer_indexes else nullcontext(), pg.explained(f"load into {target}"):
            outcome += _load_all(conn, conninfo, this, todo, _workers(this, workers), say)
        if replace:
            target = _put_in_place(conn, old, target, outcome)
        ledger.close(conn, dataclasses.replace(this, target=target), outcome)
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


def _load_all(
    conn: Connection[Any],
    conninfo: str,
    load: Load,
    files: list[SourceFile],
    workers: int,
    say: Callable[[Event], None],
) -> Outcome:
    """Load files and streams; return what was committed."""
    outcome = Outcome()
    for stream in [file for file in files if file.is_stream]:
        outcome += run(FilesJob(conninfo, load, (stream,)), say)
    files = [file for file in files if not file.is_stream]
    if len(files) == 1 and files[0].size_bytes <= CHUNK_BYTES and is_safe(files[0]):
        # To start a worker takes longer than to load a small file.
        outcome += run(FilesJob(conninfo, load, tuple(files)), say, conn)
    elif files:
        outcome += _Run(conn, conninfo, load, say).load(files, workers)
    return outcome


def _put_in_place(
    conn: Connection[Any], target: Target, following: Target, outcome: Outcome
) -> Target:
    """Make the table that was loaded aside the target, unless nothing could be loaded."""
    if outcome.rejects and not outcome.records:
        [first] = rejects.latest(conn, 1)
        raise HowdahError(
            f"Nothing could be loaded, so {target} keeps its old rows: {first.source}, "
            f"{first.place}: {first.reason}.",
            next_step="Mend the sources and run the same command again.",
        )
    return replacing.put_in_place(conn, target, following)


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
        ledger.install(conn)
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


def _without_finished(
    conn: Connection[Any], load: Load, files: list[SourceFile]
) -> tuple[list[SourceFile], int]:
    """Return the files to load, and how many sources need no loading."""
    known = ledger.finished(conn, load, [file.name for file in files])
    todo, skipped = [], 0
    for file in files:
        before = known.get(file.name)
        if before is not None and before.fingerprint == file.fingerprint:
            skipped += before.sources
        else:
            todo.append(file)
    if load.target.columns is not None and not load.target.columns.merges:
        _refuse_second_content(conn, load, todo)
    return todo, skipped


def _refuse_second_content(conn: Connection[Any], load: Load, files: list[SourceFile]) -> None:
    """Refuse sources that a table of others' columns has an earlier content of.

    Raises:
        Refused: No column tells which of the table's rows are a source's old ones.
    """
    names = ledger.other_contents(conn, load, [(file.name, file.fingerprint) for file in files])
    if names:
        raise Refused(
            f"{names[0]} is in {load.target} already, with other content or as a whole, and no "
            "column tells which rows are its old ones.",
            next_step="Load with --replace or --truncate, or with --key and --on-conflict update.",
        )


def _workers(load: Load, wanted: int | None) -> int:
    """Return how many workers to use: one where the order of the records matters."""
    if load.target.columns is not None and load.target.columns.merges:
        return 1
    return wanted or _cpus()


@dataclass(slots=True)
class _Chunks:
    """A file of several chunks, and how many of them are not committed."""

    file: SourceFile
    left: int


class _Run:
    """The parent's side of a load: cuts files into jobs, finishes files whose chunks are in."""

    def __init__(
        self, conn: Connection[Any], conninfo: str, load: Load, say: Callable[[Event], None]
    ) -> None:
        self._conn = conn
        self._conninfo = conninfo
        self._load = load
        self._say = say
        self._chunks: dict[int, _Chunks] = {}  # by the id of the source in the ledger
        self._outcome = Outcome()

    def load(self, files: list[SourceFile], workers: int) -> Outcome:
        """Load files, none of them a stream."""
        running: dict[Future[Outcome], Job] = {}
        instead: deque[Job] = deque()  # of jobs that took their worker with them
        load_readers()
        with ForkJoinPool(workers, on_event=self._say) as pool:
            jobs = self._jobs(files)
            while True:
                # A few jobs ahead: cutting must not hold up the workers, nor outrun them.
                while len(running) < 2 * workers:
                    job = instead.popleft() if instead else next(jobs, None)
                    if job is None:
                        break
                    running[pool.submit(run, job, timeout_s=_time_limit_s(job))] = job
                if not running:
                    return self._outcome
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    instead += self._after(running.pop(future), future)

    def _jobs(self, files: list[SourceFile]) -> Iterator[Job]:
        """Yield what the workers are to do: what takes longest first, or merges in their order."""
        into = self._load.target.columns
        if into is not None and into.merges:
            for file in files:
                yield from self._jobs_of([file])
        else:
            yield from self._jobs_of(files)

    def _jobs_of(self, files: list[SourceFile]) -> Iterator[Job]:
        large = sorted(
            (file for file in files if file.size_bytes > CHUNK_BYTES),
            key=lambda file: -file.size_bytes,
        )
        split: list[tuple[SourceFile, SplittingReader]] = []
        for file in large:
            reader = _splitter(file)
            if reader is None:
                yield FilesJob(self._conninfo, self._load, (file,))
            else:
                split.append((file, reader))
        for file, reader in split:
            yield from self._range_jobs(file, reader)
        for group in _groups([file for file in files if file.size_bytes <= CHUNK_BYTES]):
            yield FilesJob(self._conninfo, self._load, group)

    def _range_jobs(self, file: SourceFile, reader: SplittingReader) -> Iterator[RangeJob]:
        begun = begin(
            self._conn,
            self._load,
            name=file.name,
            fingerprint=file.fingerprint,
            cut=how_cut(reader.name),
        )
        if begun is None:  # another load has finished it meanwhile
            self._add(Outcome(skipped=1, bytes=file.size_bytes))
            return
        chunks = _Chunks(file, left=1)  # one for the cutting itself
        self._chunks[begun.id] = chunks
        bare = dataclasses.replace(begun, done=frozenset())  # each job carries it through a pipe
        with open_file(file.path) as opened:
            for chunk in cut(opened, reader):
                if chunk.number in begun.done:
                    self._say(Outcome(bytes=chunk.length))
                    continue
                chunks.left += 1
                yield RangeJob(self._conninfo, self._load, file, reader.name, bare, chunk)
        self._chunk_done(begun)

    def _after(self, job: Job, future: Future[Outcome]) -> Iterable[Job]:
        """Take a finished job's outcome; return the jobs that are to be done in its place."""
        try:
            self._outcome += future.result()
        except (WorkerDied, TaskTimedOut) as exc:
            if job.failed is not None:  # even without reading anything
                raise
            return _smaller(job, exc.message)
        if isinstance(job, RangeJob):
            self._chunk_done(job.begun)
        return ()

    def _chunk_done(self, begun: Begun) -> None:
        chunks = self._chunks[begun.id]
        chunks.left -= 1
        if not chunks.left:
            del self._chunks[begun.id]
            finish(self._conn, self._load, begun)
            self._add(Outcome(sources=1))
            if has_changed(chunks.file):
                self._add(reject_changed(self._conn, self._load, chunks.file))

    def _add(self, outcome: Outcome) -> None:
        self._outcome += outcome
        self._say(outcome)


def _groups(files: list[SourceFile]) -> Iterator[tuple[SourceFile, ...]]:
    """Yield small files in groups that fit one transaction."""
    group: list[SourceFile] = []
    size = 0
    for file in files:
        if group and (size + file.size_bytes > CHUNK_BYTES or len(group) == FILES_PER_JOB):
            yield tuple(group)
            group, size = [], 0
        group.append(file)
        size += file.size_bytes
    if group:
        yield tuple(group)


def _smaller(job: Job, reason: str) -> list[Job]:
    """Return what to do in the place of a job that took its worker with it, twice."""
    if isinstance(job, FilesJob) and len(job.files) > 1:
        return [dataclasses.replace(job, files=(file,)) for file in job.files]
    return [dataclasses.replace(job, failed=reason)]


def _time_limit_s(job: Job) -> float | None:
    """Return how long a job may take: small files only, for record files may be of any length."""
    small = isinstance(job, FilesJob) and job.files[0].size_bytes <= CHUNK_BYTES
    return TIME_LIMIT_S if small else None


def _splitter(file: SourceFile) -> SplittingReader | None:
    try:
        with open_file(file.path) as opened:
            reader = splitter_of(opened, file.name)
            if reader is not None:
                reader.start(opened)
            return reader
    except (OSError, UnreadableSource):
        return None  # its worker will say what is wrong


def _cpus() -> int:
    return min(len(os.sched_getaffinity(0)), _MOST_WORKERS)
