"""Put models into their schemas: each class that Django prepares gets its `db_table` from here.

Django tells when a class is ready (`class_prepared`), also for the historical
models of migrations and for third-party apps; `Meta` as written stays in
`_meta.original_attrs`, which is what makemigrations reads. A model whose app
has no schema, and whose `db_table` names none, is left as it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from django.apps import apps
from django.db.backends.utils import names_digest, truncate_name
from django.db.migrations.recorder import MigrationRecorder
from django.db.models.signals import class_prepared

from howdah.django.mapping import places
from howdah.django.names import MAX_BYTES, Name, cut, parse
from howdah.django.percents import note

__all__ = ["KNOWN", "Placed", "install", "place", "written"]


@dataclass(frozen=True, slots=True)
class Placed:
    """Where a model's table is.

    Attributes:
        name: With the schema in which most aliases have it.
        app_label: Whose mapping decides.
        fixed: The model names its schema itself, so no mapping moves it.
    """

    name: Name
    app_label: str
    fixed: bool

    def within(self, alias: str) -> Name:
        """The name in the database of an alias."""
        if self.fixed:
            return self.name
        return Name(places().schema(self.app_label, alias), self.name.table)


# Every table with a schema that a model has, by its `db_table`.
KNOWN: dict[str, Placed] = {}


@cache
def install() -> None:
    """Place the models that there are and those to come; the second call does nothing."""
    class_prepared.connect(_on_prepared, dispatch_uid=__name__)
    for models in list(apps.all_models.values()):
        for model in list(models.values()):
            place(model)
    if MigrationRecorder._migration_class is not None:
        place(MigrationRecorder._migration_class)


def place(model: Any) -> None:
    """Give a model's `_meta` the table that its `Meta` and the settings say."""
    options = model._meta
    if options.proxy or options.abstract:
        return  # a proxy has copied the table of a model that is placed
    placed = _placed(options)
    note(placed.name)
    too_long = len(options.db_table.encode()) > MAX_BYTES
    if placed.name.schema is not None or "." in placed.name.table or too_long:
        options.db_table = placed.name.db_table
        if placed.name.schema is not None:
            KNOWN.setdefault(options.db_table, placed)


def written(options: Any) -> str | None:
    """The `db_table` that stands in the model's Meta; None where there is none."""
    found: str | None = options.original_attrs.get("db_table")
    return found


def _on_prepared(sender: Any, **_kwargs: Any) -> None:
    place(sender)


def _placed(options: Any) -> Placed:
    if (known := KNOWN.get(options.db_table)) is not None and known.app_label == options.app_label:
        return known
    if options.auto_created:
        return _placed_between(options)
    name = parse(options.db_table)
    if written(options) is None:
        # Django counts characters; longer names the database has cut off, and finds so.
        name = Name(None, cut(options.db_table))
    return _mapped(name, options.app_label)


def _mapped(name: Name, app_label: str) -> Placed:
    if name.schema is not None:
        return Placed(name, app_label, fixed=True)
    return Placed(Name(places().usual_schema(app_label), name.table), app_label, fixed=False)


def _placed_between(options: Any) -> Placed:
    """Place an automatic many-to-many table: in its model's schema, with Django's own name."""
    owner = _placed(options.auto_created._meta)
    name = parse(options.db_table)
    field = _field_of(options)
    if field is not None and field.db_table:
        name = parse(field.db_table)
        if name.schema is not None:
            return Placed(name, owner.app_label, fixed=True)
    elif field is not None:
        name = Name(None, _between(owner.name.table, field.name))
    return Placed(Name(owner.name.schema, name.table), owner.app_label, owner.fixed)


def _between(table: str, field: str) -> str:
    """Django's own name for the table of a many-to-many field, as the database has it."""
    name: str = truncate_name(f"{table}_{field}", MAX_BYTES)
    kept = cut(name)
    if kept == name or len(kept) > len(f"{table}_"):
        return kept
    # Nothing is left of the field's name: shortened as Django would, but by bytes.
    digest: str = names_digest(name, length=4)
    return cut(table, MAX_BYTES - len(digest)) + digest


def _field_of(options: Any) -> Any:
    """The many-to-many field that an automatic model is made for."""
    owner = options.auto_created
    for field in owner._meta.local_many_to_many:
        if options.object_name == f"{owner._meta.object_name}_{field.name}":
            return field
    return None
