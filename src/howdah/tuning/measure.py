"""The proof: before and after in turn, in one run, on the same tables.

A side is measured as often as the other, and whose turn is first alternates,
so that what drifts (a cache that warms, a neighbour) falls on both. How the
server is brought from one side to the other is the caller's: a setting of
sessions is set in the sessions that measure, and nobody else notices.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from howdah.errors import HowdahError
from howdah.tuning.compare import Comparison, compared, quantile
from howdah.tuning.workloads import Run, Workload, run

__all__ = ["Figures", "Measured", "Progress", "measure"]

Side = Literal["before", "after"]
SIDES: tuple[Side, Side] = ("before", "after")

_WARM_UP_S = 0.3


@dataclass(frozen=True, slots=True)
class Progress:
    """One run is done.

    Attributes:
        workload: Its name.
        side: "before" or "after".
        round: From 1.
        rounds: How many there will be.
        rows_per_second: What it came to.
    """

    workload: str
    side: Side
    round: int
    rounds: int
    rows_per_second: float


@dataclass(frozen=True, slots=True)
class Figures:
    """One side of a workload, over all rounds.

    Attributes:
        rows_per_second: Of each round.
        p50_s: The median latency of a transaction with its commit.
        p99_s: The latency that one in a hundred exceeds.
        wal_bytes_per_row: By which the server's WAL grew, others' work included.
    """

    rows_per_second: tuple[float, ...]
    p50_s: float
    p99_s: float
    wal_bytes_per_row: float


@dataclass(frozen=True, slots=True)
class Measured:
    """A workload before and after.

    Attributes:
        workload: Its name.
        before: Without the plan.
        after: With it.
        comparison: Of the rows a second.
        about: The workload's.
    """

    workload: str
    before: Figures
    after: Figures
    comparison: Comparison
    about: str = ""


def measure(
    conninfo: str,
    workloads: Sequence[Workload],
    sessions: Mapping[Side, Mapping[str, str]],
    *,
    rounds: int = 6,
    seconds: float = 1.0,
    switch: Callable[[Side], None] = lambda _: None,
    on_event: Callable[[Progress], None] = lambda _: None,
) -> list[Measured]:
    """Measure workloads on both sides in turn.

    Args:
        conninfo: The database.
        workloads: What to do; their tables are made.
        sessions: What sessions set for themselves on each side.
        rounds: How often each side is measured.
        seconds: How long each time.
        switch: Brings the server to a side, before its runs of all workloads.
        on_event: Told of each run.

    Raises:
        HowdahError: Nothing was inserted or updated in a run.
    """
    runs: dict[tuple[str, Side], list[Run]] = {}
    for number, side in _turns(rounds):
        switch(side)
        for workload in workloads:
            if number <= 1:  # the side's first: plans, files and caches are not there yet
                run(conninfo, workload, sessions[side], seconds=min(seconds, _WARM_UP_S))
            done = run(conninfo, workload, sessions[side], seconds=seconds)
            if not done.rows:
                raise HowdahError(
                    f"The workload {workload.name!r} changed no row.",
                    next_step="See whether its statement finds rows to change.",
                )
            runs.setdefault((workload.name, side), []).append(done)
            on_event(Progress(workload.name, side, number, rounds, done.rows_per_second))
    return [_measured(one, runs) for one in workloads]


def _turns(rounds: int) -> Iterator[tuple[int, Side]]:
    """Yield before, after, after, before, before, ...: one switch a round, not two."""
    for number in range(1, rounds + 1):
        for side in SIDES if number % 2 else reversed(SIDES):
            yield number, side


def _measured(one: Workload, runs: Mapping[tuple[str, Side], Sequence[Run]]) -> Measured:
    before, after = (_figures(runs[one.name, side]) for side in SIDES)
    comparison = compared(before.rows_per_second, after.rows_per_second)
    return Measured(one.name, before, after, comparison, one.about)


def _figures(runs: Sequence[Run]) -> Figures:
    latencies = [one for run_ in runs for one in run_.latencies_s]
    return Figures(
        rows_per_second=tuple(run_.rows_per_second for run_ in runs),
        p50_s=statistics.median(latencies),
        p99_s=quantile(latencies, 0.99),
        wal_bytes_per_row=sum(r.wal_bytes for r in runs) / sum(r.rows for r in runs),
    )
