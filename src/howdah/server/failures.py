"""What PostgreSQL's programs and the file system said, as errors of ours."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from howdah.errors import HowdahError, Refused, ServerFailed

_FULL = (errno.ENOSPC, errno.EDQUOT)
# PostgreSQL writes WAL in segments of 16 MiB, each allocated whole: with less
# than that it stops. Source: https://www.postgresql.org/docs/current/wal-internals.html
_WAL_SEGMENT_BYTES = 16 * 1024 * 1024
# Settings that do not hold, and sockets, are complained of as LOG before the FATAL.
_TELLING = re.compile(
    r"\b(?:(?:FATAL|PANIC|ERROR|initdb: error):"
    r"|LOG:  (?:could not|invalid|syntax error|unrecognized)).*"
)
_MORE = re.compile(r"\b(?:DETAIL|HINT):.*|^initdb: (?:detail|hint):.*")
_LINES = 5


@contextmanager
def file_errors_told(folder: Path) -> Generator[None]:
    """Turn what the operating system refuses on the cluster's files into sentences."""
    try:
        yield
    except OSError as exc:
        raise _file_error(exc, folder) from exc


def failure(what: str, folder: Path, said: str, *, next_step: str | None = None) -> ServerFailed:
    """Tell why one of PostgreSQL's programs failed: a full disk, or its own last words.

    Args:
        what: "PostgreSQL 15.18 did not start".
        folder: A path of the file system that it wrote to.
        said: Its output and log, in English (`run_as` sees to that).
        next_step: What to do unless the disk is full.
    """
    is_full = any(os.strerror(number) in said for number in _FULL)
    if is_full or shutil.disk_usage(folder).free < _WAL_SEGMENT_BYTES:
        return _disk_full(what, folder)
    words = " ".join(_last_words(said)) or "it said nothing"
    return ServerFailed(f"{what}: {words}", next_step=next_step)


def _last_words(said: str) -> list[str]:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    words: list[str] = []
    is_about_error = False
    for line in lines:
        telling, more = _TELLING.search(line), _MORE.search(line)
        is_about_error = bool(telling or (more and is_about_error))
        if is_about_error:
            words.append((telling or more or [line])[0])
    return words[-_LINES:] or lines[-_LINES:]


def _disk_full(what: str, folder: Path) -> ServerFailed:
    mount = next(place for place in (folder, *folder.parents) if os.path.ismount(place))
    usage = shutil.disk_usage(folder)
    return ServerFailed(
        f"{what}: the file system {mount} is full, {usage.free:,} of {usage.total:,} bytes free.",
        next_step=f"Free some space on {mount}, or choose another folder with --data.",
    )


def _file_error(exc: OSError, folder: Path) -> HowdahError:
    path = exc.filename or folder
    if exc.errno in _FULL:
        return _disk_full(f"{path} cannot be written", _existing(folder))
    elsewhere = "Choose another folder with --data, or run as a user who may."
    if exc.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return Refused(f"{path} may not be read or written: {exc.strerror}.", next_step=elsewhere)
    if exc.errno in (errno.ENOTDIR, errno.EEXIST):
        return Refused(f"{path} cannot be made: a file is in the way.", next_step=elsewhere)
    return ServerFailed(f"{path} cannot be used: {exc.strerror or exc}.", next_step=elsewhere)


def _existing(folder: Path) -> Path:
    return next(place for place in (folder, *folder.parents) if place.exists())
