"""One command for two shells: `howdah rebuild` and `manage.py rebuild`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, Literal

from psycopg import Connection

from howdah.django.rebuild import clean, guard, missing, text
from howdah.django.rebuild.commit import CommitLost, check_committed
from howdah.django.rebuild.databases import Database, find_databases
from howdah.django.rebuild.events import Event, OnEvent
from howdah.django.rebuild.options import Options
from howdah.django.rebuild.plan import plan_rebuild
from howdah.django.rebuild.run import rebuild
from howdah.django.rebuild.swap import generations, swap_back
from howdah.errors import UsageError

Say = Callable[[str], None]


def perform(given: Mapping[str, Any], *, say: Say, on_event: OnEvent) -> None:
    """Do what the flags ask for.

    Args:
        given: By the names of `options.FLAGS`, without dashes: {"keep_old": 1, "plan": True}.
        say: Takes each line of output.
        on_event: Takes the events of a rebuild.

    Raises:
        HowdahError: It was refused, or failed.
    """
    options = options_of(given)
    as_json = bool(given.get("json"))
    if given.get("watch"):
        from howdah.django.rebuild.watch import watch

        watch(given, say=say)
    elif given.get("clean"):
        _clean(options, only_list=bool(given.get("plan")), as_json=as_json, say=say)
    elif given.get("undo"):
        _undo(options, as_json=as_json, say=say)
    elif given.get("plan"):
        missing.check_existing(options.databases)
        plan = plan_rebuild(options)
        _show(text.plan_object(plan), text.plan_lines(plan), as_json=as_json, say=say)
        guard.check(plan)
    else:
        if options.migrations == "remade":
            from howdah.django.rebuild.remake import remake

            for line in remake(options):
                on_event(Event("remake migrations", line))
        report = rebuild(options, on_event=on_event)
        _show(text.report_object(report), text.report_lines(report), as_json=as_json, say=say)


def options_of(given: Mapping[str, Any]) -> Options:
    """Return the options that the flags mean.

    Raises:
        UsageError: Two of them exclude each other.
    """
    if given.get("remake_migrations") and given.get("from_models"):
        raise UsageError(
            "--remake-migrations and --from-models exclude each other.", next_step="Give one."
        )
    migrations: Literal["as they are", "remade", "from models"] = "as they are"
    if given.get("remake_migrations"):
        migrations = "remade"
    elif given.get("from_models"):
        migrations = "from models"
    return Options(
        databases=tuple(given.get("database") or ()),
        apps=tuple(given.get("app") or ()),
        allow=tuple(given.get("allow") or ()),
        migrations=migrations,
        drop_migrations=tuple(given.get("drop_migrations") or ()),
        keep_old=given.get("keep_old"),
        fresh=bool(given.get("fresh")),
        wait_s=float(given.get("wait") or 0.0),
        in_place=bool(given.get("in_place")),
    )


def _clean(options: Options, *, only_list: bool, as_json: bool, say: Say) -> None:
    found = clean.leftovers(options) if only_list else clean.clean(options)
    lines = text.leftover_lines(found, removed=not only_list)
    _show({"leftovers": [asdict(one) for one in found]}, lines, as_json=as_json, say=say)


def _undo(options: Options, *, as_json: bool, say: Say) -> None:
    plan = plan_rebuild(options)
    guard.check(plan)
    done = {}
    for database in find_databases(options.databases):
        with guard.held(database, wait_s=options.wait_s) as conn:
            done[database.name] = _swap_back(conn, database)
    lines = [f"{name}: {', '.join(schemas)} as before" for name, schemas in done.items()]
    _show({"undone": done}, lines, as_json=as_json, say=say)


def _swap_back(conn: Connection[Any], database: Database) -> list[str]:
    before = [facts["schema"] for facts in generations(conn).values() if facts["generation"] == 1]
    try:
        return swap_back(conn)
    except CommitLost as lost:
        check_committed(database, lost)
        return before


def _show(thing: Mapping[str, Any], lines: list[str], *, as_json: bool, say: Say) -> None:
    for line in [json.dumps(thing, default=str)] if as_json else lines:
        say(line)
