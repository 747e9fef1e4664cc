"""Cells of CSV, a column of a block at a time: does the column's type give back what they say?

A table that is to lose nothing must not be given what a type takes but changes:
007 as a bigint, a time as a date. C code looks at all cells of a column at
once; only a column whose cells are not all alike goes through a pattern. Where
a column must be widened, it is so that what it must hold is found.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import cache
from itertools import groupby

import orjson

from howdah.loading.inference import DECIMAL, LONGEST_NUMERIC, Kind, join, kind_of_text
from howdah.loading.readers.layout import EXTRA_COLUMNS

__all__ = ["VALUES", "columns_in", "columns_kept", "doubles_kept", "kinds_in"]

_DATE = r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
_TIME = r"[0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,6})?)?"

_MINUS_ZERO = r"-0(?:\.0+)?(?![0-9.eE])"
"""Which only double precision has, and writes as -0."""

# The server refuses 2024-02-30 itself: what matters here is what it would take.
VALUES = {
    Kind.BOOLEAN: "true|false",
    Kind.INTEGER: "-?[1-9][0-9]*|0",
    Kind.DOUBLE: f"(?!{_MINUS_ZERO}){DECIMAL}",
    Kind.NUMERIC: f"(?!{_MINUS_ZERO}){DECIMAL}",
    Kind.DATE: _DATE,
    Kind.TIMESTAMP: f"{_DATE}(?:[T ]{_TIME})?",
    Kind.TIMESTAMPTZ: f"{_DATE}[T ]{_TIME}(?:Z|[+-][0-9]{{2}}(?::?[0-9]{{2}})?)",
    Kind.UUID: "-".join(f"[0-9a-f]{{{count}}}" for count in (8, 4, 4, 4, 12)),
}
"""Patterns of what a kind's column gives back as it was; not yet all of it, for doubles."""

_EXACT_DIGITS = 15
"""Digits of an integer that double precision holds: C's DBL_DIG."""

_DIGITS_OF_ANY_BIGINT = 18
"""Digits of an integer that bigint holds, whatever they are."""

_DIGITS = b"0123456789"
_ALIKE = bytes.maketrans(_DIGITS, b"0" * 10)
_HEX_ALIKE = bytes.maketrans(b"0123456789abcdef", b"0" * 16)
_MINUS_ZEROS = re.compile(_MINUS_ZERO.encode())


def columns_in(data: bytes, width: int, delimiter: bytes) -> list[list[bytes]] | None:
    """Return the cells of rows, column by column; None where the rows have not as many.

    Rows of too many or too few cells are the server's to refuse: it takes none of
    them, so what is said of cells that are counted wrong is of no matter.

    Args:
        data: Whole rows in which nothing is quoted or escaped, with a newline behind each.
        width: How many columns there are.
        delimiter: One byte, which stands between cells.
    """
    cells = data.replace(b"\n", delimiter).split(delimiter)
    cells.pop()
    if len(cells) % width:
        return None
    return [cells[place::width] for place in range(width)]


def columns_kept(
    columns: Sequence[list[bytes]], kinds: Sequence[Kind | None], *, full: bool, commas: bool
) -> bool:
    """Say whether columns of a table give back every cell as it was.

    Args:
        columns: The cells of each.
        kinds: What each holds; None: whatever.
        full: Whether no cell is empty.
        commas: Whether there may be commas in cells.
    """
    return all(
        _column_kept(kind, cells if full else list(filter(None, cells)), commas=commas)
        for kind, cells in zip(kinds, columns, strict=True)
        if kind in VALUES
    )


def doubles_kept(cells: Iterable[str]) -> bool:
    """Say whether double precision gives decimals back as they were."""
    cells = [cell for cell in cells if cell]
    for cell, shown in zip(cells, map(repr, map(float, cells)), strict=True):
        if cell == shown and cell[-2:] != ".0":
            continue
        digits = cell.removeprefix("-")
        if not (digits.isdecimal() and len(digits) <= _EXACT_DIGITS):
            return False
    return True


def kinds_in(
    rows: Iterable[Sequence[str]], names: Sequence[str], known: Mapping[str, Kind]
) -> dict[str, Kind]:
    """Return what `inference.kinds_of` does of the records that rows are.

    Args:
        rows: Their cells; a row may have fewer cells than there are names, or more.
        names: What the columns are called.
        known: The kinds of earlier rows, which are joined.
    """
    kinds = dict(known)
    for width, alike in groupby(sorted(rows, key=len), key=len):
        for name, cells in zip(names, zip(*alike, strict=True), strict=False):
            kinds[name] = _joined(kinds.get(name, Kind.NOTHING), cells)
        if width > len(names):
            kinds[EXTRA_COLUMNS] = Kind.JSON
    return kinds


def _joined(kind: Kind, cells: Sequence[str]) -> Kind:
    """Return the narrowest kind that holds what a kind does, and cells."""
    if _is_held(kind, list(filter(None, cells))):
        return kind
    for found in map(kind_of_text, set(cells)):
        if found is not kind:
            kind = join(kind, found)
    return kind


def _is_held(kind: Kind, cells: Sequence[str]) -> bool:
    """Say whether C code finds that a kind holds all of some cells, none of them empty."""
    if kind in (Kind.TEXT, Kind.JSON) or not cells:
        return True
    joined = "\n".join(cells)
    if joined.count("\n") >= len(cells):
        return False  # a line break in a cell
    known = Kind.INTEGER if kind is Kind.SHORT_INTEGER else kind
    return (
        known in VALUES
        and _column_kept(known, joined.encode().split(b"\n"), commas=True)
        and _in_range(kind, cells)
    )


def _in_range(kind: Kind, cells: Sequence[str]) -> bool:
    """Say it of cells that are written as they should be."""
    match kind:
        case Kind.SHORT_INTEGER:
            return max(map(len, cells)) <= _EXACT_DIGITS
        case Kind.INTEGER:
            long = (cell for cell in cells if len(cell) > _DIGITS_OF_ANY_BIGINT)
            return all(kind_of_text(cell) is kind for cell in long)
        case Kind.NUMERIC:
            return max(map(len, cells)) <= LONGEST_NUMERIC
        case Kind.DATE | Kind.TIMESTAMP:
            return _are_moments(cells)
        case Kind.TIMESTAMPTZ:
            zones = {cell[-6:]: cell for cell in cells if cell[-1] != "Z"}  # one of each zone
            return _are_moments(cells) and all(kind_of_text(c) is kind for c in zones.values())
        case _:
            return True


def _are_moments(cells: Iterable[str]) -> bool:
    try:
        deque(map(datetime.fromisoformat, cells), maxlen=0)
    except ValueError:  # no such day
        return False
    return True


def _column_kept(kind: Kind, cells: list[bytes], *, commas: bool) -> bool:
    if not cells:
        return True
    if kind is Kind.BOOLEAN:
        return {b"true", b"false"}.issuperset(cells)
    joined = b",".join(cells)
    if commas and joined.count(b",") >= len(cells):
        return False  # a comma in a cell, which no value of these kinds has
    if kind is Kind.DOUBLE:
        return _doubles_kept(joined, cells)
    if kind in (Kind.INTEGER, Kind.NUMERIC):
        kept = _are_numbers(kind, joined)
    else:
        kept = _are_alike(kind, joined, cells)
    return kept or _column(kind).fullmatch(joined) is not None


def _doubles_kept(joined: bytes, cells: list[bytes]) -> bool:
    """Say it of doubles, of which a few have an exponent, mostly: the others go the fast way."""
    if b"e" in joined:
        slow = b",".join(cell for cell in cells if b"e" in cell)
        fast = b",".join(cell for cell in cells if b"e" not in cell)
    else:
        slow, fast = b"", joined
    if fast and not _are_numbers(Kind.DOUBLE, fast):
        slow = joined
    return not slow or (
        _column(Kind.DOUBLE).fullmatch(slow) is not None and doubles_kept(slow.decode().split(","))
    )


def _are_alike(kind: Kind, joined: bytes, cells: list[bytes]) -> bool:
    """Say whether all cells are like the first, which is as it should be: but for their digits."""
    table = _HEX_ALIKE if kind is Kind.UUID else _ALIKE
    shape = cells[0].translate(table) + b","
    alike = joined.translate(table) + b"," == shape * len(cells)
    return alike and _column(kind).fullmatch(cells[0]) is not None


def _are_numbers(kind: Kind, joined: bytes) -> bool:
    """Say whether all cells are JSON's numbers, of digits alone, and of those that are kept."""
    known = b"-," + _DIGITS if kind is Kind.INTEGER else b"-.," + _DIGITS
    if joined.translate(None, known):
        return False
    if b"-" in joined:  # looked for by itself: that is ten times as fast
        if b"-0" in joined and _MINUS_ZEROS.search(joined):
            return False
    elif kind is Kind.INTEGER and b",0" not in b",%b" % joined:
        return True  # nothing but digits, and none that begins with a zero
    try:
        numbers = orjson.loads(b"[%b]" % joined)
    except orjson.JSONDecodeError:
        return False
    return kind is not Kind.DOUBLE or _are_doubles(numbers, joined)


def _are_doubles(numbers: list[float], joined: bytes) -> bool:
    """Say whether numbers are written as orjson writes them, where PostgreSQL does so too."""
    written = b"%b," % joined
    if b".0," in written or b"0.0000" in written or orjson.dumps(numbers)[1:-1] != joined:
        return False
    return all(abs(n) < 10**_EXACT_DIGITS for n in numbers if type(n) is int)


@cache
def _column(kind: Kind) -> re.Pattern[bytes]:
    """Return a pattern of cells with commas between them."""
    one = f"(?:{VALUES[kind]})"
    return re.compile(f"{one}(?:,{one})*".encode())
