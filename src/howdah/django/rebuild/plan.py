"""What a rebuild would do, found out without doing any of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from django.apps import apps
from django.conf import settings
from django.db.migrations.loader import MigrationLoader
from psycopg import Connection

from howdah import pg
from howdah.django.rebuild import installed, layout, store
from howdah.django.rebuild.databases import Database, connect, find_databases
from howdah.django.rebuild.digest import digest_of, migrations_folder
from howdah.django.rebuild.drift import Drift, find_drift
from howdah.django.rebuild.installed import Extension
from howdah.django.rebuild.options import Options
from howdah.django.rebuild.reach import has_tables, migration_names
from howdah.django.rebuild.room import Room, room
from howdah.django.rebuild.rules import Rules, rules_of
from howdah.errors import UsageError

Strategy = Literal["aside", "in place"]


@dataclass(frozen=True, slots=True)
class Table:
    """A table that a rebuild replaces.

    Attributes:
        rows: The planner's estimate; -1 where it has none.
        size_bytes: With its indexes.
        is_known: A model of the project has a table of this name.
    """

    schema: str
    name: str
    rows: int
    size_bytes: int
    is_known: bool


@dataclass(frozen=True, slots=True)
class AppPlan:
    """An app and where it goes.

    Attributes:
        migrations: Number of its migration files.
        tables: Number of its tables.
    """

    label: str
    alias: str
    schemas: tuple[str, ...]
    migrations: int
    tables: int


@dataclass(frozen=True, slots=True)
class DatabasePlan:
    """What is done to one physical database.

    Attributes:
        schemas: To be replaced, in the order of the apps.
        shared: Those of them that hold an extension's objects: their tables move one by one.
        tables: What is there now and goes.
        strategy: "aside": in a database of its own, swapped in; "in place": in one transaction.
        room: The disk that it takes, and that is free.
        cost: What the strategy costs the running application; None: nothing it would notice.
        digest: Of all that goes into the build.
        kept: The database that holds this very build already; None: there is none.
    """

    database: Database
    schemas: tuple[str, ...]
    shared: tuple[str, ...]
    extensions: tuple[Extension, ...]
    apps: tuple[AppPlan, ...]
    fixtures: tuple[str, ...]
    tables: tuple[Table, ...]
    strategy: Strategy
    reason: str
    room: Room
    cost: str | None
    digest: str
    kept: str | None

    @property
    def name(self) -> str:
        """The database's name."""
        return self.database.name


@dataclass(frozen=True, slots=True)
class RebuildPlan:
    """What a rebuild would do.

    Attributes:
        databases: Physical ones, in the order of the settings.
        migrations: Where the tables come from.
        keep_old: How many replaced generations stay.
        migration_names: App and name of each migration, for Django's table of them.
        drift: Apps whose models are ahead of their migrations, where these make the tables.
    """

    databases: tuple[DatabasePlan, ...]
    options: Options
    rules: Rules
    keep_old: int
    drift: tuple[Drift, ...]
    migration_names: tuple[tuple[str, str], ...] = ()


_TABLES = """
    SELECT n.nspname AS schema, c.relname AS name, c.reltuples::bigint AS rows,
           pg_total_relation_size(c.oid) AS size_bytes, false AS is_known
      FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
     WHERE c.relkind IN ('r', 'p', 'm', 'f') AND n.nspname = ANY(%s)
       AND NOT EXISTS (SELECT FROM pg_depend AS d
                        WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid
                          AND d.deptype = 'e')
     ORDER BY array_position(%s, n.nspname::text), c.relname
"""


def plan_rebuild(
    options: Options, rules: Rules | None = None, *, with_drift: bool = True
) -> RebuildPlan:
    """Return what a rebuild would do.

    Args:
        options: What is asked for.
        rules: None: those of the settings.
        with_drift: Compare the models with the migrations.

    Raises:
        UsageError: The settings or the options name what is not there.
        NoDatabase: A server does not let us in.
    """
    rules = project_rules() if rules is None else rules
    loader = MigrationLoader(None)
    databases = _chosen(find_databases(options.databases), options)
    found = [_plan(one, options, rules, loader) for one in databases]
    if not found:
        raise UsageError(
            "DATABASES has no alias on PostgreSQL.",
            next_step="Choose another settings module with --settings.",
        )
    keep_old = rules.keep_old if options.keep_old is None else options.keep_old
    drift = find_drift(loader) if with_drift and options.migrations != "from models" else ()
    names = tuple(migration_names(loader))
    return RebuildPlan(tuple(found), options, rules, keep_old, drift, names)


def project_rules() -> Rules:
    """Return HOWDAH["REBUILD"] of the settings."""
    return rules_of(getattr(settings, "HOWDAH", {}))


def _chosen(databases: Sequence[Database], options: Options) -> list[Database]:
    """Return the databases that hold one of the apps asked for; all where none is."""
    labels = {config.label for config in apps.get_app_configs()}
    if unknown := sorted(set(options.apps) - labels):
        raise UsageError(
            f"The project has no app {unknown[0]!r}.",
            next_step=f"Choose one of: {', '.join(sorted(labels))}.",
        )
    if not options.apps or options.migrations == "remade":
        return list(databases)
    return [one for one in databases if any(has_tables(one, label) for label in options.apps)]


def _plan(
    database: Database, options: Options, rules: Rules, loader: MigrationLoader
) -> DatabasePlan:
    homes = [one for one in layout.homes(database) if one.schema not in rules.keep_schemas]
    schemas = tuple(dict.fromkeys((*layout.schemas(homes), *rules.schemas)))
    with connect(database.dsn.conninfo, database.aliases[0]) as conn:
        extensions = tuple(installed.extensions(conn))
        known = {(home.schema, home.table) for home in homes}
        tables = tuple(_tables(conn, schemas, known))
        shared = installed.shared_schemas(conn, schemas, database)
        digest = digest_of(
            database,
            options,
            rules,
            [(e.name, e.schema, e.version) for e in extensions],
            loader,
        )
        kept = None if options.fresh else store.find(conn, digest)
        needed = _room(conn, database, tables, kept)
        strategy, reason = _strategy(conn, database, options, needed)
        if where := database.around:
            reason += f"; around the pooler, at {where.get('host')} port {where.get('port')}"
    return DatabasePlan(
        database=database,
        schemas=schemas,
        shared=shared,
        extensions=extensions,
        apps=_apps(homes),
        fixtures=tuple(
            dict.fromkeys(
                label
                for alias in database.aliases
                for label in rules.for_alias(rules.fixtures, alias)
            )
        ),
        tables=tables,
        strategy=strategy,
        reason=reason,
        room=needed,
        cost=_cost(strategy, shared),
        digest=digest,
        kept=kept if strategy == "aside" else None,
    )


def _tables(
    conn: Connection[Any], schemas: Sequence[str], known: set[tuple[str, str]]
) -> list[Table]:
    rows = pg.fetch_all(conn, Table, _TABLES, [list(schemas), list(schemas)])
    return [
        Table(one.schema, one.name, one.rows, one.size_bytes, (one.schema, one.name) in known)
        for one in rows
    ]


def _room(
    conn: Connection[Any], database: Database, tables: Sequence[Table], kept: str | None
) -> Room:
    """Return the disk it takes: as the last result, or else as the tables that are there."""
    there = store.stored(conn, database.name)
    results = {one.name: one for one in there if one.is_complete and not one.is_copy}
    last = results.get(kept or "") or next(reversed(results.values()), None)
    return room(
        conn,
        sum(one.size_bytes for one in tables),
        last.size_bytes if last else None,
        is_kept=kept is not None,
    )


def _strategy(
    conn: Connection[Any], database: Database, options: Options, needed: Room
) -> tuple[Strategy, str]:
    facts = database.facts
    if options.in_place:
        return "in place", "--in-place"
    if database.is_pooled:
        return "in place", (
            "a pooler is in front, and the server behind it does not let this role in from here; "
            'say how with "direct" of HOWDAH["REBUILD"]'
        )
    if not facts.may_create_databases:
        return "in place", (
            f"the role {facts.role} may not create databases (ALTER ROLE {facts.role} CREATEDB)"
        )
    if not facts.is_superuser and (untrusted := installed.untrusted(conn)):
        return "in place", f"only a superuser may install {', '.join(untrusted)} elsewhere"
    if not needed.fits(needed.aside_bytes) and needed.fits(needed.in_place_bytes):
        return "in place", "too little disk is free for a database beside the live one"
    return "aside", "the role may create databases"


def _cost(strategy: Strategy, shared: Sequence[str]) -> str | None:
    if strategy == "aside":
        if shared:
            return f"tables in {', '.join(shared)} are locked for the moment of the swap"
        return None
    cost = "nothing is kept, and migrations that are not atomic cannot run"
    if shared:
        cost += f"; tables in {', '.join(shared)} are locked as long as it takes"
    return cost


def _apps(homes: Sequence[layout.Home]) -> tuple[AppPlan, ...]:
    found: dict[tuple[str, str], list[layout.Home]] = {}
    for home in homes:
        if home.app:
            found.setdefault((home.app, home.alias), []).append(home)
    return tuple(
        AppPlan(app, alias, layout.schemas(tables), _count_migrations(app), len(tables))
        for (app, alias), tables in found.items()
    )


def _count_migrations(label: str) -> int:
    folder = migrations_folder(label)
    if folder is None:
        return 0
    return sum(1 for path in folder.glob("*.py") if path.name[0] not in "_~")
