"""A process that outlives a killed load and builds the indexes that it had dropped.

It holds the reading end of a pipe whose writing end the load and its workers
hold, so it wakes when the last of them is gone, whatever ended them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import suppress
from types import TracebackType
from typing import Self

import psycopg

from howdah import pg
from howdah.errors import HowdahError
from howdah.loading.target import Target

__all__ = ["Guard"]

_DISMISSED = b"all is well"
_TRIES = 30
_PAUSE_S = 2.0


class Guard:
    """A guard over a load's dropped indexes, for a `with` block.

    Args:
        conninfo: The database; goes through the pipe, since it may hold a password.
        target: The table.
    """

    def __init__(self, conninfo: str, target: Target) -> None:
        table = {"oid": target.oid, "schema": target.schema, "name": target.name}
        self._dismissed = False
        orders = {"conninfo": conninfo, "table": table}
        self._process = subprocess.Popen(
            [sys.executable, "-c", "from howdah.loading.guard import main; main()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            # What this program can import, that can too; and Ctrl-C is not for it.
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            start_new_session=True,
        )
        assert self._process.stdin is not None  # noqa: S101 - it is a pipe
        self._pipe = self._process.stdin
        self._pipe.write(json.dumps(orders).encode() + b"\n")
        self._pipe.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with suppress(OSError):  # it is gone itself
            self._pipe.close()
        if self._dismissed:
            self._process.wait()

    def dismiss(self) -> None:
        """Have it end without doing anything: the indexes are built."""
        self._dismissed = True
        with suppress(OSError):
            self._pipe.write(_DISMISSED)


def main() -> None:
    """Read what to guard from standard input, wait for its end, and build what is missing."""
    orders = json.loads(sys.stdin.buffer.readline())
    if sys.stdin.buffer.read() == _DISMISSED:
        return
    for _ in range(_TRIES):  # the server may be what has failed
        with suppress(HowdahError, psycopg.Error):
            _restore(orders["conninfo"], Target(**orders["table"]))
            return
        time.sleep(_PAUSE_S)


def _restore(conninfo: str, target: Target) -> None:
    from howdah.loading.indexes import restore_abandoned  # which imports us

    with pg.connect(conninfo, application_name="howdah load") as conn:
        restore_abandoned(conn, target, wait=True)
