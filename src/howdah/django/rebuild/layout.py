"""Which schemas and tables the project's models take, alias by alias.

Asked of each alias's own backend, by the name it would write into SQL: so
the trick in db_table, a search_path and Howdah's mapping all mean the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.apps import apps
from django.db import connections, router
from django.db.migrations.recorder import MigrationRecorder

from howdah.django.rebuild.databases import Database
from howdah.errors import HowdahError

_QUOTED = re.compile(r'"((?:[^"]|"")+)"')


@dataclass(frozen=True, slots=True)
class Home:
    """Where a model's table is.

    Attributes:
        app: The label of its app; empty for Django's table of migrations.
        alias: The alias it is migrated in.
        schema: Its schema.
        table: Its name.
    """

    app: str
    alias: str
    schema: str
    table: str


def homes(database: Database) -> list[Home]:
    """Return the table of each model that the database holds, and those of migrations."""
    found: dict[Home, None] = {}
    for alias, path in zip(database.aliases, database.search_paths, strict=True):
        for model in _models(alias):
            found[_home(model, alias, path, model._meta.app_label)] = None
        recorder: Any = MigrationRecorder(connections[alias]).Migration
        home = _home(recorder, alias, path, "")
        # One that an earlier alias has made is seen through the search_path, and used.
        if not any(not one.app and one.schema in path for one in found):
            found[home] = None
    return list(found)


def made_before(database: Database) -> set[tuple[str, str]]:
    """Return each alias and app of which an earlier alias makes the very tables.

    So it is where two aliases lead to one database with one search_path, and no router
    keeps the app from either.
    """
    first: dict[tuple[str, str], str] = {}
    by_app: dict[tuple[str, str], list[bool]] = {}
    for home in homes(database):
        made_by = first.setdefault((home.schema, home.table), home.alias)
        by_app.setdefault((home.alias, home.app), []).append(made_by != home.alias)
    return {key for key, before in by_app.items() if all(before)}


def schemas(found: Iterable[Home]) -> tuple[str, ...]:
    """Return the schemas, in the order of the apps."""
    return tuple(dict.fromkeys(home.schema for home in found))


def _models(alias: str) -> Iterable[Any]:
    for config in apps.get_app_configs():
        for model in router.get_migratable_models(config, alias, include_auto_created=True):
            if model._meta.managed and model._meta.can_migrate(alias):
                yield model


def _home(model: Any, alias: str, path: tuple[str, ...], app: str) -> Home:
    parts = _QUOTED.findall(connections[alias].ops.quote_name(model._meta.db_table))
    schema, table = parts if len(parts) > 1 else (path[0] if path else "", parts[0])
    if not schema:
        raise HowdahError(
            f"{model._meta.label} has no schema: the search_path of {alias!r} names none.",
            next_step='Set it in OPTIONS: "options": "-c search_path=NAME".',
        )
    return Home(app, alias, schema.replace('""', '"'), table.replace('""', '"'))
