"""JSON files: one record per element of a top-level array, or per value where there is none.

Or, with a path, one per value that the path leads to; all else is passed over.

The bytes of each element are passed through, so that every digit is kept. They
are found by a scanner that holds one block of the file, or one element if that
is longer; each is then parsed once, to refuse here what RFC 8259 forbids.
"""

from __future__ import annotations

import json
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
    ReaderOptions,
    UnreadableSource,
)
from howdah.loading.readers.characters import encoding_of, is_wide, to_utf8
from howdah.loading.readers.encode import TooDeep, repair
from howdah.loading.readers.jsonpath import ALL, Step, matches, parse_path
from howdah.loading.readers.jsonsource import END, SHOWN_BYTES, BrokenOff, JSONSource

__all__ = ["JSON", "blocks_in_utf8", "in_batches"]

_BLOCK_BYTES = 1 << 20
_BATCH_BYTES = 1 << 20
_MARK = b"\xef\xbb\xbf"
_SUFFIXES = {".json", ".geojson", ".topojson", ".jsonld", ".har", ".webmanifest"}

_OPENING = re.compile(rb'\{\s*["}]|\[\s*(?:[\[{"\]\-0-9]|true|false|null)')


class JSON(Reader):
    """Reads a JSON file; the elements of a top-level array are its records.

    Args:
        options: `at`, a path to other records (see jsonpath.py), and `encoding`.
    """

    name = "json"
    text = True
    takes = frozenset({"at", "encoding"})

    def __init__(self, options: ReaderOptions | None = None) -> None:
        self._options = options or ReaderOptions()

    def with_options(self, options: ReaderOptions) -> JSON:
        """See `Reader.with_options`."""
        return JSON(options)

    def recognise(self, head: Head) -> Match:
        """See `Reader.recognise`: an object or array that is valid as far as the head goes."""
        data = _as_utf8(head.data)
        named = Match.LIKELY if head.suffix in _SUFFIXES else Match.NO
        if not _OPENING.match(data):
            return named
        whole = len(head.data) < HEAD_BYTES
        for item in in_batches(_texts(iter([data]))):
            if isinstance(item, BadRecord) and (whole or item.place != END):
                return named
        # A notebook is better read as the document that it is.
        return Match.POSSIBLE if head.suffix == ".ipynb" else Match.CERTAIN

    def read(self, file: BinaryIO, name: str) -> Iterator[Item]:  # noqa: ARG002
        """See `Reader.read`: batches of elements, and what is no valid JSON as bad records."""
        blocks = blocks_in_utf8(file, self._options.encoding)
        if self._options.at is None:
            yield from in_batches(_texts(blocks))
        else:
            yield from in_batches(_selected_texts(blocks, self._options.at))


def blocks_in_utf8(file: BinaryIO, encoding: str | None = None) -> Iterator[bytes]:
    """Yield the blocks of a text in UTF-8 and without a mark, as they stand where that may be.

    Args:
        file: The text, at its start.
        encoding: What it is in; None: UTF-8, UTF-16 or UTF-32, as its head says.
    """
    blocks = iter(lambda: file.read(_BLOCK_BYTES), b"")
    first = next(blocks, b"")
    found = encoding or encoding_of(first[:HEAD_BYTES])
    if is_wide(found) or encoding not in {None, "utf-8"}:
        return to_utf8(chain([first], blocks), found)
    return chain([first.removeprefix(_MARK)], blocks)


def _as_utf8(data: bytes) -> bytes:
    encoding = encoding_of(data)
    if is_wide(encoding):
        data = data.decode(encoding, "ignore").encode("utf-8", "ignore")
    return data.removeprefix(_MARK).lstrip()


def in_batches(texts: Iterable[bytes | BadRecord]) -> Iterator[Item]:
    """Number the texts of values, check them, and gather the good ones in batches."""
    batch: list[bytes] = []
    size, number = 0, 1
    for text in texts:
        if isinstance(text, BadRecord):
            bad: BadRecord | None = replace(text, number=number)
        elif reason := _fault(text):
            shown = text[:SHOWN_BYTES]
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
    source = JSONSource(blocks)
    try:
        opening = source.peek()
        if not opening:
            raise UnreadableSource("The file holds no JSON value.")
        if opening == b"[":
            yield from _elements(source)
            if source.peek():
                raise source.broken_off("Something stands behind the end of the array.")
        else:
            yield from _values(source, opening)
    except BrokenOff as exc:
        yield exc.record
    except UnicodeDecodeError as exc:
        yield BadRecord(END, f"The text is not valid {exc.encoding}: {exc.reason}.")


def _elements(source: JSONSource) -> Iterator[bytes | BadRecord]:
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
                raise source.broken_off("The source ends inside of the array.", END)
            if following not in b",]":
                raise source.broken_off("Neither a comma nor the array's end stands here.")
            more = following == b","
            if more:
                source.skip()
    source.skip()


def _values(source: JSONSource, opening: bytes) -> Iterator[bytes]:
    """Yield one value, or objects one behind the other."""
    yield source.value()
    while following := source.peek():
        if opening != b"{" or following != b"{":
            raise source.broken_off("Something stands behind the end of the value.")
        yield source.value()


# ---- by a path


def _selected_texts(blocks: Iterator[bytes], path: str) -> Iterator[bytes | BadRecord]:
    """Yield the text of each value that a path leads to, in each of a file's values."""
    source, selection = JSONSource(blocks), Selection()
    try:
        if not source.peek():
            raise UnreadableSource("The file holds no JSON value.")
        while source.peek():
            yield from selection.of(source, parse_path(path))
    except BrokenOff as exc:
        yield exc.record
    except UnicodeDecodeError as exc:
        yield BadRecord(END, f"The text is not valid {exc.encoding}: {exc.reason}.")
    else:
        if not selection.found:
            raise UnreadableSource(f"The path {path} leads to nothing in this file.")


class Selection:
    """Follows a path through values as they stream by, and holds one record at a time.

    Attributes:
        found: Whether the path led somewhere: to a value, or to an array without elements.
    """

    def __init__(self) -> None:
        self.found = False
        self._deep = False

    def of(self, source: JSONSource, steps: tuple[Step, ...]) -> Iterator[bytes | BadRecord]:
        """Yield what the steps lead to from the value that starts here, and pass the value."""
        opening = source.peek()
        if not steps:
            text = source.value()
            if not source.peek() and text[:1] not in b'{["' and self._deep:
                raise source.broken_off("The source ends inside of a value.", END)
            self.found = True
            yield text
        elif opening == b"[" and steps == (ALL,):
            self.found = True
            yield from _elements(source)
        elif opening == b"[" and not isinstance(steps[0].to, str):
            self.found |= steps == (ALL,)
            for place in source.places():
                yield from self._next(source, steps, place)
        elif opening == b"{" and not isinstance(steps[0].to, int):
            self.found |= steps == (ALL,)
            for key in source.members():
                yield from self._next(source, steps, _name(key))
        else:
            source.pass_value()

    def _next(
        self, source: JSONSource, steps: tuple[Step, ...], key: str | int
    ) -> Iterator[bytes | BadRecord]:
        self._deep = True  # and so something must follow
        if matches(steps[0], key):
            yield from self.of(source, steps[1:])
        else:
            source.pass_value()


def _name(key: bytes) -> str:
    try:
        name: str = json.loads(key)
    except ValueError:
        return key.decode("utf-8", "replace")
    return name
