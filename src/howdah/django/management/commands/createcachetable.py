"""Django's createcachetable, for a table in a schema: LOCATION = "licensing.cache"."""

from __future__ import annotations

from typing import Any

from django.core.cache.backends.db import BaseDatabaseCache
from django.core.management.commands import createcachetable
from django.db import connections, router
from psycopg import sql

from howdah.django.mapping import is_ours
from howdah.django.names import parse

# The columns and the names that Django's own command gives them.
_TABLE = sql.SQL("""CREATE TABLE {table} (
    "cache_key" varchar(255) NOT NULL PRIMARY KEY,
    "value" text NOT NULL,
    "expires" timestamp with time zone NOT NULL
)""")
_INDEX = sql.SQL('CREATE INDEX {index} ON {table} ("expires")')
_THERE = "SELECT to_regclass(%s) IS NOT NULL"


class Command(createcachetable.Command):
    """Create the tables of the database cache."""

    def create_table(self, database: str, tablename: str, dry_run: bool) -> None:
        """Create one, and first its schema."""
        name = parse(tablename)
        if name.schema is None or not is_ours(database):
            super().create_table(database, tablename, dry_run)
            return
        if not router.allow_migrate_model(
            database, BaseDatabaseCache(tablename, {}).cache_model_class
        ):
            return
        connection = connections[database]
        with connection.cursor() as cursor:
            cursor.execute(_THERE, [name.quoted])
            (there,) = cursor.fetchone()
        if there and self.verbosity > 0:
            self.stdout.write(f"Cache table '{tablename}' already exists.")
        if there:
            return
        table = sql.Identifier(name.schema, name.table)
        index = sql.Identifier(f"{name.table}_expires")
        with connection.schema_editor(collect_sql=dry_run) as editor:
            editor.ensure_schema(name.schema)
            self._run(editor, _TABLE.format(table=table))
            self._run(editor, _INDEX.format(index=index, table=table))
        if dry_run:
            self.stdout.write("\n".join(editor.collected_sql))
        elif self.verbosity > 1:
            self.stdout.write(f"Cache table '{tablename}' created.")

    @staticmethod
    def _run(editor: Any, statement: sql.Composed) -> None:
        editor.execute(statement.as_string(None), None)
