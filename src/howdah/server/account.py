"""As which OS user a cluster runs, and commands run as that user.

PostgreSQL refuses to run as root. So root runs it as the OS user `postgres`
where that user exists and can reach both the programs and the data, and
otherwise inside a user namespace, where root's own files belong to an
unprivileged user. Nothing is added or changed for that: no OS user, no mode
of a folder. The owner of a data directory says for ever how it is run.
"""

from __future__ import annotations

import os
import pwd
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

from howdah.errors import NeedsPerson, Refused, ServerFailed
from howdah.server.binaries import Binaries

_NOBODY = "65534"
_NAMESPACE = ("unshare", "--user", f"--map-user={_NOBODY}", f"--map-group={_NOBODY}")
_PROBE_TIMEOUT_S = 30.0
# What a server inherits is readable in it for good (COPY FROM PROGRAM), so it
# gets none of the caller's secrets, and no PG* variable that would steer it.
_ENVIRONMENT = ("PATH", "TZ", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")


@dataclass(frozen=True, slots=True)
class Account:
    """The OS user that a cluster's processes run as.

    Attributes:
        name: For people: "postgres", or "root (user namespace)".
        uid: Owner of the data directory's files.
        gid: Group of the data directory's files.
        way: "self" runs as the caller, "user" changes to another user (root
            only), "namespace" is root seen as an unprivileged user.
    """

    name: str
    uid: int
    gid: int
    way: Literal["self", "user", "namespace"]


_NAMESPACED = Account("root (user namespace)", 0, 0, "namespace")


def run_as(
    account: Account,
    argv: Sequence[str],
    *,
    timeout_s: float,
    text_in: str = "",
    output: IO[bytes] | int = subprocess.PIPE,
    pass_fds: Sequence[int] = (),
) -> subprocess.CompletedProcess[str]:
    """Run one command as the account, out of the reach of the terminal's Ctrl-C.

    Args:
        account: From `account_for_new` or `account_of`.
        argv: The command; no shell sees it.
        timeout_s: Kill it after that many seconds.
        text_in: What it reads on its standard input.
        output: Where standard output and error go together.
        pass_fds: Descriptors that it inherits besides.
    """
    identity: dict[str, Any] = {}
    if account.way == "user":
        identity = {"user": account.uid, "group": account.gid, "extra_groups": []}
    return subprocess.run(
        [*_NAMESPACE, *argv] if account.way == "namespace" else list(argv),
        input=text_in,
        stdout=output,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
        timeout=timeout_s,
        pass_fds=pass_fds,
        start_new_session=True,
        # initdb and pg_ctl stop where they may not read the working directory.
        cwd="/",
        env=_environment(),
        **identity,
    )


def account_of(data: Path) -> Account:
    """Return the account that an existing data directory belongs to.

    Raises:
        Refused: It is another user's, and the caller is not root.
    """
    owner = data.stat()
    if os.geteuid() == 0:
        if owner.st_uid == 0:
            return _NAMESPACED
        return Account(_user_name(owner.st_uid), owner.st_uid, owner.st_gid, "user")
    if owner.st_uid != os.geteuid():
        raise Refused(
            f"The data directory {data} belongs to the OS user {_user_name(owner.st_uid)}.",
            next_step="Run the command as that user, or choose another folder with --data.",
        )
    return _caller()


def account_for_new(base: Path, binaries: Binaries) -> Account:
    """Choose the account of a cluster that is to be made inside `base`.

    Raises:
        NeedsPerson: The caller is root, and there is no way to run PostgreSQL as somebody else.
    """
    account = _caller()
    if os.geteuid() == 0:
        postgres = _postgres_user()
        usable = postgres is not None and _can_run(postgres, binaries, base)
        account = postgres if postgres is not None and usable else _NAMESPACED
    check_can_run(account, binaries, base)
    return account


def check_can_run(account: Account, binaries: Binaries, folder: Path) -> None:
    """Make sure that the account can run the programs and reach the folder.

    Raises:
        NeedsPerson: It is root's, and user namespaces are not allowed here.
        ServerFailed: It cannot reach one of the two.
    """
    if _can_run(account, binaries, folder):
        return
    if account.way == "namespace" and not _succeeds(account, ["true"]):
        raise NeedsPerson(
            "PostgreSQL does not run as root; no OS user postgres can reach its programs and "
            f"{folder}, and user namespaces are not allowed here.",
            next_step="Run it as an ordinary user: su - someone -c 'howdah server start'",
        )
    raise ServerFailed(
        f"The OS user {account.name} cannot reach {folder} or run {binaries.program('postgres')}.",
        next_step=f"Look at the modes: namei -l {folder} {binaries.program('postgres')}",
    )


def can_enter(account: Account, folder: Path) -> bool:
    """Say whether the account can reach what lies in the folder."""
    return _succeeds(account, ["test", "-x", str(folder)])


def _can_run(account: Account, binaries: Binaries, folder: Path) -> bool:
    return _succeeds(account, [binaries.program("postgres"), "--version"]) and can_enter(
        account, folder
    )


def _postgres_user() -> Account | None:
    try:
        entry = pwd.getpwnam("postgres")
    except KeyError:
        return None
    return Account("postgres", entry.pw_uid, entry.pw_gid, "user")


def _succeeds(account: Account, argv: list[str]) -> bool:
    try:
        return run_as(account, argv, timeout_s=_PROBE_TIMEOUT_S).returncode == 0
    except (OSError, subprocess.SubprocessError):
        # No such program, or (inside a container) a user that is not mapped.
        return False


def _caller() -> Account:
    return Account(_user_name(os.geteuid()), os.geteuid(), os.getegid(), "self")


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _environment() -> dict[str, str]:
    kept = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    # "C": messages in English for `failures`, and on macOS the locale must be
    # set, or the postmaster refuses ("became multithreaded during startup").
    return kept | {"LC_ALL": "C"}
