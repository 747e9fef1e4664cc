"""Objects in stores, by fsspec: listed, told from their changed selves, read by ranges or whole.

What a store's library raises gets out of here in our own words only, see `stores`.
"""

from __future__ import annotations

import errno
import glob
import io
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

from howdah.errors import HowdahError, UsageError
from howdah.loading.stores import (
    RANGE_BYTES,
    admit,
    in_own_words,
    is_final,
    open_in,
    os_error,
    reason,
    status_of,
    store_of,
    unreachable,
)
from howdah.loading.urls import AZURE, HTTP, public_name, scheme_of

if TYPE_CHECKING:
    from typing_extensions import Buffer  # collections.abc's, from Python 3.12 on

__all__ = ["RemoteFile", "RemoteObject", "SourceLost", "current_fingerprint", "listing", "open_url"]

RANGES_FROM_BYTES = 16 << 20
"""From which size on a file at a web server is read by ranges; a smaller one is read at once."""

WAITS_S = (0.5, 2.0, 5.0)
"""How long to wait before each further attempt to read, in seconds."""

# What stores call that which changes with an object's content; the first one that is there.
_MARKS = ("ETag", "etag", "Content-MD5", "md5Hash", "content_md5", "generation", "checksum")
_TIMES = ("Last-Modified", "LastModified", "last_modified", "mtime", "updated", "modify", "created")
_NOT_THERE, _FORBIDDEN = {404, 410}, 403


class SourceLost(HowdahError):
    """Raised when a source in a store cannot be read any more, after several attempts."""


@dataclass(frozen=True, slots=True)
class RemoteObject:
    """An object in a store.

    Attributes:
        url: Where to open it; may hold secrets.
        name: The URL without them.
        size_bytes: Its size; 0 where the store does not say.
        fingerprint: Changes when the object changes; "" where the store tells
            neither its size nor anything that would change.
    """

    url: str = field(repr=False)
    name: str
    size_bytes: int
    fingerprint: str


def listing(url: str) -> Iterator[RemoteObject]:
    """Yield the objects that a URL names: one, those in a folder, or those of a pattern.

    At web servers a URL is one file. Elsewhere names that start with a dot are
    left out of folders, as with files.

    Raises:
        UsageError: It names nothing, or a store that is not known or lacks its package.
        MissingExtra: The extra for it is not installed.
        HowdahError: The store does not answer, or not to us.
    """
    name = public_name(url)
    fs, path = store_of(url)
    with in_own_words(partial(unreachable, name)):
        admit(fs, url)
        fs.invalidate_cache()  # an earlier load of this process may have filled it
        try:
            facts = _facts(fs, path, url)
        except FileNotFoundError:
            facts = {}
        is_folder = facts.get("type") == "directory"
        inside = _inside(fs, path, is_folder=is_folder) if is_folder or not facts else {}
    if facts and not is_folder:
        yield _object(url, facts)
        return
    if not inside and not facts:
        raise UsageError(f"There is no object or folder {name!r}.", next_step="Check the URL.")
    for member, member_facts in sorted(inside.items()):
        yield _object(_url_of(member, fs, url, path.rstrip("/")), member_facts)


def current_fingerprint(url: str) -> str:
    """Return the fingerprint that an object has now; raises OSError where it cannot be reached."""
    fs, path = store_of(url)
    with in_own_words(os_error):
        fs.invalidate_cache()
        return _fingerprint(_facts(fs, path, url))


def open_url(url: str) -> io.BufferedReader:
    """Open an object; it can seek where its store gives ranges of it. The caller closes it.

    Raises:
        OSError: It cannot be reached, `strerror` says why.
    """
    fs, path = store_of(url)
    with in_own_words(os_error):
        facts = _facts(fs, path, url)
        size = facts.get("size")
        ranges = _gives_ranges(url, size) if scheme_of(url) in HTTP else size is not None
    if _is_encoded(facts):
        raise OSError(errno.EIO, "its Content-Encoding has it unpacked on the way; clear that")
    return io.BufferedReader(RemoteFile(url, size, ranges=ranges), 1 << 18)


class RemoteFile(io.RawIOBase):
    """The bytes of an object, read again from where they were lost when the store fails.

    Args:
        url: Where to open it.
        size: Its size in bytes; None: unknown.
        ranges: Whether it can be read from anywhere.
    """

    def __init__(self, url: str, size: int | None, *, ranges: bool) -> None:
        self._url = url
        self._size = size
        self._ranges = ranges
        self._place = 0
        self._file: Any = None

    def readable(self) -> bool:
        """See `io.RawIOBase`."""
        return True

    def seekable(self) -> bool:
        """See `io.RawIOBase`."""
        return self._ranges

    def tell(self) -> int:
        """See `io.RawIOBase`."""
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """See `io.RawIOBase`."""
        if not self._ranges or self._size is None:
            raise io.UnsupportedOperation("seek")
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._size}[whence]
        self._place = max(0, base + offset)
        if self._file is not None:
            self._file.seek(self._place)
        return self._place

    def readinto(self, buffer: Buffer, /) -> int:
        """Read on; raise SourceLost where that fails several times."""
        view = memoryview(buffer)
        waits = iter(WAITS_S)
        while True:
            try:
                data = self._read(len(view))
            except Exception as exc:  # noqa: BLE001 - whatever the store's library raises
                self._drop()
                wait = next(waits, None)
                if wait is None or is_final(exc):
                    raise self._lost(exc) from None
                time.sleep(wait)
            else:
                view[: len(data)] = data
                self._place += len(data)
                return len(data)

    def close(self) -> None:
        """See `io.RawIOBase`."""
        self._drop()
        super().close()

    def _read(self, count: int) -> bytes:
        if self._file is None:
            fs, path = store_of(self._url)
            self._file = open_in(fs, path, self._url, self._size, ranges=self._ranges)
            if self._ranges:
                self._file.seek(self._place)
            else:
                _skip(self._file, self._place)
        if self._size is not None and self._place >= self._size and not self._ranges:
            return b""  # aiohttp complains of those who ask again behind the end
        data: bytes = self._file.read(count)
        if not data and self._size is not None and self._place < self._size:
            raise EOFError
        return data

    def _lost(self, exc: Exception) -> SourceLost:
        return SourceLost(
            f"{public_name(self._url)} cannot be read any more: {reason(exc)}.",
            next_step="Run the same command again to go on.",
        )

    def _drop(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            with suppress(Exception):  # it is given up, whatever state it is in
                file.close()


@lru_cache(1024)
def _gives_ranges(url: str, size: int | None) -> bool:
    """Say whether a web server gives a range: what its header says of that is not reliable."""
    if size is None or size < RANGES_FROM_BYTES:
        return False
    fs, path = store_of(url)
    with fs.open(path, "rb", block_size=1, cache_type="none", size=size) as probe:
        probe.seek(1)
        try:
            return len(probe.read(1)) == 1
        except ValueError:  # fsspec's word for a server that sends the whole file
            return False


def _skip(file: Any, count: int) -> None:
    while count:
        data = file.read(min(count, RANGE_BYTES))
        if not data:
            raise EOFError
        count -= len(data)


def _facts(fs: Any, path: str, url: str) -> Mapping[str, Any]:
    try:
        facts: Mapping[str, Any] = fs.info(path)
    except FileNotFoundError as exc:
        # fsspec says so of a web server whatever has happened.
        if isinstance(exc.__cause__, Exception) and status_of(exc.__cause__) not in _NOT_THERE:
            raise exc.__cause__ from None
        raise
    except Exception as exc:
        # A signature for one of Azure's containers lets it be listed, but not asked about.
        if scheme_of(url) in AZURE and "/" not in path.strip("/") and status_of(exc) == _FORBIDDEN:
            return {"type": "directory"}
        raise
    # A web server's folder is a page: what its URL names is one file.
    return {**facts, "type": "file"} if scheme_of(url) in HTTP else facts


def _is_encoded(facts: Mapping[str, Any]) -> bool:
    """Return whether Google's or Azure's library unpacks an object, and cuts it off at its size."""
    settings = facts.get("content_settings")
    return bool(facts.get("contentEncoding") or getattr(settings, "content_encoding", None))


def _inside(fs: Any, path: str, *, is_folder: bool) -> dict[str, Mapping[str, Any]]:
    """Return the objects in a folder or of a pattern, by their paths."""
    if is_folder:
        found = fs.find(path, detail=True)
    elif glob.has_magic(path):
        found = fs.glob(path, detail=True)
    else:
        found = {}
    named = set(path.split("/"))
    return {
        member: facts
        for member, facts in found.items()
        if facts.get("type") == "file"
        and not member.endswith("/")  # some stores keep a folder as an empty object
        and not any(part.startswith(".") for part in set(member.split("/")) - named)
    }


def _url_of(member: str, fs: Any, folder: str, path: str) -> str:
    """Return the URL of what lies in a folder, which is spelt as the folder's is.

    Args:
        member: Its path in the store.
        fs: The store.
        folder: The folder's URL, or a pattern.
        path: The same as a path in the store.
    """
    base = folder.rstrip("/")
    if scheme_of(folder) in AZURE and "@" in base.split("/")[2]:
        # abfs://container@account.dfs.core.windows.net/folder, where the path is container/folder.
        container, _, _ = path.partition("/")
        return "/".join([*base.split("/")[:3], member.removeprefix(f"{container}/")])
    if path and base.endswith(path):
        return base[: -len(path)] + member
    url: str = fs.unstrip_protocol(member)
    return url


def _object(url: str, facts: Mapping[str, Any]) -> RemoteObject:
    return RemoteObject(url, public_name(url), facts.get("size") or 0, _fingerprint(facts))


def _fingerprint(facts: Mapping[str, Any]) -> str:
    size = facts.get("size")
    for names, kind in ((_MARKS, "mark"), (_TIMES, "time")):
        for name in names:
            if size is not None and facts.get(name):
                return f"{size} bytes, {kind} {facts[name]}"
    return ""
