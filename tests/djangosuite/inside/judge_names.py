"""Lets helpers of Django's tests find the tables that they name as Django's own ENGINE has them.

`assertTableExists("migrations_author")` means the table of the model Author,
and under a schema for every app that is `"migrations"."migrations_author"`.
Only names that go into such a helper are translated, by looking where the
table is; what the backend does, and what a test compares, is left alone.
"""

import functools
import inspect
import sys
from unittest import mock

from django.db import DEFAULT_DB_ALIAS, connections

_HELPERS = {
    "migrations.test_base": "MigrationTestBase",
    "postgres_tests.test_array": "TestMigrations",
    "gis_tests.gis_migrations.test_commands": "MigrateTests",
    "schema.tests": "SchemaTests",
}
_TABLES = ("table", "table_name", "expected_fk_table")
_COLUMNS = ("to", "fk_to")  # (table, column)
_WHERE = """
    SELECT n.nspname
      FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
     WHERE c.relname = %s AND c.relkind IN ('r', 'p', 'v', 'm') AND n.nspname !~ '^pg_'
"""


def install():
    """Translate names in the helpers of those tests that are loaded."""
    for module, name in _HELPERS.items():
        if module in sys.modules:
            cls = getattr(sys.modules[module], name)
            for attribute, function in list(vars(cls).items()):
                if inspect.isfunction(function) and not attribute.startswith("test_"):
                    setattr(cls, attribute, _translating(function))
    if module := sys.modules.get("gis_tests.inspectapp.tests"):
        module.get_ogr_db_string = _with_stock_engine(module.get_ogr_db_string, module)


def spelled(table, using=DEFAULT_DB_ALIAS):
    """Return the name of a table as its model has it, where one schema has such a table."""
    with connections[using].cursor() as cursor:
        cursor.execute(_WHERE, [table])
        schemas = [schema for (schema,) in cursor.fetchall()]
    if len(schemas) != 1 or schemas == ["public"]:
        return table
    return f'"{schemas[0]}"."{table}"'


def _translating(function):
    signature = inspect.signature(function)
    if not {*_TABLES, *_COLUMNS} & signature.parameters.keys():
        return function

    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        bound = signature.bind(*args, **kwargs)
        using = bound.arguments.get("using", DEFAULT_DB_ALIAS)
        for name, value in bound.arguments.items():
            if name in _TABLES:
                bound.arguments[name] = spelled(value, using)
            elif name in _COLUMNS and value:
                bound.arguments[name] = (spelled(value[0], using), *value[1:])
        return function(*bound.args, **bound.kwargs)

    return wrapper


def _with_stock_engine(function, module):
    """GDAL's name for a database is looked up by the ENGINE, of which it knows Django's alone."""

    def wrapper():
        database = module.connections.settings["default"]
        with mock.patch.dict(database, ENGINE="django.contrib.gis.db.backends.postgis"):
            return function()

    return wrapper
