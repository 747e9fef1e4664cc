"""Load fixtures as `loaddata` does, many rows at a time.

The command is Django's own; only how an object is saved differs: objects of
one model that follow each other are inserted together. Where that could be
told apart (a row is there already, somebody listens to the model's signals),
they are saved one by one, as Django does.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

from django.core import serializers
from django.core.management.base import CommandError
from django.core.management.commands import loaddata
from django.core.serializers.base import DeserializationError, DeserializedObject
from django.db import DatabaseError, IntegrityError, connections, router, transaction
from django.db.models import sql
from django.db.models.signals import m2m_changed, post_save, pre_save

from howdah.errors import HowdahError

_BATCH = 500


def fixture_files(alias: str, labels: Iterable[str]) -> list[str]:
    """Return the files that `loaddata` would read for the labels.

    Raises:
        HowdahError: A label has no file.
    """
    chosen = tuple(labels)
    if not chosen:
        return []  # reading what serializers there are takes longer than the rest of it
    command = _command(alias)
    try:
        return [path for label in chosen for path, _, _ in command.find_fixtures(label)]
    except CommandError as exc:
        raise HowdahError(
            str(exc),
            next_step='Look at FIXTURE_DIRS, and at "fixtures" in HOWDAH["REBUILD"].',
        ) from exc


def load(alias: str, labels: Iterable[str]) -> int:
    """Load fixtures into an alias, in one transaction; return the number of objects.

    Raises:
        HowdahError: A fixture cannot be read, or the database refuses a row.
    """
    chosen = tuple(labels)
    if not chosen:
        return 0
    command = _command(alias)
    try:
        with (
            transaction.atomic(using=alias),
            connections[alias].execute_wrapper(command.before_query),
        ):
            command.loaddata(chosen)
    except (CommandError, DeserializationError, DatabaseError, ValueError) as exc:
        raise HowdahError(
            f"The fixtures {', '.join(chosen)} do not load into {alias!r}: {exc}".rstrip(),
            next_step="Mend the fixture and run the same command again.",
        ) from exc
    return int(command.loaded_object_count)


def _command(alias: str) -> _Loader:
    command = _Loader()
    command.using, command.verbosity, command.ignore = alias, 0, False
    command.app_label = command.format = None
    command.serialization_formats = serializers.get_public_serializer_formats()
    command.excluded_models, command.excluded_apps = set(), set()
    return command


class _Loader(loaddata.Command):
    """Django's loaddata with rows saved in batches."""

    def __init__(self) -> None:
        super().__init__()
        self._waiting: list[DeserializedObject] = []
        self._saving = False

    def save_obj(self, obj: DeserializedObject) -> bool:
        model = type(obj.object)
        if not router.allow_migrate_model(self.using, model):
            return False
        self.models.add(model)
        if obj.deferred_fields:
            self.objs_with_deferred_fields.append(obj)
        if self._waiting and (
            type(self._waiting[0].object) is not model or len(self._waiting) >= _BATCH
        ):
            self._save_waiting()
        self._waiting.append(obj)
        return True

    def load_label(self, fixture_label: str) -> None:
        super().load_label(fixture_label)
        self._save_waiting()

    def before_query(self, execute: Callable[..., Any], *args: Any) -> Any:
        """Save what waits before a query looks for it, as natural keys do."""
        if not self._saving:
            self._save_waiting()
        return execute(*args)

    def _save_waiting(self) -> None:
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        self._saving = True
        try:
            _save(waiting, self.using)
        finally:
            self._saving = False


def _save(objects: list[DeserializedObject], alias: str) -> None:
    model = type(objects[0].object)
    if len(objects) > 1 and not _is_watched(model):
        try:
            with transaction.atomic(using=alias):
                _insert_together(model, objects, alias)
        except IntegrityError:
            pass  # a row is there already, and Django's way updates it
        else:
            return
    for each in objects:
        try:
            each.save(using=alias)
        except (DatabaseError, ValueError) as exc:
            exc.args = (f"{model._meta.label}(pk={each.object.pk}): {exc}",)
            raise


def _is_watched(model: Any) -> bool:
    signals = (pre_save, post_save)
    throughs = [field.remote_field.through for field in model._meta.local_many_to_many]
    return any(one.has_listeners(model) for one in signals) or any(
        m2m_changed.has_listeners(through) or not through._meta.auto_created for through in throughs
    )


def _insert_together(model: Any, objects: list[DeserializedObject], alias: str) -> None:
    fields = [field for field in model._meta.local_concrete_fields if not _is_generated(field)]
    with_key = [one for one in objects if one.object.pk is not None]
    if len(with_key) < len(objects):
        raise IntegrityError("some have no key yet")
    _insert(model, fields, [one.object for one in objects], alias)
    rows: dict[Any, list[Any]] = defaultdict(list)
    for one in objects:
        for name, values in (one.m2m_data or {}).items():
            field = model._meta.get_field(name)
            through = field.remote_field.through
            ours, theirs = field.m2m_column_name(), field.m2m_reverse_name()
            columns = {column.column: column.attname for column in through._meta.fields}
            rows[through] += [
                through(
                    **{columns[ours]: one.object.pk, columns[theirs]: getattr(value, "pk", value)}
                )
                for value in values
            ]
    for through, links in rows.items():
        if links:
            key = through._meta.pk
            _insert(
                through,
                [f for f in through._meta.local_concrete_fields if f is not key],
                links,
                alias,
            )


def _insert(model: Any, fields: list[Any], rows: list[Any], alias: str) -> None:
    query = sql.InsertQuery(model)
    query.insert_values(fields, rows, raw=True)
    query.get_compiler(using=alias).execute_sql()


def _is_generated(field: Any) -> bool:
    return bool(getattr(field, "generated", False))
