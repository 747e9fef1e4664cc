"""A plan against the server as it is: measured, applied, and kept or rolled back."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from psycopg import Connection, errors

from howdah import pg
from howdah.errors import UsageError
from howdah.server.change import Change, apply_change, history, plan_change, plan_undo
from howdah.server.history import Entry
from howdah.tuning.catalogue import WORKLOADS
from howdah.tuning.measure import Measured, Progress, Side, measure
from howdah.tuning.plan import Change as PlanChange
from howdah.tuning.plan import Plan
from howdah.tuning.replay import replayed
from howdah.tuning.scratch import scratch_schema
from howdah.tuning.statement import Statement, statement_workload
from howdah.tuning.workloads import Workload, built_in

__all__ = ["REASON", "Outcome", "Subject", "apply_plan", "is_better", "last_tuning", "measure_plan"]

logger = logging.getLogger(__name__)

REASON = "howdah tune inserts"
"""How the history of settings names what was tuned; `howdah tune undo` looks for it."""


@dataclass(frozen=True, slots=True)
class Subject:
    """What is measured, and how long.

    Attributes:
        workload: One of the catalogue's, or "mixed" for all of them.
        statement: The user's own INSERT or UPDATE instead; None for none.
        replay: Take it from pg_stat_statements.
        connections: How many do the statement at once.
        without_triggers: Leave the triggers of its table out.
        rounds: How often each side is measured, 5 at least.
        seconds: How long each time.
    """

    workload: str = "mixed"
    statement: str | None = None
    replay: bool = False
    connections: int = 1
    without_triggers: bool = False
    rounds: int = 6
    seconds: float = 1.0

    def workloads(self, conn: Connection[Any], schema: str) -> list[Workload]:
        """Make the tables in the scratch schema, and return what to do on them."""
        if self.replay and self.statement is not None:
            raise UsageError("There are two statements.", next_step="Give one of them.")
        if self.statement is None and not self.replay:
            names = WORKLOADS if self.workload == "mixed" else [self.workload]
            return [built_in(conn, schema, name) for name in names]
        triggers, connections = not self.without_triggers, self.connections
        if self.statement is None:
            return [replayed(conn, schema, triggers=triggers, connections=connections)]
        statement = Statement(self.statement)
        workload, _ = statement_workload(
            conn, schema, statement, triggers=triggers, connections=connections
        )
        return [workload]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a plan.

    Attributes:
        plan: The part that was tried.
        waiting: Settings that take a restart, which was not allowed.
        measured: Before and after.
        kept: Whether it is in force; if not, all is as it was.
        number: For `howdah config undo`; None where nothing is to be undone.
    """

    plan: Plan
    waiting: tuple[str, ...]
    measured: tuple[Measured, ...]
    kept: bool
    number: int | None


def is_better(measured: Sequence[Measured]) -> bool:
    """Say whether something is better, and nothing worse, beyond the noise."""
    verdicts = {one.comparison.verdict for one in measured}
    return "better" in verdicts and "worse" not in verdicts


def measure_plan(
    conninfo: str,
    plan: Plan,
    subject: Subject,
    *,
    on_event: Callable[[Progress], None] = lambda _: None,
) -> tuple[Plan, list[Measured]]:
    """Measure the part of a plan that our role's sessions can set; nobody else notices.

    Returns:
        That part, and the figures; none where it is empty.
    """
    part = plan.only("session")
    if not part.changes:
        return part, []
    with scratch_schema(conninfo) as (conn, schema):
        part = replace(part, changes=tuple(c for c in part.changes if _may_set(conn, c)))
        if not part.changes:
            return part, []
        sides: dict[Side, dict[str, str]] = {"before": {}, "after": part.values}
        workloads = subject.workloads(conn, schema)
        return part, measure(
            conninfo,
            workloads,
            sides,
            rounds=subject.rounds,
            seconds=subject.seconds,
            on_event=on_event,
        )


_SET = "SELECT pg_catalog.set_config(%s, %s, true)"


def _may_set(conn: Connection[Any], change: PlanChange) -> bool:
    """Say whether our session may have the value: some are for superusers, or by a grant (15+)."""
    try:
        with conn.transaction(force_rollback=True):
            conn.execute(_SET, [change.setting, change.proposed])
    except errors.InsufficientPrivilege:
        return False
    return True


def apply_plan(
    conninfo: str,
    plan: Plan,
    subject: Subject,
    *,
    restart: bool = False,
    on_event: Callable[[Progress], None] = lambda _: None,
) -> Outcome:
    """Bring a plan into force, measured against what was; keep it only if it is better.

    The whole server changes to and fro while it is measured. Whatever fails,
    all is as it was.

    Args:
        conninfo: The database; its history of settings will have the change.
        plan: What to change.
        subject: What to measure.
        restart: Whether the server may be restarted, about once a round; without,
            what takes a restart is left out.
        on_event: Told of each run.

    Raises:
        HowdahError: The settings cannot be changed, or the workload fails.
    """
    part = plan if restart else plan.only("session", "reload")
    waiting = tuple(c.setting for c in plan.changes if c not in part.changes)
    if not part.changes:
        return Outcome(part, waiting, (), kept=False, number=None)
    switch = _Switch(conninfo, part, restart=restart)
    kept = False
    try:
        with scratch_schema(conninfo) as (conn, schema):
            measured = measure(
                conninfo,
                subject.workloads(conn, schema),
                {"before": {}, "after": {}},
                rounds=subject.rounds,
                seconds=subject.seconds,
                switch=switch,
                on_event=on_event,
            )
        kept = is_better(measured)
    finally:
        switch("after" if kept else "before")
    return Outcome(part, waiting, tuple(measured), kept, switch.number)


class _Switch:
    """Brings the server to one side or the other, by the one way to change settings."""

    def __init__(self, conninfo: str, plan: Plan, *, restart: bool) -> None:
        self._conninfo, self._plan, self._restart = conninfo, plan, restart
        self.number: int | None = None  # of the change that is in force; None: all is as it was
        self._on = False

    def __call__(self, side: Side) -> None:
        if self._on == (side == "after"):
            return
        with pg.connect(self._conninfo, application_name="howdah tune") as conn:
            if side == "after":
                wishes = [Change(name, value) for name, value in self._plan.values.items()]
                reason = f"{REASON} --workload {self._plan.workload}"
                change = plan_change(conn, wishes, reason=reason)
                self.number = apply_change(conn, change, restart=self._restart).number
                self._on = True
            else:
                change, entry = plan_undo(conn, self.number)
                apply_change(conn, change, restart=self._restart, undoes=entry.number)
                self.number, self._on = None, False


def last_tuning(conn: Connection[Any]) -> Entry:
    """Return the newest change that tuning made and nobody has undone.

    Raises:
        UsageError: There is none.
    """
    entries = history(conn)
    undone = {entry.undoes for entry in entries if entry.state != "rolled back"}
    for entry in entries:
        if (
            entry.reason.startswith("howdah tune")
            and entry.undoes is None
            and entry.state != "rolled back"
            and entry.number not in undone
        ):
            return entry
    raise UsageError(
        "No change of `howdah tune` over this database is in force.",
        next_step="See all changes: howdah config history",
    )
