"""Start and stop the server of a complete data directory. The caller holds the cluster's lock."""

from __future__ import annotations

import logging
import os
import signal
import time

from howdah.errors import ServerFailed, UsageError
from howdah.server import binaries as programs
from howdah.server import configuration, log, postmaster
from howdah.server.account import Account, account_of, check_can_run, run_as
from howdah.server.binaries import Binaries
from howdah.server.directory import check_usable, major_of
from howdah.server.failures import failure
from howdah.server.layout import Layout, make_socket_dir, remove_socket_dir
from howdah.server.running import Running, running_server

logger = logging.getLogger(__name__)

_START_TIMEOUT_S = 120
_STOP_TIMEOUT_S = 120.0
_CHECK_TIMEOUT_S = 30.0
_ORPHAN_PATIENCE_S = 1.0
_ORPHAN_TIMEOUT_S = 10.0
_POLL_S = 0.02
_FIRST_PORT, _LAST_PORT = 1024, 65535


def startable(layout: Layout, binaries: Binaries | None) -> tuple[Binaries, Account]:
    """Find the programs and the account of an existing cluster.

    Args:
        layout: Whose data directory is complete.
        binaries: These programs and no others; None for any of its major.

    Raises:
        HowdahError: It could not be started; whatever runs now goes on.
    """
    check_usable(layout)
    account = account_of(layout.data)
    chosen = _fitting(layout, binaries)
    check_can_run(account, chosen, layout.data)
    return chosen, account


def check_settings(layout: Layout, binaries: Binaries, account: Account) -> None:
    """Make sure that the configuration files can be read: before a server is stopped for them.

    Raises:
        ServerFailed: There is an error in them.
    """
    argv = [binaries.program("postgres"), "-D", str(layout.data), "-C", "port"]
    result = run_as(account, argv, timeout_s=_CHECK_TIMEOUT_S)
    if result.returncode != 0:
        raise failure(
            f"The settings of {layout.data} have an error, so its server was not stopped",
            layout.data,
            result.stdout,
            next_step="Correct them, and restart again.",
        )


def launch(layout: Layout, binaries: Binaries | None, port: int | None) -> Running:
    """Start the server of a complete data directory in which none runs.

    Args:
        layout: Where.
        binaries: These programs and no others; None for any of the cluster's major.
        port: Move it to this port; 0 for any free one, None for its own.

    Raises:
        HowdahError: It does not come up; its port is as before.
    """
    chosen, account = startable(layout, binaries)
    _await_orphans(layout)
    sockets = make_socket_dir(layout, account)
    postmaster.clear_stale(layout.data, sockets)
    stored = configuration.stored_port(layout.data)
    wanted = (stored if port is None else port) or postmaster.free_port()
    check_free(wanted)
    log.sweep(layout.data)
    former = configuration.set_address(layout.data, wanted, sockets)
    try:
        return _pg_ctl_start(layout, chosen, account, wanted)
    except BaseException:
        configuration.restore(layout.data, former)
        if postmaster.postmaster(layout.data) is None:
            remove_socket_dir(layout)
        raise


def shut_down(layout: Layout) -> None:
    """Stop the server if one runs, and wait until it is gone.

    Raises:
        Refused: It belongs to another OS user.
        ServerFailed: It still runs after two minutes.
    """
    account_of(layout.data)
    server = postmaster.postmaster(layout.data)
    if server is not None:
        # What `pg_ctl stop --mode=fast` sends; it needs no programs of that major.
        os.kill(server.pid, signal.SIGINT)
        _await_end(layout, server.pid)
        logger.info("cluster %s: stopped, process %s", layout.data, server.pid)
    remove_socket_dir(layout)


def check_range(port: int | None) -> None:
    """Refuse a port that only root could open."""
    if port and not _FIRST_PORT <= port <= _LAST_PORT:
        raise UsageError(
            f"{port} is no port for a server of an ordinary user.",
            next_step=f"Choose one of {_FIRST_PORT} to {_LAST_PORT}, or 0 for any free one.",
        )


def check_free(port: int) -> None:
    """Refuse a port that is taken, and say by whom."""
    if not postmaster.is_free(port):
        holder = postmaster.port_holder(port) or "another program"
        raise ServerFailed(
            f"Port {port} of {postmaster.LOOPBACK} is taken by {holder}.",
            next_step="Run: howdah server start --port 0 (any free port), or name another.",
        )


def _pg_ctl_start(layout: Layout, binaries: Binaries, account: Account, port: int) -> Running:
    argv = [
        *(binaries.program("pg_ctl"), "start", "--wait", f"--timeout={_START_TIMEOUT_S}"),
        *("--pgdata", str(layout.data)),
    ]
    before = log.sizes(layout.data)
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
    # The server keeps this file open, and nothing of the caller's.
    with os.fdopen(os.open(layout.start_log, flags, 0o600), "wb") as output:
        result = run_as(account, argv, timeout_s=_START_TIMEOUT_S + 30.0, output=output)
    running = running_server(layout)
    if result.returncode == 0 and running is not None:
        logger.info("cluster %s: started, process %s", layout.data, running.pid)
        return running
    check_free(port)
    logged = log.written_since(layout.data, before)
    raise failure(
        f"PostgreSQL {binaries.version} did not start",
        layout.data,
        layout.start_log.read_text(errors="replace") + logged,
        next_step=f"Read its log: {log.latest(layout.data) if logged else layout.start_log}",
    )


def _fitting(layout: Layout, binaries: Binaries | None) -> Binaries:
    major = major_of(layout)
    made = f"The data directory {layout.data} was made by PostgreSQL {major}"
    if binaries is None:
        try:
            return programs.find(major)
        except ServerFailed as exc:
            raise ServerFailed(f"{made}. {exc.message}", next_step=exc.next_step) from exc
    if binaries.major != major:
        raise ServerFailed(
            f"{made}, and {binaries.bindir} is PostgreSQL {binaries.version}.",
            next_step=f"Name the bin folder of a PostgreSQL {major} with --version-of, "
            "or leave the option out.",
        )
    return binaries


def _await_end(layout: Layout, pid: int) -> None:
    deadline = time.monotonic() + _STOP_TIMEOUT_S
    # The pid file goes a little before the process does.
    while pid in postmaster.processes(layout.data):
        if time.monotonic() > deadline:
            raise ServerFailed(
                f"The server of {layout.data} (process {pid}) still runs "
                f"{_STOP_TIMEOUT_S:.0f} s after it was told to stop.",
                next_step=f"Read its log: {log.latest(layout.data)}",
            )
        time.sleep(_POLL_S)


def _await_orphans(layout: Layout) -> None:
    """Wait for the backends of a killed postmaster to end; help them after a while."""
    begun = time.monotonic()
    while left := postmaster.processes(layout.data):
        if time.monotonic() > begun + _ORPHAN_PATIENCE_S:
            postmaster.end_orphans(layout.data)
        if time.monotonic() > begun + _ORPHAN_TIMEOUT_S:
            numbers = " ".join(map(str, left))
            raise ServerFailed(
                f"No server runs in {layout.data}, and processes of a former one still do: "
                f"{numbers}.",
                next_step=f"End them: kill {numbers}",
            )
        time.sleep(_POLL_S)
