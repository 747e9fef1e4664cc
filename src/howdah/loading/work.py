"""What a worker does with a job: read, frame, COPY, commit, over one connection of its own.

Sources that end within a chunk share a transaction with others; one that goes
on is begun in the ledger and committed chunk by chunk, its records passed to
the server as they are read. A reader's failure is a reject of its source and
never the job's.
"""

from __future__ import annotations

import os
import sys
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

from psycopg import Connection, errors

from howdah import __version__, pg
from howdah.loading import ledger, rejects
from howdah.loading.begun import Begun, begin, chunk_of_ours, claim_chunk, count_chunk, finish
from howdah.loading.chunks import CHUNK_BYTES, HOW_CUT, Chunk
from howdah.loading.forkjoin import emit
from howdah.loading.opening import Opened, Unopened, open_file, open_sources, splitter_of
from howdah.loading.pieces import Failure, Piece, batches, chunks_of, read_pieces, size_bytes
from howdah.loading.readers import Rows, SplittingReader, UnreadableSource, reader_named
from howdah.loading.rejects import Part, Reject
from howdah.loading.report import Outcome
from howdah.loading.sources import STANDARD_INPUT, SourceFile, fingerprint
from howdah.loading.target import Load

__all__ = ["FilesJob", "Job", "RangeJob", "has_changed", "how_cut", "reject_changed", "run"]


@dataclass(frozen=True, slots=True)
class FilesJob:
    """Load files as a whole, one after the other.

    Attributes:
        conninfo: The database; may hold a password.
        load: The load that this is part of.
        files: What to read.
        failed: Set where a worker died or hung over the files: they are not
            read, but rejected for this reason.
    """

    conninfo: str = field(repr=False)
    load: Load
    files: tuple[SourceFile, ...]
    failed: str | None = None


@dataclass(frozen=True, slots=True)
class RangeJob:
    """Load one chunk of a file that others load other chunks of.

    Attributes:
        conninfo: The database; may hold a password.
        load: The load that this is part of.
        file: The file.
        reader: The name of its reader, a `SplittingReader`.
        begun: The file in the ledger.
        chunk: Which part of it.
        failed: As in `FilesJob`.
    """

    conninfo: str = field(repr=False)
    load: Load
    file: SourceFile
    reader: str
    begun: Begun
    chunk: Chunk
    failed: str | None = None


Job = FilesJob | RangeJob

_DEADLOCKS = 5
"""How often a chunk is begun anew where the server has ended a deadlock that it was part of."""


def how_cut(reader: str) -> str:
    """Return what must be unchanged for a killed load's chunks to be gone on with."""
    return f"{reader}, {HOW_CUT}, howdah {__version__}"


def run(
    job: Job, say: Callable[[Outcome], None] = emit, conn: Connection[Any] | None = None
) -> Outcome:
    """Do a job, and return what it has committed.

    Args:
        job: What to do.
        say: Called with each part of the outcome as soon as it is committed.
        conn: The connection to use; None: this process's own.

    Raises:
        HowdahError: The server refuses what is not the data's fault; what is
            committed stays.
    """
    conn = conn or _connection(job.conninfo)
    with pg.explained(f"load into {job.load.target}"):
        if isinstance(job, RangeJob):
            outcome = _load_range(conn, job)
            say(outcome)
            return outcome
        loader = _FileLoader(conn, job.load, say)
        with ExitStack() as stack:
            if any(file.is_stream for file in job.files):
                # What cannot be read twice is loaded as a whole or not at all.
                stack.enter_context(conn.transaction())
            for file in job.files:
                loader.load(file, failed=job.failed)
            loader.commit()
        return loader.outcome


_connections: dict[tuple[int, str], Connection[Any]] = {}


def _connection(conninfo: str) -> Connection[Any]:
    """Return this process's connection: its first job opens it."""
    key = (os.getpid(), conninfo)  # a forked process must not use its parent's
    conn = _connections.get(key)
    if conn is None or conn.closed:
        conn = pg.open_connection(conninfo, application_name="howdah load")
        # A crash of the server may then lose the last commits, rows and ledger
        # together, and with them the load, which ends in a commit that waits
        # (ledger.close). Else a worker sleeps while a chunk of WAL reaches the disk.
        conn.execute("SET synchronous_commit = off")
        _connections[key] = conn
        _keep_freed_memory()
    return conn


def _keep_freed_memory() -> None:
    """Have glibc keep what each batch frees for the next one, a sixth of this process's time.

    It gives memory back to the kernel above a threshold, which it raises to twice
    the size of the largest block that was ever freed; this one is never touched.

    Source: mallopt(3), M_MMAP_THRESHOLD.
    """
    bytearray(24 << 20)  # glibc looks at blocks of up to 32 MiB


def _sources(file: BinaryIO, name: str) -> Iterator[Opened | Unopened]:
    """Yield the sources in a file, and as the last one what of it cannot be opened."""
    try:
        yield from open_sources(file, name)
    except Exception as exc:  # noqa: BLE001 - whatever a library throws at a bad archive
        yield Unopened(name, f"it cannot be opened: {type(exc).__name__}: {exc}")


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A source that is read to its end and waits for others to share its transaction."""

    whole: ledger.Whole
    pieces: list[Piece]


class _FileLoader:
    """Loads files over one connection; sources that are small share a transaction."""

    def __init__(self, conn: Connection[Any], load: Load, say: Callable[[Outcome], None]) -> None:
        self.outcome = Outcome()
        self._conn = conn
        self._load = load
        self._say_to = say
        self._waiting: dict[str, _Waiting] = {}
        self._waiting_bytes = 0

    def load(self, file: SourceFile, *, failed: str | None = None) -> None:
        """Load a file: itself, or the members of the archive that it is."""
        if failed is not None:
            self._reject(file, file.name, failed)
            return
        try:
            opened = sys.stdin.buffer if file.path == STANDARD_INPUT else open_file(file.path)
        except OSError as exc:
            self._reject(file, file.name, f"it cannot be opened: {exc.strerror}", retry=True)
            return
        with opened:
            members = self._load_sources(file, opened)
        if has_changed(file):
            self.commit()
            self._say(reject_changed(self._conn, self._load, file))
        elif members:
            self.commit()
            ledger.finish_archive(self._conn, self._load, file.name, file.fingerprint, members)

    def commit(self) -> None:
        """Commit what waits, in one transaction."""
        if self._waiting:
            waiting = self._waiting
            self._waiting, self._waiting_bytes = {}, 0
            with self._conn.transaction():
                outcome = _commit_whole(self._conn, self._load, waiting)
            self._say(outcome)

    def _load_sources(self, file: SourceFile, opened: BinaryIO) -> int:
        """Load each source in a file; return how many of them are members of an archive."""
        done: set[str] = set()
        members, said = 0, 0
        for source in _sources(opened, file.name):
            if source.name != file.name:
                if not members:
                    done = ledger.finished_members(
                        self._conn, self._load, file.name, file.fingerprint
                    )
                members += 1
            if source.name in done:
                self._say(Outcome(skipped=1))
            elif isinstance(source, Unopened):
                self._reject(file, source.name, source.reason)
            else:
                self._load_source(file, source)
            if not file.is_stream:
                said = self._say_read(opened.tell() - said) + said
        self._say_read(file.size_bytes - said)
        return members

    def _load_source(self, file: SourceFile, source: Opened) -> None:
        chunks = chunks_of(self._pieces(file, source))
        first, second = list(next(chunks, ())), next(chunks, None)
        if second is None:
            self._wait(file, source.name, source.reader.name, first)
            return
        begun = begin(
            self._conn,
            self._load,
            name=source.name,
            fingerprint=file.fingerprint,
            cut=how_cut(source.reader.name),
        )
        if begun is None:
            self._say(Outcome(skipped=1))
            return
        for number, chunk in enumerate(chain([iter(first), second], chunks)):
            self._say(_commit_chunk(self._conn, self._load, begun, number, [chunk]))
            for _ in chunk:  # nothing is left of it, but where it was committed before
                pass
        finish(self._conn, self._load, begun)
        self._say(Outcome(sources=1))

    def _pieces(self, file: SourceFile, source: Opened) -> Iterator[Piece]:
        whole_file = source.name == file.name and not file.is_stream
        if self._load.target.columns is not None and whole_file:
            rows = _rows_of(file)
            if rows is not None:
                return iter([rows])
        items = source.reader.read(source.file, source.name)
        return read_pieces(items, untyped=source.reader.untyped)

    def _reject(self, file: SourceFile, name: str, reason: str, *, retry: bool = False) -> None:
        self._wait(file, name, "none", [Failure(reason, retry=retry)])

    def _wait(self, file: SourceFile, name: str, reader: str, pieces: list[Piece]) -> None:
        retry = any(isinstance(piece, Failure) and piece.retry for piece in pieces)
        whole = ledger.Whole(name, "" if retry else file.fingerprint, reader)
        self._waiting[name] = _Waiting(whole, pieces)
        self._waiting_bytes += sum(map(size_bytes, pieces))
        if self._waiting_bytes >= CHUNK_BYTES:
            self.commit()

    def _say_read(self, count: int) -> int:
        if count:
            self._say(Outcome(bytes=count))
        return count

    def _say(self, outcome: Outcome) -> None:
        self.outcome += outcome
        self._say_to(outcome)


def has_changed(file: SourceFile) -> bool:
    """Return whether a file is another than when the load began."""
    try:
        return not file.is_stream and fingerprint(Path(file.path).stat()) != file.fingerprint
    except OSError:  # it is gone: what was read of it is what it was
        return False


def reject_changed(conn: Connection[Any], load: Load, file: SourceFile) -> Outcome:
    """Note that a file changed while it was loaded; the next load will load it anew."""
    reason = "it changed while it was loaded; load it again"
    rejects.keep(conn, load, [Reject(file.name, None, "the whole source", reason)])
    return Outcome(rejects=1)


def _commit_whole(conn: Connection[Any], load: Load, waiting: dict[str, _Waiting]) -> Outcome:
    claimed = ledger.claim_whole(conn, load, [source.whole for source in waiting.values()])
    bad: list[Reject] = []
    parts = (Part(name, batches(name, waiting[name].pieces, bad)) for name in claimed)
    delivered = rejects.deliver(conn, load, parts)
    bad += delivered.rejects
    rejects.keep(conn, load, bad)
    bad_by_source = Counter(reject.source for reject in bad)
    counts = [
        ledger.Counts(name, delivered.records.get(name, 0), bad_by_source[name]) for name in claimed
    ]
    ledger.count_whole(conn, load, counts)
    # What this load's own worker committed before it died counts as loaded.
    before = ledger.ours(conn, load, waiting.keys() - claimed)
    counts += before
    return Outcome(
        sources=len(counts),
        skipped=len(waiting) - len(counts),
        records=sum(source.records for source in counts),
        rows=delivered.rows + sum(source.records for source in before),
        rejects=sum(source.rejects for source in counts),
        repaired=delivered.repaired,
        chunks=1,
    )


def _commit_chunk(
    conn: Connection[Any],
    load: Load,
    begun: Begun,
    number: int,
    slices: Iterable[Iterator[Piece]],
) -> Outcome:
    """Commit a chunk, whose pieces may come in slices, so that they fit in memory."""
    records = rows = repaired = rejected = 0
    with conn.transaction():
        if not claim_chunk(conn, load, begun, number):
            # What this load's own worker committed before it died counts as loaded.
            ours = chunk_of_ours(conn, load, begun, number)
            return (
                Outcome(records=ours.records, rows=ours.records, rejects=ours.rejects, chunks=1)
                if ours
                else Outcome()
            )
        current = replace(load, loaded_at=begun.loaded_at)
        for pieces in slices:
            bad: list[Reject] = []
            part = Part(begun.name, batches(begun.name, pieces, bad))
            delivered = rejects.deliver(conn, current, [part])
            bad += delivered.rejects
            rejects.keep(conn, current, bad)
            records += delivered.records.get(begun.name, 0)
            rows += delivered.rows
            repaired += delivered.repaired
            rejected += len(bad)
        count_chunk(conn, load, begun, number, ledger.Counts(begun.name, records, rejected))
    return Outcome(records=records, rows=rows, rejects=rejected, repaired=repaired, chunks=1)


def _rows_of(file: SourceFile) -> Rows | None:
    """Return a file as rows that COPY can take, where it is such a file."""
    with suppress(OSError, UnreadableSource), open_file(file.path) as opened:
        reader = splitter_of(opened, file.name)
        if reader is not None:
            start = reader.start(opened)
            rows = reader.rows(opened, start, file.size_bytes - start, 1)
            if rows is not None:
                deque(rows.blocks(), maxlen=0)  # it is sent when the file is closed
                return rows
    return None


def _load_range(conn: Connection[Any], job: RangeJob) -> Outcome:
    """Commit one chunk of a file; its parent finishes the file when all chunks are in."""
    for _ in range(_DEADLOCKS):
        # Two workers that want to widen the table's columns, and have both written to it.
        with suppress(errors.DeadlockDetected):
            return _load_range_once(conn, job)
    return _load_range_once(conn, job)


def _load_range_once(conn: Connection[Any], job: RangeJob) -> Outcome:
    chunk = job.chunk
    with ExitStack() as stack:
        if job.failed is not None:
            place = f"bytes {chunk.offset} to {chunk.offset + chunk.length}"
            pieces: Iterator[Piece] = iter([Failure(job.failed, place)])
        else:
            reader = reader_named(job.reader)
            assert isinstance(reader, SplittingReader)  # noqa: S101 - it has cut this chunk
            file = stack.enter_context(open_file(job.file.path))
            span = chunk.offset, chunk.length, chunk.first
            rows = reader.rows(file, *span) if job.load.target.columns else None
            if rows is not None:
                pieces = iter([rows])
            else:
                items = reader.read_range(file, *span)
                pieces = read_pieces(items, chunk.first, untyped=reader.untyped)
        outcome = _commit_chunk(conn, job.load, job.begun, chunk.number, chunks_of(pieces))
    return outcome + Outcome(bytes=chunk.length)
