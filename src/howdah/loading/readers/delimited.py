"""Rows of delimited text, as csv.reader sees them: records, their cells, their attributes."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from howdah.loading.readers import BadRecord, Batch, Item, ReaderOptions, Rows
from howdah.loading.readers.batches import RECORD_LIMIT_BYTES, SHOWN_BYTES
from howdah.loading.readers.encode import as_batches
from howdah.loading.readers.layout import (
    BLANK,
    EXTRA_COLUMNS,
    Layout,
    csv_format,
    pattern_of,
    split,
)

__all__ = ["attributes_of", "rows_of", "split_fast"]

_UNCLOSED = "A quote is opened and never closed."


def rows_of(layout: Layout, blocks: Iterator[bytes], first: int, size_bytes: int) -> Rows:
    """Return rows that COPY can take as they are; the arguments are those of `Rows`."""
    return Rows(
        layout.names,
        layout.options.delimiter or "",
        blocks,
        _AsRead(layout, first),
        first=first,
        size_bytes=size_bytes,
    )


@dataclass(frozen=True, slots=True)
class _AsRead:
    """See `RowReader`.

    Attributes:
        layout: How the rows are written.
        first: The number of the first one.
    """

    layout: Layout
    first: int

    def pieces(self, blocks: Iterator[bytes]) -> Iterator[Batch | BadRecord]:
        """See `Rows.pieces`."""
        items = attributes_of(blocks, self.layout, self.first)
        return as_batches(items, first=self.first, untyped=True)

    def cells(self, blocks: Iterator[bytes]) -> Iterator[list[list[str]]]:
        """See `Rows.cells`."""
        found = _cells(blocks, self.layout, self.first)
        return (rows for rows in found if not isinstance(rows, BadRecord))

    def parts(self, blocks: Iterator[bytes]) -> Iterator[Rows | BadRecord]:
        """See `Rows.parts`."""
        newline = self.layout.newline
        for number, found in _numbered(blocks, self.layout, self.first):
            if isinstance(found, BadRecord):
                yield found
            elif found:
                text = newline.join((*found, b""))
                yield rows_of(self.layout, iter([text]), number, len(text))


def attributes_of(blocks: Iterable[bytes], layout: Layout, first: int) -> Iterator[Item]:
    """Yield the attributes of each row in blocks, and what is bad.

    Args:
        blocks: From the start of a row to the end of one.
        layout: How they are written.
        first: The number of the first row.
    """
    for found in _cells(blocks, layout, first):
        if isinstance(found, BadRecord):
            yield found
        else:
            yield from _attributes(found, layout)


def _cells(
    blocks: Iterable[bytes], layout: Layout, first: int
) -> Iterator[list[list[str]] | BadRecord]:
    """Yield the cells of rows, many rows at a time; one by one where one of them is bad."""
    for number, found in _numbered(blocks, layout, first):
        if isinstance(found, BadRecord):
            yield found
            continue
        try:
            yield _cells_of(found, layout)
        except ValueError:
            for place, record in enumerate(found, number):
                yield _cells_of_one(record, layout, place)


def _cells_of(records: Sequence[bytes], layout: Layout) -> list[list[str]]:
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


def _cells_of_one(record: bytes, layout: Layout, number: int) -> list[list[str]] | BadRecord:
    try:
        return _cells_of([record], layout)
    except UnicodeDecodeError as exc:
        reason = f"The row is not valid {layout.encoding}: byte {exc.object[exc.start]:#x}."
        return BadRecord(f"record {number}", reason, record, number)
    except ValueError as exc:
        return BadRecord(f"record {number}", str(exc), record, number)


def _attributes(rows: Iterable[Sequence[str]], layout: Layout) -> Iterator[Item]:
    names, width, null = layout.names, len(layout.names), layout.options.null
    for cells in rows:
        row = cells if null is None else [None if cell == null else cell for cell in cells]
        attributes: dict[str, object] = dict(zip(names, row, strict=False))
        if len(row) > width:
            attributes[EXTRA_COLUMNS] = row[width:]
        yield attributes


def _numbered(
    blocks: Iterable[bytes], layout: Layout, first: int
) -> Iterator[tuple[int, list[bytes] | BadRecord]]:
    """Yield what `_records` does, with the number of the record, or of the first one."""
    number = first
    for found in _records(blocks, layout):
        if isinstance(found, BadRecord):
            yield number, replace(found, place=f"record {number}", number=number)
            number += 1
        else:
            yield number, found
            number += len(found)


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
        records, end = split_fast(data, layout.options, layout.newline)
        yield records
        rest = data[end:]
        if len(rest) > RECORD_LIMIT_BYTES:
            line, end_of_line, rest = rest.partition(layout.newline)
            yield BadRecord("", _UNCLOSED, line[:SHOWN_BYTES])
            skipping = not end_of_line
        # Twice what is left: a long record is not scanned again for each block.
        wanted = min(2 * len(rest), RECORD_LIMIT_BYTES + 1)
        pieces, size = [rest], len(rest)
    rest = b"".join(pieces)
    while rest:
        records, end = split_fast(rest + layout.newline, layout.options, layout.newline)
        yield records
        if rest := rest[end:]:
            line, _, rest = rest.partition(layout.newline)
            yield BadRecord("", _UNCLOSED, line)


def split_fast(data: bytes, options: ReaderOptions, newline: bytes) -> tuple[list[bytes], int]:
    """Return what `layout.split` does, in a faster way where no newline may be hidden."""
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
