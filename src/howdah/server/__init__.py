"""PostgreSQL servers: finding their binaries, running a cluster of our own."""

from howdah.server.binaries import Binaries, find, psql
from howdah.server.cluster import (
    Status,
    ensure_running,
    init,
    restart,
    start,
    status,
    stop,
)
from howdah.server.running import Running

__all__ = [
    "Binaries",
    "Running",
    "Status",
    "ensure_running",
    "find",
    "init",
    "psql",
    "restart",
    "start",
    "status",
    "stop",
]
