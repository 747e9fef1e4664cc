"""Text of one record a line, or nearly so: NDJSON, and CSV with its kin.

Both are split by byte range, so that many workers share one file. NDJSON is
passed through as it is: the server checks each line, and no line becomes a
Python object but its bytes. CSV is cut where csv.reader would end a row; the
values stay the text that they are.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from typing import BinaryIO

from howdah.loading.readers import (
    HEAD_BYTES,
    BadRecord,
    Cut,
    Head,
    Item,
    Lines,
    Match,
    Rows,
    SplittingReader,
)
from howdah.loading.readers.characters import encoding_of, is_wide, to_utf8
from howdah.loading.readers.encode import as_batches
from howdah.loading.readers.layout import (
    BLANK,
    EXTRA_COLUMNS,
    Layout,
    delimiter_of,
    is_table,
    layout_of,
    newline_of,
    row_pattern,
    split,
)

__all__ = ["CSV", "NDJSON", "RECORD_LIMIT_BYTES"]

RECORD_LIMIT_BYTES = 256 << 20
"""How long a record may be: jsonb holds at most 256 MiB of strings, in bytes."""

# Larger ones leave the cache of the server's core (bench/load.py with other values here).
_BLOCK_BYTES = 64 << 10
_SHOWN_BYTES = 64 << 10  # of a record that is too long to keep
_UNCLOSED = "A quote is opened and never closed."
_MARK = b"\xef\xbb\xbf"
_ASCII_OR_UTF_8 = ("utf-8", "ascii")
_BINARY = (b"PK\x03\x04", b"%PDF-", b"\xd0\xcf\x11\xe0", b"\x1f\x8b", b"\x89PNG")


class NDJSON(SplittingReader):
    """Reads one JSON text a line; a record's number is that of its line."""

    name = "ndjson"

    def recognise(self, head: Head) -> Match:
        """See `Reader.recognise`: one JSON object or array a line, or a name that says so."""
        lines = [line for line in head.data.removeprefix(_MARK).split(b"\n") if line.strip()]
        if not lines or is_wide(encoding_of(head.data)):
            return Match.NO
        cut_off = len(head.data) >= HEAD_BYTES and not head.data.endswith(b"\n")
        whole = lines[:-1] if cut_off else lines
        if head.suffix in {".ndjson", ".jsonl", ".ldjson", ".jsonlines"}:
            return Match.CERTAIN if any(map(_parses, whole)) else Match.LIKELY
        opening = lines[0].lstrip()[:1]
        if opening not in b"{[" or len(lines) == 1 or not _parses(lines[0]):
            return Match.NO
        return Match.CERTAIN if lines[1].lstrip()[:1] == opening else Match.NO

    def read(self, file: BinaryIO, name: str) -> Iterator[Item]:  # noqa: ARG002
        """See `Reader.read`: batches, and bad records for lines that are far too long."""
        blocks = _blocks(file)
        first = next(blocks, b"").removeprefix(_MARK)
        yield from _batches(chain([first], blocks), 1, RECORD_LIMIT_BYTES)

    def start(self, file: BinaryIO) -> int:
        """See `SplittingReader.start`."""
        file.seek(0)
        return len(_MARK) if file.read(len(_MARK)) == _MARK else 0

    def cut(self, block: bytes | bytearray) -> Cut:
        """See `SplittingReader.cut`: numbers are those of lines, blank ones too."""
        return Cut(block.rfind(b"\n") + 1, block.count(b"\n"))

    def read_range(self, file: BinaryIO, offset: int, length: int, first: int) -> Iterator[Item]:
        """See `SplittingReader.read_range`."""
        file.seek(offset)
        yield from _batches(_blocks(file, length), first, RECORD_LIMIT_BYTES)


class CSV(SplittingReader):
    """Reads comma-, semicolon-, tab- and bar-separated values; the first row names the columns.

    Args:
        delimiter: What `cut` takes for the delimiter; None: it looks at the block.
    """

    name = "csv"
    untyped = True

    def __init__(self, delimiter: str | None = None) -> None:
        self._delimiter = delimiter

    def recognise(self, head: Head) -> Match:
        """See `Reader.recognise`: by name, or by rows of three and more columns each."""
        if head.data.startswith(_BINARY):
            return Match.NO
        if head.suffix in {".csv", ".tsv", ".tab", ".psv"}:
            return Match.LIKELY
        if head.suffix not in {"", ".dat", ".data", ".out", ".asc", ".log"}:
            return Match.NO
        return Match.LIKELY if head.data and is_table(head.data) else Match.NO

    def splitter(self, head: Head) -> SplittingReader | None:
        """See `SplittingReader.splitter`: None for UTF-16, UTF-32 and the lines of old Macs."""
        if is_wide(encoding := encoding_of(head.data)) or newline_of(head.data) != b"\n":
            return None
        return CSV(delimiter_of(head.data.decode(encoding, "replace")))

    def read(self, file: BinaryIO, name: str) -> Iterator[Item]:  # noqa: ARG002
        """See `Reader.read`: a mapping of column name to text for each row."""
        blocks: Iterator[bytes] = _blocks(file)
        head = next(blocks, b"")
        encoding = encoding_of(head[:HEAD_BYTES])
        blocks = chain([head], blocks)
        if is_wide(encoding):
            blocks = to_utf8(blocks, encoding)
        try:
            layout, head = layout_of(blocks)
            yield from _rows(chain([head[layout.start :]], blocks), layout, 1)
        except UnicodeDecodeError as exc:
            yield BadRecord("end of the source", f"The text is not valid {encoding}: {exc.reason}.")

    def start(self, file: BinaryIO) -> int:
        """See `SplittingReader.start`."""
        file.seek(0)
        return layout_of(_blocks(file))[0].start

    def cut(self, block: bytes | bytearray) -> Cut:
        """See `SplittingReader.cut`: newlines between quotes end no record."""
        text = bytes(block)
        delimiter = self._delimiter or _delimiter_in(text)
        records, end = _split_fast(text, row_pattern(delimiter, b"\n"), b"\n")
        return Cut(end, len(records))

    def cut_rows(self, block: bytes | bytearray) -> Cut:
        """See `SplittingReader.cut_rows`."""
        if b'"' in block:
            return self.cut(block)
        return Cut(block.rfind(b"\n") + 1, block.count(b"\n"))

    def read_range(self, file: BinaryIO, offset: int, length: int, first: int) -> Iterator[Item]:
        """See `SplittingReader.read_range`."""
        file.seek(0)
        layout, _ = layout_of(_blocks(file))
        file.seek(offset)
        yield from _rows(_blocks(file, length), layout, first)

    def rows(self, file: BinaryIO, offset: int, length: int, first: int) -> Rows | None:
        """See `SplittingReader.rows`: rows in UTF-8, of two columns and more.

        A blank line is no record here, but a row of one column to COPY.
        """
        file.seek(0)
        layout, _ = layout_of(_blocks(file))
        if (
            layout.encoding not in _ASCII_OR_UTF_8
            or layout.newline != b"\n"
            or len(layout.names) == 1
        ):
            return None
        file.seek(offset)
        return Rows(
            layout.names,
            layout.delimiter,
            _blocks(file, length),
            lambda blocks: as_batches(_rows(blocks, layout, first), first=first, untyped=True),
            first=first,
            size_bytes=length,
        )


def _blocks(file: BinaryIO, length: int | None = None) -> Iterator[bytes]:
    """Yield a file's next bytes, each block full but for the last, so that heads are alike."""
    left = float("inf") if length is None else length
    while left > 0:
        wanted = int(min(_BLOCK_BYTES, left))
        pieces = []
        while wanted and (piece := file.read(wanted)):
            pieces.append(piece)
            wanted -= len(piece)
        if not pieces:
            return
        block = b"".join(pieces)
        left -= len(block)
        yield block


# ---- NDJSON


def _parses(line: bytes) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _batches(blocks: Iterable[bytes], first: int, limit_bytes: int) -> Iterator[Lines | BadRecord]:
    """Yield the lines of blocks; one longer than the limit is a bad record, and skipped."""
    number, size = first, 0
    pieces: list[bytes | memoryview] = []
    skipping = False
    for block in blocks:
        rest = block
        if skipping:
            _, newline, rest = block.partition(b"\n")
            skipping = not newline
        end = rest.rfind(b"\n") + 1
        if end:
            lines = Lines(number, b"".join((*pieces, memoryview(rest)[:end])))
            yield lines
            number = lines.after
            pieces, size = [], 0
        pieces.append(rest[end:])
        size += len(rest) - end
        if size > limit_bytes:
            reason = f"The line is longer than {limit_bytes} bytes, the most that jsonb can hold."
            content = b"".join(pieces)[:_SHOWN_BYTES]
            yield BadRecord(f"line {number}", reason, content, number)
            number, pieces, size, skipping = number + 1, [], 0, True
    if data := b"".join(pieces):
        yield Lines(number, data)


# ---- CSV


def _delimiter_in(block: bytes) -> str:
    sample = block[:HEAD_BYTES]
    return delimiter_of(sample.decode(encoding_of(sample), "replace"))


def _records(blocks: Iterable[bytes], layout: Layout) -> Iterator[list[bytes] | BadRecord]:
    """Yield the records of blocks; what an unclosed quote would swallow is read line by line."""
    row = row_pattern(layout.delimiter, layout.newline)
    pieces: list[bytes] = []
    size = wanted = 0
    for block in blocks:
        pieces.append(block)
        size += len(block)
        if size < wanted:
            continue
        data = b"".join(pieces)
        records, end = _split_fast(data, row, layout.newline)
        yield records
        rest = data[end:]
        if len(rest) > RECORD_LIMIT_BYTES:
            line, _, rest = rest.partition(layout.newline)
            yield BadRecord("", _UNCLOSED, line[:_SHOWN_BYTES])
        # Twice what is left: a long record is not scanned again for each block.
        pieces, size, wanted = [rest], len(rest), 2 * len(rest)
    rest = b"".join(pieces)
    while rest:
        records, end = _split_fast(rest + layout.newline, row, layout.newline)
        yield records
        if rest := rest[end:]:
            line, _, rest = rest.partition(layout.newline)
            yield BadRecord("", _UNCLOSED, line)


def _split_fast(data: bytes, row: re.Pattern[bytes], newline: bytes) -> tuple[list[bytes], int]:
    if b'"' in data:
        return split(data, row)
    end = data.rfind(newline) + 1
    records = data[:end].split(newline)[:-1]
    if any(blank in records for blank in BLANK):
        records = [record for record in records if record not in BLANK]
    return records, end


def _rows(blocks: Iterable[bytes], layout: Layout, first: int) -> Iterator[Item]:
    number = first
    for found in _records(blocks, layout):
        if isinstance(found, BadRecord):
            yield replace(found, place=f"record {number}", number=number)
            number += 1
            continue
        try:
            yield from _attributes(_cells(found, layout), layout)
        except ValueError:
            # One of them is bad: one by one, to find out which.
            for place, record in enumerate(found, number):
                yield from _row(record, layout, place)
        number += len(found)


def _cells(records: Sequence[bytes], layout: Layout) -> list[list[str]]:
    """Return the cells of records; raises ValueError where one of them is bad."""
    csv.field_size_limit(RECORD_LIMIT_BYTES)  # the default is 128 KiB
    if any(b"\0" in record for record in records):
        raise ValueError("The row holds a NUL byte, which PostgreSQL cannot store.")
    texts = [record.decode(layout.encoding) for record in records]
    try:
        rows = list(csv.reader(texts, delimiter=layout.delimiter, strict=True))
    except csv.Error as exc:
        raise ValueError(f"The row is not well-formed CSV: {exc}.") from exc
    if len(rows) != len(records):
        raise ValueError(_UNCLOSED)
    return rows


def _row(record: bytes, layout: Layout, number: int) -> Iterator[Item]:
    try:
        yield from _attributes(_cells([record], layout), layout)
    except UnicodeDecodeError as exc:
        reason = f"The row is not valid {layout.encoding}: byte {exc.object[exc.start]:#x}."
        yield BadRecord(f"record {number}", reason, record, number)
    except ValueError as exc:
        yield BadRecord(f"record {number}", str(exc), record, number)


def _attributes(rows: Iterable[Sequence[str]], layout: Layout) -> Iterator[Item]:
    names, width = layout.names, len(layout.names)
    for row in rows:
        attributes: dict[str, object] = dict(zip(names, row, strict=False))
        if len(row) > width:
            attributes[EXTRA_COLUMNS] = row[width:]
        yield attributes
