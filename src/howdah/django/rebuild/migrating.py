"""Apply a whole migration graph to empty databases, in one walk over all aliases.

The operations are Django's own and run as they are. What is saved is the
rendering of model classes between them: Django renders a changed model, and
all that are related to it, after every operation; here that happens once
before the first operation that looks at the classes (`bench/rebuild.py` has
the figures).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

from django.apps import AppConfig, apps
from django.apps.registry import Apps
from django.core.management.sql import emit_post_migrate_signal, emit_pre_migrate_signal
from django.db import connections, router, transaction
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations import Migration, operations
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.operations.base import Operation
from django.db.migrations.recorder import MigrationRecorder
from django.db.migrations.state import ModelState, ProjectState

from howdah.django.rebuild.reach import is_in
from howdah.errors import HowdahError

# These change the state only, or look at the state after them and not before.
_BLIND = (operations.AlterModelOptions, operations.AlterModelManagers, operations.RunSQL)
_FORWARD = (operations.CreateModel, operations.AddIndex, operations.AddConstraint)


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
    steps: dict[tuple[str, str], Step] = {}
    for leaf in loader.graph.leaf_nodes():
        for key in loader.graph.forwards_plan(leaf):
            if key not in steps:
                allowed = [
                    alias
                    for alias in aliases
                    if is_in(alias, key[0]) and (alias, key[0]) not in not_again
                ]
                steps[key] = Step(loader.graph.nodes[key], tuple(allowed))
    return loader, list(steps.values())


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
    state = _State(real_apps=set(loader.unmigrated_apps))
    for alias in chosen:
        emit_pre_migrate_signal(0, False, alias, apps=state.apps, plan=plan)
    _create_unmigrated(chosen, loader, not_again)
    for step in steps:
        on_step(step)
        try:
            state = _apply(step, state, [one for one in step.aliases if one in chosen])
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


def _all_models(state: _State) -> Any:
    """Return the models for receivers of post_migrate; those without migrations whole, too.

    Until now they had no relations, as Django's own `migrate` says and does.
    """
    state.clear_delayed_apps_cache()
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


def _apply(step: Step, state: _State, aliases: list[str]) -> _State:
    migration = step.migration
    if not aliases:
        for operation in migration.operations:
            operation.state_forwards(migration.app_label, state)
        return state
    for alias in aliases[:-1]:
        _apply_to(migration, state.clone(), alias)
    return _apply_to(migration, state, aliases[-1])


def _apply_to(migration: Migration, state: _State, alias: str) -> _State:
    with connections[alias].schema_editor(atomic=migration.atomic) as editor:
        for operation in migration.operations:
            state = _operate(operation, migration, state, editor)
    return state


def _operate(
    operation: Operation, migration: Migration, state: _State, editor: BaseDatabaseSchemaEditor
) -> _State:
    """Run one operation, as Migration.apply does."""
    label = migration.app_label
    if _is_state_only(operation, label, state):
        operation.state_forwards(label, state)
        return state
    if not isinstance(operation, _BLIND + _FORWARD):
        state.render()  # once for both, the state before and the one after
    before = state.clone()
    operation.state_forwards(label, state)
    alone = operation.atomic or (migration.atomic and operation.atomic is not False)
    if not editor.atomic_migration and alone:
        with transaction.atomic(editor.connection.alias):
            operation.database_forwards(label, editor, before, state)
    else:
        operation.database_forwards(label, editor, before, state)
    return state


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


class _State(ProjectState):
    """A ProjectState that renders changed models when somebody asks for them."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._stale: set[tuple[str, str, bool]] = set()

    def reload_model(self, app_label: str, model_name: str, delay: bool = False) -> None:
        if "apps" in self.__dict__:
            self._stale.add((app_label, model_name.lower(), delay))

    def reload_models(self, models: Iterable[tuple[str, str]], delay: bool = True) -> None:
        for app_label, model_name in models:
            self.reload_model(app_label, model_name, delay)

    def remove_model(self, app_label: str, model_name: str) -> None:
        self.render()
        super().remove_model(app_label, model_name)

    def rename_model(self, app_label: str, old_name: str, new_name: str) -> None:
        self.render()
        super().rename_model(app_label, old_name, new_name)

    def render(self) -> None:
        """Render what has changed."""
        if self._stale and "apps" in self.__dict__:
            stale, self._stale = self._stale, set()
            related: set[tuple[str, str]] = set()
            for app_label, model_name, delay in stale:
                if (app_label, model_name) in self.models:
                    related |= self._find_reload_model(app_label, model_name, delay)
            self._reload(related)

    @property
    def apps(self) -> Apps:  # ty: ignore[incompatible-property-override]
        if "apps" not in self.__dict__:
            self.__dict__["apps"] = ProjectState.apps.func(self)
        self.render()
        rendered: Apps = self.__dict__["apps"]
        return rendered

    def clone(self) -> _State:
        copy = _State({key: model.clone() for key, model in self.models.items()}, self.real_apps)
        if "apps" in self.__dict__:
            copy.__dict__["apps"] = self.__dict__["apps"].clone()
            copy._stale = set(self._stale)
        copy.is_delayed = self.is_delayed
        return copy
