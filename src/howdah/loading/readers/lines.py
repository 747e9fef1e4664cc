"""Text of one record a line, or nearly so: NDJSON, and CSV with its kin.

Both are split by byte range, so that many workers share one file. NDJSON is
passed through as it is: the server checks each line, and no line becomes a
Python object but its bytes. CSV is cut where csv.reader would end a row; the
values stay the text that they are.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
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
from howdah.loading.readers.batches import RECORD_LIMIT_BYTES, SHOWN_BYTES
from howdah.loading.readers.characters import (
    encoding_of,
    is_wide,
    looks_like_text,
    to_utf8,
)
from howdah.loading.readers.delimited import attributes_of, rows_of, split_fast
from howdah.loading.readers.layout import delimiter_of, is_table, layout_of, newline_of

__all__ = ["CSV", "NDJSON", "RECORD_LIMIT_BYTES", "batches_of_lines", "blocks_of"]

# Larger ones leave the cache of the server's core (bench/load.py with other values here).
_BLOCK_BYTES = 64 << 10
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
            yield from attributes_of(chain([head[layout.start :]], blocks), layout, 1)
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
        records, end = split_fast(text, options, b"\n")
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
        yield from attributes_of(blocks_of(file, length), layout, first)

    def _known(self, text: bytes, encoding: str) -> ReaderOptions:
        """Return the options with the delimiter and the encoding that a text has."""
        sample = text[:HEAD_BYTES].decode(encoding, "replace")
        delimiter = self._options.delimiter or delimiter_of(sample, self._options)
        known = encoding.removesuffix("-sig")
        return replace(self._options, delimiter=delimiter, encoding=known)

    def rows(self, file: BinaryIO, offset: int, length: int, first: int) -> Rows | None:
        """See `SplittingReader.rows`: rows in UTF-8."""
        file.seek(0)
        layout, _ = layout_of(blocks_of(file), self._options)
        options = layout.options
        as_copy_reads_it = (
            layout.encoding in _ASCII_OR_UTF_8
            and layout.newline == b"\n"
            and options.quote in (None, '"')
            and options.escape is options.null is None
            and options.delimiter is not None
            and options.delimiter.isascii()
        )
        if not as_copy_reads_it:
            return None
        file.seek(offset)
        return rows_of(layout, blocks_of(file, length), first, length)


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
            content = b"".join(pieces[: 1 + SHOWN_BYTES // _BLOCK_BYTES])[:SHOWN_BYTES]
            yield BadRecord(f"line {number}", reason, content, number)
            number, pieces, size, skipping = number + 1, [], 0, True
    if data := b"".join(pieces):
        yield Lines(number, data)
