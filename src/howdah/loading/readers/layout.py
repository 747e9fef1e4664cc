"""How a CSV source is written: encoding, delimiter, newline, column names; and where rows end."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice

from howdah.loading.readers import HEAD_BYTES, UnreadableSource
from howdah.loading.readers.characters import encoding_of, looks_like_text

__all__ = [
    "BLANK",
    "EXTRA_COLUMNS",
    "Layout",
    "column_names",
    "delimiter_of",
    "is_table",
    "layout_of",
    "newline_of",
    "row_pattern",
    "split",
]

EXTRA_COLUMNS = "extra_columns"
"""The attribute that holds, as an array, the cells of a row behind the last named column."""

BLANK = (b"", b"\r")
"""Lines that are no records."""

_HEADER_LIMIT_BYTES = 16 << 20
_SAMPLE_ROWS = 200
_FEWEST = 3  # columns, and rows besides the first, that make a table without a name
_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Layout:
    """How a CSV source is written.

    Attributes:
        encoding: One in which bytes below 128 are ASCII, but as second bytes.
        start: Where the first record starts, in bytes: behind the mark and the header.
    """

    encoding: str
    delimiter: str
    newline: bytes
    names: list[str]
    start: int


def layout_of(blocks: Iterator[bytes]) -> tuple[Layout, bytes]:
    """Return the layout of a source and the bytes that it took to tell."""
    head = b""
    while len(head) < _HEADER_LIMIT_BYTES:
        block = next(blocks, b"")
        head += block
        if not head:
            raise UnreadableSource("The file is empty.")
        if (layout := _layout_in(head, final=not block)) is not None:
            return layout, head
        if not block:
            break
    raise UnreadableSource("The row of column names does not end: a quote is not closed.")


def _layout_in(head: bytes, *, final: bool) -> Layout | None:
    """Return the layout by a source's head; None if the header reaches further."""
    mark = len(_MARK) if head.startswith(_MARK) else 0
    sample = head[mark:HEAD_BYTES]
    encoding, newline = encoding_of(sample), newline_of(sample)
    delimiter = delimiter_of(sample.decode(encoding, "replace"))
    text = head[mark:] + newline if final else head[mark:]
    records, end = split(text, row_pattern(delimiter, newline), 1)
    if not records:
        return None
    header = records[0].decode(encoding, "replace")
    try:
        row = next(csv.reader([header], delimiter=delimiter))
    except csv.Error as exc:
        raise UnreadableSource(f"The row of column names is not well-formed CSV: {exc}.") from exc
    return Layout(encoding, delimiter, newline, column_names(row), mark + end)


def newline_of(sample: bytes) -> bytes:
    """Return what ends a line: a line feed, or the carriage return of old Macs."""
    return b"\r" if b"\r" in sample and b"\n" not in sample else b"\n"


def delimiter_of(sample: str) -> str:
    """Return the delimiter by which a sample's rows are most alike, and as wide as the first."""
    return max(",;\t|", key=lambda delimiter: _fit(_widths(sample, delimiter)))


def _widths(sample: str, delimiter: str) -> list[int]:
    """Return how many cells each row of a sample has, but a last one that may be cut off."""
    rows = csv.reader(io.StringIO(sample, newline=""), delimiter=delimiter)
    widths = []
    try:
        widths = [len(row) for row in islice(rows, _SAMPLE_ROWS) if row]
    except csv.Error:  # a field longer than the limit: no way to cut this text
        return []
    cut_off = len(widths) < _SAMPLE_ROWS and not sample.endswith(("\n", "\r"))
    return widths[:-1] if cut_off and len(widths) > 1 else widths


def _fit(widths: Sequence[int]) -> tuple[float, int]:
    if not widths or widths[0] == 1:
        return 0.0, 0
    width, rows = Counter(widths).most_common(1)[0]
    share = rows / len(widths)
    return (share if widths[0] == width else share / 2), width


def is_table(head: bytes) -> bool:
    """Say whether text without a telling name has rows of the same three or more cells."""
    if not looks_like_text(head):
        return False
    sample = head[:HEAD_BYTES].decode(encoding_of(head), "replace")
    widths = _widths(sample, delimiter_of(sample))
    return len(widths) > _FEWEST and len(set(widths)) == 1 and widths[0] >= _FEWEST


@cache
def row_pattern(delimiter: str, newline: bytes) -> re.Pattern[bytes]:
    """Return a pattern of one record as csv.reader sees it: a quote counts at a cell's start."""
    one = re.escape(delimiter.encode())
    plain = rb"[^%b%b]*+" % (one, newline)
    cell = rb'(?:"[^"]*+(?:""[^"]*+)*+"%b|(?!")%b)' % (plain, plain)
    return re.compile(rb"(%b(?:%b%b)*+)%b" % (cell, one, cell, newline))


def split(data: bytes, row: re.Pattern[bytes], most: int = 0) -> tuple[list[bytes], int]:
    """Return the complete records at the start of data that are not blank, and where they end."""
    records: list[bytes] = []
    end = 0
    while (match := row.match(data, end)) is not None:
        end = match.end()
        if (record := match[1]) not in BLANK:
            records.append(record)
            if len(records) == most:
                break
    return records, end


def column_names(cells: Iterable[object], reserved: Iterable[str] = (EXTRA_COLUMNS,)) -> list[str]:
    """Return unique names for columns: "column_3" for an empty one, "name_2" for a repeated one."""
    names: list[str] = []
    taken = set(reserved)
    for place, cell in enumerate(cells, 1):
        name = unique = str(cell).strip() or f"column_{place}"
        count = 1
        while unique in taken:
            count += 1
            unique = f"{name}_{count}"
        taken.add(unique)
        names.append(unique)
    return names
