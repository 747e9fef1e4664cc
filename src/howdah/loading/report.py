"""What a load says while it runs and when it is done."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TypeAlias

__all__ = [
    "BuildingIndexes",
    "Event",
    "LoadReport",
    "Outcome",
    "Planned",
    "Waiting",
    "one_line",
]

_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


@dataclass(frozen=True, slots=True)
class Planned:
    """The load has looked at what is there, and begins.

    Attributes:
        table: The table, as a person writes it.
        sources: Files to load.
        skipped: Sources that are in the table and unchanged.
        bytes: Size of the files to load; streams count 0.
        slowing: Indexes that will make a load of this size take some times as long, and
            that `defer_indexes` would drop and build again.
        streams: Those files to load that can be read only once.
    """

    table: str
    sources: int
    skipped: int
    bytes: int
    slowing: tuple[str, ...] = ()
    streams: int = 0


@dataclass(frozen=True, slots=True)
class BuildingIndexes:
    """All is loaded, and indexes that were dropped for it are being built.

    Attributes:
        names: Their names.
    """

    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one transaction, or one task of several, has done. Outcomes add up.

    Attributes:
        sources: Sources that are now in the table as a whole.
        skipped: Sources that turned out to be there already.
        records: Records that were committed.
        rows: Rows that they added or changed; fewer where a merge left some alone.
        rejects: Rejects that were committed.
        repaired: Those rows whose text differs from what the source held.
        chunks: Transactions that committed rows or rejects.
        bytes: How far the files have been read, in bytes of the files as they lie there.
    """

    sources: int = 0
    skipped: int = 0
    records: int = 0
    rows: int = 0
    rejects: int = 0
    repaired: int = 0
    chunks: int = 0
    bytes: int = 0

    def __add__(self, other: Outcome) -> Outcome:
        return Outcome(
            self.sources + other.sources,
            self.skipped + other.skipped,
            self.records + other.records,
            self.rows + other.rows,
            self.rejects + other.rejects,
            self.repaired + other.repaired,
            self.chunks + other.chunks,
            self.bytes + other.bytes,
        )

    def __sub__(self, other: Outcome) -> Outcome:
        return Outcome(
            self.sources - other.sources,
            self.skipped - other.skipped,
            self.records - other.records,
            self.rows - other.rows,
            self.rejects - other.rejects,
            self.repaired - other.repaired,
            self.chunks - other.chunks,
            self.bytes - other.bytes,
        )


@dataclass(frozen=True, slots=True)
class Waiting:
    """The server is away or refuses for the moment; the work will be tried again.

    Attributes:
        reason: Why, as in "the server is away".
        wait_s: How long until the next try, in seconds.
    """

    reason: str
    wait_s: float


Event: TypeAlias = Planned | Outcome | Waiting | BuildingIndexes
"""What `on_event` of `load` is called with: one `Planned`, `Outcome`s that add up, and more.

What was told of a task that has to be tried again is taken back by an `Outcome`
of negative numbers.
"""


@dataclass(frozen=True, slots=True)
class LoadReport:
    """What a load has done.

    Attributes:
        table: The table, as a person writes it.
        sources: Files and members of archives that were loaded.
        skipped: Those that were in the table already, unchanged.
        records: Records that the table has taken.
        rows: Rows that they added or changed; fewer where a merge left some alone.
        rejects: Records and sources that could not be loaded; they are in howdah.rejects.
        repaired: Rows whose text differs from what the source held (a NUL, a lone surrogate).
        chunks: Transactions.
        bytes: Bytes read, of the files as they lie there.
        seconds: From the call to the last commit.
        records_per_second: records / seconds.
    """

    table: str
    sources: int
    skipped: int
    records: int
    rows: int
    rejects: int
    repaired: int
    chunks: int
    bytes: int
    seconds: float
    records_per_second: float


def one_line(text: str) -> str:
    r"""Return a name or a reason as a line that moves no cursor: its controls as \x1b, \n, ..."""
    return _CONTROLS.sub(lambda found: ascii(found[0])[1:-1], text)
