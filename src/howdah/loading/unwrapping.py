"""Wrappers: what takes gzip, bzip2, xz and zstd off a stream, by the first bytes of each.

Their libraries are imported where they are needed: most loads need none.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import cache
from typing import IO, TYPE_CHECKING, BinaryIO, cast

from howdah.loading.remote import SourceLost

if TYPE_CHECKING:
    from typing_extensions import Buffer  # collections.abc's, from Python 3.12 on

__all__ = ["WRAPPERS", "Rejoined", "copy_aside", "damage", "without_suffix"]

_WRAPPED_TARS = {".tgz": ".tar", ".tbz2": ".tar", ".txz": ".tar", ".tzst": ".tar"}


class Rejoined(io.RawIOBase):
    """A stream whose head has been read, with the head put in front again."""

    def __init__(self, head: bytes, rest: IO[bytes]) -> None:
        self._head = io.BytesIO(head)
        self._rest = rest

    def readable(self) -> bool:
        """See `io.RawIOBase`."""
        return True

    def readinto(self, buffer: Buffer, /) -> int:
        """See `io.RawIOBase`."""
        view = memoryview(buffer)
        data = self._head.read(len(view)) or self._rest.read(len(view))
        view[: len(data)] = data
        return len(data)


def _gunzip(file: BinaryIO) -> BinaryIO:
    import gzip

    return cast("BinaryIO", gzip.GzipFile(fileobj=file, mode="rb"))


def _bunzip2(file: BinaryIO) -> BinaryIO:
    import bz2

    return cast("BinaryIO", bz2.BZ2File(file))


def _unxz(file: BinaryIO) -> BinaryIO:
    import lzma

    return cast("BinaryIO", lzma.LZMAFile(file))


def _unzstd(file: BinaryIO) -> BinaryIO:
    import zstandard

    reader = zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(
        file, read_across_frames=True, closefd=False
    )
    return cast("BinaryIO", reader)


WRAPPERS: dict[bytes, tuple[str, Callable[[BinaryIO], BinaryIO]]] = {
    b"\x1f\x8b": (".gz", _gunzip),
    b"BZh": (".bz2", _bunzip2),
    b"\xfd7zXZ\0": (".xz", _unxz),
    b"\x28\xb5\x2f\xfd": (".zst", _unzstd),
}
"""The first bytes of each wrapper, the suffix of its files, and what takes it off."""


@cache
def damage() -> tuple[type[Exception], ...]:
    """Return what libraries raise for wrappers and archives that are damaged."""
    import lzma
    import tarfile
    import zipfile
    import zlib

    import zstandard

    return (
        EOFError,
        OSError,
        lzma.LZMAError,
        tarfile.TarError,
        zipfile.BadZipFile,
        zlib.error,
        zstandard.ZstdError,
    )


def without_suffix(name: str, suffix: str) -> str:
    """Return the name of what a wrapper holds, by the name and the suffix of the wrapper."""
    for wrapped, bare in _WRAPPED_TARS.items():
        if name.lower().endswith(wrapped):
            return name[: -len(wrapped)] + bare
    return name[: -len(suffix)] if name.lower().endswith(suffix) else name


def copy_aside(file: BinaryIO, aside: IO[bytes]) -> None:
    """Copy what comes out of a wrapper into a temporary file, and go to its start.

    Raises:
        SourceLost: There is no room for it; the source itself may be sound.
    """
    import tempfile

    while block := file.read(1 << 20):
        try:
            aside.write(block)
            aside.flush()
        except OSError as exc:
            raise SourceLost(
                f"There is no room for temporary files in {tempfile.gettempdir()}: {exc.strerror}.",
                next_step="Free some, or name another folder in TMPDIR, and run the same command "
                "again to go on.",
            ) from exc
    aside.seek(0)
