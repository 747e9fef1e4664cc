"""Copies of a kept result, for tests: by CREATE DATABASE ... TEMPLATE, and marked when complete.

Several processes make their copies at the same time, as pytest-xdist's workers
do: one builds what is missing, the others wait for it. A copy that was not
finished has no mark, and is made anew.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from django.apps import apps
from django.conf import settings
from psycopg import Connection, errors, sql

from howdah import pg
from howdah.django.rebuild import build, guard, names, store
from howdah.django.rebuild.databases import Database, connect
from howdah.django.rebuild.options import Options
from howdah.django.rebuild.plan import DatabasePlan, RebuildPlan, plan_rebuild, project_rules
from howdah.errors import HowdahError

_WAIT_S = 600.0
_THREADS = 4
_TRIES = 5
_IN_USE_S = 5.0

_USERS = """
    SELECT coalesce(nullif(application_name, ''), 'pid ' || pid)
      FROM pg_stat_activity WHERE datname = %s ORDER BY pid
"""

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Wish:
    """How the copies are to be.

    Attributes:
        reuse: Leave a copy of the same inputs as it is, with the rows that are in it.
        built_since: Take no result that was built before; None: however old.
        may_drop: Whether a database of that name that is not ours may go; asked once for each.
    """

    reuse: bool = False
    built_since: datetime | None = None
    may_drop: Callable[[str], bool] = lambda _: True


def plan_copies(aliases: Sequence[str]) -> RebuildPlan:
    """Return the plan of what the copies hold: the tables, without the project's fixtures."""
    rules = replace(project_rules(), fixtures={}, after_sql={}, after="", keep_tables=())
    return plan_rebuild(Options(databases=tuple(aliases)), rules, with_drift=False)


@contextmanager
def without_migrations() -> Generator[None]:
    """Have every app be one without migrations: tables come from the models."""
    before = settings.MIGRATION_MODULES
    settings.MIGRATION_MODULES = {config.label: None for config in apps.get_app_configs()}
    try:
        yield
    finally:
        settings.MIGRATION_MODULES = before


def make(
    plan: RebuildPlan, wanted: Mapping[str, Sequence[str]], wish: Wish, *, tell: Tell
) -> list[str]:
    """Make copies, several at a time.

    Args:
        plan: Of the live databases.
        wanted: Names of the copies, by the live database's name.
        wish: How they are to be.
        tell: Takes what is built, for people.

    Returns:
        The names of those that were made, and not found.

    Raises:
        HowdahError: A database of that name is in use, or may not go; or the build failed.
    """
    todo = [
        (one, name)
        for one in plan.databases
        for name in _missing(one, wanted.get(one.name, ()), wish)
    ]
    kept = {
        name: (not wish.built_since and one.kept) or _kept(plan, one, wish, tell)
        for name, one in {one.name: one for one, _ in todo}.items()
    }

    def one_copy(task: tuple[DatabasePlan, str]) -> None:
        one, name = task
        _copy(plan, one, kept[one.name], name, wish)

    try:
        with ThreadPoolExecutor(_THREADS) as threads:
            list(threads.map(one_copy, todo))
    except BaseException:
        with suppress(HowdahError, errors.Error):
            drop([(one.database, name) for one, name in todo])
            drop([(one.database, names.copying(one.name, name)) for one, name in todo])
        raise
    return [name for _, name in todo]


def drop(copies: Sequence[tuple[Database, str]]) -> None:
    """Drop copies, each given with its live database, whoever is still in them.

    At the same time: each DROP DATABASE asks for a checkpoint, and they share one.
    """

    def drop_one(copy: tuple[Database, str]) -> None:
        database, name = copy
        with connect(database.conninfo(), database.aliases[0]) as admin:
            query = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)")
            admin.execute(query.format(sql.Identifier(name)))

    with ThreadPoolExecutor(_THREADS) as threads:
        list(threads.map(drop_one, copies))


def drop_unused(admin: Connection[Any], name: str) -> None:
    """Drop a copy; a session that is about to end is waited for.

    Raises:
        HowdahError: It is in use.
    """
    query = sql.SQL("DROP DATABASE IF EXISTS {}").format(sql.Identifier(name))
    deadline = time.monotonic() + _IN_USE_S
    while True:
        try:
            admin.execute(query)
        except errors.ObjectInUse as exc:
            if time.monotonic() < deadline:
                continue
            users = [row[0] for row in admin.execute(_USERS, [name]).fetchall()]
            raise HowdahError(
                f"The database {name!r} is in use, by {', '.join(users) or 'somebody'}.",
                next_step="End the other test run, or give it another name: "
                '"TEST": {"NAME": ...} in DATABASES.',
            ) from exc
        else:
            return


def _missing(one: DatabasePlan, copies: Sequence[str], wish: Wish) -> list[str]:
    """Return the names of the copies that have to be made; ask for those that would go."""
    database = one.database
    with connect(database.conninfo(), database.aliases[0]) as admin:
        there = store.facts(admin, copies)
    if wish.reuse and wish.built_since is None:
        copies = [name for name in copies if there.get(name, {}).get("digest") != one.digest]
    for name in copies:
        is_ours = there.get(name, {"kind": store.COPY}).get("kind") == store.COPY
        if not is_ours and not wish.may_drop(name):
            raise HowdahError(
                f"There is a database {name!r} already, and it is not Howdah's.",
                next_step='Choose another name: "TEST": {"NAME": ...} in DATABASES.',
            )
    return list(copies)


def _kept(plan: RebuildPlan, one: DatabasePlan, wish: Wish, tell: Tell) -> str:
    """Return the database that keeps the result, and build it first where none does."""
    database = one.database
    with connect(database.conninfo(), database.aliases[0]) as admin:
        if found := store.find(admin, one.digest, built_since=wish.built_since):
            return found
        # Of several processes one builds; the others wait, and find the result.
        with guard.alone(admin, one.name, wait_s=_WAIT_S):
            if found := store.find(admin, one.digest, built_since=wish.built_since):
                return found
            tell(f"Building the tables of {one.name}, to be kept ...")
            with build.scratch([one]) as scratch:
                build.build(plan, [one], scratch, lambda _: None)
                kept = build.keep(one, scratch[one.name], plan.rules).database
            store.prune(admin, one.name, kept_results=plan.rules.kept_results)
            return kept


def _copy(plan: RebuildPlan, one: DatabasePlan, kept: str, name: str, wish: Wish) -> None:
    database, alias = one.database, one.database.aliases[0]
    new = names.copying(one.name, name)
    with connect(database.conninfo(), alias) as admin:
        # What is lost in a crash of the server is copied again.
        admin.execute("SET synchronous_commit = off")
        drop_unused(admin, new)
        drop_unused(admin, name)
        for tries_left in reversed(range(_TRIES)):
            try:
                with pg.explained(f"create the database {name}"):
                    store.clone(admin, kept, new)
                break
            except (errors.InvalidCatalogName, errors.ObjectInUse):
                # Another process has dropped the result since, or somebody looks into it.
                if not tries_left:
                    raise
                kept = _kept(plan, one, wish, lambda _: None)
        store.mark(admin, new, kind=store.COPY, of=one.name)
        store.rename(admin, new, name)
        with connect(database.conninfo(name), alias) as conn:
            conn.execute("DROP SCHEMA howdah_kept CASCADE")
        store.configure(admin, name, database.facts.settings)
        store.mark(admin, name, kind=store.COPY, of=one.name, digest=one.digest)  # complete
