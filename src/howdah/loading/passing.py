r"""CSV that is passed on to COPY as it is: only what COPY reads exactly as csv.reader does.

The two differ in odd rows: a quote inside a cell (5" is 5 to COPY), characters
behind a closing quote, bare carriage returns, a line `\.`. And a column that is
to lose nothing must not be given what its type takes but changes: 007 as a
bigint, a time as a date. So each block is matched against a pattern of rows; a
row that does not match is read in the slow way.

Source: https://www.postgresql.org/docs/current/sql-copy.html ("CSV Format").
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator
from functools import lru_cache

from howdah.loading.inference import DECIMAL, Kind
from howdah.loading.rows import Unfit

__all__ = ["checked"]

_LONGEST_ROW_BYTES = 1 << 20
"""Rows that are longer are read in the slow way, in bytes."""

_DATE = r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
_TIME = r"[0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,6})?)?"

_MINUS_ZERO = r"-0(?:\.0+)?(?![0-9.eE])"
"""Which only double precision has, and writes as -0."""

# The server refuses 2024-02-30 itself: what matters here is what it would take.
_VALUES = {
    Kind.BOOLEAN: "true|false",
    Kind.INTEGER: "-?[1-9][0-9]*|0",
    Kind.DOUBLE: f"(?!{_MINUS_ZERO}){DECIMAL}",
    Kind.NUMERIC: f"(?!{_MINUS_ZERO}){DECIMAL}",
    Kind.DATE: _DATE,
    Kind.TIMESTAMP: f"{_DATE}(?:[T ]{_TIME})?",
    Kind.TIMESTAMPTZ: f"{_DATE}[T ]{_TIME}(?:Z|[+-][0-9]{{2}}(?::?[0-9]{{2}})?)",
    Kind.UUID: "-".join(f"[0-9a-f]{{{count}}}" for count in (8, 4, 4, 4, 12)),
}

_EXACT_DIGITS = 15
"""Digits of an integer that double precision holds: C's DBL_DIG."""

_ODD = (b'"', b"\r", b"\\")
"""Without these, a row is what stands between two newlines, to COPY as to csv.reader."""


def checked(
    blocks: Iterable[bytes], kinds: tuple[Kind | None, ...], delimiter: str
) -> Iterator[bytes]:
    """Yield blocks of CSV, each when its rows are known to be read alike.

    Args:
        blocks: CSV in UTF-8, from the start of a row to the end of one.
        kinds: For each column the kind of value that it is to hold unchanged; None: whatever.
        delimiter: One ASCII character.

    Raises:
        Unfit: A row may be read otherwise by COPY, or lose something.
    """
    rows = _pattern(kinds, delimiter)
    doubles = [place for place, kind in enumerate(kinds) if kind is Kind.DOUBLE]
    any_text = not any(kinds)
    rest = b""
    for block in blocks:
        data = rest + block
        if any_text and not any(odd in data for odd in _ODD):
            end = data.rfind(b"\n") + 1  # COPY itself refuses too many or too few cells
        else:
            end = _end(rows, data)
            _check_doubles(data[:end], doubles, delimiter)
        rest = data[end:]
        if len(rest) > _LONGEST_ROW_BYTES:
            raise Unfit("A row is very long or odd.")
        yield block
    if rest:
        rest += b"\n"
        if _end(rows, rest) != len(rest):
            raise Unfit("A row is odd.")
        _check_doubles(rest, doubles, delimiter)


def _end(rows: re.Pattern[bytes], data: bytes) -> int:
    r"""Return where the last row that matches ends.

    Before PostgreSQL 18 a line `\.` ends the data, also between quotes.
    """
    if b"\\." in data and (b"\n\\." in data or data.startswith(b"\\.")):
        raise Unfit("A line starts with a backslash and a full stop.")
    match = rows.match(data)
    assert match is not None  # noqa: S101 - the pattern matches nothing as well
    return match.end()


def _check_doubles(data: bytes, places: list[int], delimiter: str) -> None:
    """Refuse decimals that double precision would change.

    Args:
        data: Rows that match the pattern.
        places: Which of their cells are doubles, in ascending order.
        delimiter: What stands between the cells.
    """
    if not places:
        return
    text = data.decode()
    if '"' in text:
        rows: Iterable[list[str]] = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    else:
        lines = text.replace("\r\n", "\n").split("\n")
        rows = (line.split(delimiter, places[-1] + 1) for line in lines if line)
    try:
        cells = [cell for row in rows for place in places if (cell := row[place])]
    except csv.Error as exc:  # a cell longer than it takes
        raise Unfit("A row is very long or odd.") from exc
    for cell, shown in zip(cells, map(repr, map(float, cells)), strict=True):
        if cell == shown and cell[-2:] != ".0":
            continue
        digits = cell.removeprefix("-")
        if not (digits.isdecimal() and len(digits) <= _EXACT_DIGITS):
            raise Unfit("Double precision would change a number.")


@lru_cache(maxsize=16)
def _pattern(kinds: tuple[Kind | None, ...], delimiter: str) -> re.Pattern[bytes]:
    """Return a pattern of many rows."""
    one = re.escape(delimiter)
    row = one.join(_cell(kind, one) for kind in kinds) + r"\r?\n"
    return re.compile(f"(?:{row})*".encode())


def _cell(kind: Kind | None, delimiter: str) -> str:
    value = _VALUES.get(kind) if kind is not None else None
    if value is None:
        return rf'(?:"[^"]*+(?:""[^"]*+)*"(?!")|[^"\r\n{delimiter}]*+)'
    return f'(?:(?:{value})|"(?:{value})?")?'
