"""JSON files: one record per element of a top-level array, or per value where there is none.

The bytes of each element are passed through, so that every digit is kept. They
are found by a scanner that holds one block of the file, or one element if that
is longer; each is then parsed once, to refuse here what RFC 8259 forbids.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import chain
from typing import BinaryIO

import orjson

from howdah.loading.readers import (
    HEAD_BYTES,
    BadRecord,
    Batch,
    Head,
    Item,
    Match,
    Reader,
    UnreadableSource,
)
from howdah.loading.readers.characters import encoding_of, is_wide, to_utf8
from howdah.loading.readers.encode import TooDeep, repair

__all__ = ["JSON"]

_BLOCK_BYTES = 1 << 20
_BATCH_BYTES = 1 << 20
_LIMIT_BYTES = 256 << 20  # the most that jsonb can hold
_SHOWN_BYTES = 64 << 10
_MARK = b"\xef\xbb\xbf"
_SUFFIXES = {".json", ".geojson", ".topojson", ".jsonld", ".har", ".webmanifest"}
_END = "end of the source"

# Nothing in these patterns ever goes back: a string, and an object or array
# nested up to six deep, are matched at hundreds of megabytes a second.
_SPACE = rb"[ \t\n\r]*+"
_STRING = rb'"(?:[^"\\]++|\\.)*+"'


def _nested(depth: int) -> bytes:
    inner = rb"|" + _nested(depth - 1) if depth else b""
    return rb'[\[{](?:[^"\[\]{}]++|%b%b)*+[\]}]' % (_STRING, inner)


_CONTAINER = re.compile(_nested(5), re.DOTALL)
_WHOLE_STRING = re.compile(_STRING, re.DOTALL)
_SCALAR = re.compile(rb'[^ \t\n\r,\[\]{}"]*+')
_ELEMENT = re.compile(
    rb"%b(%b|%b|%b+)%b," % (_SPACE, _nested(5), _STRING, _SCALAR.pattern[:-2], _SPACE), re.DOTALL
)
# A whole flat object or array counts as nothing; a deeper pattern could be made
# to look far ahead from each of many opening brackets.
_TOKEN = re.compile(rb'%b|%b|[\[\]{}"]' % (_nested(0), _STRING), re.DOTALL)
_SPACES = re.compile(_SPACE)
_OPENING = re.compile(rb'\{\s*["}]|\[\s*(?:[\[{"\]\-0-9]|true|false|null)')


class JSON(Reader):
    """Reads a JSON file; the elements of a top-level array are its records."""

    name = "json"

    def recognise(self, head: Head) -> Match:
        """See `Reader.recognise`: an object or array that is valid as far as the head goes."""
        data = _as_utf8(head.data)
        named = Match.LIKELY if head.suffix in _SUFFIXES else Match.NO
        if not _OPENING.match(data):
            return named
        whole = len(head.data) < HEAD_BYTES
        for item in _records(_texts(iter([data]))):
            if isinstance(item, BadRecord) and (whole or item.place != _END):
                return named
        # A notebook is better read as the document that it is.
        return Match.POSSIBLE if head.suffix == ".ipynb" else Match.CERTAIN

    def read(self, file: BinaryIO, name: str) -> Iterator[Item]:  # noqa: ARG002
        """See `Reader.read`: batches of elements, and what is no valid JSON as bad records."""
        blocks = iter(lambda: file.read(_BLOCK_BYTES), b"")
        first = next(blocks, b"")
        encoding = encoding_of(first[:HEAD_BYTES])
        if is_wide(encoding):
            yield from _records(_texts(to_utf8(chain([first], blocks), encoding)))
        else:
            yield from _records(_texts(chain([first.removeprefix(_MARK)], blocks)))


def _as_utf8(data: bytes) -> bytes:
    encoding = encoding_of(data)
    if is_wide(encoding):
        data = data.decode(encoding, "ignore").encode("utf-8", "ignore")
    return data.removeprefix(_MARK).lstrip()


def _records(texts: Iterable[bytes | BadRecord]) -> Iterator[Item]:
    """Number the texts of values, check them, and gather the good ones in batches."""
    batch: list[bytes] = []
    size, number = 0, 1
    for text in texts:
        if isinstance(text, BadRecord):
            bad: BadRecord | None = replace(text, number=number)
        elif reason := _fault(text):
            shown = text[:_SHOWN_BYTES]
            bad = BadRecord(
                f"element {number}", f"The element is no JSON: {reason}.", shown, number
            )
        else:
            batch.append(text)
            size += len(text)
            number += 1
            if size < _BATCH_BYTES:
                continue
            bad = None
        if batch:
            yield Batch(range(number - len(batch), number), batch)
            batch, size = [], 0
        if bad:
            yield bad
            number += 1
    if batch:
        yield Batch(range(number - len(batch), number), batch)


def _fault(text: bytes) -> str | None:
    """Return why a text is no JSON value, or None if it is one."""
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        # orjson also refuses lone surrogates, which RFC 8259 allows, and depth.
        try:
            repair(text)
        except TooDeep:
            return None
        except ValueError as exc:
            return str(exc)
    return None


def _texts(blocks: Iterator[bytes]) -> Iterator[bytes | BadRecord]:
    """Yield the text of each element or value, and one bad record where the structure breaks."""
    source = _Source(blocks)
    try:
        opening = source.peek()
        if not opening:
            raise UnreadableSource("The file holds no JSON value.")
        if opening == b"[":
            yield from _elements(source)
        else:
            yield from _values(source, opening)
    except _BrokenOffError as exc:
        yield exc.record
    except UnicodeDecodeError as exc:
        yield BadRecord(_END, f"The text is not valid {exc.encoding}: {exc.reason}.")


def _elements(source: _Source) -> Iterator[bytes | BadRecord]:
    source.skip()
    if source.peek() != b"]":
        more = True
        while more:
            yield from source.run()
            following = source.peek()
            if following and following in b",]":
                yield source.bad("An element is missing here.")
            else:
                text = source.value()
                following = source.peek()
                # The number 23 at the end of a file that is cut off may have been 234.
                if following or text[:1] in b'{["':
                    yield text
            if not following:
                raise source.broken_off("The source ends inside of the array.", _END)
            if following not in b",]":
                raise source.broken_off("Neither a comma nor the array's end stands here.")
            more = following == b","
            if more:
                source.skip()
    source.skip()
    if source.peek():
        raise source.broken_off("Something stands behind the end of the array.")


def _values(source: _Source, opening: bytes) -> Iterator[bytes]:
    """Yield one value, or objects one behind the other."""
    yield source.value()
    while following := source.peek():
        if opening != b"{" or following != b"{":
            raise source.broken_off("Something stands behind the end of the value.")
        yield source.value()


class _BrokenOffError(Exception):
    """Raised where a source cannot be understood any further."""

    def __init__(self, record: BadRecord) -> None:
        super().__init__(record.reason)
        self.record = record


class _Source:
    """A text in UTF-8 of which one window is held: from the next value on."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks
        self._data = b""
        self._at = 0  # in the window
        self._before = 0  # bytes of the source that lie before the window

    def peek(self) -> bytes:
        """Return the next byte that is no space, without passing it; b"" at the end."""
        while True:
            found = _SPACES.match(self._data, self._at)
            self._at = found.end() if found else self._at
            if self._at < len(self._data) or not self._more():
                return self._data[self._at : self._at + 1]

    def skip(self) -> None:
        """Pass one byte."""
        self._at += 1

    def run(self) -> Iterator[bytes]:
        """Yield the objects, arrays and strings that follow whole and with a comma behind them."""
        while (found := _ELEMENT.match(self._data, self._at)) is not None:
            self._at = found.end()
            yield found[1]

    def value(self) -> bytes:
        """Return the text of the value that starts here and pass it."""
        opening = self.peek()
        if not opening:
            raise self.broken_off("The source ends where a value is due.", _END)
        length = self._container() if opening in b"[{" else self._scalar(opening)
        text = self._data[self._at : self._at + length]
        self._at += length
        return text

    def bad(self, reason: str, place: str | None = None) -> BadRecord:
        """Return a bad record with this place and what follows it."""
        content = self._data[self._at : self._at + _SHOWN_BYTES]
        return BadRecord(place or f"byte {self._before + self._at}", reason, content)

    def broken_off(self, reason: str, place: str | None = None) -> _BrokenOffError:
        """Return the error that ends the reading here."""
        return _BrokenOffError(self.bad(reason, place))

    def _container(self) -> int:
        """Return the length of the object or array that starts here."""
        if (found := _CONTAINER.match(self._data, self._at)) is not None:
            return found.end() - self._at
        depth = seen = 0
        while True:
            for token in _TOKEN.finditer(self._data, self._at + seen):
                if len(token[0]) == 1:
                    if token[0] == b'"':  # a string that the window does not close
                        break
                    depth += 1 if token[0] in b"[{" else -1
                seen = token.end() - self._at
                if not depth:
                    return seen
            self._need_more()

    def _scalar(self, opening: bytes) -> int:
        """Return the length of the string, number or word that starts here; at least one byte."""
        if opening == b'"':
            while (found := _WHOLE_STRING.match(self._data, self._at)) is None:
                self._need_more()
            return found.end() - self._at
        while True:
            found = _SCALAR.match(self._data, self._at)
            length = found.end() - self._at if found else 0
            if self._at + length < len(self._data) or not self._more():
                return max(1, length)

    def _need_more(self) -> None:
        if not self._more():
            raise self.broken_off("The source ends inside of a value.", _END)

    def _more(self) -> bool:
        """Lengthen the window by at least what is left in it; say whether that was possible."""
        rest = self._data[self._at :]
        if len(rest) > _LIMIT_BYTES:
            return False
        pieces, size = [rest], 0
        for block in self._blocks:
            pieces.append(block)
            size += len(block)
            if size >= len(rest) and size:
                break
        self._before += self._at
        self._data, self._at = b"".join(pieces), 0
        return size > 0
