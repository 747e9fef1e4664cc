"""Access logs of web servers, in the common and the combined format: one record a line.

Source: https://httpd.apache.org/docs/current/mod/mod_log_config.html#formats,
and nginx's predefined format "combined" (ngx_http_log_module).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from howdah.loading.readers import HEAD_BYTES, Head, Match, ReaderOptions
from howdah.loading.readers.characters import encoding_of, looks_like_text
from howdah.loading.readers.eachline import LineReader

__all__ = ["AccessLog"]

_QUOTED = r'"([^"\\]*(?:\\.[^"\\]*)*)"'
_LINE = re.compile(
    r"(\S+) (\S+) (\S+(?: [^\[\s]+)*) "  # a user's name may hold spaces
    r"\[(\d\d)/([A-Z][a-z]{2})/(\d{4}):(\d\d:\d\d:\d\d) ([+-]\d\d)(\d\d)\] "
    rf"{_QUOTED} (\d{{3}}|-) (\d+|-)(?: {_QUOTED} {_QUOTED})?\s*",
    re.ASCII,
)
_REQUEST = re.compile(r"([!#$%&'*+.^`|~\w-]+) (\S.*?)(?: (HTTP/[\d.]+))?")
_MONTHS = {
    name: f"{number:02}"
    for number, name in enumerate(
        ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"),
        start=1,
    )
}
_ESCAPE = re.compile(rb'\\(?:x([0-9a-fA-F]{2})|([\\"nrtbfv]))')
_ESCAPED = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"b": b"\b", b"f": b"\f", b"v": b"\v"}
_FEWEST = 0.5  # of the lines in the head that must fit


class AccessLog(LineReader):
    """Reads access logs; what the server wrote as "-" is null."""

    name = "accesslog"
    text = True
    takes = frozenset({"encoding"})

    def with_options(self, options: ReaderOptions) -> AccessLog:
        """See `Reader.with_options`."""
        return AccessLog(options.encoding)

    def recognise(self, head: Head) -> Match:
        """See `Reader.recognise`: by lines that fit."""
        begun = head.data[:64].lstrip().startswith((b"<", b"{"))  # markup, JSON
        if begun or b'"' not in head.data or not looks_like_text(head.data):
            return Match.NO
        text = head.data.decode(encoding_of(head.data), "replace")
        lines = [line for line in text.splitlines()[:20] if line.strip()]
        if len(head.data) >= HEAD_BYTES and len(lines) > 1:
            lines.pop()
        fitting = sum(_LINE.fullmatch(line) is not None for line in lines)
        return Match.CERTAIN if fitting > _FEWEST * len(lines) else Match.NO

    def parser(self, head: str) -> tuple[Callable[[str], Mapping[str, Any]], int]:  # noqa: ARG002
        """See `LineReader.parser`."""
        return _parse, 0


def _parse(line: str) -> dict[str, Any]:
    found = _LINE.fullmatch(line)
    if found is None:
        raise ValueError("The line is not in the common or combined log format.")
    host, ident, user, day, month, year, time, zone, minutes = found.groups()[:9]
    request, status, size, referrer, agent = found.groups()[9:]
    if month not in _MONTHS:
        raise ValueError(f"The line has no month {month!r}.")
    method, path, protocol = _request(request)
    attributes: dict[str, Any] = {
        "host": host,
        "ident": _value(ident),
        "user": _value(user),
        "time": f"{year}-{_MONTHS[month]}-{day}T{time}{zone}:{minutes}",
        "method": method,
        "path": path,
        "protocol": protocol,
        "status": None if status == "-" else int(status),
        "bytes": None if size == "-" else int(size),
    }
    if referrer is not None:
        attributes |= {"referrer": _value(referrer), "user_agent": _value(agent)}
    return attributes


def _request(text: str) -> tuple[str | None, str | None, str | None]:
    """Return method, path and protocol; what is no request at all stands as the path."""
    found = _REQUEST.fullmatch(text)
    if found is None:
        return None, _value(text), None
    return found[1], _value(found[2]), found[3]


def _value(text: str) -> str | None:
    """Return what a server has written, its escapes undone; None for "-"."""
    if text in {"-", ""}:
        return None
    if "\\" not in text:
        return text
    data = _ESCAPE.sub(
        lambda found: (
            bytes.fromhex(found[1].decode()) if found[1] else _ESCAPED.get(found[2], found[2])
        ),
        text.encode("utf-8", "surrogatepass"),
    )
    return data.decode("utf-8", "replace")
