"""How the migrations of a project stand: which are unapplied, and what none of them makes."""

from __future__ import annotations

from dataclasses import dataclass

from django.db import connections, router
from django.db.migrations.executor import MigrationExecutor

from howdah.django.rebuild.drift import find_drift
from howdah.errors import UsageError

__all__ = ["MigrationState", "migration_state"]


@dataclass(frozen=True, slots=True)
class MigrationState:
    """How the migrations of a project stand, for one alias.

    Attributes:
        alias: Of DATABASES.
        unapplied: "app.name" of those that the router has for the alias and the database
            has not, in the order in which `migrate` would apply them.
        conflicts: Apps whose migrations end in two places.
        ahead: Of each app whose models say what no migration makes, a sentence.
    """

    alias: str
    unapplied: tuple[str, ...]
    conflicts: tuple[str, ...]
    ahead: tuple[str, ...]


def migration_state(alias: str) -> MigrationState:
    """Return how the migrations stand; write nothing.

    Raises:
        UsageError: There is no such alias.
    """
    if alias not in connections:
        raise UsageError(
            f"DATABASES has no alias {alias!r}.",
            next_step=f"Choose one of: {', '.join(sorted(connections))}.",
        )
    executor = MigrationExecutor(connections[alias])
    conflicts = tuple(sorted(executor.loader.detect_conflicts()))
    plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    unapplied = tuple(
        f"{migration.app_label}.{migration.name}"
        for migration, _ in plan
        if router.allow_migrate(alias, migration.app_label)
    )
    ahead = () if conflicts else tuple(map(str, find_drift()))
    return MigrationState(alias, unapplied, conflicts, ahead)
