"""Howdah: PostgreSQL operations for Python and Django teams.

The names below are the public ones; each is imported when it is first used,
so that `import howdah` costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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
    "AsyncWriter",
    "Columns",
    "ForkJoinPool",
    "HowdahError",
    "LoadReport",
    "PoolBroken",
    "ReaderOptions",
    "TaskTimedOut",
    "WorkerDied",
    "Writer",
    "__version__",
    "fork",
    "load",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    home = "howdah.errors" if name == "HowdahError" else "howdah.loading"
    return getattr(import_module(home), name)


def __dir__() -> list[str]:
    return __all__
