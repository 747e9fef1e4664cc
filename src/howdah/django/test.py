"""`TEST_RUNNER = "howdah.django.test.Runner"`: test databases as copies of a kept result.

The tables are built once, as `howdah rebuild` does it, without fixtures; each
test run, and each of its parallel processes, gets a copy by CREATE DATABASE
... TEMPLATE. With nothing changed, no migration runs at all.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from django.db import connections
from django.test.runner import DiscoverRunner
from psycopg import Connection, sql

from howdah.django.rebuild import build, guard, store
from howdah.django.rebuild.databases import connect
from howdah.django.rebuild.options import Options
from howdah.django.rebuild.plan import DatabasePlan, RebuildPlan, plan_rebuild, project_rules

__all__ = ["Runner", "TestDatabase", "create", "destroy"]

_WAIT_S = 600.0


@dataclass(frozen=True, slots=True)
class TestDatabase:
    """The copies of one physical database.

    Attributes:
        plan: Of the live database.
        name: The copy that the aliases lead to.
        copies: All of them.
    """

    __test__ = False  # no test class, for pytest

    plan: DatabasePlan
    name: str
    copies: tuple[str, ...]


class Runner(DiscoverRunner):
    """Django's test runner with databases that are copied, not migrated."""

    def setup_databases(self, **options: Any) -> list[TestDatabase]:
        """Create the test databases, and point the aliases at them."""
        processes = self.parallel if self.parallel > 1 else 0
        chosen = tuple(alias for alias in options.get("aliases") or connections)
        return create(chosen, copies=[str(number + 1) for number in range(processes)])

    def teardown_databases(self, old_config: list[TestDatabase], **_: Any) -> None:
        """Drop the test databases, and point the aliases back."""
        destroy(old_config, keep=self.keepdb)


def create(
    aliases: Iterable[str], *, suffix: str = "", copies: Iterable[str] = ()
) -> list[TestDatabase]:
    """Create the test databases of the aliases, and point Django at them.

    Args:
        aliases: Which; those of one physical database share a copy.
        suffix: Of the copies' names, as for a worker of pytest-xdist.
        copies: Suffixes of further copies, for parallel processes.
    """
    chosen = tuple(one for one in aliases if connections[one].vendor == "postgresql")
    rules = replace(project_rules(), fixtures={}, after_sql={}, after="", keep_tables=())
    plan = plan_rebuild(Options(databases=chosen), rules)
    made = []
    for one in plan.databases:
        with (
            connect(one.database.conninfo(), one.database.aliases[0]) as admin,
            # Parallel workers build once: the others wait, and find the result.
            guard.alone(admin, one.name, wait_s=_WAIT_S),
        ):
            kept = _kept(plan, one, admin)
            name = f"{_test_name(one)}{suffix and f'_{suffix}'}"
            names = (name, *(f"{name}_{copy}" for copy in copies))
            for copy in names:
                _copy(admin, one, kept, copy)
        made.append(TestDatabase(one, name, names))
    for test in made:
        for alias in test.plan.database.aliases:
            _point(alias, test.name)
    return made


def destroy(made: Iterable[TestDatabase], *, keep: bool = False) -> None:
    """Point the aliases back at the live databases, and drop the copies."""
    for one in made:
        database = one.plan.database
        for alias in database.aliases:
            _point(alias, database.name)
        if not keep:
            with connect(database.conninfo(), database.aliases[0]) as admin:
                for copy in one.copies:
                    _drop(admin, copy)


def _kept(plan: RebuildPlan, one: DatabasePlan, admin: Connection[Any]) -> str:
    kept = store.find(admin, one.digest)
    if kept is None:
        with build.scratch([one]) as scratch:
            build.build(plan, [one], scratch, lambda _: None)
            kept = build.keep(one, scratch[one.name], plan.rules).database
        store.prune(admin, one.name, kept_results=plan.rules.kept_results)
    return kept


def _copy(admin: Connection[Any], one: DatabasePlan, kept: str, name: str) -> None:
    _drop(admin, name)
    store.clone(admin, kept, name)
    with connect(one.database.conninfo(name), one.database.aliases[0]) as conn:
        conn.execute("DROP SCHEMA howdah_kept CASCADE")


def _drop(admin: Connection[Any], name: str) -> None:
    query = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)")
    admin.execute(query.format(sql.Identifier(name)))


def _test_name(one: DatabasePlan) -> str:
    given = connections[one.database.aliases[0]].settings_dict["TEST"].get("NAME")
    return str(given or f"test_{one.name}")


def _point(alias: str, name: str) -> None:
    connection = connections[alias]
    connection.close()
    connection.settings_dict["NAME"] = name
