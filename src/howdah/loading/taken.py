"""What each job of a load has committed, so that what a crash takes again is not counted twice.

The ledger knows the records and rejects that are there; how many of them were
repaired, and in how many transactions they came, only the workers have told.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from howdah.loading.report import Outcome
from howdah.loading.work import Job, RangeJob

__all__ = ["Taken"]


@dataclass(slots=True)
class Taken:
    """The outcomes of jobs, as far as the ledger does not keep them."""

    _parts: list[tuple[tuple[str, ...], int, Outcome]] = field(default_factory=list)
    _lost: dict[tuple[str, int], Outcome] = field(default_factory=dict)

    def add(self, job: Job, outcome: Outcome) -> None:
        """Remember what a job has committed."""
        only = Outcome(repaired=outcome.repaired, chunks=outcome.chunks)
        if isinstance(job, RangeJob):
            self._parts.append(((job.file.name,), job.chunk.number, only))
        else:
            self._parts.append((tuple(file.name for file in job.files), 0, only))

    def lose(self, missing: AbstractSet[str]) -> Outcome:
        """Forget what was committed of files, one of which is missing; return how much it was."""
        total, kept = Outcome(), []
        for names, chunk, outcome in self._parts:
            if missing.isdisjoint(names):
                kept.append((names, chunk, outcome))
            else:
                total += outcome
                self._lost[names[0], chunk] = outcome
        self._parts = kept
        return total

    def regain(self, name: str, chunk: int) -> Outcome:
        """Return what was committed of a chunk that is there after all, once."""
        outcome = self._lost.pop((name, chunk), Outcome())
        self._parts.append(((name,), chunk, outcome))
        return outcome
