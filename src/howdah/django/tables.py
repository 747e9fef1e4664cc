"""Where the tables of the models are, and where they are to be: facts, plan, move."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.apps import apps
from django.db import connections, router

from howdah.django.mapping import is_ours
from howdah.django.names import Name, parse
from howdah.django.placing import place
from howdah.errors import HowdahError, Refused

__all__ = ["Move", "Table", "move", "plan_moves", "tables"]


@dataclass(frozen=True, slots=True)
class Table:
    """The table of a model in the database of its alias.

    Attributes:
        app_label: The model's app.
        model: "app.Model".
        alias: Through which it is reached.
        name: Where it is to be; without a schema search_path decides.
        found: The schemas that hold a table of that name which is no other model's, those on
            search_path first.
        there: Whether it is where it is to be.
        size_bytes: With indexes and TOAST; None where it is not there.
    """

    app_label: str
    model: str
    alias: str
    name: Name
    found: tuple[str, ...]
    there: bool
    size_bytes: int | None


@dataclass(frozen=True, slots=True)
class Move:
    """One table that is in another schema than the settings or its model say.

    Attributes:
        table: What is to be moved.
        old: Where it is.
        new: Where it is to be.
    """

    table: Table
    old: Name
    new: Name


_FOUND = """
    SELECT n.nspname, c.relname, pg_table_is_visible(c.oid), pg_total_relation_size(c.oid)
      FROM pg_catalog.pg_class c
      JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
     WHERE c.relkind IN ('r', 'p', 'f', 'v', 'm')
       AND n.nspname NOT IN ('pg_catalog', 'information_schema')
       AND n.nspname NOT LIKE 'pg\\_%%'
     ORDER BY NOT pg_table_is_visible(c.oid), n.nspname
"""
# Table -> schema -> (whether search_path finds it there, bytes).
_Found = dict[str, dict[str, tuple[bool, int]]]

_LOCK_TIMEOUT = "SELECT set_config('lock_timeout', %s, true)"
LOCK_TIMEOUT = "10s"


def tables(alias: str) -> list[Table]:
    """Return the tables of every model that belongs in the database of an alias."""
    connection = connections[alias]
    with connection.cursor() as cursor:
        cursor.execute(_FOUND.replace("%%", "%"))
        rows = cursor.fetchall()
    found: _Found = {}
    for schema, table, visible, size in rows:
        found.setdefault(table, {})[schema] = (visible, size)
    named = [(model, connection.ops.place(model._meta.db_table)) for model in _models(alias)]
    taken = {Name(_schema(name, found), name.table) for _, name in named}
    return [_table(model, alias, name, found, taken) for model, name in named]


def plan_moves(alias: str) -> list[Move]:
    """Return what is in the wrong schema.

    Raises:
        Refused: A table is in several schemas and in none of them where it is to be.
    """
    moves = []
    for table in tables(alias):
        if table.there or not table.found or table.name.schema is None:
            continue
        if len(table.found) > 1:
            raise Refused(
                f"The table of {table.model} is to be {table.name}, and there is one of that name "
                f"in each of {', '.join(table.found)}.",
                next_step="Drop or rename those that are not its, then run the command again.",
            )
        moves.append(Move(table, Name(table.found[0], table.name.table), table.name))
    return moves


def move(alias: str, moves: list[Move]) -> None:
    """Move tables, all in one transaction: the catalog is changed and no row is written.

    Raises:
        HowdahError: A lock was not to be had in 10 seconds; nothing is moved.
    """
    connection = connections[alias]
    from django.db.utils import OperationalError

    try:
        with connection.schema_editor() as editor:
            with connection.cursor() as cursor:
                cursor.execute(_LOCK_TIMEOUT, [LOCK_TIMEOUT])
            for each in moves:
                editor.move_table(each.old, each.new)
    except OperationalError as exc:
        if getattr(exc.__cause__, "sqlstate", None) != "55P03":
            raise
        raise HowdahError(
            f"A table is in use for longer than {LOCK_TIMEOUT}, so nothing was moved.",
            next_step="Run the command again, or when the long transaction in pg_stat_activity "
            "has ended.",
        ) from exc


def _models(alias: str) -> Iterator[Any]:
    from django.db.migrations.recorder import MigrationRecorder

    seen = set()
    for config in apps.get_app_configs():
        for model in config.get_models(include_auto_created=True):
            options = model._meta
            if options.proxy or options.swapped or options.db_table in seen:
                continue
            if router.allow_migrate_model(alias, model):
                seen.add(options.db_table)
                yield model
    recorded = MigrationRecorder.Migration
    place(recorded)
    yield recorded


def _table(model: Any, alias: str, name: Name, found: _Found, taken: set[Name]) -> Table:
    schema = _schema(name, found)
    here = {
        each: size
        for each, (_, size) in found.get(name.table, {}).items()
        if each == schema or Name(each, name.table) not in taken
    }
    return Table(
        app_label=model._meta.app_label,
        model=model._meta.label,
        alias=alias,
        name=parse(name.db_table),
        found=tuple(here),
        there=schema in here,
        size_bytes=here.get(schema or ""),
    )


def _schema(name: Name, found: _Found) -> str | None:
    """Return where a table is to be: without a schema, where search_path finds it."""
    if name.schema is not None:
        return name.schema
    return next((each for each, (visible, _) in found.get(name.table, {}).items() if visible), None)


def our_aliases(asked: str | None) -> list[str]:
    """Return the alias that was asked for, else every one with our ENGINE."""
    return [asked] if asked else [alias for alias in connections if is_ours(alias)]
