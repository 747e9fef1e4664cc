"""The settings and habits that decide how fast inserts and updates are, as data.

The data stand in catalogue.toml, and a test holds them against `pg_settings`
of each major at hand. `Risk` orders what a change may cost; what is not
accepted by name is not planned, and `MAY_CORRUPT` only for a server that
Howdah itself started as disposable.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from enum import StrEnum
from functools import cache
from importlib.resources import files
from typing import Any

from howdah.errors import UsageError

__all__ = [
    "WORKLOADS",
    "Advice",
    "Catalogue",
    "Gain",
    "Risk",
    "Setting",
    "catalogue",
    "setting",
]

WORKLOADS = ("single", "many", "bulk", "batch-update", "index-heavy", "partitioned")
"""What the catalogue distinguishes: rows one by one, on many connections, COPY, updates, ..."""

_GAINS = "bench/slow_storage.py"
_DOCUMENTATION = "https://www.postgresql.org/docs/current/"


class Risk(StrEnum):
    """What a change may cost, in rising order.

    Attributes:
        SAFE: Nothing that was committed.
        LOSE_LAST_MOMENTS: A crash loses the last moments' commits, and never corrupts.
        NO_REPLICATION: Standbys, base backups and point-in-time recovery.
        MAY_CORRUPT: A crash may take anything.
    """

    SAFE = "safe"
    LOSE_LAST_MOMENTS = "lose-last-moments"
    NO_REPLICATION = "no-replication"
    MAY_CORRUPT = "may-corrupt"


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting of PostgreSQL that matters for inserts or updates.

    Attributes:
        name: As in pg_settings, like `unit` ("kB", "8kB", "ms", ...; "" for none).
        contexts: From which major on it has which context: "postmaster" (restart),
            "sighup" (reload), "superuser" or "user" (session).
        does: What it is, in a sentence.
        effect: What changing it is expected to do.
        workloads: For which of WORKLOADS.
        risks: The values that are not safe, with what they may cost.
        forbids: What speaks against it; "" for nothing.
        choices: What `howdah tune search` tries; none: it is left alone.
        since: The first major that has it.
        source: Its page in PostgreSQL's documentation.
    """

    name: str
    unit: str
    contexts: Mapping[int, str]
    does: str
    effect: str
    workloads: tuple[str, ...]
    risks: Mapping[str, Risk]
    forbids: str
    choices: tuple[str, ...]
    since: int
    source: str

    def context(self, major: int) -> str:
        """Return its context in a major, as pg_settings has it."""
        return self.contexts[max(first for first in self.contexts if first <= max(major, 14))]

    def risk(self, value: str) -> Risk:
        """Return what a value may cost."""
        return self.risks.get(value, Risk.SAFE)


@dataclass(frozen=True, slots=True)
class Gain:
    """What a habit was measured to gain.

    Attributes:
        times: How many times as fast as `against`.
        side: What the script calls it.
        against: What the script calls that which it was measured against.
        flush_ms: By how much each flush of the server was made slower, in milliseconds.
        script: Which measured it.
    """

    times: float
    side: str
    against: str
    flush_ms: float
    script: str

    def __str__(self) -> str:
        times = f"{self.times:,.0f}" if self.times >= 10 else f"{self.times:.1f}"  # noqa: PLR2004 - digits
        where = f"where a flush takes {self.flush_ms:g} ms longer"
        return f"{times} times as fast as {self.against!r} {where} ({self.script})"


@dataclass(frozen=True, slots=True)
class Advice:
    """What a table's owner or a client's programmer can do; Howdah shows it and does not do it.

    Attributes:
        key: Its key in the catalogue.
        name: What it is called.
        does: What it is, in a sentence.
        workloads: For which of WORKLOADS.
        risk: What it may cost.
        forbids: What speaks against it; "" for nothing.
        example: SQL, Python or a command.
        gain: What was measured; None of a table's options.
        source: Its page in PostgreSQL's documentation.
    """

    key: str
    name: str
    does: str
    workloads: tuple[str, ...]
    risk: Risk
    forbids: str
    example: str
    gain: Gain | None
    source: str


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All of it, each part in the file's order."""

    settings: Mapping[str, Setting]
    tables: Mapping[str, Advice] = field(default_factory=dict)
    habits: Mapping[str, Advice] = field(default_factory=dict)


@cache
def catalogue() -> Catalogue:
    """Return the catalogue."""
    text = files("howdah.tuning").joinpath("catalogue.toml").read_text(encoding="utf-8")
    data = tomllib.loads(text)
    return Catalogue(
        settings={name: _setting(name, entry) for name, entry in data["settings"].items()},
        tables={key: _advice(key, entry) for key, entry in data["tables"].items()},
        habits={key: _advice(key, entry) for key, entry in data["habits"].items()},
    )


def setting(name: str) -> Setting:
    """Return a setting of the catalogue.

    Raises:
        UsageError: The catalogue does not have it.
    """
    known = catalogue().settings
    if name not in known:
        names = [*known, *catalogue().tables, *catalogue().habits]
        near = get_close_matches(name.lower(), names, n=2, cutoff=0.6)
        alike = f" (near it: {', '.join(near)})" if near else ""
        raise UsageError(
            f"The catalogue of settings and habits for inserts has no {name!r}{alike}.",
            next_step="See all: howdah tune explain",
        )
    return known[name]


def _setting(name: str, entry: Mapping[str, Any]) -> Setting:
    context = entry["context"]
    by_major = context if isinstance(context, dict) else {"14": context}
    return Setting(
        name=name,
        unit=entry.get("unit", ""),
        contexts={int(major): text for major, text in by_major.items()},
        does=entry["does"],
        effect=entry["effect"],
        workloads=tuple(entry["workloads"]),
        risks={value: Risk(risk) for value, risk in entry.get("risk", {}).items()},
        forbids=entry.get("forbids", ""),
        choices=tuple(entry.get("choices", ())),
        since=entry.get("since", 14),
        source=f"{_DOCUMENTATION}{entry['page']}.html#GUC-{name.upper().replace('_', '-')}",
    )


def _advice(key: str, entry: Mapping[str, Any]) -> Advice:
    return Advice(
        key=key,
        name=entry["name"],
        does=entry["does"],
        workloads=tuple(entry["workloads"]),
        risk=Risk(entry.get("risk", "safe")),
        forbids=entry.get("forbids", ""),
        example=entry.get("example") or entry.get("sql", ""),
        gain=Gain(**entry["gain"], script=_GAINS) if "gain" in entry else None,
        source=f"{_DOCUMENTATION}{entry['page']}.html#{entry['anchor']}",
    )
