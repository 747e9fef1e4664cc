"""What a rebuild has done."""

from __future__ import annotations

from dataclasses import dataclass, field

from howdah.django.rebuild.drift import Drift


@dataclass(frozen=True, slots=True)
class DatabaseReport:
    """What was done to one database.

    Attributes:
        was_kept: The result was there already, so nothing was built.
        tables: With rows.
        left: Replaced schemas that somebody is still reading; the next rebuild drops them.
        notes: What a person should know, in sentences.
    """

    name: str
    schemas: tuple[str, ...]
    was_kept: bool
    tables: int
    rows: int
    left: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RebuildReport:
    """What a rebuild has done.

    Attributes:
        seconds: All of it took.
        steps: How long each step took, in seconds.
        drift: Apps whose models are ahead of the migrations that made their tables.
    """

    databases: tuple[DatabaseReport, ...]
    seconds: float
    steps: dict[str, float] = field(default_factory=dict)
    drift: tuple[Drift, ...] = ()
