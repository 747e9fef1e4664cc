"""The stores that fsspec opens: what each needs, what it is told, and its errors in our own words.

No message of a library gets out of here, since it may quote the URL with its
signature: exceptions are raised `from None`, and what the libraries log goes only
where a program has asked for it.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import cache, partial
from importlib.util import find_spec
from typing import Any

from howdah.errors import HowdahError, MissingExtra, UsageError
from howdah.loading.urls import AZURE, GOOGLE, HTTP, S3, public_name, scheme_of

__all__ = [
    "RANGE_BYTES",
    "admit",
    "in_own_words",
    "is_final",
    "open_in",
    "os_error",
    "reason",
    "status_of",
    "store_of",
    "unreachable",
]

RANGE_BYTES = 4 << 20
"""How much is asked for at once, in bytes: many times what arrives while a request travels."""

_TIMEOUT_S = 60.0  # without a byte from the server
# The extra for a scheme, and the package that it brings.
_EXTRAS = {
    **dict.fromkeys(S3, ("s3", "s3fs")),
    **dict.fromkeys(GOOGLE, ("gs", "gcsfs")),
    **dict.fromkeys(AZURE, ("az", "adlfs")),
    **dict.fromkeys(HTTP, ("remote", "aiohttp")),
}
_PACKAGES = {
    **dict.fromkeys(("sftp", "ssh"), "paramiko"),
    "smb": "smbprotocol",
    "oss": "ossfs",
    "oci": "ocifs",
    "hdfs": "pyarrow",
    "webhdfs": "requests",
}
_CREDENTIALS = {
    "s3": " (AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY)",
    "gs": " (GOOGLE_APPLICATION_CREDENTIALS)",
    "az": " (AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY)",
}
_LOGGERS = ("adlfs", "azure", "fsspec", "gcsfs", "google", "s3fs")
_DENIED, _TOO_MANY, _TIMED_OUT, _SERVER_ERROR = {401, 403}, 429, 408, 500
_STATUSES = ("status", "status_code", "code")  # aiohttp's name, azure-core's, gcsfs's
# Parts of what aiohttp, botocore, azure-core and google-auth call their exceptions.
_REASONS = {
    "Timeout": "there is no answer in time",
    "Certificate": "its certificate is not trusted",
    "Credential": "the credentials are missing or refused",
    "Signing": "the credentials are missing or refused",
    "Authentication": "the credentials are missing or refused",
    **dict.fromkeys(
        ("Connect", "ServiceRequest", "ServiceResponse", "Transport"), "there is no connection"
    ),
}


def store_of(url: str) -> tuple[Any, str]:
    """Return the store of a URL, as fsspec has it, and the path in it.

    Raises:
        UsageError: A store that is not known, or lacks its package.
        MissingExtra: The extra for it is not installed.
        HowdahError: It cannot be opened with what the environment tells of it.
    """
    name, scheme = public_name(url), scheme_of(url)
    if find_spec("fsspec") is None:
        raise MissingExtra("reading from a URL", "remote")
    extra, package = _EXTRAS.get(scheme, ("", ""))
    if extra and find_spec(package) is None:
        raise MissingExtra(f"reading {scheme}://", extra)
    from fsspec import available_protocols
    from fsspec.core import url_to_fs

    if scheme not in available_protocols():
        raise UsageError(f"No store is known for {scheme}://.", next_step="Check the URL.")
    if "::" in url:
        raise UsageError(
            f"Chained URLs such as {name!r} are not read.",
            next_step="Name the archive itself: it is entered.",
        )
    _silence()
    with in_own_words(partial(_unopened, name)):
        try:
            found: tuple[Any, str] = url_to_fs(url, **_options(url, scheme))
        except ImportError:
            package = _PACKAGES.get(scheme, "")
            raise UsageError(
                f"Reading {scheme}:// needs a package that is not installed.",
                next_step=f"Run: pip install {package}" if package else "fsspec's manual names it.",
            ) from None
    return found


def admit(fs: Any, url: str) -> None:
    """Raise what the store's library raises where our credentials are refused.

    gcsfs asks for a token again and again, for half a minute, also when it is refused.
    """
    if scheme_of(url) in GOOGLE:
        fs.credentials.maybe_refresh()


def open_in(fs: Any, path: str, url: str, size: int | None, *, ranges: bool) -> Any:
    """Open an object as a file that reads, seeks and closes.

    Args:
        fs: Its store.
        path: The path in it.
        url: The object's URL.
        size: Its size in bytes; None: unknown.
        ranges: Whether its store gives ranges; a web server that does not is read at once.
    """
    scheme = scheme_of(url)
    if scheme in {*S3, *GOOGLE, *AZURE} and size is not None:
        return _Ranges(fs, path, size)
    if scheme in HTTP and not ranges:
        return fs.open(path, "rb", block_size=0, size=size or 1)
    if scheme in HTTP:
        return fs.open(path, "rb", block_size=RANGE_BYTES, cache_type="readahead", size=size)
    return fs.open(path, "rb", block_size=RANGE_BYTES)


class _Ranges:
    """An object whose store gives ranges of it.

    fsspec's own files ask once more for what is known of the object when they are opened,
    and Google's read ahead by many ranges at a time, and keep them.
    """

    def __init__(self, fs: Any, path: str, size: int) -> None:
        self._fs = fs
        self._path = path
        self._size = size
        self._place = 0
        self._from = 0  # where the range begins that is at hand
        self._range = b""

    def seek(self, place: int) -> None:
        self._place = place

    def read(self, count: int) -> bytes:
        offset = self._place - self._from
        if not 0 <= offset < len(self._range):
            if self._place >= self._size:
                return b""
            end = min(self._place + RANGE_BYTES, self._size)
            self._range = self._fs.cat_file(self._path, start=self._place, end=end)
            self._from, offset = self._place, 0
        data = self._range[offset : offset + count]
        self._place += len(data)
        return data

    def close(self) -> None:
        self._range = b""


def _options(url: str, scheme: str) -> dict[str, Any]:
    if scheme not in HTTP + GOOGLE:
        return {}
    import aiohttp

    # No limit on the whole: a file may take hours.
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=_TIMEOUT_S, sock_read=_TIMEOUT_S)
    if scheme in GOOGLE:
        # What gcsfs has for zonal buckets asks each bucket by gRPC of which kind it is, and
        # waits more than a minute where that is not answered.
        os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
        return {"requests_timeout": timeout}  # it has none of its own
    # Nothing is to be unpacked on the way, since ranges and sizes are those of what
    # lies there. What is encoded in the URL stays as it is: a signature covers it.
    client = {"timeout": timeout, "headers": {"Accept-Encoding": "identity"}}
    return {"client_kwargs": client, "encoded": "%" in url}


@cache
def _silence() -> None:
    """Keep what libraries log from standard error, where it goes while nobody has set it up."""
    for name in _LOGGERS:
        logging.getLogger(name).addHandler(logging.NullHandler())


@contextmanager
def in_own_words(error: Callable[[Exception], Exception]) -> Generator[None]:
    """Turn whatever a store's library raises into an error that quotes nothing of it."""
    try:
        yield
    except HowdahError:
        raise
    except Exception as exc:  # noqa: BLE001 - each store has a library of its own
        raise error(exc) from None


def os_error(exc: Exception) -> OSError:
    """Return an error of a store as what opening a file raises."""
    return OSError(errno.EIO, reason(exc))


def unreachable(name: str, exc: Exception) -> HowdahError:
    """Return an error of a store, for what has this name."""
    extra, _ = _EXTRAS.get(scheme_of(name), ("", ""))
    credentials = f"credentials of the store{_CREDENTIALS.get(extra, '')}"
    return HowdahError(
        f"{name} cannot be reached: {reason(exc)}.",
        next_step=f"Check the URL, the network and the {credentials}.",
    )


def _unopened(name: str, exc: Exception) -> HowdahError:
    extra, _ = _EXTRAS.get(scheme_of(name), ("", ""))
    if extra not in _CREDENTIALS:
        return unreachable(name, exc)
    return HowdahError(
        f"{name} cannot be reached: its credentials are missing or malformed.",
        next_step=f"Set them in the environment{_CREDENTIALS[extra]}.",
    )


def reason(exc: Exception) -> str:
    """Return what went wrong, without the words of the library."""
    if (status := status_of(exc)) is not None:
        return f"the server answers {status}"
    if isinstance(exc, FileNotFoundError):
        return "it is not there"
    if _is_denied(exc):
        return "the access is denied"
    name = "Timeout" if isinstance(exc, TimeoutError) else type(exc).__name__
    names = f"{name} {type(exc.__cause__).__name__}"  # azure-core's has aiohttp's as its cause
    return next((told for word, told in _REASONS.items() if word in names), name)


def status_of(exc: Exception) -> int | None:
    """Return the status of HTTP with which a server has answered; None: it is something else."""
    found = (getattr(exc, name, None) for name in _STATUSES)
    return next((status for status in found if isinstance(status, int)), None)


def is_final(exc: Exception) -> bool:
    """Say whether another attempt would fail in the same way."""
    status = status_of(exc)
    if status is not None:
        return status < _SERVER_ERROR and status not in {_TOO_MANY, _TIMED_OUT}
    return isinstance(exc, FileNotFoundError | HowdahError) or _is_denied(exc)


def _is_denied(exc: Exception) -> bool:
    # gcsfs has no class for it, and says it in English whatever its server speaks.
    return isinstance(exc, PermissionError) or str(exc).startswith("Forbidden: ")
