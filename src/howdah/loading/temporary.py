"""Folders for temporary files that do not outlive a killed process for long.

A folder is locked as long as a process that has made it lives, or one that it has
forked: the kernel takes the lock away from a killed one. What is not locked any more,
the next process of the same user removes that needs such a folder. Several may do so at
once, and users share the place.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import gettempdir, mkdtemp

__all__ = ["temporary_folder"]

_PREFIX = "howdah-load-"


@contextmanager
def temporary_folder() -> Generator[str]:
    """Make a folder until the end of the block, and remove those of killed processes.

    Raises:
        OSError: It cannot be made.
    """
    _remove_left()
    folder, lock = _locked_folder()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        _unlock(lock)


def _locked_folder() -> tuple[str, int | None]:
    while True:
        folder = mkdtemp(prefix=_PREFIX)
        lock = _lock(folder, wait=True)
        if Path(folder).exists():
            return folder, lock
        _unlock(lock)  # somebody took it for a left one before it was locked


def _remove_left() -> None:
    with suppress(OSError), os.scandir(gettempdir()) as entries:
        for folder in [entry.path for entry in entries if _is_mine(entry)]:
            lock = _lock(folder)
            if lock is not None:
                shutil.rmtree(folder, ignore_errors=True)
                _unlock(lock)


def _is_mine(entry: os.DirEntry[str]) -> bool:
    with suppress(OSError):  # gone meanwhile
        return (
            entry.name.startswith(_PREFIX)
            and entry.is_dir(follow_symlinks=False)
            and entry.stat(follow_symlinks=False).st_uid == os.geteuid()
        )
    return False


def _lock(folder: str, *, wait: bool = False) -> int | None:
    """Lock a folder; None where it is gone, another has it, or the file system has no locks."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _unlock(lock: int | None) -> None:
    if lock is not None:
        os.close(lock)
