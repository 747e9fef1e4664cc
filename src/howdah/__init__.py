"""Howdah: PostgreSQL operations for Python and Django teams.

The names below are the public ones; each is imported when it is first used,
so that `import howdah` costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from howdah.connections.budget import Budget, BudgetTimeout, Reservation
    from howdah.connections.pool import Pool
    from howdah.connections.poolasync import AsyncPool
    from howdah.connections.poolstats import PoolTimeout
    from howdah.connections.share import Share
    from howdah.errors import HowdahError
    from howdah.loading import (
        AsyncWriter,
        Columns,
        ForkJoinPool,
        LoadReport,
        PoolBroken,
        ReaderOptions,
        TaskTimedOut,
        WorkerDied,
        Writer,
        fork,
        load,
    )

__version__ = "0.1.0"

__all__ = [
    "AsyncPool",
    "AsyncWriter",
    "Budget",
    "BudgetTimeout",
    "Columns",
    "ForkJoinPool",
    "HowdahError",
    "LoadReport",
    "Pool",
    "PoolBroken",
    "PoolTimeout",
    "ReaderOptions",
    "Reservation",
    "Share",
    "TaskTimedOut",
    "WorkerDied",
    "Writer",
    "__version__",
    "fork",
    "load",
]

_HOMES = {
    "AsyncPool": "howdah.connections.poolasync",
    "Budget": "howdah.connections.budget",
    "BudgetTimeout": "howdah.connections.budget",
    "HowdahError": "howdah.errors",
    "Pool": "howdah.connections.pool",
    "PoolTimeout": "howdah.connections.poolstats",
    "Reservation": "howdah.connections.budget",
    "Share": "howdah.connections.share",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES.get(name, "howdah.loading")), name)


def __dir__() -> list[str]:
    return __all__
