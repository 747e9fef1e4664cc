"""Chunks of an object in a store, kept on disk from the parent's reading to their worker's.

The parent reads the whole object to cut it. What it reads goes into a file for each
chunk, at the same places as in the object, so that nobody has to ask the store for
it again. The worker removes that file as it opens it; where it is gone, or the disk
was full, or a reader looks elsewhere, the store is asked.
"""

from __future__ import annotations

import io
import os
from collections.abc import Generator, Iterable
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from tempfile import mkstemp
from typing import TYPE_CHECKING

from howdah.loading.chunks import BLOCK_BYTES, CHUNK_BYTES, Chunk
from howdah.loading.opening import open_file
from howdah.loading.sources import SourceFile
from howdah.loading.temporary import temporary_folder
from howdah.loading.urls import is_url

if TYPE_CHECKING:
    from typing_extensions import Buffer  # collections.abc's, from Python 3.12 on

__all__ = ["discard", "handed_over", "near_folder", "open_chunk", "open_to_cut"]


@contextmanager
def near_folder(files: Iterable[SourceFile]) -> Generator[str]:
    """Make a folder for chunks until the end of the block.

    Yields "" where no object can be split, or no folder can be made.
    """
    folder = ""
    with ExitStack() as stack:
        if any(is_url(file.path) and file.size_bytes > CHUNK_BYTES for file in files):
            with suppress(OSError):
                folder = stack.enter_context(temporary_folder())
        yield folder


def open_to_cut(path: str, folder: str) -> io.BufferedReader:
    """Open a file, or an object whose chunks are kept in a folder; see `handed_over`.

    Raises:
        OSError: It cannot be opened.
    """
    file = open_file(path)
    return _Keeping(file, folder) if folder and is_url(path) else file


def handed_over(file: io.BufferedReader) -> str:
    """Return where the chunk is kept that was read last; "" where it is not."""
    return file.hand_over() if isinstance(file, _Keeping) else ""


def discard(kept: str) -> None:
    """Remove a chunk that nobody is going to read."""
    if kept:
        Path(kept).unlink()


def open_chunk(file: SourceFile, chunk: Chunk, kept: str) -> io.BufferedReader:
    """Open a file to read a chunk of it, which may be kept near.

    Args:
        file: The whole file.
        chunk: What is going to be read.
        kept: From `handed_over`.

    Raises:
        OSError: It cannot be opened.
    """
    if kept:
        with suppress(OSError):
            near = Path(kept).open("rb", buffering=0)  # noqa: SIM115 - _Near closes it
            discard(kept)
            return io.BufferedReader(_Near(file, chunk, near), BLOCK_BYTES)
    return open_file(file.path)


class _Keeping(io.BufferedReader):
    """An object that keeps what `cut` reads of it."""

    def __init__(self, file: io.BufferedReader, folder: str) -> None:
        super().__init__(file.detach(), BLOCK_BYTES)
        self._folder = folder
        self._kept: tuple[int, str] | None = None
        self._fits = True
        # Readers look at the beginning too, where the names of columns are.
        self._head = super().read(BLOCK_BYTES)
        self.seek(0)

    def readinto(self, buffer: Buffer, /) -> int:
        place = self.tell()
        count = super().readinto(buffer)
        if self._fits:
            try:
                self._keep(memoryview(buffer).cast("B")[:count], place)
            except OSError:  # the disk is full
                self._fits = False
        return count

    def hand_over(self) -> str:
        (descriptor, path), self._kept = self._kept or (-1, ""), None
        if path:
            os.close(descriptor)
        fits, self._fits = self._fits, True
        if not fits:
            discard(path)
        return path if fits else ""

    def close(self) -> None:
        discard(self.hand_over())
        super().close()

    def _keep(self, data: memoryview, place: int) -> None:
        if self._kept is None:
            self._kept = mkstemp(dir=self._folder)
            _write(self._kept[0], memoryview(self._head), 0)
        _write(self._kept[0], data, place)


def _write(descriptor: int, data: memoryview, place: int) -> None:
    while data:
        count = os.pwrite(descriptor, data, place)
        data, place = data[count:], place + count


class _Near(io.RawIOBase):
    """An object of which the beginning and a chunk lie here, and the rest in its store."""

    def __init__(self, file: SourceFile, chunk: Chunk, near: io.FileIO) -> None:
        self._file = file
        self._near = near
        self._head = min(BLOCK_BYTES, file.size_bytes)
        self._chunk = chunk.offset, chunk.offset + chunk.length
        self._place = 0
        self._far: io.BufferedReader | None = None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._file.size_bytes}
        self._place = max(0, base[whence] + offset)
        return self._place

    def readinto(self, buffer: Buffer, /) -> int:
        view = memoryview(buffer).cast("B")
        start, end = self._chunk
        if start <= self._place < end:
            count = self._read_near(view[: end - self._place])
        elif self._place < self._head:
            count = self._read_near(view[: self._head - self._place])
        else:
            count = self._read_far(view)
        self._place += count
        return count

    def _read_near(self, view: memoryview) -> int:
        self._near.seek(self._place)
        return self._near.readinto(view)

    def _read_far(self, view: memoryview) -> int:
        if self._place >= self._file.size_bytes:
            return 0
        if self._far is None:
            self._far = open_file(self._file.path)
        self._far.seek(self._place)
        return self._far.readinto(view)

    def close(self) -> None:
        self._near.close()
        if self._far is not None:
            self._far.close()
        super().close()
