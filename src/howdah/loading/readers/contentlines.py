"""vCard and iCalendar: one record per card, or per event, to-do and journal entry.

Both are content lines, `NAME;PARAMETER=value:value`, folded where they are
long. A property is an attribute under its name in lower case: its text, or an
array where it is repeated. Its parameters stand under `parameters`, in the same
shape. Names, addresses and organisations are arrays of their parts, categories
and the like arrays of their items; dates and times are ISO 8601.
Source: https://www.rfc-editor.org/rfc/rfc5545#section-3.1, and rfc6350#section-3.
"""

from __future__ import annotations

import quopri
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, BinaryIO

from howdah.loading.readers import (
    HEAD_BYTES,
    BadRecord,
    Head,
    Item,
    Match,
    Reader,
    ReaderOptions,
    UnreadableSource,
)
from howdah.loading.readers.characters import decoded, encoding_of, is_wide, to_utf8
from howdah.loading.readers.lines import RECORD_LIMIT_BYTES, batches_of_lines, blocks_of

__all__ = ["ICalendar", "VCard"]

PARAMETERS = "parameters"
"""The attribute that holds the parameters of properties that have some."""

_SHOWN_BYTES = 64 << 10
_MARK = b"\xef\xbb\xbf"
_LINE = re.compile(r"(?:([\w-]+)\.)?([\w-]+)((?:;(?:\"[^\"]*\"|[^\":;])*)*):(.*)", re.DOTALL)
_PARAMETER = re.compile(r";([\w-]+)(?:=((?:\"[^\"]*\"|[^\";])*))?")
_PARAMETER_VALUE = re.compile(r"\"([^\"]*)\"|([^,\"]+)")
_CARET = re.compile(r"\^([n'^])")  # RFC 6868
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_COMPONENTS = re.compile(r"(?:[^\\;]|\\.)*", re.DOTALL)
_ITEMS = re.compile(r"(?:[^\\,]|\\.)*", re.DOTALL)
_STRUCTURED = {"n", "adr", "org", "gender", "clientpidmap", "geo", "request-status"}
_LISTS = {"categories", "nickname", "resources", "exdate", "rdate"}
_DATES = {
    "dtstart",
    "dtend",
    "due",
    "dtstamp",
    "created",
    "last-modified",
    "completed",
    "recurrence-id",
    "exdate",
    "rdate",
    "bday",
    "anniversary",
    "rev",
}
_DATE = re.compile(r"(\d{4})(\d\d)(\d\d)(?:T(\d\d)(\d\d)(\d\d)?(Z|[+-]\d\d(?::?\d\d)?)?)?")


class _Components(Reader):
    """Reads the components of some names out of content lines.

    Args:
        options: `encoding`.
    """

    takes = frozenset({"encoding"})
    _start: bytes
    _records: frozenset[str]
    _named: frozenset[str] = frozenset()

    def __init__(self, options: ReaderOptions | None = None) -> None:
        self._options = options or ReaderOptions()

    def with_options(self, options: ReaderOptions) -> Reader:
        """See `Reader.with_options`."""
        return type(self)(options)

    def recognise(self, head: Head) -> Match:
        """See `Reader.recognise`: by the line that everything begins with."""
        encoding = encoding_of(head.data)
        text = head.data.decode(encoding, "replace").encode() if is_wide(encoding) else head.data
        first = text.removeprefix(_MARK).lstrip()[: len(self._start)]
        return Match.CERTAIN if first.upper() == self._start else Match.NO

    def read(self, file: BinaryIO, name: str) -> Iterator[Item]:  # noqa: ARG002
        """See `Reader.read`."""
        blocks = blocks_of(file)
        head = next(blocks, b"")
        encoding = self._options.encoding or encoding_of(head[:HEAD_BYTES])
        blocks = chain([head], blocks)
        if is_wide(encoding):
            blocks, encoding = to_utf8(blocks, encoding), "utf-8"
        open_ones: list[_Component] = []
        for number, raw in _unfolded(blocks):
            bad = None
            try:
                ended = _take(_text(raw, encoding), raw, open_ones, self._records)
            except ValueError as exc:
                bad, ended = BadRecord(f"line {number}", str(exc), raw[:_SHOWN_BYTES]), None
                open_ones.clear()  # the rest of it is passed over
            if bad:
                yield bad
            elif ended is not None:
                kind = {"component": ended.name} if ended.name in self._named else {}
                yield kind | ended.attributes()
        if open_ones:
            raise UnreadableSource(f"The source ends inside of a {open_ones[0].name}.")


class VCard(_Components):
    """Reads vCard 2.1, 3.0 and 4.0: one record a card."""

    name = "vcard"
    text = True
    _start = b"BEGIN:VCARD"
    _records = frozenset({"VCARD"})


class ICalendar(_Components):
    """Reads iCalendar: one record an event, to-do or journal entry, which `component` tells.

    Times with a TZID are the local ones that stand in the file; the TZID is
    among the parameters.
    """

    name = "icalendar"
    text = True
    _start = b"BEGIN:VCALENDAR"
    _records = frozenset({"VEVENT", "VTODO", "VJOURNAL"})
    _named = _records


@dataclass(slots=True)
class _Component:
    """A component that is being read."""

    name: str
    values: dict[str, list[Any]] = field(default_factory=dict)
    parameters: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    size: int = 0

    def attributes(self) -> dict[str, Any]:
        """Return what it says, single values out of their lists."""
        found = {name: _single(values) for name, values in self.values.items()}
        told = {name: _single(each) for name, each in self.parameters.items() if any(each)}
        return found | ({PARAMETERS: told} if told else {})


def _single(values: list[Any]) -> Any:
    return values[0] if len(values) == 1 else values


def _take(
    line: str, raw: bytes, open_ones: list[_Component], records: frozenset[str]
) -> _Component | None:
    """Add a line to the component that is open; return the component that it ends."""
    found = _LINE.fullmatch(line)
    name = found[2].lower() if found else ""
    if found and name == "begin":
        kind = found[4].strip().upper()
        if open_ones or kind in records:
            open_ones.append(_Component(kind))
    elif not open_ones:
        pass  # the calendar's own, a time zone
    elif found is None:
        raise ValueError("The line is no NAME:value.")
    elif name == "end":
        ended = open_ones.pop()
        if ended.name != found[4].strip().upper():
            raise ValueError(f"An END:{found[4].strip()} stands inside of a {ended.name}.")
        if not open_ones:
            return ended
        open_ones[-1].values.setdefault(ended.name.lower(), []).append(ended.attributes())
    else:
        _add(open_ones[-1], found, raw)
        open_ones[0].size += len(raw)
        if open_ones[0].size > RECORD_LIMIT_BYTES:
            raise ValueError(f"The record is longer than {RECORD_LIMIT_BYTES} bytes.")
    return None


def _add(component: _Component, found: re.Match[str], raw: bytes) -> None:
    group, name, value = found[1], found[2].lower(), found[4]
    parameters = _parameters(found[3])
    if group:
        parameters["group"] = group
    encoding = str(parameters.get("encoding", "")).upper()
    if encoding == "QUOTED-PRINTABLE":
        value = _from_quoted_printable(raw, str(parameters.pop("charset", "")))
        del parameters["encoding"]
    component.values.setdefault(name, []).append(_value(name, value))
    component.parameters.setdefault(name, []).append(parameters)


def _parameters(text: str) -> dict[str, Any]:
    parameters: dict[str, Any] = {}
    for name, value in _PARAMETER.findall(text):
        if not value and f";{name}=" not in text:  # vCard 2.1: TEL;HOME
            bare = "encoding" if name.upper() == "QUOTED-PRINTABLE" else "type"
            name, value = bare, name  # noqa: PLW2901
        values = [
            _CARET.sub(lambda found: {"n": "\n", "'": '"', "^": "^"}[found[1]], quoted or plain)
            for quoted, plain in _PARAMETER_VALUE.findall(value)
        ]
        known = parameters.get(name.lower(), [])
        known = [known] if isinstance(known, str) else known
        parameters[name.lower()] = _single(known + values) if known + values else ""
    return parameters


def _value(name: str, text: str) -> Any:
    plain = _moment if name in _DATES else _plain
    if name in _STRUCTURED:
        return [plain(part) for part in _parts(_COMPONENTS, text)]
    if name in _LISTS:
        return [plain(part) for part in _parts(_ITEMS, text)]
    return plain(text)


def _parts(pattern: re.Pattern[str], text: str) -> list[str]:
    parts, at = [], 0
    while (found := pattern.match(text, at)) is not None:
        parts.append(found[0])
        at = found.end() + 1
        if at > len(text):
            break
    return parts


def _plain(text: str) -> str:
    """Return a text without its escapes."""
    if "\\" not in text:
        return text
    return _ESCAPE.sub(lambda found: "\n" if found[1] in "nN" else found[1], text)


def _moment(text: str) -> str:
    """Return a date or time in ISO 8601; as it is where it is written in another way."""
    if (found := _DATE.fullmatch(text)) is None:
        return _plain(text)
    year, month, day, hour, minute, second, zone = found.groups()
    time = f"T{hour}:{minute}:{second or '00'}{zone or ''}" if hour else ""
    return f"{year}-{month}-{day}{time}"


def _from_quoted_printable(raw: bytes, charset: str) -> str:
    data = quopri.decodestring(raw.partition(b":")[2])
    try:
        return data.decode(charset or "utf-8")
    except (LookupError, UnicodeDecodeError):
        return decoded(data)[0]


def _text(raw: bytes, encoding: str) -> str:
    try:
        return raw.decode(encoding)
    except UnicodeDecodeError as exc:
        raise ValueError(
            f"The line is not valid {encoding}: byte {exc.object[exc.start]:#x}."
        ) from exc


def _unfolded(blocks: Iterator[bytes]) -> Iterator[tuple[int, bytes]]:
    """Yield content lines with the numbers of the lines that they start on.

    What goes on with a line starts with a space, or follows a quoted "=" at its end.
    """
    pieces: list[bytes] = []
    start = size = 0
    for number, line in _lines(blocks):
        if pieces and line[:1] in b" \t":
            pieces.append(line[1:])
        elif pieces and pieces[-1].endswith(b"=") and _is_quoted_printable(pieces[0]):
            pieces[-1] = pieces[-1][:-1]
            pieces.append(line)
        else:
            if pieces:
                yield start, b"".join(pieces)
            pieces, start, size = [line], number, 0
        size += len(line)
        if size > RECORD_LIMIT_BYTES:
            raise UnreadableSource(f"Line {start} is longer than {RECORD_LIMIT_BYTES} bytes.")
    if pieces:
        yield start, b"".join(pieces)


def _lines(blocks: Iterator[bytes]) -> Iterator[tuple[int, bytes]]:
    for item in batches_of_lines(blocks, 1, RECORD_LIMIT_BYTES):
        if isinstance(item, BadRecord):
            raise UnreadableSource(item.reason)
        texts = item.texts
        for number, line in zip(item.numbers, texts, strict=True):
            yield number, line.removeprefix(_MARK).rstrip(b"\r")


def _is_quoted_printable(line: bytes) -> bool:
    return b"QUOTED-PRINTABLE" in line.partition(b":")[0].upper()
