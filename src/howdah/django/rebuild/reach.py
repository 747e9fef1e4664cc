"""Which apps decide what a database holds: its own, and those that their migrations build on.

A change of any other app leaves its built result as it is.
"""

from __future__ import annotations

from collections.abc import Iterable

from django.apps import apps
from django.db import router
from django.db.migrations.loader import MigrationLoader

from howdah.django.rebuild.databases import Database


def is_in(alias: str, label: str) -> bool:
    """Say whether an alias holds tables of an app.

    A router may let an app be migrated through several aliases of one database:
    then the models say through which one.
    """
    if not router.allow_migrate(alias, label):
        return False
    config = apps.get_app_config(label)
    models = list(config.get_models())
    return not models or any(router.allow_migrate_model(alias, model) for model in models)


def has_tables(database: Database, label: str) -> bool:
    """Say whether a database holds tables of an app."""
    models = list(apps.get_app_config(label).get_models())
    return bool(models) and any(is_in(alias, label) for alias in database.aliases)


def deciding_apps(database: Database, loader: MigrationLoader) -> set[str]:
    """Return the labels of the apps that decide what a database holds."""
    labels = [config.label for config in apps.get_app_configs()]
    own = {label for label in labels if any(is_in(alias, label) for alias in database.aliases)}
    graph = loader.graph
    leaves = [leaf for leaf in graph.leaf_nodes() if leaf[0] in own]
    return own | {key[0] for leaf in leaves for key in graph.forwards_plan(leaf)}


def migration_names(loader: MigrationLoader) -> list[tuple[str, str]]:
    """Return every migration of the project: Django notes them all in each database."""
    found: Iterable[tuple[str, str]] = loader.graph.nodes
    return sorted(found)
