"""How soon a server notices that a client is gone, and frees what its sessions held.

A client that dies is noticed at once: its machine closes its sockets. A machine that
vanishes, or a cable that is cut, says nothing; then the server's own probes tell. Its
defaults take two hours.
Source: https://www.postgresql.org/docs/current/runtime-config-connection.html
"""

from __future__ import annotations

import math
from typing import Any, LiteralString

from psycopg.conninfo import conninfo_to_dict, make_conninfo

__all__ = ["CLAUSES", "client_side", "server_side"]

_PROBES = 5
_CHECK_MS = 1000
"""How often a backend that runs a query looks whether its client is there, in milliseconds."""

CLAUSES: LiteralString = """
    set_config('tcp_keepalives_idle', %(idle)s, false),
    set_config('tcp_keepalives_interval', %(interval)s, false),
    set_config('tcp_keepalives_count', %(count)s, false),
    set_config('tcp_user_timeout', %(user_timeout)s, false),
    -- Elsewhere, not every version of every system has it.
    CASE WHEN version() ~ 'linux'
         THEN set_config('client_connection_check_interval', %(check)s, false) END
"""
"""For a SELECT with the parameters of `server_side`: they hold for the rest of the session."""


def server_side(lost_after_s: float) -> dict[str, str]:
    """Return settings with which a backend ends so long after its client has vanished.

    Args:
        lost_after_s: In seconds; at least 2, as probes go out a second apart.
    """
    idle, interval = _spread(lost_after_s)
    return {
        "idle": str(idle),
        "interval": str(interval),
        "count": str(_PROBES),
        "user_timeout": str(math.ceil(lost_after_s * 1000)),
        "check": str(_CHECK_MS),
    }


def client_side(conninfo: str, lost_after_s: float) -> str:
    """Return a connection string with which libpq notices as soon that the server has vanished.

    What it says already stays.
    """
    idle, interval = _spread(lost_after_s)
    said: dict[str, Any] = conninfo_to_dict(conninfo)
    ours: dict[str, Any] = {
        "keepalives_idle": idle,
        "keepalives_interval": interval,
        "keepalives_count": _PROBES,
        "tcp_user_timeout": math.ceil(lost_after_s * 1000),
    }
    return make_conninfo(**{**ours, **said})


def _spread(lost_after_s: float) -> tuple[int, int]:
    interval = max(1, math.floor(lost_after_s / 2 / _PROBES))
    return max(1, math.floor(lost_after_s - interval * _PROBES)), interval
