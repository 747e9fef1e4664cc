"""Django's and GeoDjango's inspectdb, with --schema."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from django.contrib.gis.management.commands import inspectdb as spatial
from django.core.management.base import CommandError, CommandParser
from django.core.management.commands import inspectdb
from django.db import connections

from howdah.django.names import Name, parse

_TABLES = """
    SELECT c.relname
      FROM pg_catalog.pg_class c
      JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
     WHERE n.nspname = %s
       AND (c.relkind IN ('r', 'p', 'f') AND (%s OR NOT c.relispartition)
            OR %s AND c.relkind IN ('v', 'm'))
     ORDER BY c.relname
"""


class Command(spatial.Command):
    """Introspect the tables of a schema."""

    def add_arguments(self, parser: CommandParser) -> None:
        """Add --schema to Django's arguments."""
        super().add_arguments(parser)
        parser.add_argument("--schema", help="Introspect the tables of this schema.")

    def handle_inspection(self, options: dict[str, Any]) -> Iterator[str]:
        """Yield the lines of the models; each has its schema in db_table."""
        connection = connections[options["database"]]
        if not hasattr(connection.ops, "spatial_version"):
            self.db_module = inspectdb.Command.db_module
        if (schema := options.get("schema")) is not None:
            options = options | {"table": self._in_schema(schema, options)}
        elif options["table"]:
            there = connection.introspection.table_names(include_views=True)
            options = options | {"table": [_found(table, there) for table in options["table"]]}
        if (wanted := options.get("table_name_filter")) is not None:
            options = options | {"table_name_filter": lambda name: wanted(parse(name).table)}
        for line in super().handle_inspection(options):
            yield _plainly(line)

    def normalize_table_name(self, table_name: str) -> str:
        """Name the model by the table: two of one name are told apart by hand."""
        return super().normalize_table_name(parse(table_name).table)  # type: ignore[no-any-return]

    @staticmethod
    def _in_schema(schema: str, options: dict[str, Any]) -> list[str]:
        if options["table"]:
            return [Name(schema, table).db_table for table in options["table"]]
        with connections[options["database"]].cursor() as cursor:
            cursor.execute(
                _TABLES, [schema, options["include_partitions"], options["include_views"]]
            )
            tables = [Name(schema, table).db_table for (table,) in cursor.fetchall()]
        if not tables:
            raise CommandError(f"The schema {schema!r} has no tables, or does not exist.")
        return tables


def _found(table: str, there: Sequence[str]) -> str:
    """Return the table that a name without a schema means, where search_path has none of it."""
    asked = parse(table)
    if asked.schema is not None or asked.db_table in there:
        return table
    found = [name for name in there if parse(name).table == asked.table]
    if len(found) > 1:
        schemas = ", ".join(sorted(str(parse(name).schema) for name in found))
        raise CommandError(f"{table!r} is in each of {schemas}; say which with --schema.")
    return found[0] if found else table


def _plainly(line: str) -> str:
    """Write db_table = "licensing.product" where that means the same."""
    head, equals, value = line.partition("db_table = ")
    if not equals or head.strip():
        return line
    name = parse(value.strip().strip("'"))
    plain = f"{name.schema}.{name.table}"
    return f'{head}{equals}"{plain}"' if name.schema and parse(plain) == name else line
