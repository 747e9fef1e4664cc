"""How a CSV source is written: encoding, delimiter, newline, column names; and where rows end."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from itertools import islice
from typing import Any

from howdah.loading.readers import HEAD_BYTES, ReaderOptions, UnreadableSource
from howdah.loading.readers.characters import encoding_of, looks_like_text

__all__ = [
    "BLANK",
    "EXTRA_COLUMNS",
    "Layout",
    "column_names",
    "csv_format",
    "delimiter_of",
    "is_table",
    "layout_of",
    "newline_of",
    "pattern_of",
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
_DEFAULT = ReaderOptions()
# A "^" between words, or Hive's control characters: asked for where no usual one fits.
_RARE = "\x01\x1f^~"


@dataclass(frozen=True, slots=True)
class Layout:
    """How a CSV source is written.

    Attributes:
        options: What is known of it: the encoding, one in which bytes below 128 are
            ASCII, but as second bytes; the delimiter; and the rest, as it was given.
        newline: What ends a line.
        names: The columns' names.
        start: Where the first record starts, in bytes: behind the mark and the header.
    """

    options: ReaderOptions
    newline: bytes
    names: list[str]
    start: int

    @property
    def encoding(self) -> str:
        """The text's encoding."""
        return self.options.encoding or "utf-8"


def layout_of(blocks: Iterator[bytes], options: ReaderOptions = _DEFAULT) -> tuple[Layout, bytes]:
    """Return the layout of a source, as far as the options do not say it, and the bytes it took."""
    head = b""
    while len(head) < _HEADER_LIMIT_BYTES:
        block = next(blocks, b"")
        head += block
        if not head:
            raise UnreadableSource("The file is empty.")
        if (layout := _layout_in(head, options, final=not block)) is not None:
            return layout, head
        if not block:
            break
    raise UnreadableSource("The row of column names does not end: a quote is not closed.")


# A worker asks for each chunk of a file anew, and to find out takes 2 ms.
@lru_cache(maxsize=2)
def _layout_in(head: bytes, options: ReaderOptions, *, final: bool) -> Layout | None:
    """Return the layout by a source's head; None if the header reaches further."""
    mark = len(_MARK) if head.startswith(_MARK) else 0
    sample = head[mark:HEAD_BYTES]
    known_encoding = options.encoding or ("utf-8" if mark else None)
    encoding, newline = known_encoding or encoding_of(sample), newline_of(sample)
    delimiter = options.delimiter or delimiter_of(sample.decode(encoding, "replace"), options)
    known = replace(options, encoding=encoding, delimiter=delimiter)
    text = head[mark:] + newline if final else head[mark:]
    records, end = split(text, pattern_of(known, newline), 1)
    if not records and isinstance(options.header, bool | None):
        return None
    header = records[0].decode(encoding, "replace") if records else ""
    try:
        row: Sequence[str] = next(csv.reader([header], **csv_format(known)), [])
    except csv.Error as exc:
        raise UnreadableSource(f"The row of column names is not well-formed CSV: {exc}.") from exc
    if isinstance(options.header, tuple):
        row, end = options.header, 0
    elif options.header is False:
        row, end = [""] * len(row), 0  # each gets the name of its place
    return Layout(known, newline, column_names(row), mark + end)


def csv_format(options: ReaderOptions, *, strict: bool = True) -> dict[str, Any]:
    """Return what csv.reader must be told for options that have a delimiter."""
    quote = '"' if options.quote is None else options.quote
    escape = None if options.escape == quote else options.escape
    return {
        "delimiter": options.delimiter,
        "escapechar": escape,
        "strict": strict,
        **({"quotechar": quote} if quote else {"quoting": csv.QUOTE_NONE}),
    }


def newline_of(sample: bytes) -> bytes:
    """Return what ends a line: a line feed, or the carriage return of old Macs."""
    return b"\r" if b"\r" in sample and b"\n" not in sample else b"\n"


@lru_cache(maxsize=4)  # asked for by whoever looks at a file
def delimiter_of(sample: str, options: ReaderOptions = _DEFAULT) -> str:
    """Return the delimiter by which a sample's rows are most alike, and as wide as the first."""

    def fit(delimiter: str) -> tuple[float, int]:
        return _fit(_widths(sample, replace(options, delimiter=delimiter)))

    best = max(",;\t|", key=fit)
    return best if fit(best)[0] else max(best + _RARE, key=fit)


def _widths(sample: str, options: ReaderOptions) -> list[int]:
    """Return how many cells each row of a sample has, but a last one that may be cut off."""
    rows = csv.reader(io.StringIO(sample, newline=""), **csv_format(options, strict=False))
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
    widths = _widths(sample, ReaderOptions(delimiter=delimiter_of(sample)))
    return len(widths) > _FEWEST and len(set(widths)) == 1 and widths[0] >= _FEWEST


def pattern_of(options: ReaderOptions, newline: bytes) -> re.Pattern[bytes]:
    """Return `row_pattern` for options that have a delimiter, and the encoding it is in."""
    encoding = options.encoding or "utf-8"
    quote, escape = options.quote, options.escape
    return row_pattern(
        (options.delimiter or ",").encode(encoding),
        newline,
        b'"' if quote is None else quote.encode(encoding),
        b"" if escape is None or escape == quote else escape.encode(encoding),
    )


@cache
def row_pattern(
    delimiter: bytes, newline: bytes, quote: bytes = b'"', escape: bytes = b""
) -> re.Pattern[bytes]:
    """Return a pattern of one record as csv.reader sees it: a quote counts at a cell's start."""
    one, mark = re.escape(delimiter), re.escape(quote)
    cell = plain = _run(delimiter, newline, escape=escape)
    if quote:
        inner = _run(quote, escape=escape)
        # No quote behind the last one: what is matched in part is never matched otherwise.
        quoted = rb"%b%b(?:%b%b%b)*%b(?!%b)" % (mark, inner, mark, mark, inner, mark, mark)
        cell = rb"(?:%b%b|(?!%b)%b)" % (quoted, plain, mark, plain)
    return re.compile(rb"(%b(?:%b%b)*)%b" % (cell, one, cell, newline), re.DOTALL)


def _run(*marks: bytes, escape: bytes) -> bytes:
    """Return a pattern of bytes, perhaps none, among which none of the marks begins unescaped."""
    escapes = [escape] if escape else []
    firsts = b"".join(re.escape(mark[:1]) for mark in [*marks, *escapes])
    inside = []  # what begins as a mark does, and is none
    if any(len(mark) > 1 for mark in [*marks, *escapes]):
        inside.append(rb"(?!%b)[%b]" % (b"|".join(map(re.escape, [*marks, *escapes])), firsts))
    inside += [re.escape(escape) + b"." for escape in escapes]
    run = rb"[^%b]*+" % firsts
    return rb"%b(?:(?:%b)%b)*" % (run, b"|".join(inside), run) if inside else run


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
