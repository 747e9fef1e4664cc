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
from howdah.loading.limits import Limits
from howdah.loading.mending import Refusal, RetryReport, retry_rejects
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
from howdah.loading.report import Event, LoadReport, Outcome, Planned, TablePlan, Waiting
from howdah.loading.run import latest_rejects, load, plan
from howdah.loading.schema import ddl

__all__ = [
    "BadRecord",
    "Batch",
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
    "retry_rejects",
]
