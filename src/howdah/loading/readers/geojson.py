"""GeoJSON (RFC 7946) and GeoJSON sequences (RFC 8142): one record per feature.

A record is the feature's properties as they are, byte for byte, and behind them
what else the feature has: `geometry`, `id`, `bbox` and foreign members. Where a
property has one of these names, the feature's own becomes `id_2`, as a repeated
column does. Of a collection only the features are loaded.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any, BinaryIO

from howdah.loading.readers import (
    HEAD_BYTES,
    BadRecord,
    Batch,
    Head,
    Item,
    Match,
    Reader,
    SplittingReader,
    UnreadableSource,
)
from howdah.loading.readers.jsonpath import ALL
from howdah.loading.readers.jsonsource import END, BrokenOff, JSONSource
from howdah.loading.readers.jsontext import Selection, blocks_in_utf8, in_batches
from howdah.loading.readers.lines import (
    NDJSON,
    RECORD_LIMIT_BYTES,
    batches_of_lines,
    blocks_of,
)

__all__ = ["GeoJSON", "GeoJSONSeq"]

_RECORD_SEPARATOR = b"\x1e"
_GEOMETRIES = {
    b'"Point"',
    b'"MultiPoint"',
    b'"LineString"',
    b'"MultiLineString"',
    b'"Polygon"',
    b'"MultiPolygon"',
    b'"GeometryCollection"',
}
_TYPE, _PROPERTIES, _FEATURES = b'"type"', b'"properties"', b'"features"'
_COLLECTION, _FEATURE = b'"FeatureCollection"', b'"Feature"'


class GeoJSON(Reader):
    """Reads a GeoJSON file: a collection of features, a feature, or a geometry."""

    name = "geojson"
    text = True

    def recognise(self, head: Head) -> Match:
        """See `Reader.recognise`: by the members of the object that the source starts with."""
        if not head.data.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{"):
            return Match.NO
        members = _first_members(head)
        kind = members.get(_TYPE)
        if kind == _COLLECTION or (kind == _FEATURE and b'"geometry"' in members):
            return Match.CERTAIN
        if kind in _GEOMETRIES and members.keys() & {b'"coordinates"', b'"geometries"'}:
            return Match.CERTAIN
        named = head.suffix == ".geojson" and (kind is None or _FEATURES in members)
        return Match.CERTAIN if named and members else Match.NO

    def read(self, file: BinaryIO, name: str) -> Iterator[Item]:  # noqa: ARG002
        """See `Reader.read`: batches of features."""
        yield from in_batches(_feature_texts(blocks_in_utf8(file)))


class GeoJSONSeq(NDJSON):
    """Reads features one a line, or one behind each record separator (U+001E)."""

    name = "geojsonseq"
    text = True

    def recognise(self, head: Head) -> Match:
        """See `Reader.recognise`: by the separator, or by two lines with a feature each."""
        if head.data.startswith(_RECORD_SEPARATOR):
            return Match.CERTAIN
        if not head.data.lstrip().startswith(b"{"):
            return Match.NO
        lines = [line for line in head.data.split(b"\n", 64)[:64] if line.strip()]
        if len(lines) > 1 and lines[1].lstrip().startswith(b"{") and _is_feature(lines[0]):
            whole = lines[1:] if len(head.data) < HEAD_BYTES else lines[1:-1]
            return Match.CERTAIN if all(map(_is_feature, whole[:3])) else Match.NO
        return Match.NO

    def splitter(self, head: Head) -> SplittingReader | None:
        """See `SplittingReader.splitter`: not where features may span lines."""
        return None if head.data.startswith(_RECORD_SEPARATOR) else self

    def read(self, file: BinaryIO, name: str) -> Iterator[Item]:  # noqa: ARG002
        """See `Reader.read`: batches of features."""
        blocks = blocks_of(file)
        head = next(blocks, b"").removeprefix(b"\xef\xbb\xbf")
        blocks = chain([head], blocks)
        if head.startswith(_RECORD_SEPARATOR):
            yield from in_batches(map(_record_of, _between_separators(blocks)))
        else:
            yield from map(_as_features, batches_of_lines(blocks, 1, RECORD_LIMIT_BYTES))

    def read_range(self, file: BinaryIO, offset: int, length: int, first: int) -> Iterator[Item]:
        """See `SplittingReader.read_range`."""
        yield from map(_as_features, super().read_range(file, offset, length, first))


def _as_features(item: Item) -> Item:
    if not isinstance(item, Batch):
        return item
    texts = [_record_of(text) for text in item.texts]
    return Batch(item.numbers, texts)


def _between_separators(blocks: Iterable[bytes]) -> Iterator[bytes]:
    pieces: list[bytes] = []
    for block in chain(blocks, [_RECORD_SEPARATOR]):
        first, *others = block.split(_RECORD_SEPARATOR)
        pieces.append(first)
        for other in others:
            if text := b"".join(pieces).strip():
                yield text
            pieces = [other]


def _feature_texts(blocks: Iterator[bytes]) -> Iterator[bytes | BadRecord]:
    """Yield the record of each feature in each of a file's values."""
    source = JSONSource(blocks)
    try:
        if not source.peek():
            raise UnreadableSource("The file holds no JSON value.")
        while opening := source.peek():
            if opening == b"{":
                yield from _in_object(source)
            else:
                yield source.value()
    except BrokenOff as exc:
        yield exc.record
    except UnicodeDecodeError as exc:
        yield BadRecord(END, f"The text is not valid {exc.encoding}: {exc.reason}.")


def _in_object(source: JSONSource) -> Iterator[bytes | BadRecord]:
    others: list[tuple[bytes, bytes]] = []
    is_collection = False
    for key in source.members():
        if key == _FEATURES and source.peek() == b"[":
            is_collection = True
            for text in Selection().of(source, (ALL,)):
                yield text if isinstance(text, BadRecord) else _record_of(text)
        else:
            others.append((key, source.value()))
    if not is_collection:
        yield _record_of(b"{%b}" % b",".join(b"%b:%b" % member for member in others))


def _record_of(text: bytes) -> bytes:
    """Return the record of a feature or a geometry; any other text as it is."""
    try:
        members = _members(text)
    except BrokenOff:
        return text
    kind = members.pop(_TYPE, b"")
    if kind in _GEOMETRIES:
        return b'{"geometry":%b}' % text.strip()
    if kind != _FEATURE:
        return text
    properties = members.pop(_PROPERTIES, b"")
    inner, names = properties.strip()[1:-1].strip(), set[bytes]()
    if not properties.startswith(b"{"):  # null
        inner = b""
    elif any(key in inner for key in members):
        names = set(_members(properties))
    parts = [inner] if inner else []
    for key, value in members.items():
        parts.append(b"%b:%b" % (_unique(key, names), value))
    return b"{%b}" % b",".join(parts)


def _unique(key: bytes, taken: set[bytes]) -> bytes:
    unique, count = key, 1
    while unique in taken:
        count += 1
        unique = b'%b_%d"' % (key[:-1], count)
    return unique


def _members(text: bytes) -> dict[bytes, bytes]:
    """Return the members of an object as they are written; none for anything else."""
    source = JSONSource(iter([text]))
    if source.peek() != b"{":
        return {}
    return {key: source.value() for key in source.members()}


def _first_members(head: Head) -> dict[bytes, bytes]:
    """Return the members that a head shows of the first object, the last one without its value."""
    members: dict[bytes, bytes] = {}
    source = JSONSource(iter([head.data.removeprefix(b"\xef\xbb\xbf")]))
    try:
        source.peek()
        for key in source.members():
            members[key] = b""
            members[key] = source.value()
    except BrokenOff:
        pass
    return members


def _is_feature(line: bytes) -> bool:
    try:
        value: Any = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict) and value.get("type") == "Feature" and "geometry" in value
