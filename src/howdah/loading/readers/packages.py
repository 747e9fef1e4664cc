"""ZIP files that are documents: which members they have, and the few that are read here.

zipfile makes an object of each member, which takes longer than to read many a
document. So a directory is walked here, where it is of the plain kind that office
programs write; zipfile reads all others, and whatever here is not as expected.

Source: APPNOTE.TXT, "4.3 General Format of a .ZIP file".
https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT
"""

from __future__ import annotations

import io
import lzma
import weakref
import zipfile
import zlib
from collections.abc import Mapping
from io import BytesIO
from struct import Struct
from typing import IO, NamedTuple

__all__ = ["ZIP_FAULTS", "Package", "package_at", "package_of", "zip_of"]

# What zipfile raises for a file whose bytes are not what they say: RuntimeError
# and NotImplementedError for encryption and versions, ValueError for names.
ZIP_FAULTS = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    OSError,
    RuntimeError,
    ValueError,
)
_PART_BYTES = 16 << 20  # of a member; those read here are a few kB
_DIRECTORY_BYTES = 1 << 20  # a longer one is no plain document's
_END = Struct("<4s4xHHIIH")  # signature, entries here and in all, length, offset, comment's length
_ENTRY = Struct("<4s4xHH4xIIIHHH8xI")
_LOCAL = Struct("<4s22xHH")
_STORED, _DEFLATED = 0, 8
_IN_ZIP64 = 0xFFFF_FFFF  # as a size: it stands elsewhere
_HARMLESS_FLAGS = 0b1000_0000_0110  # of deflate's effort, and that the names are UTF-8
_STREAMED = 0b1000  # the sizes stand behind the member as well


class _Member(NamedTuple):
    flags: int
    method: int
    crc: int
    packed: int
    size: int
    offset: int


class Package:
    """A ZIP file whose directory is read.

    Args:
        file: Where it is; can seek.
        members: Of a plain directory; None: zipfile reads it.

    Attributes:
        names: Of its members.
        unpacked_bytes: What they unpack to, if the directory says the truth.

    Raises:
        zipfile.BadZipFile: Its directory cannot be read; others of zipfile's errors too.
    """

    def __init__(self, file: IO[bytes], members: Mapping[str, _Member] | None) -> None:
        self._file = file
        self._members = members
        if members is None:
            infos = zipfile.ZipFile(file).infolist()
            self.names = tuple(info.filename for info in infos)
            self.unpacked_bytes = sum(info.file_size for info in infos)
        else:
            self.names = tuple(members)
            self.unpacked_bytes = sum(member.size for member in members.values())

    def is_of(self, file: IO[bytes]) -> bool:
        """Say whether it is the ZIP file in this very file."""
        return self._file is file

    def read(self, name: str) -> bytes:
        """Return a member, as far as 16 MiB.

        Raises:
            KeyError: There is none of that name.
            zipfile.BadZipFile: It is damaged; others of zipfile's errors too.
        """
        member = None if self._members is None else self._members[name]
        data = None if member is None else self._read(name, member)
        if data is not None:
            return data
        with zipfile.ZipFile(self._file) as package, package.open(name) as opened:
            return opened.read(_PART_BYTES)

    def _read(self, name: str, member: _Member) -> bytes | None:
        """Return a member that is plain and sound; None for others."""
        plain = not member.flags & ~(_HARMLESS_FLAGS | _STREAMED)
        if not plain or member.method not in {_STORED, _DEFLATED} or member.size > _PART_BYTES:
            return None
        self._file.seek(member.offset)
        header = self._file.read(_LOCAL.size)
        if len(header) < _LOCAL.size:
            return None
        signature, name_length, extra_length = _LOCAL.unpack(header)
        names = self._file.read(name_length + extra_length)
        packed = self._file.read(member.packed)
        if signature != b"PK\3\4" or names[:name_length] != name.encode():
            return None
        if member.method == _STORED:
            data = packed
        else:
            try:
                data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, member.size + 1)
            except zlib.error:
                return None
        return data if len(data) == member.size and zlib.crc32(data) == member.crc else None


def _plain_members(file: IO[bytes]) -> dict[str, _Member] | None:
    """Return the members of a directory that stands at the very end and has nothing special."""
    size = file.seek(0, io.SEEK_END)
    if size < _END.size:
        return None
    file.seek(-_END.size, io.SEEK_END)
    signature, here, count, length, offset, comment = _END.unpack(file.read(_END.size))
    start = size - _END.size - length
    if signature != b"PK\5\6" or comment or here != count or offset != start:
        return None
    if length > _DIRECTORY_BYTES or count > length // _ENTRY.size:
        return None
    file.seek(start)
    data = file.read(length)
    members: dict[str, _Member] = {}
    place, unpack = 0, _ENTRY.unpack_from
    for _ in range(count):
        if place + _ENTRY.size > length:
            return None
        signature, flags, method, crc, packed, size, name, extra, more, local = unpack(data, place)
        place += _ENTRY.size
        members[data[place : place + name].decode("latin-1")] = _Member(
            flags, method, crc, packed, size, local
        )
        place += name + extra + more
        if signature != b"PK\1\2" or _IN_ZIP64 in {packed, size}:
            return None
    names = "".join(members)
    odd = place != length or len(members) != count or not names.isascii() or "\0" in names
    return None if odd else members


_latest: list[weakref.ref[Package]] = []


def package_at(file: IO[bytes]) -> Package:
    """Return the ZIP file in a file that can seek; the same one while somebody holds it.

    So its directory is read once, for who chooses a reader and for the reader.

    Raises:
        zipfile.BadZipFile: Its directory cannot be read; others of zipfile's errors too.
    """
    known = _latest[0]() if _latest else None
    if known is None or not known.is_of(file):
        known = Package(file, _plain_members(file))
        _latest[:] = [weakref.ref(known)]
    return known


def package_of(data: bytes, file: IO[bytes] | None = None) -> Package | None:
    """Return a ZIP file, its directory read; None where that cannot be, or it is no ZIP file.

    Args:
        data: All of it, or its start where the file can seek.
        file: Where it was read from.
    """
    if not data.startswith(b"PK\x03\x04"):
        return None
    try:
        return package_at(file if file is not None and file.seekable() else BytesIO(data))
    except ZIP_FAULTS:
        return None


def zip_of(file: IO[bytes]) -> zipfile.ZipFile | None:
    """Return the ZIP file in a file that can seek, as zipfile reads it; None where it cannot."""
    try:
        return zipfile.ZipFile(file)
    except ZIP_FAULTS:
        return None
