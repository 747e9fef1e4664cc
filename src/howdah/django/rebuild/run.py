"""`rebuild`: plan, guard, build aside, keep, carry over, swap."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import psycopg
from psycopg import Connection

from howdah import pg
from howdah.django.rebuild import build, carry, commit, guard, inplace, missing, store, swap
from howdah.django.rebuild.carry import Carried
from howdah.django.rebuild.commit import CommitLost
from howdah.django.rebuild.databases import connect
from howdah.django.rebuild.drift import blamed
from howdah.django.rebuild.events import Clock, OnEvent
from howdah.django.rebuild.options import Options
from howdah.django.rebuild.plan import DatabasePlan, RebuildPlan, plan_rebuild, project_rules
from howdah.django.rebuild.report import DatabaseReport, RebuildReport
from howdah.django.rebuild.store import Kept
from howdah.errors import HowdahError

_WAIT_AGAIN_S = 600.0


def rebuild(options: Options, *, on_event: OnEvent = lambda _: None) -> RebuildReport:
    """Re-create the project's databases, and swap them in.

    Args:
        options: What is asked for.
        on_event: Takes each event.

    Raises:
        Refused: A database is not declared disposable, or something else speaks against it.
        HowdahError: A step failed; the live databases are as before.
    """
    clock = Clock(on_event)
    with ExitStack() as stack:
        with clock.step("plan") as tell:
            stack.enter_context(_existing(options, tell))
            plan = plan_rebuild(options)
            guard.check(plan)
        live = {one.name: stack.enter_context(_held(one, options)) for one in plan.databases}
        aside = [one for one in plan.databases if one.strategy == "aside"]
        reports = _aside(plan, aside, live, stack, clock) if aside else []
        for one in plan.databases:
            if one.strategy == "in place":
                reports.append(inplace.rebuild(plan, one, live[one.name], clock))
    return RebuildReport(tuple(reports), clock.total(), clock.steps, plan.drift)


@contextmanager
def _existing(options: Options, tell: Callable[[str], None]) -> Generator[None]:
    """Make the databases that do not exist yet."""
    found = missing.missing_databases(options.databases)
    missing.check_allowed(found, (*project_rules().allow, *options.allow))
    for one in found:
        tell(f"{one.name} does not exist yet: it is made")
    with missing.made(found):
        yield


@contextmanager
def _held(one: DatabasePlan, options: Options) -> Generator[Connection[Any]]:
    """Connect to the live database and keep other rebuilds out of it."""
    with guard.held(one.database, wait_s=options.wait_s) as conn:
        guard.check_dependents(conn, one.schemas)
        yield conn


def _aside(
    plan: RebuildPlan,
    plans: Sequence[DatabasePlan],
    live: dict[str, Connection[Any]],
    stack: ExitStack,
    clock: Clock,
) -> list[DatabaseReport]:
    results = _built(plan, plans, live, clock)
    try:
        with clock.step("carry over"), ThreadPoolExecutor(len(plans)) as threads:
            # All of them are ready before the first one changes.
            done = threads.map(lambda one: _carry(plan, one, results[one.name]), plans)
            carried = dict(zip(results, done, strict=True))
        with clock.step("swap"):
            notes = _swap_all(plan, plans, results, live, stack)
    except BaseException:
        _drop_carried(plans, results)
        raise
    with clock.step("drop old"):
        left = {one.name: swap.drop_older(live[one.name], keep_old=plan.keep_old) for one in plans}
    return [
        DatabaseReport(
            name=one.name,
            schemas=results[one.name].schemas,
            was_kept=one.kept is not None,
            tables=carried[one.name].tables,
            rows=carried[one.name].rows,
            left=tuple(left[one.name]),
            notes=tuple(notes[one.name]),
        )
        for one in plans
    ]


def _drop_carried(plans: Sequence[DatabasePlan], results: dict[str, Kept]) -> None:
    """Drop what was carried over for nothing; what cannot be reached, `--clean` lists."""
    for one in plans:
        with (
            suppress(HowdahError, psycopg.Error),
            # A new connection: the failure may be that the other one was cut.
            connect(one.database.conninfo(), one.database.aliases[0]) as conn,
        ):
            carry.drop_next(conn, results[one.name].schemas)


def _built(
    plan: RebuildPlan,
    plans: Sequence[DatabasePlan],
    live: dict[str, Connection[Any]],
    clock: Clock,
) -> dict[str, Kept]:
    """Return the result for each database, by its name, and build what is not kept yet."""
    todo = [one for one in plans if one.kept is None]
    results: dict[str, Kept] = {}
    if todo:
        with clock.step("create databases"):
            for one in todo:
                store.prune(live[one.name], one.name, kept_results=plan.rules.kept_results)
        with (
            clock.step("build") as tell,
            pg.explained("build aside"),
            build.scratch(todo) as made,
        ):
            with blamed(plan.drift):
                build.build(plan, todo, made, tell)
            with clock.step("keep"), ThreadPoolExecutor(len(todo)) as threads:
                kept = threads.map(lambda one: build.keep(one, made[one.name], plan.rules), todo)
                results = dict(zip([one.name for one in todo], kept, strict=True))
    for one in plans:
        if one.kept is not None:
            with connect(one.database.conninfo(one.kept), one.database.aliases[0]) as conn:
                results[one.name] = store.read(conn, one.kept)
    return {one.name: results[one.name] for one in plans}


def _carry(plan: RebuildPlan, one: DatabasePlan, kept: Kept) -> Carried:
    database, alias = one.database, one.database.aliases[0]
    with (
        connect(database.conninfo(), alias) as conn,
        connect(database.conninfo(kept.database), alias) as built,
        pg.explained(f"carry the result over into {one.name}"),
    ):
        return carry.carry(conn, built, kept, plan.migration_names)


def _swap_all(
    plan: RebuildPlan,
    plans: Sequence[DatabasePlan],
    results: dict[str, Kept],
    live: dict[str, Connection[Any]],
    stack: ExitStack,
) -> dict[str, list[str]]:
    """Swap every database in, or none."""
    notes: dict[str, list[str]] = {}
    try:
        for one in plans:
            kept = results[one.name]
            wanted = swap.Swap(
                schemas=kept.schemas,
                shared=tuple(dict.fromkeys((*one.shared, *kept.shared))),
                keep_tables=plan.rules.keep_tables,
                digest=one.digest,
                lock_timeout_s=plan.rules.lock_timeout_s,
            )
            with pg.explained(f"swap the schemas of {one.name}"):
                notes[one.name] = _swap(one, wanted, live, stack)
    except BaseException:
        for name in notes:
            swap.swap_back(live[name], as_undone=False)
        raise
    return notes


def _swap(
    one: DatabasePlan, wanted: swap.Swap, live: dict[str, Connection[Any]], stack: ExitStack
) -> list[str]:
    """Swap one database; where the answer is lost, connect anew and find out what happened."""
    try:
        return swap.swap(live[one.name], wanted)
    except CommitLost as lost:
        commit.check_committed(one.database, lost)
        again = guard.held(one.database, wait_s=_WAIT_AGAIN_S)
        live[one.name] = stack.enter_context(again)
        return [commit.COMMITTED]
