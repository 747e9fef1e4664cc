"""One cluster of our own: make it, start, stop and restart it, and say how it is.

Each function takes the data directory, or None for the default one (see
`layout_of`). All that change something hold the cluster's lock: of two
commands at once the second waits, and finds the first one's work done.
"""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from howdah.errors import Refused
from howdah.server import binaries as programs
from howdah.server import configuration, postmaster
from howdah.server.account import account_for_new
from howdah.server.binaries import Binaries
from howdah.server.directory import is_cluster, major_of
from howdah.server.failures import file_errors_told
from howdah.server.initdb import make_data_directory
from howdah.server.launch import (
    check_free,
    check_range,
    check_settings,
    launch,
    shut_down,
    startable,
)
from howdah.server.layout import Layout, layout_of, locked, make_base
from howdah.server.running import Running, running_server, settled_server


@dataclass(frozen=True, slots=True)
class Status:
    """How a cluster is.

    Attributes:
        state: "absent" where no cluster has been made yet.
        data_dir: Where it is, or would be.
        major: The major that made it; None where absent.
        port: The port it listens on, or will at the next start; None where absent.
        running: Set in the state "running" alone.
    """

    state: Literal["running", "stopped", "absent"]
    data_dir: Path
    major: int | None = None
    port: int | None = None
    running: Running | None = None


def status(data: Path | None = None) -> Status:
    """Say whether the cluster exists and runs.

    Raises:
        Refused: The path holds something else than a cluster of ours.
    """
    layout = layout_of(data)
    with file_errors_told(layout.base):
        if not is_cluster(layout):
            return Status("absent", layout.data)
        major = major_of(layout)
        running = running_server(layout)
        if running is None:
            return Status("stopped", layout.data, major, configuration.stored_port(layout.data))
        return Status("running", layout.data, major, running.port, running)


def init(
    data: Path | None = None, *, binaries: Binaries | None = None, port: int | None = None
) -> Status:
    """Make the cluster, and leave it stopped.

    Args:
        data: The data directory.
        binaries: With which PostgreSQL; None for `binaries.find()`.
        port: Where it will listen; None or 0 for any free port.

    Raises:
        Refused: Something is there already.
        ServerFailed: initdb failed; nothing is left of it.
    """
    layout = layout_of(data)
    with file_errors_told(layout.base):
        make_base(layout)
        with locked(layout) as lock:
            if is_cluster(layout):
                raise Refused(
                    f"{layout.data} is a cluster already.",
                    next_step=f"Run: howdah server start --data {shlex.quote(str(layout.data))}",
                )
            _init(layout, binaries, port, lock)
    return status(layout.data)


def start(
    data: Path | None = None,
    *,
    binaries: Binaries | None = None,
    port: int | None = None,
    disposable: bool = False,
) -> Running:
    """Start the cluster unless it runs; make it first where there is none.

    Args:
        data: The data directory.
        binaries: With which PostgreSQL; None for the cluster's major, or for
            a new one `binaries.find()`.
        port: Move it to this port for good; 0 for any free one, None for its own.
        disposable: Make one that flushes nothing and that a crash may take whole,
            for tests.

    Raises:
        Refused: It runs on another port, or the path holds something else; or it
            is to be disposable and was not made so.
        ServerFailed: It does not come up; port and settings are as before.
        NeedsPerson: The caller is root and PostgreSQL cannot be run as another user.
    """
    check_range(port)
    layout = layout_of(data)
    with file_errors_told(layout.base):
        make_base(layout)
        with locked(layout) as lock:
            if disposable and not is_cluster(layout):
                _init(layout, binaries, port, lock)
                configuration.declare_disposable(layout.data)
            if disposable and not configuration.is_disposable(layout.data):
                raise Refused(
                    f"{layout.data} was not made to be disposable, and stays safe.",
                    next_step="Choose another folder with --data.",
                )
            return _start(layout, binaries, port, lock)


def ensure_running(data: Path | None = None) -> Running:
    """Return the running cluster; make and start it where needed.

    What other commands call to have a database without anybody's doing.
    """
    return status(data).running or start(data)


def stop(data: Path | None = None) -> Status:
    """Stop the cluster if it runs: sessions are ended, nothing committed is lost.

    Raises:
        Refused: It belongs to another OS user.
        ServerFailed: It still runs after two minutes.
    """
    layout = layout_of(data)
    with file_errors_told(layout.base):
        if is_cluster(layout):
            with locked(layout):
                shut_down(layout)
    return status(layout.data)


def restart(data: Path | None = None, *, binaries: Binaries | None = None) -> Running:
    """Stop the cluster if it runs, and start it with the settings as they are now.

    Raises:
        ServerFailed: An error in the settings, found before anything was
            stopped; or it does not come up again.
    """
    layout = layout_of(data)
    with file_errors_told(layout.base):
        make_base(layout)
        with locked(layout) as lock:
            if is_cluster(layout):
                chosen, account = startable(layout, binaries)
                check_settings(layout, chosen, account)
                shut_down(layout)
            return _start(layout, binaries, None, lock)


def _init(layout: Layout, binaries: Binaries | None, port: int | None, lock: int) -> None:
    if layout.data.is_dir() and os.path.ismount(layout.data):
        raise Refused(
            f"{layout.data} is a mount point, and a cluster is renamed into place when complete.",
            next_step=f"Choose a folder in it: --data {layout.data / 'cluster'}",
        )
    if port:
        check_free(port)
    chosen = binaries or programs.find()
    account = account_for_new(layout.base, chosen)
    make_data_directory(layout, chosen, account, port=port or postmaster.free_port(), lock=lock)


def _start(layout: Layout, binaries: Binaries | None, port: int | None, lock: int) -> Running:
    if not is_cluster(layout):
        _init(layout, binaries, port, lock)
    running = settled_server(layout)
    if running is None:
        return launch(layout, binaries, port)
    if port and port != running.port:
        raise Refused(
            f"The cluster runs already, on port {running.port}, and moves only when it starts.",
            next_step=f"Run: howdah server stop, and then: howdah server start --port {port}",
        )
    return running
