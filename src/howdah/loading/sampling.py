"""A look at some records of the sources before they are loaded."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from howdah.errors import Refused
from howdah.loading.forkjoin import ForkJoinPool, TaskTimedOut, WorkerDied
from howdah.loading.inference import Kind, join, kinds_of
from howdah.loading.opening import Opened, open_file, open_sources, splitter_of
from howdah.loading.passing import checked
from howdah.loading.pieces import read_pieces
from howdah.loading.readers import Batch, ReaderOptions, Rows, SplittingReader, load_readers
from howdah.loading.records import Unfit, parse
from howdah.loading.sources import SourceFile
from howdah.loading.splitting import is_safe

__all__ = ["Sample", "sample"]

RECORDS_A_SOURCE = 1_000
"""How many records are looked at from a source's start."""

MOST_SOURCES = 20
"""How many sources are looked at: the first, the last, and others evenly between."""

PLACES = 8
"""In how many places a large source is looked at, besides its start."""

TIME_LIMIT_S = 60.0
"""How long a process may look at one file, in seconds."""

_PLACE_BYTES = 256 << 10
_SHOWN = 10


@dataclass(slots=True)
class Sample:
    """What some of the records are like.

    Attributes:
        kinds: What each attribute's values are, in the order of their first appearance.
        records: The first few records.
    """

    kinds: dict[str, Kind] = field(default_factory=dict)
    records: list[dict[str, Any]] = field(default_factory=list)

    def add(self, records: Iterable[dict[str, Any]], *, texts: bool) -> None:
        """Look at records; `texts` is that of `kinds_of`."""
        records = list(records)
        self.kinds = kinds_of(records, texts=texts, known=self.kinds)
        self.records += records[: _SHOWN - len(self.records)]

    def include(self, other: Sample) -> None:
        """Add what another sample has found."""
        for name, kind in other.kinds.items():
            self.kinds[name] = join(self.kinds.get(name, kind), kind)
        self.records += other.records[: _SHOWN - len(self.records)]


def sample(files: Sequence[SourceFile], options: ReaderOptions) -> Sample:
    """Look at the starts of sources, and at places further on in large ones.

    What cannot be read is left out: the load will say what is wrong with it. Where
    a library could crash or hang over a file, a process of its own looks at it.

    Raises:
        Refused: There are only streams, and what is looked at is not there for the load.
    """
    if files and all(file.is_stream for file in files):
        raise Refused(
            "The columns of a new table cannot be told from a stream: it can be read only once.",
            next_step="Create the table yourself, load a file, or leave out --as columns.",
        )
    found = Sample()
    steps = max(len(files) / MOST_SOURCES, 1)
    chosen = [files[int(number * steps)] for number in range(min(len(files), MOST_SOURCES))]
    risky: list[SourceFile] = []
    for file in chosen:
        if file.is_stream:
            continue  # it can be read only once
        if is_safe(file, options):
            found.include(_looked_into(file, options))
        else:
            risky.append(file)
    if risky:
        load_readers()
        with ForkJoinPool(1) as pool:
            for file in risky:
                with suppress(WorkerDied, TaskTimedOut):
                    found.include(
                        pool.submit(_looked_into, file, options, timeout_s=TIME_LIMIT_S).result()
                    )
    return found


def _looked_into(file: SourceFile, options: ReaderOptions) -> Sample:
    """Return a file's sample: as far as it can be read."""
    found = Sample()
    with suppress(Exception):  # whatever a library throws at a bad file
        _look_into(file, options, found)
    return found


def _look_into(file: SourceFile, options: ReaderOptions, found: Sample) -> None:
    with open_file(file.path) as opened:
        for source in islice(open_sources(opened, file.name, options), MOST_SOURCES):
            if isinstance(source, Opened):
                items = source.reader.read(source.file, source.name)
                records = islice(_records(items), RECORDS_A_SOURCE)
                found.add(records, texts=source.reader.untyped)
    with open_file(file.path) as opened:
        reader = splitter_of(opened, file.name, options)
        if reader is None:
            return
        start = reader.start(opened)
        step = (file.size_bytes - start) // (PLACES + 1)
        if step > _PLACE_BYTES:
            for place in range(1, PLACES + 1):
                there = _at(opened, reader, start + place * step, found.kinds)
                found.add(there, texts=reader.untyped)


def _at(
    file: Any, reader: SplittingReader, offset: int, kinds: Mapping[str, Kind]
) -> Iterator[dict[str, Any]]:
    """Yield records somewhere in a file; none where they tell nothing that is not known.

    None either where a quote makes it uncertain where one starts.
    """
    file.seek(offset)
    block = file.read(_PLACE_BYTES)
    behind = block.find(b"\n") + 1
    if not behind or (reader.untyped and b'"' in block):
        return
    end = reader.cut(block[behind:]).end
    rows = reader.rows(file, offset + behind, end, 1)
    if rows is not None and _tell_nothing(rows, kinds):
        return
    yield from islice(_records(reader.read_range(file, offset + behind, end, 1)), RECORDS_A_SOURCE)


def _tell_nothing(rows: Rows, kinds: Mapping[str, Kind]) -> bool:
    """Say whether columns of the known kinds hold all of some rows: that is a twentieth's work."""
    known = [kinds.get(name, Kind.NOTHING) for name in rows.names]
    if Kind.NOTHING in known:
        return False
    wanted = tuple(Kind.INTEGER if kind is Kind.SHORT_INTEGER else kind for kind in known)
    try:
        deque(checked(rows.blocks(), wanted, rows.delimiter), maxlen=0)
    except Unfit:
        return False
    return True


def _records(items: Iterable[Any]) -> Iterator[dict[str, Any]]:
    for piece in read_pieces(islice(items, RECORDS_A_SOURCE)):
        if isinstance(piece, Batch):
            for text in piece.texts:
                try:
                    yield parse(text)
                except ValueError:
                    continue
