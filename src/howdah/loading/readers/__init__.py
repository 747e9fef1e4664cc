"""Readers turn the bytes of a source into records, and know nothing of PostgreSQL.

The contract: `recognise` looks at the head of a source and says how sure it
is; the surest reader of the registry gets the source. `read` then yields, in
order, any mixture of

- a mapping: the attributes of one record (a list, text or number makes one too);
- a `Batch`: many records whose JSON text is at hand, for readers that need not parse;
- a `BadRecord`: one record that cannot be read, with its place and its bytes;

and raises `UnreadableSource` when the source as a whole cannot be read. Records
are numbered from 1 in the order in which they are yielded (a bad one counts),
but for batches and bad records that bring their numbers.

What the user says about the sources reaches a reader by `with_options`, before
anything else is asked of it.

A third party adds a reader by an entry point of the group `howdah.readers`
that names a subclass of `Reader`.
"""

from __future__ import annotations

import io
import os
import sys
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import IntEnum
from functools import cache, lru_cache
from importlib import import_module
from importlib.machinery import PathFinder
from itertools import chain
from typing import Any, BinaryIO, TypeAlias

from howdah.errors import UsageError
from howdah.loading.readers.batches import BadRecord, Batch, Lines, Rows
from howdah.loading.readers.options import ReaderOptions

__all__ = [
    "HEAD_BYTES",
    "BadRecord",
    "Batch",
    "Cut",
    "Head",
    "Item",
    "Lines",
    "Match",
    "Reader",
    "ReaderOptions",
    "Rows",
    "SplittingReader",
    "UnreadableSource",
    "check_format",
    "load_readers",
    "reader_for",
    "reader_named",
]

HEAD_BYTES = 65_536
"""How much of a source a reader sees before it is chosen, in bytes."""

# Of two that are equally sure of a source, the first one reads it.
_OF_LINES = (
    "howdah.loading.readers.fixedwidth:FixedWidth",
    "howdah.loading.readers.accesslog:AccessLog",
    "howdah.loading.readers.geojson:GeoJSONSeq",
    "howdah.loading.readers.geojson:GeoJSON",
    "howdah.loading.readers.lines:NDJSON",
    "howdah.loading.readers.lines:CSV",
)
_SPREADSHEETS = "howdah.loading.readers.tables:Spreadsheet"
_DOCUMENTS = "howdah.loading.readers.documents:Document"
_OTHERS = (
    "howdah.loading.readers.jsontext:JSON",
    _SPREADSHEETS,
    "howdah.loading.readers.columnar:Parquet",
    "howdah.loading.readers.columnar:ORC",
    "howdah.loading.readers.columnar:ArrowFile",
    "howdah.loading.readers.columnar:ArrowStream",
    "howdah.loading.readers.avro:Avro",
    "howdah.loading.readers.sqlite:SQLite",
    "howdah.loading.readers.xmlrecords:XMLRecords",
    "howdah.loading.readers.yamltext:YAML",
    "howdah.loading.readers.settings:TOML",
    "howdah.loading.readers.settings:INI",
    "howdah.loading.readers.contentlines:VCard",
    "howdah.loading.readers.contentlines:ICalendar",
    "howdah.loading.readers.mbox:Mbox",
    _DOCUMENTS,
)


# What only spreadsheets and documents begin with, of the most frequent kinds; and _OF_BINARY
# are the readers that are asked about such a source.
_BINARY = (
    b"%PDF-",
    b"{\\rtf",
    b"PK\3\4",
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
    b"\x89PNG\r\n\x1a\n",
    b"\xff\xd8\xff",
    b"\x1f\x8b",
    b"ID3",
    b"GIF8",
)
_OF_BINARY = (_SPREADSHEETS, _DOCUMENTS)


class UnreadableSource(Exception):
    """Raised by a reader when the whole source cannot be read: truncated, encrypted, empty."""


class Match(IntEnum):
    """How sure a reader is that a source is its own."""

    NO = 0
    POSSIBLE = 1
    """Readable as such when no reader knows better: plain text."""
    LIKELY = 2
    """The name says so and the content does not contradict it."""
    CERTAIN = 3
    """The content says so: a magic number, or a first line that parses."""


@dataclass(frozen=True, slots=True)
class Head:
    """What a reader may look at to recognise a source.

    Attributes:
        name: The last part of the source's name, without the suffixes of
            wrappers ("events.ndjson" for "/srv/events.ndjson.gz").
        data: The first `HEAD_BYTES` bytes; fewer only where the source is shorter.
        members: The names in the ZIP directory, when the source is a ZIP file.
    """

    name: str
    data: bytes
    members: Sequence[str] = ()

    @property
    def suffix(self) -> str:
        """The name's last suffix in lower case, with its dot; "" where there is none."""
        stem, dot, suffix = self.name.rpartition(".")
        return f".{suffix.lower()}" if dot and stem else ""


Item: TypeAlias = Mapping[str, Any] | Batch | BadRecord


class Reader(ABC):
    """Reads one kind of source."""

    name: str
    """What reports and the ledger call it: "csv", "pdf"."""
    seeks: bool = False
    """Whether `read` needs a file that can seek; a stream is then spooled first."""
    untyped: bool = False
    """Whether all values are texts, since the format has no numbers: CSV, say."""
    text: bool = False
    """Whether its sources are texts: it is not asked about a PDF, a picture, an archive."""
    takes: frozenset[str] = frozenset()
    """Which attributes of `ReaderOptions` it takes; others make its sources rejects."""

    def with_options(self, options: ReaderOptions) -> Reader:  # noqa: ARG002  for overriding
        """Return the reader that does as the options say: this one where it takes none.

        It is asked before `recognise`, so that an option may help to recognise a source.
        """
        return self

    @abstractmethod
    def recognise(self, head: Head) -> Match:
        """Say how sure this reader is that it can read a source with this head."""

    def properties(self, file: BinaryIO) -> Mapping[str, Any]:  # noqa: ARG002  for overriding
        """Return what a source says of itself as a whole, where its records are not the place.

        It goes into `howdah.sources.properties`. Only for readers that seek: the file
        is at its start, and is to be left there.
        """
        return {}

    @abstractmethod
    def read(self, file: BinaryIO, name: str) -> Iterator[Item]:
        """Yield the records of a source.

        Args:
            file: The source's bytes, at their start.
            name: The source's name, for hints; never a path to open.

        Raises:
            UnreadableSource: The source as a whole cannot be read.
        """


@dataclass(frozen=True, slots=True)
class Cut:
    """Where a block of a splittable source may be cut.

    Attributes:
        end: Length in bytes of the complete records at the block's start; 0 if
            no record ends in the block.
        records: How many numbers they take.
    """

    end: int
    records: int


class SplittingReader(Reader):
    """A reader whose records can be found without parsing, so that many workers share one file."""

    def splitter(self, head: Head) -> SplittingReader | None:  # noqa: ARG002  for overriding
        """Return the reader that knows how to cut a source with this head; None: it cannot be cut.

        It is this reader itself where any source may be cut in the same way.
        In UTF-16, say, none may be, since a newline's byte may be half of a character.
        """
        return self

    @abstractmethod
    def start(self, file: BinaryIO) -> int:
        """Return the offset of the first record, in bytes: behind a mark and a header."""

    @abstractmethod
    def cut(self, block: bytes | bytearray) -> Cut:
        """Return where the last complete record of a block that starts with a record ends."""

    def cut_rows(self, block: bytes | bytearray) -> Cut:
        """Return as `cut` does, for `rows`: it may count blank lines, if that is faster."""
        return self.cut(block)

    def rows(self, file: BinaryIO, offset: int, length: int, first: int) -> Rows | None:  # noqa: ARG002
        """Return a range as rows that COPY can take, or None; the arguments are `read_range`'s."""
        return None

    @abstractmethod
    def read_range(self, file: BinaryIO, offset: int, length: int, first: int) -> Iterator[Item]:
        """Yield the records in a range that `cut` has found.

        Args:
            file: The whole source, which can seek.
            offset: Where the range starts, in bytes; a record starts there.
            length: The range's length in bytes.
            first: The number of the range's first record.
        """


_GROUP = "howdah.readers"


@cache
def _third_parties() -> tuple[Reader, ...]:
    if not _may_be_third_parties():
        return ()
    from importlib.metadata import entry_points

    return tuple(point.load()() for point in entry_points(group=_GROUP))


def _may_be_third_parties() -> bool:
    """Say whether some package names readers: a look that takes a tenth of importlib's time.

    Source: https://packaging.python.org/en/latest/specifications/entry-points/ ("File format").
    """
    if any(hasattr(f, "find_distributions") for f in sys.meta_path if f is not PathFinder):
        return True
    for folder in sys.path:
        if folder.endswith(".egg"):
            return True  # which has its entry points in a folder EGG-INFO
        try:
            found = list(os.scandir(folder or "."))
        except NotADirectoryError:
            return True  # a zip file, which importlib can look into
        except OSError:
            continue
        for one in found:
            if one.name.endswith((".dist-info", ".egg-info")):
                with suppress(OSError), io.FileIO(f"{one.path}/entry_points.txt") as points:
                    if _GROUP.encode() in points.readall():
                        return True
    return False


@cache
def _built_in(targets: tuple[str, ...]) -> tuple[Reader, ...]:
    named = (target.split(":") for target in targets)
    return tuple(getattr(import_module(module), name)() for module, name in named)


def _registry() -> Iterator[tuple[Reader, ...]]:
    """Yield the readers, imported when their turn comes: third parties' first, to win a tie."""
    yield (*_third_parties(), *_built_in(_OF_LINES))
    yield _built_in(_OTHERS)


_DEFAULT = ReaderOptions()


@lru_cache(maxsize=8)  # asked for each source
def _configured(
    readers: tuple[Reader, ...], options: ReaderOptions
) -> tuple[tuple[Reader, bool, bool], ...]:
    """Return readers that do as the options say: each, whether it reads texts, and takes them."""
    given = _given(options)
    told = [reader.with_options(options) for reader in readers]
    return tuple((one, one.text, given <= one.takes) for one in told)


@lru_cache(maxsize=4)
def _given(options: ReaderOptions) -> frozenset[str]:
    return options.given()


def _readers(options: ReaderOptions) -> Iterator[tuple[Reader, bool, bool]]:
    for readers in _registry():
        yield from _configured(readers, options)


@lru_cache(maxsize=4)
def _of_binary(options: ReaderOptions) -> tuple[tuple[Reader, bool, bool], ...]:
    return _configured((*_third_parties(), *_built_in(_OF_BINARY)), options)


def load_readers() -> None:
    """Import every reader now: a process that is about to fork workers does it once for all."""
    deque(_registry(), maxlen=0)


def check_format(options: ReaderOptions) -> None:
    """Raise UsageError where the options name a reader that there is not."""
    all_readers = chain.from_iterable(_registry())
    known = sorted({reader.name for reader in all_readers} if options.format else ())
    if options.format and options.format not in known:
        raise UsageError(
            f"There is no reader {options.format!r} for --format.",
            next_step=f"Name one of: {', '.join(known)}.",
        )


def reader_for(
    head: Head, options: ReaderOptions = _DEFAULT, *, archive: bool = False
) -> Reader | None:
    """Return the reader that is surest of a source, or None if no reader knows it.

    Args:
        head: The source's head.
        options: What the user says; with a format, that one's reader it is.
        archive: Whether the source is an archive: it is then entered, whatever
            the format, unless some reader knows it as a document.

    Raises:
        UnreadableSource: The reader does not take an option that is given.
    """
    given = _given(options)
    binary = head.data.startswith(_BINARY) or head.data[4:8] == b"ftyp"
    best, surest = None, (Match.NO, False)
    for reader, text, takes in _of_binary(options) if binary else _readers(options):
        if binary and text:
            continue
        match = reader.recognise(head)
        if match and (match, takes) > surest:
            best, surest = reader, (match, takes)
            if surest == (Match.CERTAIN, True):
                break  # none can be surer: those that come after it need no import
    if options.format and (best is not None or not archive):
        best = reader_named(options.format, options)
    if best is not None and (other := sorted(given - best.takes)):
        raise UnreadableSource(
            f"the reader {best.name!r} reads it, which has no option --{other[0]}"
        )
    return best


def reader_named(name: str, options: ReaderOptions = _DEFAULT) -> Reader:
    """Return the reader of that name; raises KeyError where there is none."""
    for reader, _, _ in _readers(options):
        if reader.name == name:
            return reader
    raise KeyError(name)
