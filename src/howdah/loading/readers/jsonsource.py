"""JSON text as it streams by: a scanner that holds one block, or one value if that is longer."""

from __future__ import annotations

import re
from collections.abc import Iterator

from howdah.loading.readers import BadRecord

__all__ = ["END", "SHOWN_BYTES", "BrokenOff", "JSONSource"]

END = "end of the source"
"""The place of a bad record that stands where a text ends too early."""

SHOWN_BYTES = 64 << 10
"""How much of a bad record is kept, in bytes."""

_LIMIT_BYTES = 256 << 20  # the most that jsonb can hold

# Nothing in these patterns ever goes back: a string, and an object or array
# nested up to six deep, are matched at hundreds of megabytes a second. Python before
# 3.11.5 ends a possessive group too far on where a part of it matches once more (gh-106052):
# here never before what has to follow, so no match comes of it.
_SPACE = rb"[ \t\n\r]*+"
_STRING = rb'"(?:[^"\\]++|\\.)*+"'


def _nested(depth: int) -> bytes:
    inner = rb"|" + _nested(depth - 1) if depth else b""
    return rb'[\[{](?:[^"\[\]{}]++|%b%b)*+[\]}]' % (_STRING, inner)


_WHOLE_STRING = re.compile(_STRING, re.DOTALL)
_SCALAR = re.compile(rb'[^ \t\n\r,\[\]{}"]*+')
# Compiled with the first source: it takes 2 ms, and most loads have none.
_CONTAINER = _nested(5)
_ELEMENT = rb"%b(%b|%b|%b+)%b," % (_SPACE, _nested(5), _STRING, _SCALAR.pattern[:-2], _SPACE)
# A whole flat object or array counts as nothing; a deeper pattern could be made
# to look far ahead from each of many opening brackets.
_TOKEN = re.compile(rb'%b|%b|[\[\]{}"]' % (_nested(0), _STRING), re.DOTALL)
_SPACES = re.compile(_SPACE)


class BrokenOff(Exception):
    """Raised where a source cannot be understood any further."""

    def __init__(self, record: BadRecord) -> None:
        super().__init__(record.reason)
        self.record = record


class JSONSource:
    """A text in UTF-8 of which one window is held: from the next value on."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks
        self._data = b""
        self._at = 0  # in the window
        self._before = 0  # bytes of the source that lie before the window
        self._whole_container = re.compile(_CONTAINER, re.DOTALL)
        self._whole_element = re.compile(_ELEMENT, re.DOTALL)

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
        while (found := self._whole_element.match(self._data, self._at)) is not None:
            self._at = found.end()
            yield found[1]

    def value(self) -> bytes:
        """Return the text of the value that starts here and pass it."""
        opening = self.peek()
        if not opening:
            raise self.broken_off("The source ends where a value is due.", END)
        length = self._container() if opening in b"[{" else self._scalar(opening)
        text = self._data[self._at : self._at + length]
        self._at += length
        return text

    def pass_value(self) -> None:
        """Pass the value that starts here, however long it is."""
        opening = self.peek()
        if not opening:
            raise self.broken_off("The source ends where a value is due.", END)
        if opening not in b"[{":
            self._at += self._scalar(opening)
            return
        depth = 0
        while True:
            kept = len(self._data)
            for token in _TOKEN.finditer(self._data, self._at):
                if len(token[0]) == 1:
                    if token[0] == b'"':  # a string that the window does not close
                        kept = token.start()
                        break
                    depth += 1 if token[0] in b"[{" else -1
                if not depth:
                    self._at = token.end()
                    return
            self._at = kept
            self._need_more()

    def members(self) -> Iterator[bytes]:
        """Yield the key of each member of the object that starts here, as it is written.

        The caller passes the member's value before it asks for the next key.
        """
        self.skip()
        more = self.peek() != b"}"
        while more:
            if self.peek() != b'"':
                raise self.broken_off("A member's name is missing here.", self._end())
            key = self.value()
            if self.peek() != b":":
                raise self.broken_off("No colon stands behind a member's name.", self._end())
            self.skip()
            yield key
            more = self._goes_on(b"}", "object")
        self.skip()

    def places(self) -> Iterator[int]:
        """Yield the place, from 0, of each element of the array that starts here.

        The caller passes the element before it asks for the next one.
        """
        self.skip()
        place, more = 0, self.peek() != b"]"
        while more:
            yield place
            place, more = place + 1, self._goes_on(b"]", "array")
        self.skip()

    def _goes_on(self, closing: bytes, what: str) -> bool:
        following = self.peek()
        if following == b",":
            self.skip()
        elif not following:
            raise self.broken_off(f"The source ends inside of the {what}.", END)
        elif following != closing:
            raise self.broken_off(f"Neither a comma nor the {what}'s end stands here.")
        return following == b","

    def _end(self) -> str | None:
        return None if self.peek() else END

    def bad(self, reason: str, place: str | None = None) -> BadRecord:
        """Return a bad record with this place and what follows it."""
        content = self._data[self._at : self._at + SHOWN_BYTES]
        return BadRecord(place or f"byte {self._before + self._at}", reason, content)

    def broken_off(self, reason: str, place: str | None = None) -> BrokenOff:
        """Return the error that ends the reading here."""
        return BrokenOff(self.bad(reason, place))

    def _container(self) -> int:
        """Return the length of the object or array that starts here."""
        if (found := self._whole_container.match(self._data, self._at)) is not None:
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
            raise self.broken_off("The source ends inside of a value.", END)

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
