"""Objects in stores, by fsspec: listed, told from their changed selves, read by ranges or whole.

No message of a library gets out of this module, since it may quote the URL with
its signature; that is why exceptions are raised `from None` here.
"""

from __future__ import annotations

import errno
import glob
import io
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

from howdah.errors import HowdahError, MissingExtra, UsageError
from howdah.loading.urls import public_name, scheme_of

if TYPE_CHECKING:
    from typing_extensions import Buffer  # collections.abc's, from Python 3.12 on

__all__ = ["RemoteFile", "RemoteObject", "SourceLost", "current_fingerprint", "listing", "open_url"]

RANGE_BYTES = 4 << 20
"""How much is asked for at once, in bytes: many times what arrives while a request travels."""

RANGES_FROM_BYTES = 16 << 20
"""From which size on a file at a web server is read by ranges; a smaller one is read at once."""

WAITS_S = (0.5, 2.0, 5.0)
"""How long to wait before each further attempt to read, in seconds."""

_TIMEOUT_S = 60.0  # without a byte from the server
_HTTP = {"http", "https"}
_PACKAGES = {
    **dict.fromkeys(("s3", "s3a"), "s3fs"),
    **dict.fromkeys(("gs", "gcs"), "gcsfs"),
    **dict.fromkeys(("az", "abfs", "abfss", "adl"), "adlfs"),
    **dict.fromkeys(("sftp", "ssh"), "paramiko"),
    **dict.fromkeys(_HTTP, "aiohttp"),
    "smb": "smbprotocol",
    "oss": "ossfs",
    "oci": "ocifs",
    "hdfs": "pyarrow",
    "webhdfs": "requests",
}
# What stores call that which changes with an object's content; the first one that is there.
_MARKS = ("ETag", "etag", "Content-MD5", "md5Hash", "content_md5", "generation", "checksum")
_TIMES = ("Last-Modified", "LastModified", "last_modified", "mtime", "updated", "modify", "created")
_NOT_THERE = {404, 410}
_TOO_MANY, _TIMED_OUT, _SERVER_ERROR = 429, 408, 500


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
        MissingExtra: fsspec is not installed.
        HowdahError: The store does not answer, or not to us.
    """
    name = public_name(url)
    fs, path = _store(url)
    with _in_own_words(partial(_unreachable, name)):
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
    base = url.rstrip("/")
    prefix = base[: -len(path)] if base.endswith(path) else None
    for member, member_facts in sorted(inside.items()):
        yield _object(
            fs.unstrip_protocol(member) if prefix is None else prefix + member, member_facts
        )


def current_fingerprint(url: str) -> str:
    """Return the fingerprint that an object has now; raises OSError where it cannot be reached."""
    fs, path = _store(url)
    with _in_own_words(_os_error):
        fs.invalidate_cache()
        return _fingerprint(_facts(fs, path, url))


def open_url(url: str) -> io.BufferedReader:
    """Open an object; it can seek where its store gives ranges of it. The caller closes it.

    Raises:
        OSError: It cannot be reached, `strerror` says why.
    """
    fs, path = _store(url)
    with _in_own_words(_os_error):
        size = _facts(fs, path, url).get("size")
        ranges = _gives_ranges(url, size) if scheme_of(url) in _HTTP else size is not None
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
                if wait is None or _is_final(exc):
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
            self._file = _opened(self._url, self._size, ranges=self._ranges)
            if self._ranges:
                self._file.seek(self._place)
            else:
                _skip(self._file, self._place)
        data: bytes = self._file.read(count)
        if not data and self._size is not None and self._place < self._size:
            raise EOFError
        return data

    def _lost(self, exc: Exception) -> SourceLost:
        return SourceLost(
            f"{public_name(self._url)} cannot be read any more: {_cause(exc)}.",
            next_step="Run the same command again to go on.",
        )

    def _drop(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            with suppress(Exception):  # it is given up, whatever state it is in
                file.close()


def _store(url: str) -> tuple[Any, str]:
    """Return the store of a URL, as fsspec has it, and the path in it."""
    try:
        from fsspec import available_protocols
        from fsspec.core import url_to_fs
    except ModuleNotFoundError as exc:
        raise MissingExtra("reading from a URL", "remote") from exc
    name, scheme = public_name(url), scheme_of(url)
    if scheme not in available_protocols():
        raise UsageError(f"No store is known for {scheme}://.", next_step="Check the URL.")
    if "::" in url:
        raise UsageError(
            f"Chained URLs such as {name!r} are not read.",
            next_step="Name the archive itself: it is entered.",
        )
    with _in_own_words(partial(_unreachable, name)):
        try:
            found: tuple[Any, str] = url_to_fs(url, **_options(url, scheme))
        except ImportError:
            package = _PACKAGES.get(scheme)
            raise UsageError(
                f"Reading {scheme}:// needs a package that is not installed.",
                next_step=f"Run: pip install {package}" if package else "fsspec's manual names it.",
            ) from None
    return found


def _options(url: str, scheme: str) -> dict[str, Any]:
    if scheme not in _HTTP:
        return {}
    try:
        import aiohttp
    except ModuleNotFoundError as exc:
        raise MissingExtra("reading from a URL", "remote") from exc
    # No limit on the whole: a file may take hours. Nothing is to be unpacked on
    # the way, since ranges and sizes are those of what lies there.
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=_TIMEOUT_S, sock_read=_TIMEOUT_S)
    client = {"timeout": timeout, "headers": {"Accept-Encoding": "identity"}}
    # What is encoded stays as it is: a signature covers it.
    return {"client_kwargs": client, "encoded": "%" in url}


def _opened(url: str, size: int | None, *, ranges: bool) -> Any:
    fs, path = _store(url)
    if scheme_of(url) in _HTTP and not ranges:
        return fs.open(path, "rb", block_size=0, size=size or 1)
    if scheme_of(url) in _HTTP:
        return fs.open(path, "rb", block_size=RANGE_BYTES, cache_type="readahead", size=size)
    return fs.open(path, "rb", block_size=RANGE_BYTES)


@lru_cache(1024)
def _gives_ranges(url: str, size: int | None) -> bool:
    """Say whether a web server gives a range: what its header says of that is not reliable."""
    if size is None or size < RANGES_FROM_BYTES:
        return False
    fs, path = _store(url)
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
        if isinstance(exc.__cause__, Exception) and _status(exc.__cause__) not in _NOT_THERE:
            raise exc.__cause__ from None
        raise
    # A web server's folder is a page: what its URL names is one file.
    return {**facts, "type": "file"} if scheme_of(url) in _HTTP else facts


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


def _object(url: str, facts: Mapping[str, Any]) -> RemoteObject:
    return RemoteObject(url, public_name(url), facts.get("size") or 0, _fingerprint(facts))


def _fingerprint(facts: Mapping[str, Any]) -> str:
    size = facts.get("size")
    for names, kind in ((_MARKS, "mark"), (_TIMES, "time")):
        for name in names:
            if size is not None and facts.get(name):
                return f"{size} bytes, {kind} {facts[name]}"
    return ""


@contextmanager
def _in_own_words(error: Callable[[Exception], Exception]) -> Generator[None]:
    """Turn whatever a store's library raises into an error that quotes nothing of it."""
    try:
        yield
    except HowdahError:
        raise
    except Exception as exc:  # noqa: BLE001 - each store has a library of its own
        raise error(exc) from None


def _os_error(exc: Exception) -> OSError:
    return OSError(errno.EIO, _cause(exc))


def _unreachable(name: str, exc: Exception) -> HowdahError:
    return HowdahError(
        f"{name} cannot be reached: {_cause(exc)}.",
        next_step="Check the URL, the network and the credentials of the store.",
    )


def _cause(exc: Exception) -> str:
    """Return what went wrong, without the words of the library."""
    name = type(exc).__name__
    if (status := _status(exc)) is not None:
        return f"the server answers {status}"
    if isinstance(exc, FileNotFoundError):
        return "it is not there"
    if isinstance(exc, TimeoutError) or "Timeout" in name:
        return "there is no answer in time"
    if "Certificate" in name:
        return "its certificate is not trusted"
    return "there is no connection" if "Connect" in name else name


def _status(exc: Exception) -> int | None:
    status = getattr(exc, "status", None)
    return status if isinstance(status, int) else None


def _is_final(exc: Exception) -> bool:
    """Say whether another attempt would fail in the same way."""
    status = _status(exc)
    if status is not None:
        return status < _SERVER_ERROR and status not in {_TOO_MANY, _TIMED_OUT}
    return isinstance(exc, FileNotFoundError | PermissionError | HowdahError)
