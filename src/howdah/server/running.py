"""A running cluster of ours, as a fact."""

from __future__ import annotations

import re
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from howdah.errors import ServerFailed
from howdah.server import binaries as programs
from howdah.server import log, postmaster
from howdah.server.account import Account, account_of, run_as
from howdah.server.directory import major_of
from howdah.server.initdb import DATABASE, ROLE
from howdah.server.layout import Layout
from howdah.server.postmaster import Postmaster

_SETTLE_TIMEOUT_S = 120.0
_VERSION_TIMEOUT_S = 30.0
_POLL_S = 0.02
_NEEDS_QUOTES = re.compile(r"[\s'\\]|^$")


@dataclass(frozen=True, slots=True)
class Running:
    """A running cluster of ours, and how to connect to it.

    Attributes:
        major: 15 for PostgreSQL 15.18.
        version: Of the server that runs, "15.18".
        port: On 127.0.0.1, and in the name of the socket.
        socket_dir: The directory of the Unix socket.
        data_dir: The data directory.
        pid: The postmaster's process number.
        account: The OS user it runs as: "postgres", "root (user namespace)".
        passfile: libpq's password file, readable by the user who made the cluster.
    """

    major: int
    version: str
    port: int
    socket_dir: Path
    data_dir: Path
    pid: int
    account: str
    passfile: Path

    def conninfo(self, dbname: str = DATABASE, *, host: str | None = None) -> str:
        """Return a libpq connection string, without a password in it.

        Args:
            dbname: The database.
            host: Another way in than the Unix socket: "127.0.0.1".
        """
        words = {
            "host": host or str(self.socket_dir),
            "port": str(self.port),
            "dbname": dbname,
            "user": ROLE,
            "passfile": str(self.passfile),
        }
        return " ".join(f"{name}={_quoted(value)}" for name, value in words.items())


def running_server(layout: Layout) -> Running | None:
    """Return the server where it accepts connections."""
    server = postmaster.postmaster(layout.data)
    if server is None or not server.is_ready:
        return None
    account = account_of(layout.data)
    major = major_of(layout)
    return Running(
        major=major,
        version=_version(server, account) or str(major),
        port=server.port,
        socket_dir=server.socket_dir,
        data_dir=layout.data,
        pid=server.pid,
        account=account.name,
        passfile=layout.passfile,
    )


def settled_server(layout: Layout) -> Running | None:
    """Return the server once it has finished what it does: coming up, recovering or going down."""
    deadline = time.monotonic() + _SETTLE_TIMEOUT_S
    while (server := postmaster.postmaster(layout.data)) is not None:
        running = running_server(layout)
        if running is not None:
            return running
        if time.monotonic() > deadline:
            raise ServerFailed(
                f"The server of {layout.data} (process {server.pid}) is still starting or stopping "
                f"after {_SETTLE_TIMEOUT_S:.0f} s.",
                next_step=f"Read its log: {log.latest(layout.data)}",
            )
        time.sleep(_POLL_S)
    return None


def _version(server: Postmaster, account: Account) -> str | None:
    """Ask the program that runs: after an upgrade it may not be the installed one."""
    try:
        answer = run_as(account, [str(server.program), "--version"], timeout_s=_VERSION_TIMEOUT_S)
    except (OSError, subprocess.SubprocessError):
        return None
    version = programs.version_of(answer.stdout)
    return version[1] if version else None


def _quoted(value: str) -> str:
    if not _NEEDS_QUOTES.search(value):
        return value
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
