"""Spreadsheets: one record per row, the first row of each sheet names the columns."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO
from zipfile import ZipFile

from howdah.errors import MissingExtra
from howdah.loading.readers import HEAD_BYTES, Head, Item, Match, Reader, UnreadableSource
from howdah.loading.readers.extraction import dublin_core
from howdah.loading.readers.layout import column_names
from howdah.loading.readers.markup import package_properties
from howdah.loading.readers.ole import MAGIC, stream_names
from howdah.loading.readers.packages import package_of, zip_of
from howdah.loading.readers.panics import panics_as_unreadable

if TYPE_CHECKING:
    from python_calamine import CalamineSheet

__all__ = ["SHEET", "Spreadsheet"]

SHEET = "sheet"
"""The attribute that holds the sheet's name, in workbooks of several sheets."""

_OOXML = {"xl/workbook.xml", "xl/workbook.bin"}
_ODS = b"mimetypeapplication/vnd.oasis.opendocument.spreadsheet"
_SUFFIXES = {".xls", ".xlsx", ".xlsm", ".xlsb", ".xltx", ".xltm", ".xla", ".xlam", ".ods", ".ots"}
_ENCRYPTED = "The workbook is encrypted with a password."
WHOLE_BYTES = 64 << 20
"""Up to what size, unpacked, a sheet is read as a whole, which is four times as fast."""
LIMIT_BYTES = 1 << 30
"""How large a sheet of XLS, XLSB or ODS may be: they are read as a whole, in bytes unpacked."""

_XLSX_PART = re.compile(r"xl/(?:worksheets/.*|sharedStrings)\.xml")
_TOO_LARGE = (
    "A sheet has {} MiB, too much to be held in memory, as it must be in this format; "
    "save the workbook as XLSX, which is read row by row."
)
_EXACT = 1 << 53  # every integer below it is a float


class Spreadsheet(Reader):
    """Reads XLSX, XLSB, XLS and ODS; formulas give the values they had when the file was saved."""

    name = "spreadsheet"
    seeks = True

    def recognise(self, head: Head) -> Match:
        """See `Reader.recognise`: by the parts of the file, not by its name."""
        if not _OOXML.isdisjoint(head.members) or _ODS in head.data[:128]:
            return Match.CERTAIN
        if not head.data.startswith(MAGIC):
            named = head.suffix in _SUFFIXES and head.data.startswith(b"PK\x03\x04")
            return Match.LIKELY if named and not head.members else Match.NO
        streams = stream_names(head.data)
        if streams & {"Workbook", "Book", "WORKBOOK", "BOOK"}:
            return Match.CERTAIN
        unclear = not streams or "EncryptedPackage" in streams
        return Match.LIKELY if unclear and head.suffix in _SUFFIXES else Match.NO

    def properties(self, file: BinaryIO) -> Mapping[str, Any]:
        """See `Reader.properties`: the elements of Dublin Core that XLSX, XLSB and ODS have."""
        head = file.read(4)
        file.seek(0)
        try:
            return dublin_core(package_properties(package_of(head, file)))
        finally:
            file.seek(0)

    def read(self, file: BinaryIO, name: str) -> Iterator[Item]:  # noqa: ARG002
        """See `Reader.read`: sheet by sheet; charts and macros are no sheets."""
        try:
            from python_calamine import CalamineError, PasswordError
        except ModuleNotFoundError as exc:
            raise MissingExtra("reading spreadsheets", "tables") from exc
        _refuse_unreadable(file)
        package = _package(file)
        try:
            if package is not None and _is_large(package):
                yield from _streamed_rows(package)
                return
            with panics_as_unreadable():
                yield from _rows(file)
        except PasswordError as exc:
            raise UnreadableSource(_ENCRYPTED) from exc
        except CalamineError as exc:
            raise UnreadableSource(f"The workbook is broken or cut off: {exc}.") from exc


def _refuse_unreadable(file: BinaryIO) -> None:
    head = file.read(HEAD_BYTES)
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    if not head:
        raise UnreadableSource("The file is empty.")
    if head.startswith(MAGIC) and size > LIMIT_BYTES:
        raise UnreadableSource(_TOO_LARGE.format(size >> 20))
    if "EncryptedPackage" in stream_names(head):
        raise UnreadableSource(_ENCRYPTED)


def _package(file: BinaryIO) -> ZipFile | None:
    package = zip_of(file) if file.read(4) == b"PK\x03\x04" else None
    file.seek(0)
    return package


def _is_large(package: ZipFile) -> bool:
    """Say whether a workbook is to be read row by row; raise UnreadableSource if it cannot be.

    Raises:
        UnreadableSource: It is XLSB or ODS, and a sheet is too large for the memory.
    """
    for info in package.infolist():
        if info.file_size > WHOLE_BYTES:
            if _XLSX_PART.match(info.filename):
                return True
            if info.filename.endswith((".bin", "content.xml")) and info.file_size > LIMIT_BYTES:
                raise UnreadableSource(_TOO_LARGE.format(info.file_size >> 20))
    return False


def _streamed_rows(package: ZipFile) -> Iterator[dict[str, Any]]:
    from howdah.loading.readers.xlsx import streamed_sheets

    empty = True
    for sheet in streamed_sheets(package):
        leading = [] if sheet.is_only else [SHEET]
        header = next(sheet.rows, {})
        empty &= not header
        first = min(header, default=0)
        cells = [_value(header.get(n, "")) for n in range(first, max(header, default=-1) + 1)]
        names = column_names(cells, leading)
        for row in sheet.rows:
            if max(row) - first >= len(names):  # wider than the row of names
                cells += [""] * (max(row) - first + 1 - len(cells))
                names = column_names(cells, leading)
            attributes: dict[str, Any] = dict.fromkeys(leading, sheet.name)
            for column, cell in row.items():
                place = column - first
                name = names[place] if place >= 0 else f"column_{place}"
                attributes[name] = _value(cell)
            yield attributes
    if empty:
        raise UnreadableSource("No sheet has a row.")


def _rows(file: BinaryIO) -> Iterator[dict[str, Any]]:
    from python_calamine import CalamineWorkbook, SheetTypeEnum

    with CalamineWorkbook.from_filelike(file) as workbook:
        kinds = {meta.name: meta.typ for meta in workbook.sheets_metadata}
        names = [name for name, kind in kinds.items() if kind == SheetTypeEnum.WorkSheet]
        empty = True
        for name in names:
            # calamine reads a sheet as a whole.
            sheet = workbook.get_sheet_by_name(name)
            empty &= not sheet.height
            yield from _records(sheet, [SHEET] if len(names) > 1 else [])
    if empty:
        raise UnreadableSource("No sheet has a row.")


def _records(sheet: CalamineSheet, leading: Sequence[str]) -> Iterator[dict[str, Any]]:
    rows = (row for row in sheet.iter_rows() if any(cell != "" for cell in row))
    header = next(rows, [])
    names = column_names(map(_value, header), leading)
    for row in rows:
        attributes: dict[str, Any] = dict.fromkeys(leading, sheet.name)
        for name, cell in zip(names, row, strict=False):
            if cell != "":
                attributes[name] = _value(cell)
        yield attributes


def _value(cell: Any) -> Any:
    """Return a cell's value; a spreadsheet has no integers, so 42.0 becomes 42."""
    if isinstance(cell, float) and cell.is_integer() and abs(cell) < _EXACT:
        return int(cell)
    return cell
