"""Opening a source: wrappers off, archives entered, the reader found.

gzip, bzip2, xz and zstd are taken off whatever they wrap; ZIP and tar archives
are entered, and each of their members is a source of its own, archives in
archives too. All is decided by content. Members are read as streams, one after
the other; nothing is unpacked but into a temporary file that has no name, and
never more than `expansion` allows. Links, devices and the like are left out.
"""

from __future__ import annotations

import io
import stat
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, BinaryIO, cast

from howdah.loading.expansion import (
    DEEPEST,
    Budget,
    Counted,
    Metered,
    refuse_large_directory,
    refuse_large_package,
)
from howdah.loading.readers import (
    HEAD_BYTES,
    Head,
    Reader,
    ReaderOptions,
    SplittingReader,
    UnreadableSource,
    reader_for,
)
from howdah.loading.remote import RemoteFile, open_url
from howdah.loading.sources import MEMBER_SEPARATOR, SourceFile, source_name
from howdah.loading.unwrapping import WRAPPERS, Rejoined, copy_aside, damage, without_suffix
from howdah.loading.urls import is_url

if TYPE_CHECKING:  # a load of plain files waits for none of them
    from howdah.loading.readers.packages import Package

__all__ = ["Opened", "Unopened", "open_file", "open_small", "open_sources", "splitter_of"]

_SPOOL_BYTES = 16 << 20
"""What a member may take in memory before it is spooled to disk, in bytes."""

_SMALL_BYTES = 1 << 20
_BUFFER_BYTES = 64 << 10  # a read of as much, or more, is not copied through the buffer
_DEFAULT = ReaderOptions()
_TAR_MAGIC = slice(257, 262)
_NOTHING = "it is an archive with nothing to load: only folders, links or hidden files"
_ZIP_MAGICS = (b"PK\3\4", b"PK\5\6")
_WRAPPER_MAGICS = tuple(WRAPPERS)


@dataclass(frozen=True, slots=True)
class Opened:
    """A source that is open, at its start.

    Attributes:
        name: Its name in the table.
        reader: What reads it.
        file: Its bytes without wrappers; seekable if the reader asks for it.
        package: The ZIP file that it is, kept for the reader, who finds it by the file.
    """

    name: str
    reader: Reader
    file: BinaryIO
    package: Package | None = None


@dataclass(frozen=True, slots=True)
class Unopened:
    """A source that cannot be read.

    Attributes:
        name: Its name in the table.
        reason: Why, one sentence.
    """

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class _Stream:
    """Bytes on their way to a reader.

    Attributes:
        name: The source's name in the table.
        hint: The file's name without folders, and without the suffixes of wrappers taken off.
        file: The bytes, at their start.
        options: What its reader is told.
        budget: What may still come out of the outermost file.
        depth: How many wrappers and archives lie around it.
        package: The ZIP file that they are.
    """

    name: str
    hint: str
    file: BinaryIO
    options: ReaderOptions
    budget: Budget
    depth: int = 0
    package: Package | None = None


def open_file(path: str) -> io.BufferedReader:
    """Open a file, or an object at a URL, for the loader; the caller closes it.

    Raises:
        OSError: It cannot be opened.
    """
    if is_url(path):
        return open_url(path)
    return io.BufferedReader(io.FileIO(path), _BUFFER_BYTES)


def open_small(file: SourceFile) -> BinaryIO:
    """Open a file as `open_file` does; one of less than a megabyte is read at once and whole.

    A document is looked at again and again: its head, its end, its directory.

    Raises:
        OSError: It cannot be opened.
    """
    if file.is_stream or file.size_bytes > _SMALL_BYTES or is_url(file.path):
        return open_file(file.path)
    with io.FileIO(file.path) as opened:
        data = opened.read(file.size_bytes + 1)
        if len(data) != file.size_bytes:  # it is another than it was
            data += opened.readall()
        return io.BytesIO(data)


def open_sources(
    file: BinaryIO, name: str, options: ReaderOptions = _DEFAULT
) -> Iterator[Opened | Unopened]:
    """Yield the sources in a file: itself, or the members of the archive that it is.

    Each is valid until the next one is asked for.

    Args:
        file: Its bytes, at their start.
        name: The source's name.
        options: What its reader is told.
    """
    if isinstance(file, io.BytesIO) and (plain := _plain(file, name, options)) is not None:
        yield plain
        return
    stream = _outermost(file, name, options)
    last = name
    for source in _enter(stream):
        yield source
        last = source.name
    if stream.budget.exceeded and last != name:
        yield Unopened(name, stream.budget.exceeded)


def _plain(file: io.BytesIO, name: str, options: ReaderOptions) -> Opened | None:
    """Return the source that a small file is, in the few steps that most documents need.

    None: it is a wrapper, an archive, or nothing that a reader takes; the file is at its start.
    """
    data = file.read(HEAD_BYTES)
    file.seek(0)
    if not data or data.startswith(_WRAPPER_MAGICS) or data[_TAR_MAGIC] == b"ustar":
        return None
    package = None
    if data.startswith(_ZIP_MAGICS):
        from howdah.loading.readers.packages import ZIP_FAULTS, package_at

        try:
            package = package_at(file)
            refuse_large_package(package.unpacked_bytes, file)
        except (UnreadableSource, NotImplementedError, *ZIP_FAULTS):
            file.seek(0)
            return None
    head = Head(name.rpartition("/")[2], data, package.names if package else ())
    try:
        reader = reader_for(head, options, archive=bool(head.members))
    except UnreadableSource:
        return None
    return Opened(name, reader, file, package) if reader else None


def splitter_of(
    file: BinaryIO, name: str, options: ReaderOptions = _DEFAULT
) -> SplittingReader | None:
    """Return the reader of a file whose records many workers can share; None: one must read it.

    Args:
        file: Left at its start if it can seek; if not, one must read it.
        name: The source's name.
        options: What its reader is told.

    Raises:
        UnreadableSource: The file is empty, or its reader does not take the options.
    """
    if not file.seekable():
        return None
    with ExitStack() as spooled:
        _, head = _look(_outermost(file, name, options), spooled)
    file.seek(0)
    if head.data.startswith(_WRAPPER_MAGICS):
        return None
    reader = reader_for(head, options, archive=_is_archive(head))
    return reader.splitter(head) if isinstance(reader, SplittingReader) else None


def _outermost(file: BinaryIO, name: str, options: ReaderOptions) -> _Stream:
    hint = name.rpartition("/")[2]
    if file.seekable():
        size = file.seek(0, io.SEEK_END)
        file.seek(0)
        return _Stream(name, hint, file, options, Budget(lambda: size))
    counted = Counted(file)
    return _Stream(name, hint, _buffered(counted), options, Budget(lambda: counted.count))


def _enter(stream: _Stream) -> Iterator[Opened | Unopened]:
    try:
        with ExitStack() as spooled:
            stream, head = _unwrapped(stream, spooled)
            reader = reader_for(head, stream.options, archive=_is_archive(head))
            if reader is not None:
                if stream.package is not None:
                    refuse_large_package(stream.package.unpacked_bytes, stream.file)
                file = _seekable(stream, spooled, near=True) if reader.seeks else stream.file
                yield Opened(stream.name, reader, file, stream.package)
            elif _is_archive(head):
                members = _zip_members(stream) if head.members else _tar_members(stream)
                yield next(members, Unopened(stream.name, _NOTHING))
                yield from members
            else:
                yield Unopened(stream.name, _unknown(head))
    except UnreadableSource as exc:
        yield Unopened(stream.name, str(exc))
    except damage() as exc:
        yield Unopened(stream.name, f"it cannot be unpacked: {exc}")


def _is_archive(head: Head) -> bool:
    return bool(head.members) or head.data[_TAR_MAGIC] == b"ustar"


def _unwrapped(stream: _Stream, spooled: ExitStack) -> tuple[_Stream, Head]:
    while True:
        if stream.depth > DEEPEST:
            raise UnreadableSource(f"more than {DEEPEST} archives lie inside each other")
        stream, head = _look(stream, spooled)
        for magic, (suffix, unwrap) in WRAPPERS.items():
            if head.data.startswith(magic):
                stream = replace(
                    stream,
                    file=_unpacked(stream, unwrap),
                    hint=without_suffix(stream.hint, suffix),
                    depth=stream.depth + 1,
                )
                break
        else:
            return stream, head


def _unpacked(stream: _Stream, unwrap: Callable[[BinaryIO], BinaryIO]) -> BinaryIO:
    counted = Counted(stream.file)
    unwrapped = unwrap(cast("BinaryIO", counted))
    return cast("BinaryIO", Metered(unwrapped, lambda: counted.count, stream.budget))


def _look(stream: _Stream, spooled: ExitStack) -> tuple[_Stream, Head]:
    """Return the stream, at its start again, and its head."""
    data = _read_fully(stream.file, HEAD_BYTES)
    if not data:
        raise UnreadableSource("it is empty")
    if stream.depth == 0 and stream.file.seekable():
        stream.file.seek(0)
    else:
        # gzip and its kin can seek back, but only by unpacking from the start.
        stream = replace(stream, file=_buffered(Rejoined(data, stream.file)))
    if not data.startswith(_ZIP_MAGICS):
        return stream, Head(stream.hint, data)
    stream = replace(stream, file=_seekable(stream, spooled))
    refuse_large_directory(stream.file)
    import zipfile

    from howdah.loading.readers.packages import package_at

    try:
        package = package_at(stream.file)
    except (zipfile.BadZipFile, NotImplementedError, UnicodeDecodeError) as exc:
        raise UnreadableSource("it is a ZIP file (or a document in one) that is cut off") from exc
    stream.file.seek(0)
    return replace(stream, package=package), Head(stream.hint, data, package.names)


def _zip_members(stream: _Stream) -> Iterator[Opened | Unopened]:
    import zipfile

    names: Counter[str] = Counter()
    with zipfile.ZipFile(stream.file) as archive:
        for info in archive.infolist():
            is_link = stat.S_ISLNK(info.external_attr >> 16)
            if info.is_dir() or is_link or _is_hidden(info.filename):
                continue
            member = _member(stream, info.filename, names)
            try:
                file = archive.open(info)
            except (RuntimeError, NotImplementedError, zipfile.BadZipFile) as exc:
                encrypted = info.flag_bits & 1  # zipfile's message is a dump of the entry
                why = "it is encrypted" if encrypted else f"it cannot be unpacked: {exc}"
                yield Unopened(member.name, why)
                continue
            with file:
                metered = Metered(file, partial(int, info.compress_size), stream.budget)
                yield from _enter(replace(member, file=cast("BinaryIO", metered)))
            if stream.budget.exceeded:
                return


def _tar_members(stream: _Stream) -> Iterator[Opened | Unopened]:
    import tarfile

    names: Counter[str] = Counter()
    with tarfile.open(fileobj=stream.file, mode="r|") as archive:
        for info in archive:
            if not info.isfile() or _is_hidden(info.name):
                continue
            member = _member(stream, info.name, names)
            if info.issparse():  # its zeros are not in the archive: any number of them
                yield Unopened(member.name, "it is a sparse file, which is not unpacked")
            elif (file := archive.extractfile(info)) is not None:
                yield from _enter(replace(member, file=cast("BinaryIO", file)))
            if stream.budget.exceeded:
                return


def _member(archive: _Stream, path: str, names: Counter[str]) -> _Stream:
    archive.budget.take_member()
    unique = path
    while names[unique]:  # a tar file may hold a path twice; each is a source
        names[path] += 1
        unique = f"{path} ({names[path]})"
    names[unique] = 1
    return replace(
        archive,
        name=source_name(unique, archive.name + MEMBER_SEPARATOR),
        hint=path.rpartition("/")[2],
        depth=archive.depth + 1,
        package=None,
    )


def _is_hidden(path: str) -> bool:
    """Return whether a folder would have left it out too: a dot file, macOS's resource forks."""
    parts = path.split("/")
    return parts[0] == "__MACOSX" or any(p.startswith(".") and p.strip(".") for p in parts)


def _unknown(head: Head) -> str:
    return f"no reader knows its format (name {head.name!r}, first bytes {head.data[:8].hex(' ')})"


def _seekable(stream: _Stream, spooled: ExitStack, *, near: bool = False) -> BinaryIO:
    """Return the bytes as a file that can seek at no cost: spooled where they are a stream.

    Args:
        stream: The bytes, at their start.
        spooled: Closes the file.
        near: Whether an object in a store does not do, though it can seek: a library
            that jumps about would send a request for each jump.
    """
    import tempfile

    file = stream.file
    far = near and isinstance(getattr(file, "raw", None), RemoteFile)
    at_hand = stream.depth == 0 and file.seekable() and not far
    if at_hand or isinstance(file, tempfile.SpooledTemporaryFile):
        return file
    temporary = tempfile.SpooledTemporaryFile(_SPOOL_BYTES)  # noqa: SIM115 - the stack closes it
    spool = spooled.enter_context(temporary)
    copy_aside(file, spool)
    return cast("BinaryIO", spool)


def _buffered(stream: io.RawIOBase) -> BinaryIO:
    return cast("BinaryIO", io.BufferedReader(stream, HEAD_BYTES))


def _read_fully(file: BinaryIO, size: int) -> bytes:
    data = b""
    while len(data) < size and (more := file.read(size - len(data))):
        data += more
    return data
