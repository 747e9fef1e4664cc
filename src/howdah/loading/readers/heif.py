"""Size and EXIF of HEIC pictures, from the boxes around the coded picture, which is not decoded.

The libraries that decode HEVC are under the LGPL or the GPL.
Source: ISO/IEC 14496-12 (the boxes), ISO/IEC 23008-12 (HEIF); the boxes are
described at https://github.com/gpac/mp4box.js and https://nokiatech.github.io/heif/technical.html
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from howdah.loading.readers import UnreadableSource

__all__ = ["Heif", "heif"]

_BOX_HEADER, _LARGE_HEADER = 8, 16
_TO_THE_END, _LARGE = 0, 1


@dataclass(frozen=True, slots=True)
class Heif:
    """What the boxes of a HEIC file say.

    Attributes:
        width: Of the largest picture in it, in pixels.
        height: The same.
        exif: The EXIF block, from its TIFF header on; b"" where there is none.
    """

    width: int
    height: int
    exif: bytes


def heif(data: bytes) -> Heif:
    """Return what a HEIC file says of itself.

    Raises:
        UnreadableSource: Its boxes are broken or cut off.
    """
    try:
        meta = next(body for kind, body in _boxes(data, 0, len(data)) if kind == b"meta")
        parts = dict(_boxes(data, meta.start + 4, meta.stop))
        properties = dict(_boxes(data, parts[b"iprp"].start, parts[b"iprp"].stop))
        sizes = _sizes(data, properties[b"ipco"])
        width, height = max(sizes, key=lambda size: size[0] * size[1])
        item = _exif_item(data, parts[b"iinf"]) if b"iinf" in parts else None
        block = b"" if item is None else _content(data, parts[b"iloc"], item)
        return Heif(width, height, _behind_offset(block))
    except (StopIteration, KeyError, ValueError, IndexError, struct.error) as exc:
        raise UnreadableSource("The picture is broken or cut off.") from exc


def _boxes(data: bytes, start: int, end: int) -> Iterator[tuple[bytes, range]]:
    """Yield the kind of each box in a range, and where its content lies."""
    while start + _BOX_HEADER <= end:
        length, kind = struct.unpack_from(">I4s", data, start)
        header = _BOX_HEADER
        if length == _LARGE:
            (length,) = struct.unpack_from(">Q", data, start + _BOX_HEADER)
            header = _LARGE_HEADER
        elif length == _TO_THE_END:
            length = end - start
        if length < header or start + length > end:
            raise ValueError(kind)
        yield kind, range(start + header, start + length)
        start += length


def _sizes(data: bytes, container: range) -> list[tuple[int, int]]:
    """Return the sizes of the pictures, tiles and thumbnails: width and height."""
    return [
        struct.unpack_from(">II", data, body.start + 4)
        for kind, body in _boxes(data, container.start, container.stop)
        if kind == b"ispe"
    ]


def _exif_item(data: bytes, infos: range) -> int | None:
    """Return the number of the item that holds the EXIF block."""
    wide = data[infos.start] > 0
    for kind, body in _boxes(data, infos.start + (8 if wide else 6), infos.stop):
        version = data[body.start]
        if kind != b"infe" or version < 2:  # noqa: PLR2004  older ones name no type
            continue
        form = ">H2x4s" if version == 2 else ">I2x4s"  # noqa: PLR2004
        number, item_type = struct.unpack_from(form, data, body.start + 4)
        if item_type == b"Exif":
            return int(number)
    return None


def _content(data: bytes, locations: range, wanted: int) -> bytes:
    """Return an item's bytes, as far as they lie in the file itself, in one piece or several."""
    version = data[locations.start]
    widths = struct.unpack_from(">H", data, locations.start + 4)[0]
    offset_size, length_size, base_size, index_size = (widths >> s & 15 for s in (12, 8, 4, 0))
    wide = 4 if version == 2 else 2  # noqa: PLR2004
    place = locations.start + 6

    def number(size: int) -> int:
        nonlocal place
        place += size
        return int.from_bytes(data[place - size : place], "big")

    for _ in range(number(wide)):
        item = number(wide)
        if version:
            number(2)  # how it is constructed
        number(2)  # which file
        base = number(base_size)
        extents = []
        for _ in range(number(2)):
            if version:
                number(index_size)
            extents.append((base + number(offset_size), number(length_size)))
        if item == wanted:
            return b"".join(data[offset : offset + length] for offset, length in extents)
        if place > locations.stop:
            break
    return b""


def _behind_offset(block: bytes) -> bytes:
    """Return the block from its TIFF header on, whose place its first four bytes tell."""
    if len(block) < 4:  # noqa: PLR2004
        return b""
    return block[4 + int.from_bytes(block[:4], "big") :]
