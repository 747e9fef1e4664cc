"""Apply a whole migration graph to empty databases, in one walk over all aliases.

The operations are Django's own and run as they are. What is saved is the
rendering of model classes between them: see `states`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

from django.apps import AppConfig, apps
from django.core.management.sql import emit_post_migrate_signal, emit_pre_migrate_signal
from django.db import connections, router, transaction
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations import Migration, operations
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.operations.base import Operation
from django.db.migrations.recorder import MigrationRecorder
from django.db.migrations.state import ModelState, ProjectState

from howdah.django.rebuild import states
from howdah.django.rebuild.reach import is_in
from howdah.django.rebuild.states import State
from howdah.errors import HowdahError


@dataclass(frozen=True, slots=True)
class Step:
    """One migration and where it goes.

    Attributes:
        migration: Django's object.
        aliases: Where routers allow its app; none: only recorded.
    """

    migration: Migration
    aliases: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.migration.app_label}.{self.migration.name}"


class MigrationFailed(HowdahError):
    """Raised when a migration raises; the error itself is the cause."""


def load_steps(
    aliases: Iterable[str], not_again: AbstractSet[tuple[str, str]] = frozenset()
) -> tuple[MigrationLoader, list[Step]]:
    """Return every migration of the project in the order of their dependencies.

    Args:
        aliases: Where to.
        not_again: Aliases and apps to leave out; see `layout.made_before`.
    """
    loader = MigrationLoader(None)
    if conflicts := loader.detect_conflicts():
        label, names = next(iter(conflicts.items()))
        raise HowdahError(
            f"The migrations of {label} end in {len(names)} leaves: {', '.join(sorted(names))}.",
            next_step="Run: manage.py makemigrations --merge",
        )
    allowed = {
        label: tuple(
            alias for alias in aliases if is_in(alias, label) and (alias, label) not in not_again
        )
        for label in loader.migrated_apps
    }
    return loader, [Step(one, allowed[one.app_label]) for one in states.in_order(loader)]


def migrate(
    loader: MigrationLoader,
    steps: list[Step],
    aliases: Iterable[str],
    not_again: AbstractSet[tuple[str, str]],
    *,
    on_step: Callable[[Step], None],
) -> None:
    """Apply the steps, record them in each alias, and send Django's signals.

    Raises:
        MigrationFailed: A migration raised.
    """
    chosen = tuple(aliases)
    plan = [(step.migration, False) for step in steps]
    state = states.first(set(loader.unmigrated_apps))
    for alias in chosen:
        emit_pre_migrate_signal(0, False, alias, apps=state.apps, plan=plan)
    _create_unmigrated(chosen, loader, not_again)
    for step in steps:
        on_step(step)
        try:
            state = apply(step, state, [one for one in step.aliases if one in chosen])
        except HowdahError:
            raise
        except Exception as exc:
            raise MigrationFailed(
                f"The migration {step} failed: {type(exc).__name__}: {exc}".rstrip(),
                next_step="Mend the migration and run the same command again.",
            ) from exc
    record(chosen, steps)
    rendered = _all_models(state)
    for alias in chosen:
        emit_post_migrate_signal(0, False, alias, apps=rendered, plan=plan)


def record(aliases: Iterable[str], steps: list[Step]) -> None:
    """Note the migrations as applied, as `migrate` would, in each table of them there is."""
    for alias in aliases:
        recorder = MigrationRecorder(connections[alias])
        recorder.ensure_schema()
        # Two aliases of one database may see the same table through their search_path.
        there = recorder.applied_migrations()
        rows = [
            recorder.Migration(app=step.migration.app_label, name=step.migration.name)
            for step in steps
            if (step.migration.app_label, step.migration.name) not in there
        ]
        recorder.migration_qs.bulk_create(rows)


def create_from_models(aliases: Iterable[str], not_again: AbstractSet[tuple[str, str]]) -> None:
    """Create the tables of every model as it is in the code, without any migration."""
    chosen = tuple(aliases)
    for alias in chosen:
        emit_pre_migrate_signal(0, False, alias, apps=apps, plan=[])
    for alias in chosen:
        _create(alias, apps.get_app_configs(), not_again)
    for alias in chosen:
        emit_post_migrate_signal(0, False, alias, apps=apps, plan=[])


def _all_models(state: State) -> Any:
    """Return the models for receivers of post_migrate; those without migrations whole, too.

    Until now they had no relations, as Django's own `migrate` says and does.
    """
    rendered: Any = state.apps
    with rendered.bulk_update():
        keys = [(model.app_label, model.name_lower) for model in rendered.real_models]
        for key in keys:
            rendered.unregister_model(*key)
    rendered.render_multiple([ModelState.from_model(apps.get_model(*key)) for key in keys])
    return rendered


def _create_unmigrated(
    aliases: Iterable[str], loader: MigrationLoader, not_again: AbstractSet[tuple[str, str]]
) -> None:
    """Create the tables of apps that have no migrations, as `migrate --run-syncdb` does."""
    configs = [one for one in apps.get_app_configs() if one.label in loader.unmigrated_apps]
    for alias in aliases:
        _create(alias, configs, not_again)


def _create(
    alias: str, configs: Iterable[AppConfig], not_again: AbstractSet[tuple[str, str]]
) -> None:
    models = [
        model
        for config in configs
        if (alias, config.label) not in not_again
        for model in router.get_migratable_models(config, alias, include_auto_created=False)
        if model._meta.can_migrate(alias) and model._meta.managed
    ]
    if models:
        with connections[alias].schema_editor() as editor:
            for model in models:
                editor.create_model(model)


def apply(step: Step, state: State, aliases: list[str]) -> State:
    """Apply a migration to the aliases; return the state after it."""
    migration, then = step.migration, state
    if not aliases:
        for operation in migration.operations:
            then = states.after(operation, migration.app_label, then)
    for alias in aliases:
        then = state
        with connections[alias].schema_editor(atomic=migration.atomic) as editor:
            for operation in migration.operations:
                then = _operate(operation, migration, then, editor)
    return then


def _operate(
    operation: Operation, migration: Migration, state: State, editor: BaseDatabaseSchemaEditor
) -> State:
    """Run one operation, as Migration.apply does."""
    label = migration.app_label
    if _is_state_only(operation, label, state):
        return states.after(operation, label, state)
    alone = operation.atomic or (migration.atomic and operation.atomic is not False)
    if not editor.atomic_migration and alone:
        with transaction.atomic(editor.connection.alias):
            return _run(operation, label, state, editor)
    return _run(operation, label, state, editor)


def _run(operation: Operation, label: str, state: State, editor: BaseDatabaseSchemaEditor) -> State:
    then = states.after(operation, label, state)
    if type(operation) is operations.SeparateDatabaseAndState:
        for one in operation.database_operations:
            state = _run(one, label, state, editor)
    else:
        operation.database_forwards(label, editor, *states.seen_by(operation, label, state, then))
    return then


def _is_state_only(operation: Operation, label: str, state: ProjectState) -> bool:
    """Say whether an operation leaves the database as it is."""
    if isinstance(operation, operations.AlterModelOptions | operations.AlterModelManagers):
        return True
    if not isinstance(operation, operations.AlterField):
        return False
    model = state.models[label, operation.model_name_lower]
    return _stored_as(model.fields[operation.name]) == _stored_as(operation.field)


def _stored_as(field: Any) -> tuple[object, ...]:
    """Return what of a field decides its column; Django's _field_should_be_altered compares it."""
    _, path, args, kwargs = field.deconstruct()
    return (
        path,
        args,
        {k: v for k, v in kwargs.items() if k not in field.non_db_attrs},
        field.db_column,
    )
