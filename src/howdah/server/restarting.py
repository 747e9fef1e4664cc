"""Restart a server by what runs it, and put the last good configuration back if it fails."""

from __future__ import annotations

import logging
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, LiteralString

from psycopg import Connection
from psycopg.conninfo import make_conninfo

from howdah import pg
from howdah.errors import HowdahError, NoDatabase, ServerFailed
from howdah.server import cluster, includefile, log
from howdah.server.account import Account, account_of, run_as
from howdah.server.binaries import find
from howdah.server.configuration import read, replace_file
from howdah.server.failures import failure
from howdah.server.runner import LocalServer, Runner
from howdah.server.settings import AUTO_CONF, file_places, is_in_force, settings

__all__ = ["Event", "Kept", "Restarted", "address_of", "keep", "living", "restart"]

logger = logging.getLogger(__name__)

_COMMAND_TIMEOUT_S = 180.0
_CONNECT_TIMEOUT_S = 10.0
_CLIENTS_BACK_S = 2.0
_POLL_S = 0.05
_DRAIN_POLL_S = 0.2


@dataclass(frozen=True, slots=True)
class Event:
    """A step of a change, as it begins.

    Attributes:
        step: "check", "apply", "reload", "drain", "restart", "verify" or "put back".
        text: What it is about, for people.
    """

    step: str
    text: str


@dataclass(frozen=True, slots=True)
class Restarted:
    """What a restart did.

    Attributes:
        seconds: From the order to stop until the server let us in again.
        sessions_before: Client sessions that it ended, ours not counted.
        sessions_after: Those that came back within two seconds.
        ended_transactions: Transactions that were running when it stopped.
    """

    seconds: float
    sessions_before: int
    sessions_after: int
    ended_transactions: int


@dataclass(frozen=True, slots=True)
class Kept:
    """Configuration files as they were, to be put back.

    Attributes:
        texts: Each file's text; None where there was no such file.
    """

    texts: Mapping[Path, str | None]


def files_of(server: LocalServer) -> list[Path]:
    """Return the files that a change may write."""
    ours, main = includefile.touched(server)
    return [server.data / AUTO_CONF, ours, main]


def keep(server: LocalServer) -> Kept:
    """Read the files that a change may write, before it does."""
    return Kept({path: read(path) if path.exists() else None for path in files_of(server)})


def address_of(conn: Connection[Any]) -> str:
    """Return the connection string of a connection, password included, to connect again."""
    parameters: dict[str, Any] = dict(conn.info.get_parameters())
    if conn.info.password:
        parameters["password"] = conn.info.password
    return make_conninfo(**parameters)


@contextmanager
def living(conn: Connection[Any], address: str) -> Generator[Connection[Any]]:
    """Yield the connection, or a new one where it is gone."""
    if not conn.closed:
        yield conn
        return
    with pg.connect(address) as new:
        yield new


def restart(
    conn: Connection[Any],
    runner: Runner,
    kept: Kept,
    wishes: Mapping[str, str],
    drain_s: float,
    on_event: Callable[[Event], None],
) -> Restarted:
    """Restart the server and make sure that it has the values; else put the files back.

    Args:
        conn: To the server; closed afterwards.
        runner: What runs it; `can_restart` holds.
        kept: The files as they were before the change.
        wishes: What each setting has to be afterwards.
        drain_s: How long to wait for running transactions.
        on_event: Is told of each step as it begins.

    Raises:
        ServerFailed: It did not start, or without the values.
    """
    assert runner.local is not None  # noqa: S101 - can_restart holds
    address = address_of(conn)
    before = _sessions(conn)
    running = drain(conn, drain_s, on_event)
    in_force = _waiting_values(conn)
    conn.close()
    begun = time.monotonic()
    on_event(Event("restart", runner.label))
    try:
        _run(runner)
        with _connected(address) as new:
            on_event(Event("verify", "the values in force"))
            _check_values(new, wishes)
            seconds = time.monotonic() - begun
            return Restarted(seconds, before, _sessions_back(new, before), running)
    except BaseException as exc:
        cause = exc.message if isinstance(exc, HowdahError) else "The restart was interrupted."
        on_event(Event("put back", "the former configuration"))
        _put_back(runner, runner.local, kept, in_force, cause)
        with _connected(address):
            down = time.monotonic() - begun
        raise ServerFailed(
            f"{cause} The former configuration was put back, and the server runs with it "
            f"again after {down:.1f} s.",
            next_step="Choose another value.",
        ) from exc


_RUNNING = """
    SELECT count(*) FROM pg_catalog.pg_stat_activity
     WHERE backend_type = 'client backend' AND pid <> pg_catalog.pg_backend_pid()
       AND state IS DISTINCT FROM 'idle'
"""
_SESSIONS = """
    SELECT count(*) FROM pg_catalog.pg_stat_activity
     WHERE backend_type = 'client backend' AND pid <> pg_catalog.pg_backend_pid()
"""


def drain(conn: Connection[Any], drain_s: float, on_event: Callable[[Event], None]) -> int:
    """Wait for running transactions; return how many run still when the time is over."""
    deadline = time.monotonic() + drain_s
    told = -1
    while (running := _count(conn, _RUNNING)) and time.monotonic() < deadline:
        if running != told:
            left = deadline - time.monotonic()
            on_event(Event("drain", f"{running} transactions run; waiting up to {left:.0f} s"))
            told = running
        time.sleep(_DRAIN_POLL_S)
    return running


def _sessions(conn: Connection[Any]) -> int:
    return _count(conn, _SESSIONS)


def _count(conn: Connection[Any], query: LiteralString) -> int:
    row = conn.execute(query).fetchone()
    return int(row[0]) if row else 0


def _sessions_back(conn: Connection[Any], before: int) -> int:
    deadline = time.monotonic() + _CLIENTS_BACK_S
    while (now := _sessions(conn)) < before and time.monotonic() < deadline:
        time.sleep(_POLL_S)
    return now


_WAITING = "SELECT name FROM pg_catalog.pg_settings WHERE pending_restart"


def _waiting_values(conn: Connection[Any]) -> dict[str, str]:
    """Return what is in force of all that a restart would change, whoever changed it."""
    names = [str(row[0]) for row in conn.execute(_WAITING)]
    found = settings(conn, *names) if names else {}
    return {name: setting.value for name, setting in found.items()}


def _check_values(conn: Connection[Any], wishes: Mapping[str, str]) -> None:
    found, places = settings(conn, *wishes), file_places(conn)
    for name, wish in wishes.items():
        now = found.get(name)
        if now is None or not is_in_force(now, wish, places):
            value = "unknown to it" if now is None else now.shown
            raise ServerFailed(f"The server started, and {name} is {value}, not {wish!r}.")


@contextmanager
def _connected(address: str) -> Generator[Connection[Any]]:
    """Connect as soon as the server lets us in."""
    deadline = time.monotonic() + _CONNECT_TIMEOUT_S
    while True:
        try:
            conn = pg.open_connection(address)
            break
        except NoDatabase as exc:
            if time.monotonic() > deadline:
                raise ServerFailed(f"The server started, and let nobody in: {exc.message}") from exc
            time.sleep(_POLL_S)
    try:
        yield conn
    finally:
        conn.close()


def _run(runner: Runner) -> None:
    """Restart, or start what is stopped."""
    server = runner.local
    assert server is not None  # noqa: S101 - can_restart holds
    if runner.kind == "howdah":
        # With the program that runs it: HOWDAH_PG_BIN may name another one by now.
        known = find(explicit=server.program) if server.program.exists() else None
        cluster.restart(server.data, binaries=known)
        return
    before = log.sizes(server.data)
    account = account_of(server.data)
    if runner.kind != "pg_ctl":
        account = Account("the caller", os.geteuid(), os.getegid(), "self")
    with tempfile.TemporaryFile() as output:  # a pipe would be held open by the new server
        try:
            done = run_as(
                account, runner.restart, timeout_s=_COMMAND_TIMEOUT_S, output=output.fileno()
            )
        except (OSError, subprocess.SubprocessError) as exc:
            raise ServerFailed(f"{runner.restart[0]} could not be run: {exc}.") from exc
        output.seek(0)
        said = output.read().decode(errors="replace")
    if done.returncode != 0:
        said += log.written_since(server.data, before)
        raise failure("PostgreSQL did not start", server.data, said)


def _put_back(
    runner: Runner,
    server: LocalServer,
    kept: Kept,
    in_force: Mapping[str, str],
    cause: str,
) -> None:
    """Start with the files of before; if that fails, with the values that were in force."""
    _restore(kept, server)
    try:
        _run(runner)
    except HowdahError:
        # Somebody else's change waited for a restart too, and does not start either.
        text = kept.texts[server.data / AUTO_CONF] or ""
        lines = "".join(includefile.conf_line(name, value) for name, value in in_force.items())
        _restore(Kept({server.data / AUTO_CONF: f"{text}\n{lines}"}), server)
        try:
            _run(runner)
        except HowdahError as exc:
            raise ServerFailed(
                f"THE SERVER IS DOWN. {cause} It does not start with the former "
                f"configuration either: {exc.message}",
                next_step=f"The files are as before; mend what is named, and then: {runner.words}",
            ) from exc


def _restore(kept: Kept, server: LocalServer) -> None:
    for path, text in kept.texts.items():
        if text is None:
            with suppress(FileNotFoundError):
                path.unlink()
        elif not path.exists() or read(path) != text:
            replace_file(path, text, like=path if path.exists() else server.config_file)
