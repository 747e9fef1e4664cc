"""`TEST_RUNNER = "howdah.django.test.Runner"`: test databases as copies of a kept result.

The tables are built once, as `howdah rebuild` does it, without fixtures; each
test run, and each of its parallel processes, gets a copy by CREATE DATABASE
... TEMPLATE. With nothing changed, no migration runs at all.

`setup_databases` and `teardown_databases` are Django's functions of those names
(django.test.utils) done so; the pytest plugin calls them too.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Any

from django.core.management.base import CommandError
from django.db import connections
from django.test import utils
from django.test.runner import DiscoverRunner

from howdah.django import testcopies
from howdah.django.rebuild.databases import Database, django_words, point
from howdah.django.rebuild.options import Options
from howdah.django.rebuild.plan import RebuildPlan
from howdah.django.rebuild.rules import Rules
from howdah.django.testcopies import Tell, Wish
from howdah.errors import HowdahError, NoDatabase

__all__ = ["Runner", "TestDatabases", "setup_databases", "teardown_databases"]

_NOTHING = RebuildPlan(databases=(), options=Options(), rules=Rules(), keep_old=0, drift=())


@dataclass(frozen=True, slots=True)
class TestDatabases:
    """What `setup_databases` has set up.

    Attributes:
        copies: The live databases and the names of their copies.
        live: The entries of DATABASES as they were before.
        migrated: What Django itself has set up, in its own form.
        parallel: For how many processes.
    """

    __test__ = False  # no test class, for pytest

    copies: list[tuple[Database, tuple[str, ...]]]
    live: dict[str, dict[str, Any]]
    migrated: list[Any]
    parallel: int


class Runner(DiscoverRunner):
    """Django's test runner with databases that are copied, not migrated."""

    def setup_databases(self, **options: Any) -> TestDatabases:
        """Create the test databases, and point the aliases at them.

        Raises:
            CommandError: They could not be created.
        """
        try:
            with self.time_keeper.timed("  Copying databases"):
                return setup_databases(
                    self.verbosity,
                    self.interactive,
                    keepdb=self.keepdb,
                    debug_sql=self.debug_sql,
                    parallel=self.parallel,
                    **options,
                )
        except HowdahError as exc:
            raise CommandError(str(exc), returncode=exc.exit_code) from exc

    def teardown_databases(self, old_config: TestDatabases, **_: Any) -> None:
        """Drop the test databases, and point the aliases back."""
        teardown_databases(old_config, self.verbosity, keepdb=self.keepdb)


def setup_databases(
    verbosity: int,
    interactive: bool,
    *,
    keepdb: bool = False,
    debug_sql: bool = False,
    parallel: int = 0,
    aliases: Iterable[str] | None = None,
    serialized_aliases: Collection[str] | None = None,
    migrate: bool = True,
    built_since: datetime | None = None,
    **_: Any,
) -> TestDatabases:
    """Create the test databases of the aliases, and point Django at them.

    As django.test.utils.setup_databases, and with its arguments. What cannot be
    copied (another database's backend, a live database that does not exist, a
    role that may not) is left to that.

    Args:
        verbosity: 0 says nothing.
        interactive: Ask before a database that is not ours is dropped.
        keepdb: Go on with the copies of the last run where nothing has changed.
        debug_sql: Have every connection log its queries.
        parallel: Make so many further copies, for processes.
        aliases: Which; None: all.
        serialized_aliases: Whose rows are noted for `serialized_rollback`.
        migrate: False: make the tables from the models, as TEST["MIGRATE"] does.
        built_since: Build anew what was built before.

    Raises:
        HowdahError: They could not be created.
    """
    chosen, mirrors = _chosen(aliases)
    wish = Wish(keepdb, built_since, partial(_may_drop, interactive))
    copies: list[tuple[Database, tuple[str, ...]]] = []
    migrated: list[Any] = []
    live = {alias: dict(connections[alias].settings_dict) for alias in connections}
    made = TestDatabases(copies, live, migrated, parallel)
    try:
        rest = [alias for alias in chosen if connections[alias].vendor != "postgresql"]
        for group, tables in _by_tables(set(chosen) - set(rest), migrate=migrate):
            with tables:
                plan, left = _plan(group, partial(_say, verbosity))
                wanted = _wanted(plan, group, parallel)
                testcopies.make(plan, wanted, wish, tell=partial(_say, verbosity))
            rest += left
            copies += [(one.database, wanted[one.name]) for one in plan.databases]
        _migrate(rest, migrated, verbosity, interactive, keepdb=keepdb, parallel=parallel)
    except BaseException:
        teardown_databases(made, verbosity, keepdb=keepdb)
        raise
    _point_at(copies, chosen, mirrors)
    for alias in chosen:
        if serialized_aliases is None or alias in serialized_aliases:
            connection = connections[alias]
            connection._test_serialized_contents = connection.creation.serialize_db_to_string()
    if debug_sql:
        for alias in connections:
            connections[alias].force_debug_cursor = True
    return made


def teardown_databases(made: TestDatabases, verbosity: int, *, keepdb: bool = False) -> None:
    """Point the aliases back at the live databases, and drop the copies."""
    if made.migrated:
        utils.teardown_databases(made.migrated, verbosity, parallel=made.parallel, keepdb=keepdb)
    for alias, entry in made.live.items():
        point(alias, entry)
    if not keepdb:
        testcopies.drop([(database, name) for database, names in made.copies for name in names])


def _chosen(aliases: Iterable[str] | None) -> tuple[list[str], dict[str, str]]:
    """Return the aliases that get a database, `default` first, and the primaries of mirrors."""
    databases, mirrors = utils.get_unique_databases_and_mirrors(aliases)
    chosen = [alias for _, group in databases.values() for alias in group]
    return chosen, mirrors


def _by_tables(
    aliases: Collection[str], *, migrate: bool
) -> Iterator[tuple[list[str], AbstractContextManager[None]]]:
    """Yield aliases in the order of the settings, and what to make their tables in."""
    is_migrated = {
        alias: migrate and connections[alias].settings_dict["TEST"]["MIGRATE"] is not False
        for alias in connections
        if alias in aliases
    }
    if any(is_migrated.values()):
        yield [alias for alias, yes in is_migrated.items() if yes], nullcontext()
    if not all(is_migrated.values()):
        without = testcopies.without_migrations()
        yield [alias for alias, yes in is_migrated.items() if not yes], without


def _plan(aliases: list[str], say: Tell) -> tuple[RebuildPlan, list[str]]:
    """Return the plan of what can be copied, and the aliases of what Django has to migrate."""
    try:
        plan, left = testcopies.plan_copies(aliases), []
    except NoDatabase:
        left = [alias for alias in aliases if not _exists(alias)]
        if not left:
            raise
        there = [alias for alias in aliases if alias not in left]
        plan = testcopies.plan_copies(there) if there else _NOTHING
        for alias in left:
            name = connections[alias].settings_dict["NAME"]
            say(f"{alias}: migrated, not copied: there is no database {name!r} to keep it beside.")
    for one in plan.databases:
        if one.strategy == "in place":
            say(f"{one.name}: migrated, not copied: {one.reason}.")
            left += [alias for alias in one.database.aliases if alias in aliases]
    databases = tuple(one for one in plan.databases if one.strategy == "aside")
    return replace(plan, databases=databases), left


def _exists(alias: str) -> bool:
    connection = connections[alias]
    with connection._nodb_cursor() as cursor:
        name = connection.settings_dict["NAME"]
        cursor.execute("SELECT FROM pg_database WHERE datname = %s", [name])
        return bool(cursor.rowcount)


def _wanted(plan: RebuildPlan, aliases: list[str], parallel: int) -> dict[str, tuple[str, ...]]:
    """Return the names of the copies by the live database's."""
    found = {}
    for one in plan.databases:
        firsts = {_test_name(alias): None for alias in one.database.aliases if alias in aliases}
        numbers = [str(number + 1) for number in range(parallel)] if parallel > 1 else []
        found[one.name] = (
            *firsts,
            *(f"{first}_{number}" for first in firsts for number in numbers),
        )
    return found


def _test_name(alias: str) -> str:
    return str(connections[alias].creation._get_test_db_name())


def _migrate(
    aliases: Collection[str],
    made: list[Any],
    verbosity: int,
    interactive: bool,
    *,
    keepdb: bool,
    parallel: int,
) -> None:
    """Have Django create and migrate; as its setup_databases does, which wants `default` too."""
    databases, _ = utils.get_unique_databases_and_mirrors()
    for name, group in databases.values():
        first, *others = [alias for alias in group if alias in aliases] or [None]
        if first is None:
            continue
        creation = connections[first].creation
        creation.create_test_db(
            verbosity, autoclobber=not interactive, keepdb=keepdb, serialize=False
        )
        for number in range(parallel) if parallel > 1 else ():
            creation.clone_test_db(str(number + 1), verbosity, keepdb=keepdb)
        # Only now: what is torn down is the database that the alias leads to.
        made.append((connections[first], name, True))
        for alias in others:
            made.append((connections[alias], name, False))
            connections[alias].creation.set_as_test_mirror(connections[first].settings_dict)


def _point_at(
    copies: Iterable[tuple[Database, tuple[str, ...]]],
    chosen: Collection[str],
    mirrors: Mapping[str, str],
) -> None:
    for database, names in copies:
        for alias in database.aliases:
            # One that no test uses follows: it would write into the live database.
            name = _test_name(alias) if alias in chosen else names[0]
            point(alias, {"NAME": name} | django_words(database.around))
    for alias, primary in mirrors.items():
        point(alias, {"NAME": connections[primary].settings_dict["NAME"]})


def _may_drop(interactive: bool, name: str) -> bool:
    """Ask, as Django does, before a database that may be somebody's goes."""
    if not interactive:
        return True
    question = f"There is a database {name!r}, which Howdah has not made. Type 'yes' to drop it: "
    return input(question) == "yes"


def _say(verbosity: int, text: str) -> None:
    if verbosity >= 1:
        sys.stderr.write(f"{text}\n")
