"""How much a wrapper, an archive or a document in a ZIP file may become: guards against bombs.

A bomb is small and unpacks to more than anything can hold: 42.zip, 42 kB, holds
4.5 PB in nested archives. So what comes out of each wrapper is counted against
what went in, and what comes out of all wrappers of one file together against
the file. Whoever has an honest file beyond a limit unpacks it himself and loads
the result, or pipes it: `zcat huge.gz | howdah load -`.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from typing import IO, TYPE_CHECKING, BinaryIO

from howdah.loading.readers import UnreadableSource

if TYPE_CHECKING:
    from typing_extensions import Buffer  # collections.abc's, from Python 3.12 on

__all__ = [
    "DEEPEST",
    "DIRECTORY_BYTES",
    "FLOOR_BYTES",
    "MOST_MEMBERS",
    "RATIO",
    "TOTAL_FLOOR_BYTES",
    "Budget",
    "Counted",
    "Metered",
    "refuse_large_directory",
    "refuse_large_package",
]

DEEPEST = 8
"""How many wrappers and archives may lie inside each other. A quine goes on for ever."""

RATIO = 250
"""How many times its own size a wrapper may unpack to.

Logs and JSON shrink 10 to 50 times; deflate's most is 1,032 (the source), bzip2's
and zstd's are above 10,000.

Source: https://www.zlib.net/zlib_tech.html
"""

FLOOR_BYTES = 64 << 20
"""What any wrapper may unpack to, whatever its size, in bytes: a file of one repeated line is no
bomb as long as it is small."""

TOTAL_FLOOR_BYTES = 1 << 30
"""What all wrappers of one file may unpack to together, whatever its size, in bytes.

Beyond it, `RATIO` times the file's size. Many members may share the same bytes.

Source: D. Fifield, "A better zip bomb", WOOT 2019.
"""

MOST_MEMBERS = 1_000_000
"""How many members the archives in one file may have: each costs a row of the ledger."""

DIRECTORY_BYTES = 128 << 20
"""How long a ZIP file's directory may be, in bytes: its million entries take 1 GB of memory."""


class Budget:
    """What may still come out of one file.

    Args:
        packed: Returns the file's size in bytes, or how much of it has been read.
    """

    def __init__(self, packed: Callable[[], int]) -> None:
        self.exceeded: str | None = None
        """Why nothing more may come out of the file; None as long as it may."""
        self.members = 0
        self._packed = packed
        self._unpacked = 0

    def take(self, count: int) -> None:
        """Count bytes that a wrapper gave; raise UnreadableSource where they are too many."""
        self._unpacked += count
        if self._unpacked > TOTAL_FLOOR_BYTES and self._unpacked > RATIO * self._packed():
            self._exceed(f"the whole file unpacks to more than {RATIO} times its size")

    def take_member(self) -> None:
        """Count a member of an archive; raise UnreadableSource where they are too many."""
        self.members += 1
        if self.members > MOST_MEMBERS:
            self._exceed(f"its archives have more than {MOST_MEMBERS:,} members")

    def _exceed(self, reason: str) -> None:
        self.exceeded = f"{reason}; what lies behind that is not read"
        raise UnreadableSource(reason)


class _Read(io.RawIOBase):
    """A stream that is read only forwards, in blocks."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.count = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer, /) -> int:
        view = memoryview(buffer)
        data = self._file.read(len(view))
        view[: len(data)] = data
        self._add(len(data))
        return len(data)

    def _add(self, count: int) -> None:
        self.count += count


class Counted(_Read):
    """A stream that knows how many bytes have been read from it, in `count`."""


class Metered(_Read):
    """What comes out of a wrapper; it raises `UnreadableSource` once that is a bomb's.

    Args:
        file: What comes out.
        packed: Returns how many bytes have gone into it.
        budget: Of the file that it all comes from.
    """

    def __init__(self, file: IO[bytes], packed: Callable[[], int], budget: Budget) -> None:
        super().__init__(file)
        self._packed = packed
        self._budget = budget

    def _add(self, count: int) -> None:
        super()._add(count)
        if self.count > FLOOR_BYTES and self.count > RATIO * self._packed():
            raise UnreadableSource(f"it unpacks to more than {RATIO} times its size")
        self._budget.take(count)


def refuse_large_directory(file: BinaryIO) -> None:
    """Raise UnreadableSource for a ZIP file whose directory would fill the memory.

    Args:
        file: Can seek; it is left anywhere.
    """
    size = file.seek(0, io.SEEK_END)
    file.seek(max(0, size - (1 << 16) - 22))  # the longest comment and the record itself
    tail = file.read()
    place = tail.rfind(b"PK\5\6")
    if place < 0 or len(tail) < place + 16:
        return  # zipfile will say that it is none
    (length,) = struct.unpack_from("<I", tail, place + 12)
    large = tail.rfind(b"PK\6\6", 0, place)
    if large >= 0:
        (length,) = struct.unpack_from("<Q", tail, large + 40)
    if DIRECTORY_BYTES < length <= size:
        raise UnreadableSource(f"its directory is larger than {DIRECTORY_BYTES:,} bytes")


def refuse_large_package(unpacked: int, file: BinaryIO) -> None:
    """Raise UnreadableSource for an office file or e-book that unpacks to a bomb's size.

    Its reader unpacks it in memory. What its directory says is believed here: a
    library that meets more than that in a member takes the member for damaged.

    Args:
        unpacked: What the directory says that it unpacks to, in bytes.
        file: Where it is; left at its start.
    """
    packed = file.seek(0, io.SEEK_END)
    file.seek(0)
    if unpacked > FLOOR_BYTES and unpacked > RATIO * packed:
        raise UnreadableSource(f"it unpacks to more than {RATIO} times its size")
