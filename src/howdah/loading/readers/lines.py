"""Text of one record a line, or nearly so: NDJSON, and CSV with its kin.

Both are split by byte range, so that many workers share one file. NDJSON is
passed through as it is: the server checks each line, and no line becomes a
Python object but its bytes. CSV is cut where csv.reader would end a row; the
values stay the text that they are.
"""

from __future__ import annotations

import csv
import json
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
    ReaderOptions,
    Rows,
    SplittingReader,
)
from howdah.loading.readers.characters import (
    encoding_of,
    is_wide,
    looks_like_text,
    to_utf8,
)
from howdah.loading.readers.encode import as_batches
from howdah.loading.readers.layout import (
    BLANK,
    EXTRA_COLUMNS,
    Layout,
    csv_format,
    delimiter_of,
    is_table,
    layout_of,
    newline_of,
    pattern_of,
    split,
)

__all__ = ["CSV", "NDJSON", "RECORD_LIMIT_BYTES", "batches_of_lines", "blocks_of"]

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
    text = True

    def recognise(self, head: Head) -> Match:
        """See `Reader.recognise`: one JSON object or array a line, or a name that says so."""
        named = head.suffix in {".ndjson", ".jsonl", ".ldjson", ".jsonlines"}
        text = head.data.removeprefix(_MARK)
        if not named and not text.lstrip().startswith((b"{", b"[")):
            return Match.NO
        lines = [line for line in text.split(b"\n") if line.strip()]
        if not lines or is_wide(encoding_of(head.data)):
            return Match.NO
        cut_off = len(head.data) >= HEAD_BYTES and not head.data.endswith(b"\n")
        whole = lines[:-1] if cut_off else lines
        if named:
            return Match.CERTAIN if any(map(_parses, whole)) else Match.LIKELY
        opening = lines[0].lstrip()[:1]
        if len(lines) == 1 or not _parses(lines[0]):
            return Match.NO
        return Match.CERTAIN if lines[1].lstrip()[:1] == opening else Match.NO

    def read(self, file: BinaryIO, name: str) -> Iterator[Item]:  # noqa: ARG002
        """See `Reader.read`: batches, and bad records for lines that are far too long."""
        blocks = blocks_of(file)
        first = next(blocks, b"").removeprefix(_MARK)
        yield from batches_of_lines(chain([first], blocks), 1, RECORD_LIMIT_BYTES)

    def start(self, file: BinaryIO) -> int:
        """See `SplittingReader.start`."""
        file.seek(0)
        return len(_MARK) if file.read(len(_MARK)) == _MARK else 0

    def cut(self, block: bytes | bytearray) -> Cut:
        """See `SplittingReader.cut`: numbers are those of lines, blank ones too."""
        return Cut(block.rfind(b"\n") + 1, _newlines(block))

    def read_range(self, file: BinaryIO, offset: int, length: int, first: int) -> Iterator[Item]:
        """See `SplittingReader.read_range`."""
        file.seek(offset)
        yield from batches_of_lines(blocks_of(file, length), first, RECORD_LIMIT_BYTES)


class CSV(SplittingReader):
    """Reads tables of text; the first row names the columns, unless the options say otherwise.

    Args:
        options: How they are written; what they do not say is found out, source by source.
    """

    name = "csv"
    text = True
    untyped = True
    takes = frozenset({"delimiter", "quote", "escape", "header", "encoding", "null"})

    def __init__(self, options: ReaderOptions | None = None) -> None:
        self._options = options or ReaderOptions()

    def with_options(self, options: ReaderOptions) -> CSV:
        """See `Reader.with_options`."""
        return CSV(options)

    def recognise(self, head: Head) -> Match:
        """See `Reader.recognise`: by name, by rows of three and more columns each, or by both."""
        if head.data.startswith(_BINARY):
            return Match.NO
        if head.suffix in {".csv", ".tsv", ".tab", ".psv"}:
            return Match.CERTAIN if is_table(head.data) else Match.LIKELY
        if self._options.delimiter and looks_like_text(head.data):
            return Match.LIKELY
        if head.suffix not in {"", ".dat", ".data", ".out", ".asc", ".log"}:
            return Match.NO
        return Match.LIKELY if head.data and is_table(head.data) else Match.NO

    def splitter(self, head: Head) -> SplittingReader | None:
        """See `SplittingReader.splitter`: None for UTF-16, UTF-32 and the lines of old Macs."""
        encoding = self._options.encoding or encoding_of(head.data)
        if is_wide(encoding) or newline_of(head.data) != b"\n":
            return None
        return CSV(self._known(head.data, encoding))

    def read(self, file: BinaryIO, name: str) -> Iterator[Item]:  # noqa: ARG002
        """See `Reader.read`: a mapping of column name to text for each row."""
        blocks: Iterator[bytes] = blocks_of(file)
        head = next(blocks, b"")
        encoding = self._options.encoding or encoding_of(head[:HEAD_BYTES])
        blocks, options = chain([head], blocks), self._options
        if is_wide(encoding):
            blocks, options = to_utf8(blocks, encoding), replace(options, encoding="utf-8")
        try:
            layout, head = layout_of(blocks, options)
            yield from _rows(chain([head[layout.start :]], blocks), layout, 1)
        except UnicodeDecodeError as exc:
            yield BadRecord("end of the source", f"The text is not valid {encoding}: {exc.reason}.")

    def start(self, file: BinaryIO) -> int:
        """See `SplittingReader.start`."""
        file.seek(0)
        return layout_of(blocks_of(file), self._options)[0].start

    def cut(self, block: bytes | bytearray) -> Cut:
        """See `SplittingReader.cut`: newlines between quotes end no record."""
        text = bytes(block)
        options = self._options
        if options.delimiter is None:
            options = self._known(text, options.encoding or encoding_of(text[:HEAD_BYTES]))
        records, end = _split_fast(text, options, b"\n")
        return Cut(end, len(records))

    def cut_rows(self, block: bytes | bytearray) -> Cut:
        """See `SplittingReader.cut_rows`."""
        options = self._options
        quote = '"' if options.quote is None else options.quote
        if (quote and quote.encode() in block) or options.escape:
            return self.cut(block)
        return Cut(block.rfind(b"\n") + 1, _newlines(block))

    def read_range(self, file: BinaryIO, offset: int, length: int, first: int) -> Iterator[Item]:
        """See `SplittingReader.read_range`."""
        file.seek(0)
        layout, _ = layout_of(blocks_of(file), self._options)
        file.seek(offset)
        yield from _rows(blocks_of(file, length), layout, first)

    def _known(self, text: bytes, encoding: str) -> ReaderOptions:
        """Return the options with the delimiter and the encoding that a text has."""
        sample = text[:HEAD_BYTES].decode(encoding, "replace")
        delimiter = self._options.delimiter or delimiter_of(sample, self._options)
        known = encoding.removesuffix("-sig")
        return replace(self._options, delimiter=delimiter, encoding=known)

    def rows(self, file: BinaryIO, offset: int, length: int, first: int) -> Rows | None:
        """See `SplittingReader.rows`: rows in UTF-8, of two columns and more.

        A blank line is no record here, but a row of one column to COPY.
        """
        file.seek(0)
        layout, _ = layout_of(blocks_of(file), self._options)
        options = layout.options
        as_copy_reads_it = (
            layout.encoding in _ASCII_OR_UTF_8
            and layout.newline == b"\n"
            and len(layout.names) > 1
            and options.quote in (None, '"')
            and options.escape is options.null is None
            and options.delimiter is not None
            and options.delimiter.isascii()
        )
        if not as_copy_reads_it:
            return None
        file.seek(offset)
        return Rows(
            layout.names,
            options.delimiter or "",
            blocks_of(file, length),
            lambda blocks: as_batches(_rows(blocks, layout, first), first=first, untyped=True),
            first=first,
            size_bytes=length,
        )


def blocks_of(file: BinaryIO, length: int | None = None) -> Iterator[bytes]:
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


def _newlines(block: bytes | bytearray) -> int:
    """Count newlines: by what is gone without them, since `count` looks at each byte by itself.

    `replace` has memchr find them, which takes a third of the time.
    """
    return len(block) - len(block.replace(b"\n", b""))


# ---- NDJSON


def _parses(line: bytes) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def batches_of_lines(
    blocks: Iterable[bytes], first: int, limit_bytes: int
) -> Iterator[Lines | BadRecord]:
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
            content = b"".join(pieces[: 1 + _SHOWN_BYTES // _BLOCK_BYTES])[:_SHOWN_BYTES]
            yield BadRecord(f"line {number}", reason, content, number)
            number, pieces, size, skipping = number + 1, [], 0, True
    if data := b"".join(pieces):
        yield Lines(number, data)


# ---- CSV


def _records(blocks: Iterable[bytes], layout: Layout) -> Iterator[list[bytes] | BadRecord]:
    """Yield the records of blocks; what an unclosed quote would swallow is read line by line."""
    pieces: list[bytes] = []
    size = wanted = 0
    skipping = False
    for block in blocks:
        if skipping:
            _, end_of_line, block = block.partition(layout.newline)  # noqa: PLW2901
            skipping = not end_of_line
        pieces.append(block)
        size += len(block)
        if size < wanted:
            continue
        data = b"".join(pieces)
        pieces.clear()
        records, end = _split_fast(data, layout.options, layout.newline)
        yield records
        rest = data[end:]
        if len(rest) > RECORD_LIMIT_BYTES:
            line, end_of_line, rest = rest.partition(layout.newline)
            yield BadRecord("", _UNCLOSED, line[:_SHOWN_BYTES])
            skipping = not end_of_line
        # Twice what is left: a long record is not scanned again for each block.
        wanted = min(2 * len(rest), RECORD_LIMIT_BYTES + 1)
        pieces, size = [rest], len(rest)
    rest = b"".join(pieces)
    while rest:
        records, end = _split_fast(rest + layout.newline, layout.options, layout.newline)
        yield records
        if rest := rest[end:]:
            line, _, rest = rest.partition(layout.newline)
            yield BadRecord("", _UNCLOSED, line)


def _split_fast(data: bytes, options: ReaderOptions, newline: bytes) -> tuple[list[bytes], int]:
    if _may_hide_newlines(data, options):
        return split(data, pattern_of(options, newline))
    end = data.rfind(newline) + 1
    records = data[:end].split(newline)[:-1]
    if any(blank in records for blank in BLANK):
        records = [record for record in records if record not in BLANK]
    return records, end


def _may_hide_newlines(data: bytes, options: ReaderOptions) -> bool:
    if options.quote is None and options.escape is None:
        return b'"' in data
    marks = {'"' if options.quote is None else options.quote, options.escape}
    return any(mark and mark.encode(options.encoding or "utf-8") in data for mark in marks)


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
        rows = list(csv.reader(texts, **csv_format(layout.options)))
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
    names, width, null = layout.names, len(layout.names), layout.options.null
    for cells in rows:
        row = cells if null is None else [None if cell == null else cell for cell in cells]
        attributes: dict[str, object] = dict(zip(names, row, strict=False))
        if len(row) > width:
            attributes[EXTRA_COLUMNS] = row[width:]
        yield attributes
