"""Ask PostgreSQL's own program about a configuration before the server is stopped for it.

`postgres -C` reads the configuration files as a start does, here with the new
values in a postgresql.auto.conf of a copy. From 15 on, asking for
shared_memory_size takes it further than asking for any other: preload
libraries are loaded and the combinations of settings are checked as well.
It may only be asked of a data directory in which no server runs; the copy is one.
Source: https://www.postgresql.org/docs/current/app-postgres.html
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from psycopg import Connection, errors

from howdah.errors import Refused
from howdah.server.account import account_of, run_as
from howdah.server.changeplan import ChangePlan
from howdah.server.configuration import read
from howdah.server.failures import failure
from howdah.server.host import memory
from howdah.server.includefile import conf_line
from howdah.server.runner import LocalServer
from howdah.server.settings import AUTO_CONF

__all__ = ["rehearse"]

_TIMEOUT_S = 30.0
_TELLS_SHARED_MEMORY = 150000
_UNCHANGED = "Nothing was changed. Choose another value, or mend the configuration files."


def rehearse(conn: Connection[Any], server: LocalServer, plan: ChangePlan) -> int | None:
    """Make sure that a server would start with the plan's values.

    Returns:
        The shared memory that it would take, in bytes; None before PostgreSQL 15.

    Raises:
        Refused: It would not; nothing was changed.
    """
    if plan.effect == "restart":
        _check_hba(conn)
    question = "max_connections"
    if conn.info.server_version >= _TELLS_SHARED_MEMORY:
        question = "shared_memory_size"
    with _copy(server, plan) as data:
        answer = _ask(server, data, question)
    said = answer.stdout
    if answer.returncode != 0:
        told = failure("PostgreSQL would not start with it", server.data, said)
        raise Refused(f"{told.message}.", next_step=_UNCHANGED)
    if question != "shared_memory_size":
        return None
    size = int(said.split()[-1]) << 20
    _check_memory(size)
    return size


def _ask(server: LocalServer, data: Path, question: str) -> subprocess.CompletedProcess[str]:
    # The command line of the running server stays; of -D and -c the last wins.
    argv = [str(server.program), *server.arguments, "-D", str(data)]
    argv += ["-c", f"config_file={server.config_file}", "-c", f"data_directory={data}"]
    return run_as(account_of(server.data), [*argv, "-C", question], timeout_s=_TIMEOUT_S)


@contextmanager
def _copy(server: LocalServer, plan: ChangePlan) -> Generator[Path]:
    """Make what `postgres -C` wants of a data directory, with the new values in it."""
    account = account_of(server.data)
    folder = Path(tempfile.mkdtemp(prefix="howdah-rehearsal-"))
    try:
        (folder / "global").mkdir(mode=0o700)
        for name in ("PG_VERSION", "global/pg_control"):
            shutil.copyfile(server.data / name, folder / name)
        (folder / AUTO_CONF).write_text(_auto_conf(server, plan), encoding="utf-8")
        if os.geteuid() == 0 and account.uid != 0:
            for path in (folder, *folder.rglob("*")):
                os.chown(path, account.uid, account.gid)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _auto_conf(server: LocalServer, plan: ChangePlan) -> str:
    text = read(server.data / AUTO_CONF) if (server.data / AUTO_CONF).exists() else ""
    for step in plan.steps:
        if step.after is None:
            text = _without(text, step.name)
        else:
            text += f"\n{conf_line(step.name, step.after)}"
    return text


def _without(text: str, name: str) -> str:
    lines = text.splitlines(keepends=True)
    return "".join(each for each in lines if each.partition("=")[0].strip().lower() != name.lower())


_HBA = "SELECT line_number, error FROM pg_catalog.pg_hba_file_rules WHERE error IS NOT NULL LIMIT 1"


def _check_hba(conn: Connection[Any]) -> None:
    """Refuse a pg_hba.conf that a running server forgives and a starting one does not."""
    try:
        with conn.transaction():
            row = conn.execute(_HBA).fetchone()
    except errors.InsufficientPrivilege:
        return
    if row is not None:
        raise Refused(
            f"PostgreSQL would not start: pg_hba.conf, line {row[0]}: {row[1]}.",
            next_step="Nothing was changed. Mend that line first.",
        )


def _check_memory(size: int) -> None:
    limit = memory().limit_bytes
    if size > limit:
        raise Refused(
            f"It would take {size >> 20:,} MiB of shared memory, and this host has "
            f"{limit >> 20:,} MiB of memory in all.",
            next_step="Nothing was changed. Choose less shared_buffers, or fewer connections.",
        )
