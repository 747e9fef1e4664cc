"""A cluster's own log: where it is, what a start added to it, and its sweeping."""

from __future__ import annotations

import os
import time
from pathlib import Path

_KEPT_S = 6 * 24 * 3600.0
_TAIL_BYTES = 64 * 1024


def latest(data: Path) -> Path | None:
    """Return the log file written last; None where there is none."""
    return max(_files(data), key=lambda path: path.lstat().st_mtime, default=None)


def sizes(data: Path) -> dict[Path, int]:
    """Return the size in bytes of each log file, for `written_since`."""
    return {path: path.lstat().st_size for path in _files(data)}


def written_since(data: Path, before: dict[Path, int]) -> str:
    """Return what the log has grown by, at most its last 64 KiB."""
    path = latest(data)
    if path is None:
        return ""
    # As root we read what another OS user owns: no link of theirs is followed.
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(max(before.get(path, 0), end - _TAIL_BYTES))
        return file.read().decode(errors="replace")


def sweep(data: Path) -> None:
    """Remove the logs of the former week.

    The server empties a weekday's file only when it passes midnight; one that
    is started each morning would append to it for ever.
    """
    oldest = time.time() - _KEPT_S
    for path in _files(data):
        if path.lstat().st_mtime < oldest:
            path.unlink(missing_ok=True)


def _files(data: Path) -> list[Path]:
    return sorted((data / "log").glob("howdah-*.log"))
