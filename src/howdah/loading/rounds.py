"""The rounds of a load: files cut into jobs for a pool of workers, until all is there for good.

One round is enough where the server stays; see session.py for what makes another.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import count, groupby
from typing import Any, TypeVar

from psycopg import Connection

from howdah.errors import HowdahError
from howdah.loading import closing, indexes, ledger, rejects
from howdah.loading.begun import Begun, begin, finish
from howdah.loading.changed import has_changed, reject_changed
from howdah.loading.chunks import CHUNK_BYTES, cut, groups
from howdah.loading.forkjoin import ForkJoinPool, TaskTimedOut, WorkerDied
from howdah.loading.jobs import (
    cannot_be_read_again,
    connect_early,
    made_ready,
    run,
    run_here,
    run_stream,
)
from howdah.loading.near import discard, handed_over, near_folder, open_to_cut
from howdah.loading.readers import SplittingReader, load_readers
from howdah.loading.rejectlimit import RejectLimit
from howdah.loading.report import Event, Outcome, Planned
from howdah.loading.session import Session
from howdah.loading.slots import most_workers
from howdah.loading.sources import SourceFile
from howdah.loading.splitting import is_safe, splitter_for
from howdah.loading.taken import Taken
from howdah.loading.target import Load, Target
from howdah.loading.unfinished import without_finished
from howdah.loading.watch import Reading
from howdah.loading.work import FilesJob, Job, RangeJob, how_cut

__all__ = ["TIME_LIMIT_S", "Rounds"]

T = TypeVar("T")

CHECK_INTERVAL_S = 0.5
"""How often the number of rejects is looked at while all workers are busy, in seconds."""

TIME_LIMIT_S = 300.0
"""How long a reader may take over one record, so over a document, in seconds.

It is also the limit of a task of several small files, with twice `Limits.retry_for_s`
added, since a worker that waits for the server does not hang. The worker is then
killed, the files are tried one by one, and the one that hangs becomes a reject; of
an archive, the member that does.
"""


@dataclass(slots=True)
class _Chunks:
    """A file of several chunks: how many it has, and how many of them are not committed."""

    file: SourceFile
    number: int
    left: int


class Rounds:
    """The parent's side of a load: cuts files into jobs, finishes files whose chunks are in."""

    def __init__(
        self,
        session: Session,
        conninfo: str,
        load: Load,
        say: RejectLimit,
        replaced: Target | None = None,
    ) -> None:
        self._session = session
        self._conninfo = conninfo
        self._load = load
        self._say = say
        self._replaced = replaced
        self._doing = f"load into {load.target}"
        self._chunks: dict[int, _Chunks] = {}  # by the id of the source in the ledger
        self._reading: dict[str, str] = {}  # which member, by the archive's name
        self._splitters: dict[str, SplittingReader | None] = {}  # of large files, by their names
        self._outcome = Outcome()
        self._taken = Taken()
        self._sweeps = False

    def load(self, files: list[SourceFile], workers: int, *, tell_slowing: bool) -> Outcome:
        """Load files in rounds, until no crash can have taken what was reported (session.py).

        Args:
            files: What to load.
            workers: How many processes, a connection each: as many as may connect.
            tell_slowing: Look for indexes that slow a large load down, and say so.
        """
        for number in count(1):
            self._session.begin_round()
            self._sweeps = self._call(partial(ledger.forget_if_emptied, target=self._load.target))
            todo, skipped = self._call(lambda conn: without_finished(conn, self._load, files))
            if number == 1:
                if not self._is_small(todo):
                    workers = self._call(partial(most_workers, wanted=workers))
                size = sum(file.size_bytes for file in todo)
                slow = tell_slowing and size >= indexes.SLOW_BYTES
                slowing = self._call(self._deferrable) if slow else ()
                named = self._replaced or self._load.target
                streams = sum(file.is_stream for file in todo)
                self._say(Planned(str(named), len(todo), skipped, size, slowing, streams))
                self._outcome += Outcome(skipped=skipped)
            elif todo:
                self._count_anew(todo)
            with ExitStack() as ending:
                self._load_round(todo, workers, ending)
                self._sweep()
                if self._session.once(self._doing, self._close) or self._was_put_in_place():
                    break
        return self._outcome

    def _sweep(self) -> None:
        """Forget tables that were dropped, while workers have their first jobs, if there are any.

        Only in a load into an empty table: a little more is not to wait for a long ledger.
        """
        if self._sweeps:
            self._sweeps = False
            self._call(ledger.sweep)

    def _deferrable(self, conn: Connection[Any]) -> tuple[str, ...]:
        return tuple(indexes.deferrable(conn, self._load.target))

    def _close(self, conn: Connection[Any]) -> None:
        """Put a table that was loaded aside in its place, and note the end; on disk then."""

        def note(target: Target) -> None:
            closing.close(conn, dataclasses.replace(self._load, target=target), self._outcome)

        target = self._load.target
        if self._replaced is None:
            note(target)
        else:
            from howdah.loading import replacing  # which other loads do not need

            self._refuse_nothing(conn, self._replaced)
            replacing.put_in_place(conn, self._replaced, target, note)

    def _refuse_nothing(self, conn: Connection[Any], replaced: Target) -> None:
        """Leave a table as it is where nothing could be loaded that could replace its rows."""
        if self._outcome.rejects and not self._outcome.records:
            [first] = rejects.latest(conn, 1)
            raise HowdahError(
                f"Nothing could be loaded, so {replaced} keeps its old rows: {first.source}, "
                f"{first.place}: {first.reason}.",
                next_step="Mend the sources and run the same command again.",
            )

    def _was_put_in_place(self) -> bool:
        """Say whether the table aside is in its place, only the answer to that being lost."""
        if self._replaced is None:
            return False
        self._session.held = None  # it may be the target by now, or gone
        targets = [self._replaced.oid, self._load.target.oid]
        if self._call(lambda conn: closing.is_closed(conn, self._load, targets)):
            return True
        self._session.hold(self._doing, self._load.target)
        return False

    def _load_round(self, todo: list[SourceFile], workers: int, ending: ExitStack) -> None:
        for stream in [file for file in todo if file.is_stream]:
            job = FilesJob(self._conninfo, self._load, (stream,))
            self._outcome += run_stream(job, self._say.and_check)
        todo = [file for file in todo if not file.is_stream]
        if self._is_small(todo):
            job = FilesJob(self._conninfo, self._load, tuple(todo))
            conn = self._call(lambda conn: made_ready(conn, self._load, alone=True))
            self._take(job, run_here(job, self._say, conn))
            self._say.check()
        elif todo:
            self._load_files(todo, workers, ending)

    def _is_small(self, files: list[SourceFile]) -> bool:
        """Say whether to start a worker, and a session for it, takes longer than to load files."""
        return (
            len(files) == 1
            and not files[0].is_stream
            and files[0].size_bytes <= CHUNK_BYTES
            and is_safe(files[0], self._load.options)
        )

    def _count_anew(self, missing: list[SourceFile]) -> None:
        """Count what is committed after a crash: what the ledger still has of this load."""
        for stream in [file for file in missing if file.is_stream]:
            raise cannot_be_read_again(stream.path, "the server lost what it had committed")
        kept = self._call(lambda conn: ledger.committed(conn, self._load))
        size = sum(file.size_bytes for file in missing)
        before = self._outcome
        lost = self._taken.lose({file.name for file in missing})
        self._outcome = dataclasses.replace(
            before,
            sources=kept.sources,
            records=kept.records,
            rows=kept.records,
            rejects=kept.rejects,
            repaired=before.repaired - lost.repaired,
            chunks=before.chunks - lost.chunks,
            bytes=max(before.bytes - size, 0),
        )
        self._say(self._outcome - before)

    def _load_files(self, files: list[SourceFile], workers: int, ending: ExitStack) -> None:
        """Load files, none of them a stream; the workers have ended when `ending` has."""
        self._near = ending.enter_context(near_folder(files))
        running: dict[Future[Outcome], Job] = {}
        instead: deque[Job] = deque()  # of jobs that took their worker with them
        self._splitters = {
            file.name: splitter_for(file, self._load.options)
            for file in files
            if file.size_bytes > CHUNK_BYTES
        }
        splits = any(self._splitters.values())
        early = partial(connect_early, self._conninfo, self._load) if splits else None
        whole = len(files) > len(self._splitters) or None in self._splitters.values()
        if whole:
            load_readers()
        if self._load.target.columns is not None:
            from howdah.loading import columnsway  # noqa: F401  once, for all workers
        pool = ending.enter_context(
            ForkJoinPool(workers, initializer=early, on_event=self._hear, one_cpu_each=whole)
        )
        jobs = self._jobs(files)
        while True:
            # A few jobs ahead: cutting must not hold up the workers, nor outrun them.
            while len(running) < 2 * workers:
                job = instead.popleft() if instead else next(jobs, None)
                if job is None:
                    break
                running[pool.submit(run, job, timeout_s=_time_limit_s(job))] = job
            if not running:
                break
            self._sweep()
            done, _ = wait(running, CHECK_INTERVAL_S, FIRST_COMPLETED)
            for future in done:
                instead += self._after(running.pop(future), future)
            self._say.check()
        # They end while the ledger is closed, but before a table that they hold is renamed.
        pool.shutdown(wait=self._replaced is not None)

    def _call(self, work: Callable[[Connection[Any]], T]) -> T:
        return self._session.call(self._doing, work)

    def _jobs(self, files: list[SourceFile]) -> Iterator[Job]:
        """Yield what the workers are to do: what takes longest first, or merges in their order."""
        into = self._load.target.columns
        if into is not None and into.merges:
            for large, group in groupby(files, key=lambda file: file.size_bytes > CHUNK_BYTES):
                for some in ([file] for file in group) if large else [list(group)]:
                    yield from self._jobs_of(some)
        else:
            yield from self._jobs_of(files)

    def _jobs_of(self, files: list[SourceFile]) -> Iterator[Job]:
        large = sorted(
            (file for file in files if file.size_bytes > CHUNK_BYTES),
            key=lambda file: -file.size_bytes,
        )
        split: list[tuple[SourceFile, SplittingReader]] = []
        for file in large:
            reader = self._splitters[file.name]
            if reader is None:
                yield self._files_job((file,))
            else:
                split.append((file, reader))
        for file, reader in split:
            yield from self._range_jobs(file, reader)
        for group in groups([file for file in files if file.size_bytes <= CHUNK_BYTES]):
            yield self._files_job(group)

    def _files_job(self, files: tuple[SourceFile, ...]) -> FilesJob:
        return FilesJob(self._conninfo, self._load, files, limit_s=TIME_LIMIT_S)

    def _range_jobs(self, file: SourceFile, reader: SplittingReader) -> Iterator[RangeJob]:
        begun = self._call(
            lambda conn: begin(
                conn,
                self._load,
                name=file.name,
                fingerprint=file.fingerprint,
                cut=how_cut(reader.name),
            )
        )
        if begun is None:  # another load has finished it meanwhile
            self._add(Outcome(skipped=1, bytes=file.size_bytes))
            return
        chunks = _Chunks(file, number=0, left=1)  # one for the cutting itself
        self._chunks[begun.id] = chunks
        bare = dataclasses.replace(begun, done=frozenset())  # each job carries it through a pipe
        with open_to_cut(file.path, self._near) as opened:
            as_rows = self._load.target.columns is not None
            for chunk in cut(opened, reader, as_rows=as_rows):
                chunks.number, kept = chunks.number + 1, handed_over(opened)
                if chunk.number in begun.done:
                    discard(kept)
                    self._add(self._taken.regain(file.name, chunk.number))
                    self._say(Outcome(bytes=chunk.length))
                    continue
                chunks.left += 1
                yield RangeJob(
                    self._conninfo,
                    self._load,
                    file,
                    reader.name,
                    bare,
                    chunk,
                    kept,
                    limit_s=TIME_LIMIT_S,
                )
        self._chunk_done(begun)

    def _after(self, job: Job, future: Future[Outcome]) -> Iterable[Job]:
        """Take a finished job's outcome; return the jobs that are to be done in its place."""
        try:
            self._take(job, future.result())
        except (WorkerDied, TaskTimedOut) as exc:
            if job.failed is not None:  # even without reading anything
                raise
            return self._smaller(job, _reason(exc))
        if isinstance(job, RangeJob):
            self._chunk_done(job.begun)
        return ()

    def _smaller(self, job: Job, reason: str) -> list[Job]:
        """Return what to do in the place of a job that took its worker with it, twice."""
        if isinstance(job, FilesJob):
            if len(job.files) > 1:
                for file in job.files:  # which of them it was is not known
                    self._reading.pop(file.name, None)
                return [dataclasses.replace(job, files=(file,)) for file in job.files]
            member = self._reading.pop(job.files[0].name, None)
            if member is not None and member not in job.skip:
                return [dataclasses.replace(job, skip={**job.skip, member: reason})]
        return [dataclasses.replace(job, failed=reason)]

    def _hear(self, event: Event | Reading) -> None:
        """Take what a worker says, in a thread of the pool."""
        if isinstance(event, Reading):
            self._reading[event.file] = event.source
        else:
            self._say(event)

    def _chunk_done(self, begun: Begun) -> None:
        chunks = self._chunks[begun.id]
        chunks.left -= 1
        if not chunks.left:
            del self._chunks[begun.id]
            if not self._call(lambda conn: finish(conn, self._load, begun, chunks.number)):
                self._session.lost = True  # the next round loads what is missing
                return
            self._add(Outcome(sources=1))
            if has_changed(chunks.file):
                self._add(self._call(lambda conn: reject_changed(conn, self._load, chunks.file)))

    def _take(self, job: Job, outcome: Outcome) -> None:
        self._outcome += outcome
        self._taken.add(job, outcome)

    def _add(self, outcome: Outcome) -> None:
        self._outcome += outcome
        self._say(outcome)


def _reason(exc: HowdahError) -> str:
    # What a Watch kills with; nothing else here does.
    hung = "SIGALRM" in exc.message
    return f"its reader gave nothing for {TIME_LIMIT_S:g} s" if hung else exc.message


def _time_limit_s(job: Job) -> float | None:
    """Return how long a job may take: one file alone has its reader watched, record by record."""
    several = isinstance(job, FilesJob) and len(job.files) > 1
    return TIME_LIMIT_S + 2 * job.load.limits.retry_for_s if several else None
