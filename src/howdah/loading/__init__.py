"""Loading: documents and records of any kind into PostgreSQL, each once.

Each name is imported when it is first used: a command that does not need the
writer, say, does not wait for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from howdah.loading.columns import Columns
    from howdah.loading.forkjoin import (
        ForkJoinPool,
        PoolBroken,
        TaskTimedOut,
        WorkerDied,
        emit,
        fork,
    )
    from howdah.loading.limits import Limits
    from howdah.loading.mending import Refusal, RetryReport, retry_rejects
    from howdah.loading.planning import TablePlan, plan
    from howdah.loading.readers import (
        BadRecord,
        Batch,
        Head,
        Match,
        Reader,
        ReaderOptions,
        SplittingReader,
        UnreadableSource,
    )
    from howdah.loading.rejectfiles import Exported, export_rejects, reject_content
    from howdah.loading.rejectstore import (
        Chosen,
        KeptReject,
        RejectGroup,
        kept_reject,
        reject_groups,
    )
    from howdah.loading.report import (
        BuildingIndexes,
        Event,
        LoadReport,
        Outcome,
        Planned,
        Waiting,
    )
    from howdah.loading.run import latest_rejects, load, restore_indexes
    from howdah.loading.schema import ddl
    from howdah.loading.writer import Writer
    from howdah.loading.writerasync import AsyncWriter
    from howdah.loading.writerlane import OutcomeUnknown
    from howdah.loading.writerqueue import WriterFull

__all__ = [
    "AsyncWriter",
    "BadRecord",
    "Batch",
    "BuildingIndexes",
    "Chosen",
    "Columns",
    "Event",
    "Exported",
    "ForkJoinPool",
    "Head",
    "KeptReject",
    "Limits",
    "LoadReport",
    "Match",
    "Outcome",
    "OutcomeUnknown",
    "Planned",
    "PoolBroken",
    "Reader",
    "ReaderOptions",
    "Refusal",
    "RejectGroup",
    "RetryReport",
    "SplittingReader",
    "TablePlan",
    "TaskTimedOut",
    "UnreadableSource",
    "Waiting",
    "WorkerDied",
    "Writer",
    "WriterFull",
    "ddl",
    "emit",
    "export_rejects",
    "fork",
    "kept_reject",
    "latest_rejects",
    "load",
    "plan",
    "reject_content",
    "reject_groups",
    "restore_indexes",
    "retry_rejects",
]

_HOMES = {
    "howdah.loading.columns": ("Columns",),
    "howdah.loading.forkjoin": (
        "ForkJoinPool",
        "PoolBroken",
        "TaskTimedOut",
        "WorkerDied",
        "emit",
        "fork",
    ),
    "howdah.loading.limits": ("Limits",),
    "howdah.loading.mending": (
        "Refusal",
        "RetryReport",
        "retry_rejects",
    ),
    "howdah.loading.planning": (
        "TablePlan",
        "plan",
    ),
    "howdah.loading.readers": (
        "BadRecord",
        "Batch",
        "Head",
        "Match",
        "Reader",
        "ReaderOptions",
        "SplittingReader",
        "UnreadableSource",
    ),
    "howdah.loading.rejectfiles": (
        "Exported",
        "export_rejects",
        "reject_content",
    ),
    "howdah.loading.rejectstore": (
        "Chosen",
        "KeptReject",
        "RejectGroup",
        "kept_reject",
        "reject_groups",
    ),
    "howdah.loading.report": (
        "BuildingIndexes",
        "Event",
        "LoadReport",
        "Outcome",
        "Planned",
        "Waiting",
    ),
    "howdah.loading.run": (
        "latest_rejects",
        "load",
        "restore_indexes",
    ),
    "howdah.loading.schema": ("ddl",),
    "howdah.loading.writer": ("Writer",),
    "howdah.loading.writerasync": ("AsyncWriter",),
    "howdah.loading.writerlane": ("OutcomeUnknown",),
    "howdah.loading.writerqueue": ("WriterFull",),
}


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            from importlib import import_module

            return getattr(import_module(home), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
