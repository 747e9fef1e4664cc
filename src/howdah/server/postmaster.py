"""Which processes serve a data directory, and which hold a port.

A postmaster.pid proves nothing: its process may be dead, or its number may
have passed to another program. So a server runs here only where the recorded
process is a postgres and works in this very directory.
"""

from __future__ import annotations

import errno
import os
import signal
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil  # type: ignore[import-untyped]

LOOPBACK = "127.0.0.1"

_NAMES = ("postgres", "postmaster")
# Lines of postmaster.pid; Source: src/include/utils/pidfile.h
_PID, _PORT, _SOCKET_DIR, _STATUS = 0, 3, 4, 7


@dataclass(frozen=True, slots=True)
class Postmaster:
    """The living main process of a data directory.

    Attributes:
        pid: Its process number.
        port: The port it listens on.
        socket_dir: The directory of its Unix socket.
        is_ready: It accepts connections; False while it starts, recovers or stops.
        program: The path of its executable.
    """

    pid: int
    port: int
    socket_dir: Path
    is_ready: bool
    program: Path


def postmaster(data: Path) -> Postmaster | None:
    """Return the postmaster that serves the data directory; None where there is none."""
    lines = _pid_file(data)
    pid = _number(lines, _PID)
    program = _program(pid, data) if pid else None
    if not pid or program is None:
        return None
    padded = [*lines, *[""] * (_STATUS + 1 - len(lines))]
    return Postmaster(
        pid=pid,
        port=_number(lines, _PORT) or 0,
        socket_dir=Path(padded[_SOCKET_DIR]),
        is_ready=padded[_STATUS].strip() in ("ready", "standby"),
        program=program,
    )


def processes(data: Path) -> list[int]:
    """Return every postgres process at work in the data directory, orphaned ones too."""
    return [
        process.pid
        for process in psutil.process_iter()
        if process.pid != os.getpid() and _works_in(process, data)
    ]


def end_orphans(data: Path) -> None:
    """End the backends of a dead postmaster, as it would have done itself after a crash.

    They would end by themselves, but a busy one only when it next waits.
    """
    found = [psutil.Process(pid) for pid in processes(data)]
    try:
        # A postmaster keeps its command line; only its children rename themselves.
        if all("".join(process.cmdline()).startswith("postgres: ") for process in found):
            for process in found:
                process.send_signal(signal.SIGQUIT)
    except psutil.NoSuchProcess:
        pass


def clear_stale(data: Path, socket_dir: Path) -> None:
    """Remove what a dead server left and a new one would refuse over.

    To be called under the lock, and where `processes` is empty. The pid file
    goes only where its number has passed to another living program: with a
    dead one, postgres takes the file over itself, after a check of the shared
    memory named in it that also sees servers in other PID namespaces.
    """
    pid = _number(_pid_file(data), _PID)
    if pid is not None and psutil.pid_exists(pid):
        (data / "postmaster.pid").unlink(missing_ok=True)
    for left in socket_dir.glob(".s.PGSQL.*"):
        left.unlink(missing_ok=True)


def free_port() -> int:
    """Return a TCP port of the loopback address that nobody holds now."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def is_free(port: int) -> bool:
    """Say whether a server could listen on the port of the loopback address."""
    with socket.socket() as probe:
        # As postgres does: a connection in TIME_WAIT is no obstacle.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
            probe.listen()
        except OSError as exc:
            if exc.errno == errno.EADDRINUSE:
                return False
            raise
    return True


def port_holder(port: int) -> str | None:
    """Name the process that listens on a TCP port, "nginx (process 812)"; None if it is hidden."""
    try:
        for pid in _listeners(port):
            return f"{psutil.Process(pid).name()} (process {pid})"
    except psutil.Error:
        pass
    return None


def _listeners(port: int) -> Iterator[int]:
    for held in psutil.net_connections(kind="tcp"):
        if (
            held.laddr
            and held.laddr.port == port
            and held.status == psutil.CONN_LISTEN
            and held.pid
        ):
            yield held.pid


def _pid_file(data: Path) -> list[str]:
    try:
        return (data / "postmaster.pid").read_text(errors="replace").splitlines()
    except (FileNotFoundError, NotADirectoryError):
        return []


def _number(lines: list[str], index: int) -> int | None:
    text = lines[index].strip() if index < len(lines) else ""
    # A stand-alone backend writes its number negative.
    return abs(int(text)) if text.lstrip("-").isdecimal() else None


def _program(pid: int, data: Path) -> Path | None:
    try:
        process = psutil.Process(pid)
        if not _works_in(process, data):
            return None
        return Path(process.exe())
    except psutil.Error:
        return None


def _works_in(process: psutil.Process, data: Path) -> bool:
    try:
        if not process.name().startswith(_NAMES) or process.status() == psutil.STATUS_ZOMBIE:
            return False
        if process.uids().real != data.stat().st_uid:
            return False
        return Path(process.cwd()).samefile(data)
    except (psutil.Error, OSError):
        return False
