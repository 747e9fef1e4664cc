"""The state of a project's models between two operations, and the classes that one of them needs.

Django renders the classes of all models, and after every operation those anew that hang together
with the changed one. Here a state is never changed: an operation makes a new one, which shares what
it leaves alone. An operation of Django's own on one model sees the classes of that model and of its
neighbours, which is all that the schema editor looks at. Every other operation (RunPython,
operations of other packages) sees the classes of all models.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Any

from django.apps.registry import Apps
from django.contrib.postgres import operations as postgres
from django.db.migrations import Migration, operations
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ModelState, ProjectState, StateApps
from django.db.migrations.utils import resolve_relation

from howdah.django.operations import CreateSchema, MoveToSchema

Key = tuple[str, str]
"""An app's label, and a model's name in lower case."""

# They change one model, and look at no class but its and its neighbours'.
_ON_ONE_MODEL = {
    getattr(operations, name)
    for name in (
        "AddConstraint",
        "AddField",
        "AddIndex",
        "AlterConstraint",
        "AlterField",
        "AlterIndexTogether",
        "AlterModelManagers",
        "AlterModelOptions",
        "AlterModelTable",
        "AlterModelTableComment",
        "AlterOrderWithRespectTo",
        "AlterUniqueTogether",
        "CreateModel",
        "DeleteModel",
        "RemoveConstraint",
        "RemoveField",
        "RemoveIndex",
        "RenameIndex",
    )
    if hasattr(operations, name)  # not all are in each version of Django
} | {
    MoveToSchema,
    postgres.AddConstraintNotValid,
    postgres.AddIndexConcurrently,
    postgres.RemoveIndexConcurrently,
    postgres.ValidateConstraint,
}
# They change what points at the model too.
_RENAMES = {operations.RenameField, operations.RenameModel}
_OF_PARTS = {operations.RunSQL, operations.SeparateDatabaseAndState}
_LEAVES_MODELS = {
    one.state_forwards
    for one in (
        operations.RunPython,
        postgres.CreateExtension,
        postgres.CollationOperation,
        CreateSchema,
    )
}


@dataclass(frozen=True, slots=True)
class _Link:
    """How a model points at another: by a field, by a field's through model, or as its base.

    Attributes:
        name: The field's; empty for a base.
        to: The other model.
        fields: Which fields of the other; None for its primary key.
        is_key: The field is the primary key of its own model, as the link to a base may be.
    """

    name: str
    to: Key
    fields: tuple[str | None, ...]
    is_key: bool


@dataclass(frozen=True, slots=True)
class _Altered:
    """What of a model an operation alters, for those that point at it.

    Attributes:
        key: The model.
        names: Of fields, before and after.
        is_key: The primary key is among them.
    """

    key: Key
    names: frozenset[str | None]
    is_key: bool


class State(ProjectState):
    """A ProjectState that stays as it is.

    Args:
        models: The state of each model.
        real_apps: Labels of the apps without migrations.
        unmigrated: The models of those.
        links: How the models point at each other, where that is known.
    """

    def __init__(
        self,
        models: dict[Key, ModelState],
        real_apps: set[str],
        unmigrated: Mapping[Key, ModelState],
        links: dict[Key, tuple[_Link, ...]] | None = None,
    ) -> None:
        super().__init__(models, real_apps)
        self.unmigrated = unmigrated
        if links is not None:
            self.__dict__["links"] = links
        self._near: _Near | None = None

    @cached_property
    def links(self) -> dict[Key, tuple[_Link, ...]]:
        """How each model points at others."""
        both = chain(self.unmigrated.items(), self.models.items())
        return {key: _links(model) for key, model in both}

    def near(self, keys: set[Key]) -> ProjectState:
        """Return the state with the classes of these models only."""
        if self._near is None or not keys <= self._near.keys:
            self._near = _Near(self, keys)
        return self._near

    def neighbours(self, altered: Iterable[_Altered]) -> set[Key]:
        """Return the models whose classes the schema editor may look at.

        They are the models themselves; those that point at what is altered, whose columns change
        with it, and so on (`_related_non_m2m_objects` in django/db/backends/base/schema.py); and
        what all of these point at, as far as the types of their columns hang on it.
        """
        todo = list(altered)
        whole = {one.key for one in todo}
        seen: set[tuple[Key, _Link]] = set()
        while todo:
            for key, link in self._pointing_at(todo.pop()):
                if (key, link) not in seen:
                    seen.add((key, link))
                    whole.add(key)
                    todo.append(_Altered(key, frozenset([link.name]), is_key=link.is_key))
        ahead = [link for key in whole for link in self.links.get(key, ())]
        found = {(link.to, link.fields) for link in ahead}
        while ahead:
            link = ahead.pop()
            for one in self.links.get(link.to, ()):
                is_asked_for = one.is_key or one.name in link.fields
                if is_asked_for and (one.to, one.fields) not in found:
                    found.add((one.to, one.fields))
                    ahead.append(one)
        return whole | {key for key, _ in found}

    def _pointing_at(self, altered: _Altered) -> Iterator[tuple[Key, _Link]]:
        if altered.is_key or altered.names:
            for key, links in self.links.items():
                for link in links:
                    is_meant = altered.is_key or not altered.names.isdisjoint(link.fields)
                    if is_meant and link.to == altered.key:
                        yield key, link


class _Classes(StateApps):
    """A registry of a few classes.

    Django keeps what it finds for all registries in one cache, and each new class empties it: the
    next foreign key that is copied would look through all models of the project again.
    """

    get_models = StateApps.get_models.__wrapped__
    get_swappable_settings_name = StateApps.get_swappable_settings_name.__wrapped__

    def clear_cache(self) -> None:
        if self.ready:
            for model in self.get_models(include_auto_created=True):
                model._meta._expire_cache()


class _Near(ProjectState):
    """A state with the classes of some models only."""

    def __init__(self, state: State, keys: set[Key]) -> None:
        super().__init__(state.models, state.real_apps)
        self.keys = keys
        self._unmigrated = state.unmigrated

    @cached_property
    def apps(self) -> Apps:
        rendered = _Classes(set(), {})
        known = (self.models.get(key) or self._unmigrated.get(key) for key in sorted(self.keys))
        rendered.render_multiple([model for model in known if model is not None])
        return rendered


def first(real_apps: set[str]) -> State:
    """Return the state before all migrations.

    Args:
        real_apps: Labels of the apps without migrations.
    """
    models = StateApps(real_apps, {}).real_models
    return State({}, real_apps, {(one.app_label, one.name_lower): one for one in models})


def last(loader: MigrationLoader) -> State:
    """Return the state after all migrations."""
    state = first(set(loader.unmigrated_apps))
    for migration in in_order(loader):
        for operation in migration.operations:
            state = after(operation, migration.app_label, state)
    return state


def in_order(loader: MigrationLoader) -> list[Migration]:
    """Return all migrations in the order of their dependencies."""
    graph = loader.graph
    keys = dict.fromkeys(key for leaf in graph.leaf_nodes() for key in graph.forwards_plan(leaf))
    return [graph.nodes[key] for key in keys]


def after(operation: Any, label: str, state: State) -> State:
    """Return the state after an operation of an app's; the one before stays as it is."""
    kind = type(operation)
    if kind.state_forwards in _LEAVES_MODELS:
        return state
    if kind in _OF_PARTS:
        for one in operation.state_operations:
            state = after(one, label, state)
        return state
    if kind in _ON_ONE_MODEL:
        return _with_one_changed(operation, label, state)
    changed = set(state.models)
    if kind in _RENAMES:
        key = _model(operation, label)
        pointing = (one for one, links in state.links.items() if any(to.to == key for to in links))
        changed = {key, *pointing}
    models = {
        key: _cloned(model) if key in changed else model for key, model in state.models.items()
    }
    then = State(models, state.real_apps, state.unmigrated)
    operation.state_forwards(label, then)
    return then


def seen_by(
    operation: Operation, label: str, before: State, then: State
) -> tuple[ProjectState, ProjectState]:
    """Return the states before and after an operation, with the classes that it may look at."""
    if type(operation) not in _ON_ONE_MODEL | _RENAMES:
        return before, then
    altered = _altered(operation, label, before) | _altered(operation, label, then)
    return before.near(before.neighbours(altered)), then.near(then.neighbours(altered))


def _with_one_changed(operation: Operation, label: str, state: State) -> State:
    key = _model(operation, label)
    part = ProjectState({key: state.models[key].clone()} if key in state.models else {})
    operation.state_forwards(label, part)
    models = state.models | part.models
    links = state.links | {key: _links(model) for key, model in part.models.items()}
    if key not in part.models:
        del models[key], links[key]
    return State(models, state.real_apps, state.unmigrated, links)


def _altered(operation: Any, label: str, state: State) -> set[_Altered]:
    """Return what an operation alters, as it is in a state."""
    key = _model(operation, label)
    if isinstance(operation, operations.RenameModel):
        renamed = key, (label, operation.new_name_lower)
        return {_Altered(one, frozenset(), is_key=True) for one in renamed}
    names: set[str] = set()
    if isinstance(operation, operations.RenameField):
        names = {operation.old_name, operation.new_name}
    elif isinstance(operation, operations.AlterField):
        names = {operation.name}
    model = state.models.get(key)
    fields = [model.fields[name] for name in names if name in model.fields] if model else []
    return {_Altered(key, frozenset(names), is_key=any(one.primary_key for one in fields))}


def _model(operation: Any, label: str) -> Key:
    return label, (getattr(operation, "model_name", None) or operation.name).lower()


def _cloned(model: ModelState) -> ModelState:
    """Return a copy with fields of its own: renaming changes fields in place."""
    copy = model.clone()
    copy.fields = {name: field.clone() for name, field in model.fields.items()}
    return copy


def _links(model: ModelState) -> tuple[_Link, ...]:
    """Return how a model points at others."""
    key = model.app_label, model.name_lower
    found = [
        _Link("", resolve_relation(base, *key), (None,), is_key=True)
        for base in model.bases
        if isinstance(base, str)
    ]
    for name, field in model.fields.items():
        if remote := field.remote_field:
            fields = tuple(getattr(field, "to_fields", None) or (None,))
            for to in (remote.model, getattr(remote, "through", None)):
                if to is not None:
                    to_key = resolve_relation(to, *key)
                    found.append(_Link(name, to_key, fields, is_key=field.primary_key))
    return tuple(found)
