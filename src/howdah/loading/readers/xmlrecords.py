"""XML with a repeating element: one record per element of the name that the user gives.

By expat, as the bytes come: what lies outside of the elements is passed over,
and one record is held at a time. An attribute becomes `@name`, the text of an
element that has attributes or children `#text`; children go by their names,
repeated ones as an array; an element with text alone is that text, an empty
one "", one with xsi:nil null. Names are without prefixes.

Nothing is fetched: an external entity is never opened, a DTD never loaded. A
reference to an entity in text stays as it is written. In attributes expat
expands them itself, so a DTD that defines entities by others ("billion
laughs"), or long ones, makes the source unreadable.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Any, BinaryIO

from howdah.errors import UsageError
from howdah.loading.readers import (
    HEAD_BYTES,
    Head,
    Item,
    Match,
    Reader,
    ReaderOptions,
    UnreadableSource,
)
from howdah.loading.readers.characters import encoding_of, is_wide, looks_like_text, to_utf8
from howdah.loading.readers.lines import RECORD_LIMIT_BYTES, blocks_of

if TYPE_CHECKING:
    from xml.parsers.expat import XMLParserType

__all__ = ["XMLRecords"]

_NIL = "http://www.w3.org/2001/XMLSchema-instance nil"
_START = re.compile(r"\ufeff?\s*<(?:\?xml|!--|!DOCTYPE|[A-Za-z_:])")
_DECLARED = re.compile(rb"""<\?xml[^>]*\bencoding\s*=\s*["']([\w.:-]+)""")
_LONGEST_ENTITY = 1024
_DEEPEST = 500
# What expat decodes itself; other encodings are Python's work.
_EXPAT = {"utf-8", "utf-16", "iso8859-1", "ascii"}


class XMLRecords(Reader):
    """Reads the elements that the options name.

    Args:
        options: `element`, a name without prefix; without one nothing is recognised.
    """

    name = "xml"
    text = True
    untyped = True
    takes = frozenset({"element", "encoding"})

    def __init__(self, options: ReaderOptions | None = None) -> None:
        self._options = options or ReaderOptions()

    def with_options(self, options: ReaderOptions) -> XMLRecords:
        """See `Reader.with_options`."""
        return XMLRecords(options)

    def recognise(self, head: Head) -> Match:
        """See `Reader.recognise`: any XML, if the options name an element; else none."""
        if self._options.element is None or not looks_like_text(head.data):
            return Match.NO
        text = head.data.decode(self._options.encoding or encoding_of(head.data), "replace")
        return Match.CERTAIN if _START.match(text) else Match.NO

    def read(self, file: BinaryIO, name: str) -> Iterator[Item]:  # noqa: ARG002
        """See `Reader.read`: a mapping for each element of the name."""
        from xml.parsers import expat

        element = self._options.element
        if element is None:
            raise UnreadableSource("The reader 'xml' needs --element NAME.")
        blocks, encoding = _decoded(blocks_of(file), self._options.encoding)
        builder = _Builder(element.rpartition(":")[2])
        parser = expat.ParserCreate(encoding, namespace_separator=" ")
        builder.attach(parser)
        try:
            for block in blocks:
                parser.Parse(block, False)
                yield from builder.taken()
            parser.Parse(b"", True)
        except expat.ExpatError as exc:
            yield from builder.taken()
            message = expat.ErrorString(exc.code)
            raise UnreadableSource(
                f"The XML is not well-formed: {message}, line {exc.lineno}."
            ) from exc
        except UnicodeDecodeError as exc:
            raise UnreadableSource(f"The text is not valid {exc.encoding}: {exc.reason}.") from exc
        if not builder.found:
            raise UnreadableSource(f"The XML has no element <{element}>.")


def _decoded(blocks: Iterator[bytes], encoding: str | None) -> tuple[Iterator[bytes], str | None]:
    """Return blocks that expat can read, and their encoding; None: as the text says itself."""
    head = next(blocks, b"")
    blocks = chain([head], blocks)
    found = encoding_of(head[:HEAD_BYTES])
    if encoding is None and is_wide(found):
        encoding = found  # whatever its declaration says
    if encoding is None and (declared := _DECLARED.match(head.lstrip())):
        try:
            known = ReaderOptions(encoding=declared[1].decode()).encoding
        except UsageError as exc:
            raise UnreadableSource(
                f"The XML is in {declared[1].decode()!r}, an encoding that nothing here can read."
            ) from exc
        encoding = None if known in _EXPAT else known
    if encoding is None or encoding == "utf-8":
        return blocks, encoding
    return to_utf8(blocks, encoding), "utf-8"


@dataclass(slots=True)
class _Element:
    """An element that is being read."""

    name: str
    members: dict[str, Any] = field(default_factory=dict)
    text: list[str] = field(default_factory=list)
    is_nil: bool = False


class _Builder:
    """Collects the elements that the parser reports."""

    def __init__(self, element: str) -> None:
        self.found = False
        self._element = element
        self._open: list[_Element] = []
        self._done: list[Any] = []
        self._size = 0

    def attach(self, parser: XMLParserType) -> None:
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._text
        parser.EntityDeclHandler = self._declare
        # A default handler keeps expat from expanding internal entities in text;
        # external ones it never opens.
        parser.DefaultHandler = self._other
        parser.buffer_text = True

    def taken(self) -> list[Any]:
        """Return the records that are complete, once."""
        done, self._done = self._done, []
        return done

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        local = name.rpartition(" ")[2]
        if not self._open:
            if local != self._element:
                return
            self.found, self._size = True, 0
        if len(self._open) >= _DEEPEST:
            raise UnreadableSource(f"Elements lie more than {_DEEPEST} deep in a record.")
        element = _Element(local)
        for key, value in attributes.items():
            if key == _NIL:
                element.is_nil = value.strip() in {"true", "1"}
            else:
                _add(element.members, f"@{key.rpartition(' ')[2]}", value)
                self._count(value)
        self._open.append(element)

    def _end(self, _name: str) -> None:
        if not self._open:
            return
        element = self._open.pop()
        if self._open:
            _add(self._open[-1].members, element.name, _value(element))
        else:
            value = _value(element)
            self._done.append(value if isinstance(value, dict) else {"#text": value})

    def _text(self, text: str) -> None:
        if self._open:
            self._open[-1].text.append(text)
            self._count(text)

    def _other(self, text: str) -> None:
        if text.startswith("&"):
            self._text(text)

    def _count(self, text: str) -> None:
        self._size += len(text)
        if self._size > RECORD_LIMIT_BYTES:
            raise UnreadableSource(f"A record has more than {RECORD_LIMIT_BYTES} characters.")

    def _declare(
        self, name: str, is_parameter: bool, value: str | None, *_location: object
    ) -> None:
        if value is not None and (is_parameter or "&" in value or len(value) > _LONGEST_ENTITY):
            raise UnreadableSource(
                f"The DTD's entity {name!r} is made of others, or long; it is not expanded."
            )


def _value(element: _Element) -> Any:
    text = "".join(element.text)
    if element.is_nil:
        return element.members or None
    if not element.members:
        return text.strip() if not text.strip() else text
    if text.strip():
        element.members["#text"] = text.strip()
    return element.members


def _add(members: dict[str, Any], name: str, value: Any) -> None:
    if name not in members:
        members[name] = value
    elif isinstance(members[name], _Repeated):
        members[name].append(value)
    else:
        members[name] = _Repeated([members[name], value])


class _Repeated(list[Any]):
    """The values of an element that is repeated."""
