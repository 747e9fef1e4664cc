"""What a worker does with a job: read, frame, COPY, commit, over the connection it is given.

Sources that end within a chunk share a transaction with others; one that goes
on is begun in the ledger and committed chunk by chunk, its records passed to
the server as they are read. A reader's failure is a reject of its source and
never the job's.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any, BinaryIO

from psycopg import Connection

from howdah import __version__
from howdah.loading import ledger, rejects
from howdah.loading.begun import Begun, begin, chunk_of_ours, claim_chunk, count_chunk, finish
from howdah.loading.changed import has_changed, reject_changed
from howdah.loading.chunks import CHUNK_BYTES, HOW_CUT, Chunk
from howdah.loading.forkjoin import emit
from howdah.loading.near import open_chunk
from howdah.loading.opening import Opened, Unopened, open_file, open_small, splitter_of
from howdah.loading.pieces import (
    Failure,
    Piece,
    batches,
    chunks_of,
    properties_of,
    read_pieces,
    size_bytes,
    sources_in,
)
from howdah.loading.readers import (
    Item,
    ReaderOptions,
    Rows,
    SplittingReader,
    UnreadableSource,
    reader_named,
)
from howdah.loading.rejects import Part, Reject
from howdah.loading.report import Outcome
from howdah.loading.sources import STANDARD_INPUT, SourceFile
from howdah.loading.target import Load
from howdah.loading.watch import Reading, Watch
from howdah.loading.wholes import ReadSource, commit_whole, expected

__all__ = ["FilesJob", "Job", "RangeJob", "how_cut", "load_files", "load_range"]


_SAY_S = 0.1
"""How often a worker says how far it has read, in seconds."""


@dataclass(frozen=True, slots=True)
class FilesJob:
    """Load files as a whole, one after the other.

    Attributes:
        conninfo: The database; may hold a password.
        load: The load that this is part of.
        files: What to read.
        failed: Set where a worker died or hung over the files: they are not
            read, but rejected for this reason.
        skip: Members of archives, by their names, that are not read, but
            rejected for these reasons.
        limit_s: How long a reader may take over one record, in seconds; None
            in the parent: as long as it takes.
    """

    conninfo: str = field(repr=False)
    load: Load
    files: tuple[SourceFile, ...]
    failed: str | None = None
    skip: Mapping[str, str] = field(default_factory=dict)
    limit_s: float | None = None


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
        kept: Where that part is kept near, as `near.handed_over` says.
        failed: As in `FilesJob`.
        limit_s: As in `FilesJob`.
    """

    conninfo: str = field(repr=False)
    load: Load
    file: SourceFile
    reader: str
    begun: Begun
    chunk: Chunk
    kept: str = ""
    failed: str | None = None
    limit_s: float | None = None


Job = FilesJob | RangeJob


def how_cut(reader: str) -> str:
    """Return what must be unchanged for a killed load's chunks to be gone on with."""
    return f"{reader}, {HOW_CUT}, howdah {__version__}"


def load_files(conn: Connection[Any], job: FilesJob, say: Callable[[Outcome], None]) -> Outcome:
    """Load the files of a job over a connection; return what is committed."""
    loader = _FileLoader(conn, job, say)
    for file in job.files:
        loader.load(file)
    loader.end()
    return loader.outcome


class _FileLoader:
    """Loads files over one connection; sources that are small share a transaction."""

    def __init__(
        self, conn: Connection[Any], job: FilesJob, say: Callable[[Outcome], None]
    ) -> None:
        self.outcome = Outcome()
        self._conn = conn
        self._load = job.load
        self._job = job
        self._watch = None if job.limit_s is None else Watch(job.limit_s)
        self._say_to = say
        self._waiting: dict[str, ReadSource] = {}
        self._waiting_bytes = 0
        self._read = 0
        self._said_at = time.monotonic()

    def load(self, file: SourceFile) -> None:
        """Load a file: itself, or the members of the archive that it is."""
        if self._job.failed is not None:
            self._reject(file, file.name, self._job.failed)
            return
        try:
            opened = sys.stdin.buffer if file.path == STANDARD_INPUT else open_small(file)
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
                outcome = commit_whole(self._conn, self._load, waiting)
            self._say(outcome)

    def end(self) -> None:
        """Commit what waits, and say how far the files have been read."""
        self.commit()
        self._say(Outcome(bytes=self._read))

    def _load_sources(self, file: SourceFile, opened: BinaryIO) -> int:
        """Load each source in a file; return how many of them are members of an archive."""
        done: dict[str, ledger.Counts | None] = {}
        members, said = 0, 0
        for source in sources_in(opened, file.name, self._load.options):
            if source.name != file.name:
                if not members:
                    done = ledger.finished_members(
                        self._conn, self._load, file.name, file.fingerprint
                    )
                members += 1
            if source.name in done:
                self._say_done(done[source.name])
            elif isinstance(source, Unopened):
                self._reject(file, source.name, source.reason)
            elif source.name in self._job.skip:
                self._reject(file, source.name, self._job.skip[source.name])
            else:
                self._load_source(file, source)
            if not file.is_stream:
                said = self._say_read(opened.tell() - said) + said
        self._say_read(file.size_bytes - said)
        return members

    def _load_source(self, file: SourceFile, source: Opened) -> None:
        properties = properties_of(source)
        chunks = chunks_of(self._pieces(file, source))
        first, second = list(next(chunks, ())), next(chunks, None)
        if second is None:
            self._wait(file, source.name, source.reader.name, first, properties)
            return
        begun = begin(
            self._conn,
            self._load,
            name=source.name,
            fingerprint=file.fingerprint,
            cut=how_cut(source.reader.name),
            properties=properties,
        )
        if begun is None:
            self._say_done(*ledger.ours(self._conn, self._load, [source.name]))
            return
        number = 0
        for number, chunk in enumerate(chain([iter(first), second], chunks), start=1):
            self._say(_commit_chunk(self._conn, self._load, begun, number - 1, [chunk]))
            for _ in chunk:  # nothing is left of it, but where it was committed before
                pass
        # All of them are there: a crash would have ended this session too.
        finish(self._conn, self._load, begun, number)
        self._say(Outcome(sources=1))

    def _say_done(self, ours: ledger.Counts | None = None) -> None:
        """Say that a source is committed: by this load before it lost the server, or by another."""
        if ours is None:
            self._say(Outcome(skipped=1))
        else:
            counts = {"records": ours.records, "rows": ours.records, "rejects": ours.rejects}
            self._say(Outcome(sources=1, **counts))

    def _pieces(self, file: SourceFile, source: Opened) -> Iterator[Piece]:
        whole_file = source.name == file.name and not file.is_stream
        if self._load.target.columns is not None and whole_file:
            rows = _rows_of(file, self._load.options)
            if rows is not None:
                return iter([rows])
        items = source.reader.read(source.file, source.name)
        untyped = source.reader.untyped
        if self._watch is None:
            return read_pieces(items, untyped=untyped)
        if source.name != file.name:
            emit(Reading(file.name, source.name))
        return self._watch.pieces(read_pieces(self._watch.items(items), untyped=untyped))

    def _reject(self, file: SourceFile, name: str, reason: str, *, retry: bool = False) -> None:
        self._wait(file, name, "none", [Failure(reason, retry=retry)])

    def _wait(
        self,
        file: SourceFile,
        name: str,
        reader: str,
        pieces: list[Piece],
        properties: str | None = None,
    ) -> None:
        retry = any(isinstance(piece, Failure) and piece.retry for piece in pieces)
        fingerprint = "" if retry else file.fingerprint
        entry = ledger.Whole(name, fingerprint, reader, properties, *expected(pieces))
        self._waiting[name] = ReadSource(entry, pieces)
        self._waiting_bytes += sum(map(size_bytes, pieces))
        if self._waiting_bytes >= CHUNK_BYTES:
            self.commit()

    def _say_read(self, count: int) -> int:
        """Count bytes that were read, and say so now and then: a message a file is too many."""
        self._read += count
        if self._read and time.monotonic() - self._said_at > _SAY_S:
            self._say(Outcome(bytes=self._read))
            self._read, self._said_at = 0, time.monotonic()
        return count

    def _say(self, outcome: Outcome) -> None:
        self.outcome += outcome
        self._say_to(outcome)


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


def _rows_of(file: SourceFile, options: ReaderOptions) -> Rows | None:
    """Return a file as rows that COPY can take, where it is such a file."""
    with suppress(OSError, UnreadableSource), open_file(file.path) as opened:
        reader = splitter_of(opened, file.name, options)
        if reader is not None:
            start = reader.start(opened)
            rows = reader.rows(opened, start, file.size_bytes - start, 1)
            if rows is not None:
                deque(rows.blocks(), maxlen=0)  # it is sent when the file is closed
                return rows
    return None


def load_range(conn: Connection[Any], job: RangeJob, say: Callable[[Outcome], None]) -> Outcome:
    """Commit one chunk of a file; its parent finishes the file when all chunks are in."""
    chunk = job.chunk
    with ExitStack() as stack:
        if job.failed is not None:
            place = f"bytes {chunk.offset} to {chunk.offset + chunk.length}"
            pieces: Iterator[Piece] = iter([Failure(job.failed, place)])
        else:
            reader = reader_named(job.reader, job.load.options)
            assert isinstance(reader, SplittingReader)  # noqa: S101 - it has cut this chunk
            file = stack.enter_context(open_chunk(job.file, chunk, job.kept))
            span = chunk.offset, chunk.length, chunk.first
            watch = None if job.limit_s is None else Watch(job.limit_s)
            rows = reader.rows(file, *span) if job.load.target.columns else None
            if rows is not None:
                if watch:
                    rows.watch(watch.pieces)
                pieces = iter([rows])
            else:
                items: Iterable[Item] = reader.read_range(file, *span)
                items = watch.items(items) if watch else items
                pieces = read_pieces(items, chunk.first, untyped=reader.untyped)
                pieces = watch.pieces(pieces) if watch else pieces
        # In slices of memory; a chunk of the usual length, a block more than it should be, is one.
        slices = chunks_of(pieces, 2 * CHUNK_BYTES)
        outcome = _commit_chunk(conn, job.load, job.begun, chunk.number, slices)
    outcome += Outcome(bytes=chunk.length)
    say(outcome)
    return outcome
