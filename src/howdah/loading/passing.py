r"""CSV that is passed on to COPY as it is: only what COPY reads exactly as csv.reader does.

The two differ in odd rows: a quote inside a cell (5" is 5 to COPY), characters
behind a closing quote, bare carriage returns, a line `\.`. So a block with a
quote, a carriage return or a backslash is matched against a pattern of rows. And
a column that is to lose nothing must not be given what its type takes but
changes: its cells are looked at, too. What does not pass is read in the slow way.

Source: https://www.postgresql.org/docs/current/sql-copy.html ("CSV Format").
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator
from functools import lru_cache

from howdah.loading.cells import VALUES, columns_in, columns_kept, doubles_kept
from howdah.loading.inference import Kind
from howdah.loading.records import Unfit

__all__ = ["checked", "is_plain", "passed"]

_LONGEST_ROW_BYTES = 1 << 20
"""Rows that are longer are read in the slow way, in bytes."""

_NOT_IN_TEXT = "\\.abcdefghijklmnopqrstuvwxyz0123456789"
"""Delimiters that COPY's text format refuses. Source: ProcessCopyOptions in commands/copy.c."""

_BLANK_LINES = re.compile(rb"^\n+", re.MULTILINE)

_ODD = (b'"', b"\r", b"\\")
"""Without these, a row is what stands between two newlines, to COPY as to csv.reader."""


def checked(
    blocks: Iterable[bytes], kinds: tuple[Kind | None, ...], delimiter: str
) -> Iterator[bytes]:
    """Yield what `passed` yields, the rows alone."""
    return (rows for rows, _ in passed(blocks, kinds, delimiter))


def passed(
    blocks: Iterable[bytes],
    kinds: tuple[Kind | None, ...],
    delimiter: str,
    *,
    all_texts: bool = False,
) -> Iterator[tuple[bytes, bool]]:
    """Yield the rows of blocks of CSV, when they are known to be read alike: some whole ones.

    With each, whether they are plain (`is_plain`).

    Args:
        blocks: CSV in UTF-8, from the start of a row to the end of one.
        kinds: For each column the kind of value that it is to hold unchanged; None: whatever.
        delimiter: One ASCII character.
        all_texts: That of `is_plain`.

    Raises:
        Unfit: A row may be read otherwise by COPY, or lose something.
    """
    pattern = _pattern(kinds, delimiter)
    doubles = [place for place, kind in enumerate(kinds) if kind is Kind.DOUBLE]
    any_text = not any(kinds)
    rest = b""
    for block in blocks:
        data = rest + block
        if not any(odd in data for odd in _ODD):
            end = data.rfind(b"\n") + 1  # COPY itself refuses too many or too few cells
            rows = _without_blank(data[:end], len(kinds))
            if any_text:
                plain = is_plain(rows, delimiter, all_texts=all_texts)
            else:
                plain = _is_kept(rows, kinds, delimiter) or all_texts
                plain = plain and delimiter not in _NOT_IN_TEXT
        else:
            end = _end(pattern, data)
            rows, plain = data[:end], False
            _check_doubles(rows, doubles, delimiter)
        rest = data[end:]
        if len(rest) > _LONGEST_ROW_BYTES:
            raise Unfit("A row is very long or odd.")
        if rows:
            yield rows, plain
    if rest:
        rest += b"\n"
        if _end(pattern, rest) != len(rest):
            raise Unfit("A row is odd.")
        _check_doubles(rest, doubles, delimiter)
        yield rest[:-1], is_plain(rest, delimiter, all_texts=all_texts)


def _without_blank(rows: bytes, width: int) -> bytes:
    """Return rows without lines that are none: among rows of one cell, else where it costs nothing.

    COPY refuses a blank line where there are more columns; the only one's value it would be.
    """
    if (
        rows.startswith(b"\n")
        or rows.endswith(b"\n\n")
        or (width == 1 and b"\n\n" in rows)  # takes a hundred times as long as to look for one
    ):
        return _BLANK_LINES.sub(b"", rows)
    return rows


def _is_kept(rows: bytes, kinds: tuple[Kind | None, ...], delimiter: str) -> bool:
    """Refuse rows of which a column would change a cell; return whether none of them is empty."""
    columns = columns_in(rows, len(kinds), delimiter.encode())
    full = columns is not None and all(map(all, columns))
    if columns is None or not columns_kept(columns, kinds, full=full, commas=delimiter != ","):
        raise Unfit("A column would change a value.")
    return full


def is_plain(data: bytes, delimiter: str, *, all_texts: bool) -> bool:
    """Say whether COPY's text format reads rows as its csv format does: it takes a fifth less.

    Args:
        data: Whole rows.
        delimiter: One ASCII character.
        all_texts: Whether all columns hold texts; else an empty cell may be NULL, in csv alone.
    """
    if delimiter in _NOT_IN_TEXT or any(odd in data for odd in _ODD):
        return False
    one = delimiter.encode()
    cells = data.removesuffix(b"\n").replace(b"\n", one)
    return all_texts or one + one not in b"%b%b%b" % (one, cells, one)


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
        kept = doubles_kept([row[place] for row in rows for place in places])
    except csv.Error as exc:  # a cell longer than it takes
        raise Unfit("A row is very long or odd.") from exc
    if not kept:
        raise Unfit("Double precision would change a number.")


@lru_cache(maxsize=16)
def _pattern(kinds: tuple[Kind | None, ...], delimiter: str) -> re.Pattern[bytes]:
    """Return a pattern of many rows."""
    one = re.escape(delimiter)
    row = one.join(_cell(kind, one) for kind in kinds) + r"\r?\n"
    if len(kinds) == 1:
        row = r"(?!\r?\n)" + row  # a blank line is no row
    return re.compile(f"(?:{row})*".encode())


def _cell(kind: Kind | None, delimiter: str) -> str:
    value = VALUES.get(kind) if kind is not None else None
    if value is None:
        return rf'(?:"[^"]*+(?:""[^"]*+)*"(?!")|[^"\r\n{delimiter}]*+)'
    return f'(?:(?:{value})|"(?:{value})?")?'
