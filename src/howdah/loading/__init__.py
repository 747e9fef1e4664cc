"""Loading: documents and records of any kind into PostgreSQL, each once."""

from howdah.loading.forkjoin import (
    ForkJoinPool,
    PoolBroken,
    TaskTimedOut,
    WorkerDied,
    emit,
    fork,
)
from howdah.loading.readers import (
    BadRecord,
    Batch,
    Head,
    Match,
    Reader,
    SplittingReader,
    UnreadableSource,
)
from howdah.loading.report import Event, LoadReport, Outcome, Planned
from howdah.loading.run import latest_rejects, load
from howdah.loading.writer import Writer
from howdah.loading.writerasync import AsyncWriter
from howdah.loading.writerlane import OutcomeUnknown
from howdah.loading.writerqueue import WriterFull

__all__ = [
    "AsyncWriter",
    "BadRecord",
    "Batch",
    "Event",
    "ForkJoinPool",
    "Head",
    "LoadReport",
    "Match",
    "Outcome",
    "OutcomeUnknown",
    "Planned",
    "PoolBroken",
    "Reader",
    "SplittingReader",
    "TaskTimedOut",
    "UnreadableSource",
    "WorkerDied",
    "Writer",
    "WriterFull",
    "emit",
    "fork",
    "latest_rejects",
    "load",
]
