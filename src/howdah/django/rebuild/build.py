"""Build the project's databases from nothing, in databases that nobody else looks at."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib import import_module
from typing import Any, cast

from django.core.management import call_command
from django.db import DatabaseError, connections
from django.db.migrations.exceptions import MigrationSchemaMissing
from psycopg import Connection, sql

from howdah import pg
from howdah.django.rebuild import carry, dump, fixtures, installed, layout, migrating, store
from howdah.django.rebuild.databases import assumed_role, connect, pointed_at
from howdah.django.rebuild.installed import Extension
from howdah.django.rebuild.plan import DatabasePlan, RebuildPlan
from howdah.django.rebuild.rules import Rules
from howdah.django.rebuild.store import Kept
from howdah.errors import HowdahError, Refused

Tell = Callable[[str], None]


@contextmanager
def scratch(plans: Sequence[DatabasePlan]) -> Generator[dict[str, str]]:
    """Create an empty database for each plan, and drop what is left of them at the end.

    Yields:
        Their names, by the names of the live ones.
    """
    made: dict[str, str] = {}
    try:
        with ThreadPoolExecutor(len(plans)) as threads:
            for plan, name in zip(plans, threads.map(_prepare, plans), strict=True):
                made[plan.name] = name
        yield made
    finally:
        for plan in plans:
            if plan.name in made:
                with connect(plan.database.conninfo(), plan.database.aliases[0]) as admin:
                    store.drop(admin, made[plan.name])


def build(
    plan: RebuildPlan, todo: Sequence[DatabasePlan], made: dict[str, str], tell: Tell
) -> None:
    """Fill the databases: tables, signals, fixtures, hooks.

    Args:
        plan: The whole plan.
        todo: Those databases that are to be built.
        made: Their names while they are built, by their live names.
        tell: Takes each step, for people.
    """
    names = {alias: made[one.name] for one in todo for alias in one.database.aliases}
    # A migration that looks into another database is to find the new one there.
    others = [one for one in plan.databases if one.kept and one.name not in made]
    kept = {alias: one.kept for one in others if one.kept for alias in one.database.aliases}
    with (
        pointed_at(names, [one.database for one in todo]),
        pointed_at(kept, [one.database for one in others], is_read_only=True),
    ):
        fill(plan, tuple(names), tell)


def fill(plan: RebuildPlan, aliases: tuple[str, ...], tell: Tell) -> None:
    """Make tables and rows wherever the aliases lead to now."""
    rules = plan.rules
    for alias in aliases:
        connections[alias].prepare_database()
        _run_sql(alias, "before_sql", rules.for_alias(rules.before_sql, alias))
    try:
        _make_tables(plan, aliases, tell)
    except (DatabaseError, MigrationSchemaMissing) as exc:
        raise HowdahError(
            f"The tables could not be made: {exc}".rstrip(),
            next_step="Mend that and run the same command again.",
        ) from exc
    for alias in aliases:
        call_command("createcachetable", database=alias, verbosity=0)
    for alias in aliases:
        labels = rules.for_alias(rules.fixtures, alias)
        if labels:
            tell(f"fixtures into {alias}")
            fixtures.load(alias, labels)
    for alias in aliases:
        _run_sql(alias, "after_sql", rules.for_alias(rules.after_sql, alias))
    if rules.after:
        tell(rules.after)
        _call(rules.after, aliases)


def keep(plan: DatabasePlan, built: str, rules: Rules) -> Kept:
    """Write out what carries the result over, and keep the database under its digest."""
    database = plan.database
    conninfo = database.conninfo(built)
    with (
        connect(database.conninfo(), database.aliases[0]) as admin,
        connect(conninfo, database.aliases[0]) as conn,
    ):
        schemas = _schemas(conn, admin, plan, rules)
        shared = installed.shared_schemas(conn, schemas, database)
        extensions = tuple(
            (one.name, one.schema, one.version) for one in installed.extensions(conn)
        )
        role = assumed_role(database.aliases[0]) or database.facts.role
        before, after = dump.sections(conn, conninfo, schemas, shared, role)
        kept = Kept(built, tuple(schemas), shared, extensions, before, after)
        store.finish(admin, conn, kept)
        name = store.keep(admin, built, plan.digest, database.name)
    return Kept(name, kept.schemas, shared, extensions, before, after)


def _prepare(plan: DatabasePlan) -> str:
    database = plan.database
    with connect(database.conninfo(), database.aliases[0]) as admin:
        name = store.create(admin, database)
    try:
        with connect(database.conninfo(name), database.aliases[0]) as conn:
            _install(conn, plan.extensions)
            paths = [schema for path in database.search_paths for schema in path]
            for schema in dict.fromkeys((*paths, *plan.schemas)):
                query = sql.SQL("CREATE SCHEMA IF NOT EXISTS {}")
                conn.execute(query.format(sql.Identifier(schema)))
    except BaseException:
        with connect(database.conninfo(), database.aliases[0]) as admin:
            store.drop(admin, name)
        raise
    return name


def _install(conn: Connection[Any], extensions: Sequence[Extension]) -> None:
    for one in extensions:
        with pg.explained(f"create the extension {one.name}"):
            carry.install(conn, one.name, one.schema, one.version)


def _make_tables(plan: RebuildPlan, aliases: tuple[str, ...], tell: Tell) -> None:
    tell("reading migrations")
    not_again = {key for one in plan.databases for key in layout.made_before(one.database)}
    loader, steps = migrating.load_steps(aliases, not_again)
    if plan.options.migrations == "from models":
        tell("tables from the models")
        migrating.create_from_models(aliases, not_again)
        migrating.record(aliases, steps)
        return
    migrating.migrate(loader, steps, aliases, not_again, on_step=lambda step: tell(str(step)))


def _schemas(
    conn: Connection[Any], live: Connection[Any], plan: DatabasePlan, rules: Rules
) -> list[str]:
    """Return the schemas of a built database that go into the live one."""
    built = [one for one in dump.built_schemas(conn) if one not in rules.keep_schemas]
    there = set(dump.built_schemas(live))
    unplanned = sorted((set(built) - set(plan.schemas)) & there)
    if unplanned:
        raise Refused(
            f"The migrations make objects in the schema {unplanned[0]!r}, where the live database "
            "has objects too, and no model says that it is the project's.",
            next_step='Add it to "schemas" of HOWDAH["REBUILD"], or to "keep_schemas".',
        )
    ordered = [one for one in plan.schemas if one in built]
    return ordered + [one for one in built if one not in plan.schemas]


def _run_sql(alias: str, rule: str, statements: Sequence[str]) -> None:
    for statement in statements:
        try:
            with connections[alias].cursor() as cursor:
                cursor.execute(statement)
        except Exception as exc:
            raise HowdahError(
                f'"{rule}" of HOWDAH["REBUILD"] failed in {alias!r}: {exc}'.rstrip(),
                next_step=f"The statement is: {statement}",
            ) from exc


def _call(dotted: str, aliases: tuple[str, ...]) -> None:
    module, _, name = dotted.rpartition(".")
    try:
        function = cast("Callable[[tuple[str, ...]], object]", getattr(import_module(module), name))
    except (ImportError, AttributeError, ValueError) as exc:
        raise HowdahError(
            f'"after" of HOWDAH["REBUILD"] names {dotted!r}, which is not there: {exc}.',
            next_step="Write the dotted path of a function.",
        ) from exc
    function(aliases)
