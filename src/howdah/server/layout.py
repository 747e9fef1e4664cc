"""Where the files of one cluster are, and the lock over them.

All but the data directory itself lie beside it and carry its name, so that
two clusters may share a parent folder:

    cluster/          the data directory; complete whenever it exists
    cluster.lock      held by the command that makes, starts or stops it
    cluster.pgpass    libpq's password file, mode 0600, the invoking user's
    cluster.start.log what the last start said before the server's own log began
    cluster.sockets/  the Unix socket, while the server runs
    .cluster.half-made-*/  swept by whoever makes the next one
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from howdah.errors import Refused, ServerFailed, UsageError
from howdah.server.account import Account, can_enter
from howdah.server.binaries import SHELL_CHARACTERS

# sizeof(sockaddr_un.sun_path) less the closing zero; Source: unix(7), unix(4) of macOS.
_SOCKET_PATH_BYTES = 103 if sys.platform == "darwin" else 107
_LONGEST_SOCKET_NAME = "/.s.PGSQL.65535"
_LOCK_TIMEOUT_S = 120.0
_LOCK_POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class Layout:
    """The paths of one cluster; `data` is absolute and without symbolic links."""

    data: Path

    @property
    def base(self) -> Path:
        """The folder that holds the data directory and what lies beside it."""
        return self.data.parent

    @property
    def lock(self) -> Path:
        """The lock file."""
        return self._beside(".lock")

    @property
    def passfile(self) -> Path:
        """The password file, for libpq."""
        return self._beside(".pgpass")

    @property
    def start_log(self) -> Path:
        """What the last start wrote."""
        return self._beside(".start.log")

    @property
    def sockets(self) -> Path:
        """The socket directory of first choice."""
        return self._beside(".sockets")

    @property
    def half_made(self) -> str:
        """The prefix of the names of half-made siblings."""
        return f".{self.data.name}.half-made-"

    def _beside(self, suffix: str) -> Path:
        return self.base / f"{self.data.name}{suffix}"


def layout_of(data: Path | None = None) -> Layout:
    """Return the layout of a data directory.

    Args:
        data: The data directory; None for the variable HOWDAH_DATA, or else
            /var/lib/howdah/cluster for root and the user's data folder for others.

    Raises:
        UsageError: The path has a character that pg_ctl cannot carry.
    """
    resolved = (data or _default_data()).expanduser().resolve()
    if SHELL_CHARACTERS.search(str(resolved)) or resolved == resolved.parent:
        raise UsageError(
            f"{str(resolved)!r} cannot be a data directory: pg_ctl would hand its name to a shell.",
            next_step="Choose a path without quotes, $, ` and backslashes, and not / itself.",
        )
    return Layout(resolved)


def _default_data() -> Path:
    variable = os.environ.get("HOWDAH_DATA")
    if variable:
        return Path(variable)
    if os.geteuid() == 0:
        return Path("/var/lib/howdah/cluster")
    import platformdirs

    return Path(platformdirs.user_data_dir("howdah")) / "cluster"


def make_base(layout: Layout) -> None:
    """Create the base folder and its missing parents; what exists keeps its mode."""
    missing = []
    for folder in (layout.base, *layout.base.parents):
        if folder.exists():
            break
        missing.append(folder)
    for folder in reversed(missing):
        folder.mkdir(mode=0o700, exist_ok=True)
        if os.geteuid() == 0:
            # Whatever root's umask: the OS user postgres has to pass through.
            folder.chmod(0o755)
    if not layout.base.is_dir():
        raise Refused(
            f"{layout.base} is a file, and the cluster's folder should be there.",
            next_step="Move the file away, or choose another folder with --data.",
        )


@contextmanager
def locked(layout: Layout) -> Generator[int]:
    """Hold the cluster's lock; yield its descriptor.

    A child that inherits the descriptor holds the lock on after our death:
    so initdb cannot be overtaken by the clean-up of the next command.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(layout.lock, flags, 0o600)
    try:
        _acquire(descriptor, layout)
        yield descriptor
    finally:
        os.close(descriptor)


def _acquire(descriptor: int, layout: Layout) -> None:
    deadline = time.monotonic() + _LOCK_TIMEOUT_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise ServerFailed(
                    f"Another howdah command has held {layout.lock} for {_LOCK_TIMEOUT_S:.0f} s.",
                    next_step=f"See which one: fuser -v {layout.lock}",
                ) from None
            time.sleep(_LOCK_POLL_S)
        else:
            return


def make_socket_dir(layout: Layout, account: Account) -> Path:
    """Create the private folder of the Unix socket, where the path is short enough.

    Raises:
        Refused: A folder of that name exists and is not the account's alone.
    """
    folder = _socket_dir(layout, account)
    folder.mkdir(mode=0o700, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        if os.fstat(descriptor).st_uid == os.geteuid() != account.uid:
            os.fchown(descriptor, account.uid, account.gid)
        facts = os.fstat(descriptor)
    finally:
        os.close(descriptor)
    if facts.st_uid != account.uid or facts.st_mode & 0o077:
        raise Refused(
            f"{folder} should be the socket directory of {account.name} alone, "
            f"and belongs to OS user {facts.st_uid} with mode {facts.st_mode & 0o7777:04o}.",
            next_step=f"Remove {folder}.",
        )
    return folder


def remove_socket_dir(layout: Layout) -> None:
    """Remove the socket directory of a stopped server, where it is empty."""
    for folder in _socket_dirs(layout):
        # Missing, not empty, or somebody else's: not ours to remove.
        with suppress(OSError):
            folder.rmdir()


def _socket_dir(layout: Layout, account: Account) -> Path:
    for folder in _socket_dirs(layout):
        if folder.parent == layout.base or can_enter(account, folder.parent):
            return folder
    raise Refused(
        f"{layout.sockets} is too long a path for a Unix socket, "
        "and the folder for temporary files is no better.",
        next_step="Choose a shorter path with --data.",
    )


def _socket_dirs(layout: Layout) -> list[Path]:
    name = f"howdah-{hashlib.sha256(os.fsencode(layout.data)).hexdigest()[:12]}"
    short = [Path(tempfile.gettempdir()) / name, Path("/tmp") / name]  # noqa: S108 - mode and owner are checked
    return [folder for folder in (layout.sockets, *short) if _is_socket_path(folder)]


def _is_socket_path(folder: Path) -> bool:
    # A comma would part the path in two, for libpq and for the server.
    length = len(os.fsencode(folder)) + len(_LONGEST_SOCKET_NAME)
    return length <= _SOCKET_PATH_BYTES and "," not in str(folder)
