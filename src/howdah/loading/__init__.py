"""Loading: documents and records of any kind into PostgreSQL, each once."""

from howdah.loading.forkjoin import (
    ForkJoinPool,
    PoolBroken,
    TaskTimedOut,
    WorkerDied,
    emit,
    fork,
)
from howdah.loading.limits import Limits
from howdah.loading.readers import (
    BadRecord,
    Batch,
    Head,
    Match,
    Reader,
    SplittingReader,
    UnreadableSource,
)
from howdah.loading.report import Event, LoadReport, Outcome, Planned, Waiting
from howdah.loading.run import latest_rejects, load
from howdah.loading.schema import ddl

__all__ = [
    "BadRecord",
    "Batch",
    "Event",
    "ForkJoinPool",
    "Head",
    "Limits",
    "LoadReport",
    "Match",
    "Outcome",
    "Planned",
    "PoolBroken",
    "Reader",
    "SplittingReader",
    "TaskTimedOut",
    "UnreadableSource",
    "Waiting",
    "WorkerDied",
    "ddl",
    "emit",
    "fork",
    "latest_rejects",
    "load",
]
