"""Loading: documents and records of any kind into PostgreSQL, each once."""

from howdah.loading.columns import Columns
from howdah.loading.forkjoin import (
    ForkJoinPool,
    PoolBroken,
    TaskTimedOut,
    WorkerDied,
    emit,
    fork,
)
from howdah.loading.planning import plan
from howdah.loading.readers import (
    BadRecord,
    Batch,
    Head,
    Match,
    Reader,
    SplittingReader,
    UnreadableSource,
)
from howdah.loading.report import BuildingIndexes, Event, LoadReport, Outcome, Planned, TablePlan
from howdah.loading.run import latest_rejects, load, restore_indexes

__all__ = [
    "BadRecord",
    "Batch",
    "BuildingIndexes",
    "Columns",
    "Event",
    "ForkJoinPool",
    "Head",
    "LoadReport",
    "Match",
    "Outcome",
    "Planned",
    "PoolBroken",
    "Reader",
    "SplittingReader",
    "TablePlan",
    "TaskTimedOut",
    "UnreadableSource",
    "WorkerDied",
    "emit",
    "fork",
    "latest_rejects",
    "load",
    "plan",
    "restore_indexes",
]
