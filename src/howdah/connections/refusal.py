"""Why a server refused a connection, by SQLSTATE and never by the text, which is translated.

libpq tells a failed connection's SQLSTATE to nobody, but writes it into its
protocol trace. The trace goes to memory, for it holds authentication messages.
Which limit was hit, the server's routine tells.
Source: src/backend/utils/init/{postinit,miscinit}.c, src/backend/storage/lmgr/proc.c
"""

from __future__ import annotations

import os
import re
import select
import sys
import tempfile
import time
from dataclasses import dataclass
from typing import Literal

from psycopg import pq

__all__ = ["NO_SLOT", "Refusal", "refusal"]

NO_SLOT = "53300"
"""too_many_connections; Source: https://www.postgresql.org/docs/current/errcodes-appendix.html"""

Limit = Literal["role", "database", "reserved", "all", "unknown"]

_TIMEOUT_S = 10.0
_ERROR = re.compile(r"\tErrorResponse\t(.*)$", re.MULTILINE)
_CODE, _TEXT, _ROUTINE = (
    re.compile(pattern) for pattern in (r' C "(\w{5})"', r' M "(.*?)" (?:D|H|F) "', r' R "(\w+)"')
)
_LIMITS: dict[str, Limit] = {
    "InitializeSessionUserId": "role",
    "CheckMyDatabase": "database",
    "InitPostgres": "reserved",
    "InitProcess": "all",
    "ProcArrayAdd": "all",
    "canAcceptConnections": "all",
    "BackendStartup": "all",
    "ProcessStartupPacket": "all",
    "BackendInitialize": "all",
    "BackendMain": "all",
}


@dataclass(frozen=True, slots=True)
class Refusal:
    """What a server said when it refused a connection.

    Attributes:
        sqlstate: "53300" where no slot is left.
        text: The server's words, in its language.
        limit: Which limit left no slot: the role's, the database's, that of the
            reserved slots (only roles that may use them get in), or all are taken.
    """

    sqlstate: str
    text: str
    limit: Limit


def refusal(conninfo: str) -> Refusal | None:
    """Try to connect, and return the server's refusal.

    Returns:
        None where it lets us in, or where none answers.
    """
    conn = pq.PGconn.connect_start(conninfo.encode())
    descriptor = _memory()
    try:
        if conn.status == pq.ConnStatus.BAD or sys.platform != "linux":
            return None  # psycopg traces on Linux alone
        conn.trace(descriptor)
        is_in = _poll(conn)
        conn.untrace()
        return None if is_in else _last_error(_read(descriptor))
    finally:
        conn.finish()
        os.close(descriptor)


def _memory() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("howdah")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _poll(conn: pq.abc.PGconn) -> bool:
    deadline = time.monotonic() + _TIMEOUT_S
    while time.monotonic() < deadline:
        status = conn.connect_poll()
        if status in (pq.PollingStatus.OK, pq.PollingStatus.FAILED):
            return status == pq.PollingStatus.OK
        waits = [conn.socket]
        reads, writes = (waits, []) if status == pq.PollingStatus.READING else ([], waits)
        select.select(reads, writes, [], _TIMEOUT_S)
    return True


def _read(descriptor: int) -> str:
    with os.fdopen(os.dup(descriptor), "rb") as file:
        file.seek(0)
        return file.read().decode(errors="replace")


def _last_error(trace: str) -> Refusal | None:
    errors = _ERROR.findall(trace)
    if not errors:
        return None
    found = [pattern.search(errors[-1]) for pattern in (_CODE, _TEXT, _ROUTINE)]
    code, text, routine = (match[1] if match else "" for match in found)
    return Refusal(code, text, _LIMITS.get(routine, "unknown"))
