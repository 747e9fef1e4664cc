"""Make a data directory: whole, or not at all.

Everything happens in a half-made sibling, under the cluster's lock; renaming
its data directory into place is the last act, so what bears the name is
complete, and what does not is swept by the next attempt.
"""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from howdah.errors import ServerFailed
from howdah.server import configuration
from howdah.server.account import Account, run_as
from howdah.server.binaries import Binaries
from howdah.server.failures import failure
from howdah.server.layout import Layout

# Not "howdah": such a role has the ledger's schema, howdah, first in its search_path.
ROLE = "postgres"
DATABASE = "howdah"

logger = logging.getLogger(__name__)

_TIMEOUT_S = 600.0
_PASSWORD_BYTES = 24
_HAS_BUILTIN_LOCALES = 17
_CREATE_DATABASE = f"CREATE DATABASE {DATABASE};\n"


def make_data_directory(
    layout: Layout, binaries: Binaries, account: Account, *, port: int, lock: int
) -> None:
    """Make the cluster's data directory, its database and its password file.

    Args:
        layout: Where; the data directory is missing or empty.
        binaries: With which PostgreSQL.
        account: As whom; owns the result.
        port: Goes to howdah.conf.
        lock: The descriptor of the lock that the caller holds.

    Raises:
        ServerFailed: initdb failed; nothing is left.
    """
    with _half_made(layout, account) as folder:
        password = secrets.token_urlsafe(_PASSWORD_BYTES)
        pwfile = folder / "pwfile"
        _write_private(pwfile, f"{password}\n", account)
        _initdb(folder / "data", pwfile, binaries, account, lock)
        configuration.install(folder / "data", port)
        _create_database(folder / "data", binaries, account, lock)
        # Any host and port: libpq matches a socket directory by its full path, and
        # both change. token_urlsafe has no colon and no backslash to escape.
        _write_private(folder / "pgpass", f"*:*:*:{ROLE}:{password}\n")
        # First the password: a data directory in place without one is lost.
        (folder / "pgpass").replace(layout.passfile)
        (folder / "data").replace(layout.data)
        _sync(layout.base)
    logger.info("cluster %s: made by PostgreSQL %s", layout.data, binaries.version)


@contextmanager
def _half_made(layout: Layout, account: Account) -> Generator[Path]:
    for left in layout.base.iterdir():
        if not left.name.startswith(layout.half_made):
            continue
        logger.info("cluster %s: removing the half-made %s", layout.data, left)
        shutil.rmtree(left, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(dir=layout.base, prefix=layout.half_made))
    try:
        data = folder / "data"
        data.mkdir(mode=0o700)
        if account.way == "user":
            os.chown(data, account.uid, account.gid)
            # Ours, made a line above: the account passes through and changes nothing.
            folder.chmod(0o711)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _initdb(data: Path, pwfile: Path, binaries: Binaries, account: Account, lock: int) -> None:
    argv = [
        *(binaries.program("initdb"), "--pgdata", str(data)),
        *("--username", ROLE, "--pwfile", str(pwfile), "--auth", "scram-sha-256"),
        *("--encoding", "UTF8", "--data-checksums"),
        # We sweep up ourselves, after we have seen how full the disk was.
        "--no-clean",
    ]
    said = ""
    for locale in _locales(binaries.major):
        result = _run(account, [*argv, *locale], data, lock)
        if result.returncode == 0:
            return
        said = result.stdout
        if "locale" not in said:
            break
    raise failure(f"initdb of PostgreSQL {binaries.version} failed", data.parent, said)


def _locales(major: int) -> list[list[str]]:
    """Return initdb's options for UTF-8 in code point order, the best first.

    The C library's own C.UTF-8 is missing on older systems (glibc before 2.35, macOS).
    """
    if major < _HAS_BUILTIN_LOCALES:
        return [["--locale", "C.UTF-8"], ["--locale", "C"]]
    builtin = ["--locale-provider", "builtin", "--builtin-locale", "C.UTF-8"]
    return [[*builtin, "--locale", "C.UTF-8"], [*builtin, "--locale", "C"]]


def _create_database(data: Path, binaries: Binaries, account: Account, lock: int) -> None:
    # A single-user backend: no port, no socket, nobody else gets in meanwhile.
    argv = [
        *(binaries.program("postgres"), "--single", "-D", str(data)),
        *("-c", "exit_on_error=on", "-c", "logging_collector=off", "postgres"),
    ]
    result = _run(account, argv, data, lock, text_in=_CREATE_DATABASE)
    if result.returncode != 0:
        raise failure(
            f"PostgreSQL {binaries.version} could not create the database {DATABASE!r}",
            data.parent,
            result.stdout,
        )


def _run(
    account: Account, argv: list[str], data: Path, lock: int, *, text_in: str = ""
) -> subprocess.CompletedProcess[str]:
    try:
        return run_as(account, argv, timeout_s=_TIMEOUT_S, text_in=text_in, pass_fds=[lock])
    except subprocess.TimeoutExpired as exc:
        raise ServerFailed(
            f"{argv[0]} has not made {data} within {_TIMEOUT_S:.0f} s and was stopped.",
            next_step="Choose a folder on a faster disk with --data.",
        ) from exc


def _write_private(path: Path, text: str, owner: Account | None = None) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        if owner is not None:
            os.fchown(descriptor, owner.uid, owner.gid)
        file.write(text)
        file.flush()
        os.fsync(descriptor)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
