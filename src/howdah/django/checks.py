"""System checks: each says what is wrong and the line to write.

`manage.py check` looks at models and settings, `manage.py check --database
ALIAS` at the database too.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core import checks
from django.db import router

from howdah.django.mapping import is_ours, places
from howdah.django.names import MAX_BYTES, Name, cut, parse, quote_part
from howdah.django.placing import written
from howdah.django.tables import Table, tables

__all__ = ["check_database", "check_models"]

_SCHEMAS = """
    SELECT wanted,
           n.oid IS NOT NULL,
           CASE WHEN n.oid IS NULL THEN has_database_privilege(current_database(), 'CREATE')
                ELSE has_schema_privilege(n.oid, 'CREATE') AND has_schema_privilege(n.oid, 'USAGE')
           END
      FROM unnest(%s::text[]) AS wanted
      LEFT JOIN pg_catalog.pg_namespace n ON n.nspname = wanted
     ORDER BY wanted
"""
_SESSION = "SELECT current_user, current_database(), current_setting('search_path')"
_EXTENSIONS = "SELECT extname FROM pg_catalog.pg_extension"
_BY_TYPE = {
    "geometry": "postgis",
    "geography": "postgis",
    "raster": "postgis_raster",
    "hstore": "hstore",
    "citext": "citext",
}
_BY_OPCLASS = {"gin_trgm_ops": "pg_trgm", "gist_trgm_ops": "pg_trgm"}


def check_models(**_kwargs: Any) -> list[checks.CheckMessage]:
    """Check what models and settings say of schemas."""
    models = [m for m in apps.get_models() if not m._meta.proxy]
    with_through = [m for m in apps.get_models(include_auto_created=True) if not m._meta.proxy]
    return [
        *(message for model in models for message in _spelling(model)),
        *(message for model in with_through for message in _length(model)),
        *_elsewhere(models),
        *_order(),
    ]


def check_database(connection: Any) -> list[checks.CheckMessage]:
    """Check whether the database of an alias has what the models need.

    migrate runs it too, so what a migration may mend is a warning, not an error.
    """
    found = tables(connection.alias)
    with connection.cursor() as cursor:
        cursor.execute(_SESSION)
        role, database, search_path = cursor.fetchone()
        wanted = sorted({t.name.schema for t in found if t.name.schema is not None})
        cursor.execute(_SCHEMAS, [wanted])
        schemas = cursor.fetchall()
        cursor.execute(_EXTENSIONS)
        extensions = {name for (name,) in cursor.fetchall()}
    return [
        *_missing_schemas(schemas, role, database),
        *(m for table in found if (m := _misplaced(table, search_path)) is not None),
        *_missing_extensions(connection, extensions),
    ]


def _spelling(model: Any) -> Iterator[checks.CheckMessage]:
    said = written(model._meta)
    tricks = [(said, "db_table")] if said else []
    tricks += [
        (field.db_table, f"{field.name} = ManyToManyField(db_table)")
        for field in model._meta.local_many_to_many
        if field.db_table
    ]
    for text, where in tricks:
        name = parse(text)
        if name.schema is not None and '"."' in text and parse(str(name)) == name:
            yield checks.Warning(
                f"{where} is written {text!r}, which works with Howdah's ENGINE as well.",
                hint=f'Write db_table = "{name}"; the table stays as it is.',
                obj=model,
                id="howdah.W001",
            )


def _length(model: Any) -> Iterator[checks.CheckMessage]:
    name = parse(model._meta.db_table)
    for kind, part in (("schema", name.schema or ""), ("table", name.table)):
        if len(part.encode()) > MAX_BYTES:
            yield checks.Error(
                f"The name of the {kind} {part!r} has {len(part.encode())} bytes; PostgreSQL cuts "
                f"it off after {MAX_BYTES}.",
                hint=f"Write the name that the database has: {cut(part)!r}.",
                obj=model,
                id="howdah.E002",
            )


def _elsewhere(models: list[Any]) -> Iterator[checks.CheckMessage]:
    """Say which apps with a schema also go to a database that our ENGINE does not serve."""
    if not places().any:
        return
    for alias in (a for a in settings.DATABASES if not is_ours(a)):
        labels = {
            m._meta.app_label
            for m in models
            if parse(m._meta.db_table).schema is not None and router.allow_migrate_model(alias, m)
        }
        if labels:
            yield checks.Warning(
                f"The alias {alias!r} has not Howdah's ENGINE, so the tables of "
                f"{', '.join(sorted(labels))} cannot be in their schemas there.",
                hint='Name their alias in HOWDAH["DATABASES"], with DATABASE_ROUTERS = '
                '["howdah.django.Router"], or give this alias ENGINE = "howdah.django.postgresql".',
                id="howdah.W003",
            )


def _order() -> Iterator[checks.CheckMessage]:
    """Say where another app's command takes the place of ours: the first app's is run."""
    labels = [config.label for config in apps.get_app_configs()]
    if "gis" in labels[: labels.index("howdah") if "howdah" in labels else 0]:
        yield checks.Warning(
            "django.contrib.gis comes before howdah.django, so manage.py inspectdb is GeoDjango's "
            "and has no --schema.",
            hint='Write "howdah.django" before "django.contrib.gis" in INSTALLED_APPS.',
            id="howdah.W004",
        )


def _missing_schemas(rows: Any, role: str, database: str) -> Iterator[checks.CheckMessage]:
    to_role = quote_part(role)
    for schema, exists, may in rows:
        quoted = quote_part(schema)
        if exists and not may:
            yield checks.Warning(
                f"The role {role!r} may not create tables in the schema {schema!r}.",
                hint=f"As its owner: GRANT USAGE, CREATE ON SCHEMA {quoted} TO {to_role};",
                id="howdah.W011",
            )
        elif not exists and may:
            yield checks.Info(
                f"The schema {schema!r} is not there yet; migrate creates it.",
                hint=f"CREATE SCHEMA {quoted};",
                id="howdah.I010",
            )
        elif not exists:
            yield checks.Error(
                f"The schema {schema!r} is not there, and the role {role!r} may not create it.",
                hint=f"As an administrator: CREATE SCHEMA {quoted} AUTHORIZATION {to_role}; "
                f"or: GRANT CREATE ON DATABASE {quote_part(database)} TO {to_role};",
                id="howdah.E010",
            )


def _misplaced(table: Table, search_path: str) -> checks.CheckMessage | None:
    if table.there or not table.found:
        return None
    where = ", ".join(table.found)
    if table.name.schema is not None:
        return checks.Warning(
            f"The table of {table.model} is to be {table.name} and is in {where}.",
            hint=f"manage.py moveschemas --database={table.alias} --plan",
            id="howdah.W012",
        )
    return checks.Warning(
        f"The table {table.name} of {table.model} is in {where}, which search_path "
        f"({search_path}) hides.",
        hint=f'HOWDAH = {{"SCHEMAS": {{"{table.app_label}": "{table.found[0]}"}}}}',
        id="howdah.W013",
    )


def _missing_extensions(connection: Any, there: set[str]) -> Iterator[checks.CheckMessage]:
    needed: dict[str, str] = {}
    for model in apps.get_models():
        if model._meta.proxy or not router.allow_migrate_model(connection.alias, model):
            continue
        for field in model._meta.local_fields:
            kind = (field.db_type(connection) or "").lower().split("(")[0].rstrip("[]")
            if kind in _BY_TYPE:
                needed.setdefault(_BY_TYPE[kind], f"{model._meta.label}.{field.name}")
        for index in model._meta.indexes:
            for opclass in index.opclasses:
                if opclass in _BY_OPCLASS:
                    needed.setdefault(_BY_OPCLASS[opclass], f"{model._meta.label}, {index.name}")
    for extension, user in needed.items():
        if extension not in there:
            yield checks.Warning(
                f"{user} needs the extension {extension!r}, which the database has not.",
                hint=f"CREATE EXTENSION {Name(None, extension).quoted};",
                id="howdah.W014",
            )
