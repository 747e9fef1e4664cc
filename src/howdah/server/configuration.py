"""howdah.conf: our settings of a cluster, in one file of our own.

postgresql.conf includes it as its last line, so that it wins over the file
that initdb wrote, and ALTER SYSTEM wins over it. Lines that someone else adds
to it stay.
"""

from __future__ import annotations

import os
import re
import stat
import tempfile
from pathlib import Path

NAME = "howdah.conf"

_INCLUDE = f"\n# Howdah's own settings; ALTER SYSTEM wins over them.\ninclude = '{NAME}'\n"
# The log is bounded by time, a week, since PostgreSQL has no bound by size:
# a file per weekday, emptied when its day comes round again.
_SETTINGS = """\
# Written by Howdah, which keeps `port` and `unix_socket_directories` up to date here.
# ALTER SYSTEM and `howdah` commands that change settings win over this file.
listen_addresses = '127.0.0.1'
port = 0
unix_socket_directories = ''
cluster_name = 'howdah'
password_encryption = 'scram-sha-256'
logging_collector = on
log_destination = 'stderr'
log_directory = 'log'
log_filename = 'howdah-%a.log'
log_rotation_age = '1d'
log_rotation_size = 0
log_truncate_on_rotation = on
"""
DISPOSABLE = "howdah.disposable"
"""A setting of our own: the cluster may lose all it has, and is set to be fast."""

_DISPOSABLE = f"""
# `howdah server start --disposable`: a crash may take the whole cluster.
{DISPOSABLE} = 'on'
fsync = off
full_page_writes = off
synchronous_commit = off
"""
_PORT = re.compile(r"^\s*port\s*=?\s*'?(\d+)'?.*$", re.MULTILINE | re.IGNORECASE)
_SOCKETS = re.compile(r"^\s*unix_socket_directories\b.*$", re.MULTILINE | re.IGNORECASE)


def install(data: Path, port: int) -> None:
    """Give a new data directory its howdah.conf and include it in postgresql.conf."""
    replace_file(data / NAME, _SETTINGS, like=data / "postgresql.conf")
    set_address(data, port, None)
    with (data / "postgresql.conf").open("a", encoding="utf-8") as main:
        main.write(_INCLUDE)
        main.flush()
        os.fsync(main.fileno())


def declare_disposable(data: Path) -> None:
    """Write into a new cluster's howdah.conf that it may lose all it has."""
    restore(data, read(data / NAME) + _DISPOSABLE)


def is_disposable(data: Path) -> bool:
    """Say whether the cluster was made to be disposable."""
    return f"\n{DISPOSABLE} = 'on'\n" in read(data / NAME)


def stored_port(data: Path) -> int | None:
    """Return the port written in howdah.conf; None where the line is missing."""
    match = _PORT.search(read(data / NAME))
    return int(match[1]) if match else None


def set_address(data: Path, port: int, socket_dir: Path | None) -> str:
    """Write port and socket directory into howdah.conf.

    Returns:
        The former text, for `restore`.
    """
    former = read(data / NAME)
    text = _with_line(former, _PORT, f"port = {port}")
    text = _with_line(text, _SOCKETS, f"unix_socket_directories = {_quoted(socket_dir)}")
    restore(data, text)
    return former


def restore(data: Path, text: str) -> None:
    """Put howdah.conf's text in place, whole or not at all."""
    if read(data / NAME) != text:
        replace_file(data / NAME, text, like=data / NAME)


def _with_line(text: str, pattern: re.Pattern[str], line: str) -> str:
    if pattern.search(text):
        return pattern.sub(lambda _: line, text)
    return f"{text}\n{line}\n"


def _quoted(folder: Path | None) -> str:
    text = "" if folder is None else str(folder)
    return "'" + text.replace("'", "''") + "'"


def read(path: Path) -> str:
    """Return the text of a cluster's file."""
    # As root we read what another OS user owns: no link of theirs is followed.
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), encoding="utf-8") as file:
        return file.read()


def replace_file(path: Path, text: str, *, like: Path) -> None:
    """Put a text in a file's place, whole or not at all, with the owner and mode of `like`."""
    owner = like.lstat()
    mode = stat.S_IMODE(owner.st_mode)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f"{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            if os.geteuid() == 0:
                os.fchown(file.fileno(), owner.st_uid, owner.st_gid)
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
