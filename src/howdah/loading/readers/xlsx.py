"""XLSX row by row, for sheets that calamine would have to hold in memory as a whole.

The values are those that calamine gives: a test compares them. The strings that
cells share are kept in a temporary file once they are many.
Source: ECMA-376, part 1, 18.3 (worksheets), 18.4 (shared strings), 18.8 (styles).
"""

from __future__ import annotations

import datetime as dt
import posixpath
import re
import tempfile
import zipfile
import zlib
from array import array
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Self
from xml.parsers import expat

from howdah.loading.readers import UnreadableSource

__all__ = ["Row", "StreamedSheet", "streamed_sheets"]

Row = dict[int, Any]
"""The values of a row's cells, by column from 0; empty ones are left out."""

_BLOCK_BYTES = 64 << 10
_ROW_LIMIT_BYTES = 256 << 20  # the most that jsonb holds
_MEMORY_BYTES = 64 << 20  # of shared strings; more of them go to disk
_ESCAPE = re.compile(r"_x([0-9A-Fa-f]{4})_")
_NOT_FORMAT = re.compile(r'"[^"]*"|[\\_*].|\[(?![hms]+\])[^\]]*\]', re.IGNORECASE)
_DAY = dt.timedelta(days=1)
_MILLISECOND = dt.timedelta(milliseconds=1)
_EPOCHS = {False: dt.datetime(1899, 12, 30), True: dt.datetime(1904, 1, 1)}  # noqa: DTZ001
_LEAP = 60  # the day 1900-02-29, which there was not, and Excel counts
_DATES, _DURATIONS = {*range(14, 23), *range(27, 37), 45, 47, *range(50, 59)}, {46}


@dataclass(frozen=True, slots=True)
class StreamedSheet:
    """A sheet.

    Attributes:
        name: Its name.
        is_only: Whether the workbook has no other.
        rows: Its rows that have a value, read as they are taken.
    """

    name: str
    is_only: bool
    rows: Iterator[Row]


def streamed_sheets(package: zipfile.ZipFile) -> Iterator[StreamedSheet]:
    """Yield the worksheets of an XLSX file in their order; each is taken before the next.

    Raises:
        UnreadableSource: A part is missing or not well-formed.
    """
    with _faults():
        book = _Book(package)
        with _Strings() as strings:
            if "xl/sharedStrings.xml" in package.namelist():
                strings.read(package, "xl/sharedStrings.xml")
            for name, part in book.sheets:
                rows = _rows(package, part, book, strings)
                yield StreamedSheet(name, len(book.sheets) == 1, rows)


@contextmanager
def _faults() -> Generator[None]:
    """Turn what a damaged file leads to into `UnreadableSource`."""
    try:
        yield
    except (
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        OSError,
        LookupError,  # a part, an attribute, a shared string that is not there
        ValueError,
        RuntimeError,  # an encrypted part
    ) as exc:
        raise UnreadableSource(f"The workbook is broken or cut off: {exc}.") from exc


class _Part:
    """Parses a part of the package, block by block; subclasses have a method an element.

    `start_NAME(attributes)` and `end_NAME(text)` are called by the names of elements
    without their namespace.
    """

    def __init__(self) -> None:
        self._text: list[str] = []
        self._parser = expat.ParserCreate(namespace_separator=" ")
        self._parser.buffer_text = True
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._text.append
        self._parser.StartDoctypeDeclHandler = self._refuse
        self._starts: dict[str, Callable[[Any], object] | None] = {}
        self._ends: dict[str, Callable[[Any], object] | None] = {}

    def blocks(self, package: zipfile.ZipFile, part: str) -> Iterator[None]:
        """Parse a part; yield after each block."""
        with package.open(part) as file:
            while block := file.read(_BLOCK_BYTES):
                self._parse(block, part, final=False)
                yield
            self._parse(b"", part, final=True)
            yield

    def read(self, package: zipfile.ZipFile, part: str) -> None:
        """Parse a part to its end."""
        for _ in self.blocks(package, part):
            pass

    def _parse(self, block: bytes, part: str, *, final: bool) -> None:
        try:
            self._parser.Parse(block, final)
        except expat.ExpatError as exc:
            raise UnreadableSource(
                f"The workbook is broken or cut off: {part} is not well-formed, line {exc.lineno}."
            ) from exc

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        if name not in self._starts:
            self._starts[name] = getattr(self, f"start_{name.rpartition(' ')[2]}", None)
        handler = self._starts[name]
        if handler is not None:
            handler(attributes)
        self._text.clear()

    def _end(self, name: str) -> None:
        if name not in self._ends:
            self._ends[name] = getattr(self, f"end_{name.rpartition(' ')[2]}", None)
        handler = self._ends[name]
        if handler is not None:
            text = self._text
            handler(text[0] if len(text) == 1 else "".join(text))
        self._text.clear()

    def _refuse(self, *_: object) -> None:
        raise UnreadableSource("The workbook has a document type, which none needs.")


class _Book(_Part):
    """The workbook: its sheets, which styles are dates, and from when they count.

    Attributes:
        sheets: The names of the worksheets, and their parts.
        styles: By number: a date, a duration (False), or neither (None).
        from_1904: Whether days count from 1904.
    """

    def __init__(self, package: zipfile.ZipFile) -> None:
        super().__init__()
        self.sheets: list[tuple[str, str]] = []
        self.styles: list[bool | None] = []
        self.from_1904 = False
        self._named: list[tuple[str, str]] = []
        self.read(package, "xl/workbook.xml")
        targets = _Relations(package).targets
        self.sheets = [(name, targets[key]) for name, key in self._named if key in targets]
        if "xl/styles.xml" in package.namelist():
            self.styles = _Styles(package).kinds

    def start_workbookPr(self, attributes: dict[str, str]) -> None:  # noqa: N802  the element's name
        self.from_1904 = attributes.get("date1904", "0") in {"1", "true"}

    def start_sheet(self, attributes: dict[str, str]) -> None:
        key = next((v for k, v in attributes.items() if k.endswith("relationships id")), "")
        self._named.append((attributes.get("name", ""), key))


class _Relations(_Part):
    """Which part a worksheet is in, by the key of its relation."""

    def __init__(self, package: zipfile.ZipFile) -> None:
        super().__init__()
        self.targets: dict[str, str] = {}
        self.read(package, "xl/_rels/workbook.xml.rels")

    def start_Relationship(self, attributes: dict[str, str]) -> None:  # noqa: N802
        if attributes.get("Type", "").endswith("/worksheet"):
            target = posixpath.normpath(posixpath.join("/xl", attributes["Target"])).lstrip("/")
            self.targets[attributes["Id"]] = target


class _Styles(_Part):
    """Which styles make a number a date or a duration."""

    def __init__(self, package: zipfile.ZipFile) -> None:
        super().__init__()
        self.kinds: list[bool | None] = []
        self._formats: dict[int, bool | None] = {}
        self._in_cells = False
        self.read(package, "xl/styles.xml")

    def start_numFmt(self, attributes: dict[str, str]) -> None:  # noqa: N802
        self._formats[int(attributes["numFmtId"])] = _format_kind(attributes.get("formatCode", ""))

    def start_cellXfs(self, _: dict[str, str]) -> None:  # noqa: N802
        self._in_cells = True

    def end_cellXfs(self, _: str) -> None:  # noqa: N802
        self._in_cells = False

    def start_xf(self, attributes: dict[str, str]) -> None:
        if self._in_cells:
            number = int(attributes.get("numFmtId", "0"))
            known = True if number in _DATES else False if number in _DURATIONS else None
            self.kinds.append(self._formats.get(number, known))


def _format_kind(code: str) -> bool | None:
    """Tell a date (True) and a duration (False) by a format's first section."""
    bare = _NOT_FORMAT.sub("", code).partition(";")[0].lower()
    if "[" in bare:
        return False
    return True if re.search("[dmyhs]", bare) else None


class _Texts(_Part):
    """A part with texts in runs, in `pieces`; those that say how it is read aloud are left out."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[str] = []
        self._phonetic = False

    def start_rPh(self, _: object) -> None:  # noqa: N802
        self._phonetic = True

    def end_rPh(self, _: object) -> None:  # noqa: N802
        self._phonetic = False

    def end_t(self, text: str) -> None:
        if not self._phonetic:
            self.pieces.append(text)


class _Strings(_Texts):
    """The strings that cells share: on disk, where they are many."""

    def __init__(self) -> None:
        super().__init__()
        self._file = tempfile.SpooledTemporaryFile(_MEMORY_BYTES)  # noqa: SIM115  see __exit__
        self._offsets = array("Q", [0])
        self.get = lru_cache(1 << 15)(self._get)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def end_si(self, _: object) -> None:
        length = self._file.write("".join(self.pieces).encode("utf-8", "surrogatepass"))
        self._offsets.append(self._offsets[-1] + length)
        self.pieces.clear()

    def _get(self, number: int) -> str:
        start, end = self._offsets[number : number + 2]
        self._file.seek(start)
        return _unescaped(self._file.read(end - start).decode("utf-8", "surrogatepass"))


class _Sheet(_Texts):
    """The cells of a sheet.

    Attributes:
        done: Rows that are complete and have a value; whoever takes them empties it.
        in_row: Whether a row is begun.
    """

    def __init__(self, book: _Book, strings: _Strings) -> None:
        super().__init__()
        self.done: list[Row] = []
        self.in_row = False
        self._book = book
        self._strings = strings
        self._row: Row = {}
        self._column = -1
        self._cell: dict[str, str] = {}
        self._value = ""

    def start_row(self, _: object) -> None:
        self._row, self._column, self.in_row = {}, -1, True

    def end_row(self, _: object) -> None:
        if self._row:
            self.done.append(self._row)
        self.in_row = False

    def start_c(self, attributes: dict[str, str]) -> None:
        place = attributes.get("r")
        self._column = _column(place.rstrip("0123456789")) if place else self._column + 1
        self._cell, self._value = attributes, ""
        self.pieces.clear()

    def end_v(self, text: str) -> None:
        self._value = text

    def end_c(self, _: object) -> None:
        value = self._valued(self._cell.get("t", "n"), self._value)
        if value != "":
            self._row[self._column] = value

    def _valued(self, kind: str, text: str) -> Any:  # noqa: PLR0911  a table of types
        match kind:
            case "n":
                return self._number(text) if text else ""
            case "s":
                return self._strings.get(int(text)) if text else ""
            case "inlineStr":
                return _unescaped("".join(self.pieces))
            case "b":
                return text in {"1", "true"} if text else ""
            case "e":
                return ""  # an error has no value
            case "d":
                return _moment(text)
            case _:
                return _unescaped(text)

    def _number(self, text: str) -> Any:
        number = float(text)
        style = self._cell.get("s")
        styles = self._book.styles
        kind = styles[int(style)] if style and int(style) < len(styles) else None
        if kind is None:
            return number
        with suppress(OverflowError, ValueError):  # no date that Python has
            return _date(number, from_1904=self._book.from_1904) if kind else _duration(number)
        return number


def _rows(package: zipfile.ZipFile, part: str, book: _Book, strings: _Strings) -> Iterator[Row]:
    sheet = _Sheet(book, strings)
    waiting = 0
    with _faults():
        for _ in sheet.blocks(package, part):
            rows, sheet.done = sheet.done, []
            yield from rows
            waiting = waiting + _BLOCK_BYTES if sheet.in_row and not rows else 0
            if waiting > _ROW_LIMIT_BYTES:
                raise UnreadableSource(f"A row is longer than {_ROW_LIMIT_BYTES} bytes.")


@lru_cache(1 << 14)  # as many as a sheet may have
def _column(letters: str) -> int:
    number = 0
    for letter in letters.upper():
        number = number * 26 + ord(letter) - ord("@")
    return number - 1


def _unescaped(text: str) -> str:
    return _ESCAPE.sub(lambda found: chr(int(found[1], 16)), text) if "_x" in text else text


def _moment(text: str) -> Any:
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError:
        return text
    return moment if ":" in text else moment.date()


def _duration(days: float) -> dt.timedelta:
    return _MILLISECOND * round(days * (_DAY / _MILLISECOND))


def _date(days: float, *, from_1904: bool) -> Any:
    """Return a date, a time, or both, as the number has a whole part, a fraction, or both."""
    if days < 1:
        return (_EPOCHS[True] + _duration(max(days, 0))).time()
    # Before the day that there was not, its epoch is a day later.
    later = not from_1904 and days < _LEAP
    moment = _EPOCHS[from_1904] + _duration(days + later)
    return moment if days % 1 else moment.date()
