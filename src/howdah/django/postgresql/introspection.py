"""Reading the catalog: Django's own queries, asked of a schema instead of search_path."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from django.db.backends.postgresql import introspection
from psycopg import sql

from howdah.django.mapping import places
from howdah.django.names import Name, parse
from howdah.django.placing import KNOWN

__all__ = ["DatabaseIntrospection", "SchemaIntrospection"]

_VISIBLE = re.compile(r"pg_catalog\.pg_table_is_visible\((\w+)\.oid\)")

_TABLES = """
    SELECT n.nspname,
           c.relname,
           CASE
               WHEN c.relispartition THEN 'p'
               WHEN c.relkind IN ('m', 'v') THEN 'v'
               ELSE 't'
           END,
           obj_description(c.oid, 'pg_class'),
           pg_catalog.pg_table_is_visible(c.oid)
      FROM pg_catalog.pg_class c
      JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
     WHERE c.relkind IN ('f', 'm', 'p', 'r', 'v')
       AND n.nspname NOT IN ('pg_catalog', 'pg_toast')
       AND (pg_catalog.pg_table_is_visible(c.oid) OR n.nspname = ANY(%s))
"""

_RELATIONS = """
    SELECT a1.attname, n2.nspname, c2.relname, a2.attname,
           pg_catalog.pg_table_is_visible(c2.oid), con.confdeltype
      FROM pg_catalog.pg_constraint con
      JOIN pg_catalog.pg_class c1 ON con.conrelid = c1.oid
      JOIN pg_catalog.pg_namespace n1 ON n1.oid = c1.relnamespace
      JOIN pg_catalog.pg_class c2 ON con.confrelid = c2.oid
      JOIN pg_catalog.pg_namespace n2 ON n2.oid = c2.relnamespace
      JOIN pg_catalog.pg_attribute a1 ON c1.oid = a1.attrelid AND a1.attnum = con.conkey[1]
      JOIN pg_catalog.pg_attribute a2 ON c2.oid = a2.attrelid AND a2.attnum = con.confkey[1]
     WHERE con.contype = 'f' AND n1.nspname = %s AND c1.relname = %s
"""


_FOREIGN_KEYS = """
    SELECT con.conname, n2.nspname, c2.relname, a2.attname,
           pg_catalog.pg_table_is_visible(c2.oid)
      FROM pg_catalog.pg_constraint con
      JOIN pg_catalog.pg_class c2 ON con.confrelid = c2.oid
      JOIN pg_catalog.pg_namespace n2 ON n2.oid = c2.relnamespace
      JOIN pg_catalog.pg_attribute a2 ON c2.oid = a2.attrelid AND a2.attnum = con.confkey[1]
     WHERE con.contype = 'f' AND con.conrelid = %s::regclass
"""


class _Asked:
    """A cursor through which Django's catalog queries see one table of one schema.

    They ask for a name that search_path makes visible; here they ask for the
    name in a schema. Should a Django version ask otherwise, it fails loudly.
    """

    def __init__(self, cursor: Any, written: str, name: Name, schema: str | None) -> None:
        self._cursor = cursor
        self._written = written
        self._table = name.table
        self._schema = schema

    def __getattr__(self, attribute: str) -> Any:
        return getattr(self._cursor, attribute)

    def execute(self, query: str, params: Any = None) -> Any:
        if params is None:  # SELECT * FROM the table, quoted with its schema
            return self._cursor.execute(query)
        if self._schema is not None:
            query, count = _VISIBLE.subn(
                rf"\1.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = {self._schema})",  # noqa: S608 - a literal
                query,
            )
            if not count:
                raise NotImplementedError(f"This Django asks the catalog in a new way: {query}")
        params = [self._table if value == self._written else value for value in params]
        return self._cursor.execute(query, params)


class SchemaIntrospection:
    """What both backends' introspection adds to Django's."""

    connection: Any
    ignored_tables: list[str]

    def get_table_list(self, cursor: Any) -> list[Any]:
        """Return visible tables by their names, and those in our schemas as models name them."""
        known = self._known()
        schemas = {schema for schema, _ in known if schema is not None} | places().named()
        if not known and not schemas:
            tables = super().get_table_list(cursor)  # type: ignore[misc]
            return [each._replace(name=Name(None, each.name).db_table) for each in tables]
        cursor.execute(_TABLES, [sorted(schemas)])
        return [
            introspection.TableInfo(self._spelled(known, schema, table, visible), kind, comment)
            for schema, table, kind, comment, visible in cursor.fetchall()
            if table not in self.ignored_tables
        ]

    def get_table_description(self, cursor: Any, table_name: str) -> list[Any]:
        """Return a description of the table's columns."""
        asked = self._asked(cursor, table_name)
        return super().get_table_description(*asked)  # type: ignore[misc,no-any-return]

    def get_sequences(self, cursor: Any, table_name: str, table_fields: Any = ()) -> list[Any]:
        """Return the table's sequences, each named with the schema where the table is."""
        schema = self.connection.ops.place(table_name).schema
        asked = self._asked(cursor, table_name)
        found: list[Any] = super().get_sequences(*asked, table_fields)  # type: ignore[misc]
        if schema is None:
            return found
        return [each | {"name": Name(schema, each["name"]).db_table} for each in found]

    def get_relations(self, cursor: Any, table_name: str) -> dict[str, tuple[Any, ...]]:
        """Return the foreign keys of the table, into other schemas too.

        Since Django 6.1 each also tells what the database does on delete.
        """
        name = self.connection.ops.place(table_name)
        if name.schema is None:
            asked = self._asked(cursor, table_name)
            return super().get_relations(*asked)  # type: ignore[misc,no-any-return]
        known = self._known()
        on_delete = getattr(self, "on_delete_types", None)
        cursor.execute(_RELATIONS, [name.schema, name.table])
        return {
            column: (
                to_column,
                # As the caller spells it, who compares the two to find a relation to itself.
                table_name
                if (schema, table) == (name.schema, name.table)
                else self._spelled(known, schema, table, visible),
                *(() if on_delete is None else (on_delete.get(deleting),)),
            )
            for column, schema, table, to_column, visible, deleting in cursor.fetchall()
        }

    def get_constraints(self, cursor: Any, table_name: str) -> dict[str, Any]:
        """Return the constraints and indexes of the table."""
        asked, name = self._asked(cursor, table_name)
        found: dict[str, Any] = super().get_constraints(asked, name)  # type: ignore[misc]
        known = self._known()
        if known and any(each["foreign_key"] for each in found.values()):
            # Django tells the name of the table that a foreign key leads to without its schema.
            cursor.execute(_FOREIGN_KEYS, [self.connection.ops.place(table_name).quoted])
            for constraint, schema, table, column, visible in cursor.fetchall():
                to_table = self._spelled(known, schema, table, visible)
                found[constraint]["foreign_key"] = (to_table, column)
        return found

    def _asked(self, cursor: Any, table_name: str) -> tuple[Any, str]:
        """Return the cursor and the name to ask with: those given, where no schema is named."""
        written = table_name if table_name in KNOWN else parse(table_name).db_table
        name = self.connection.ops.place(written)
        if name == Name(None, table_name):
            return cursor, table_name
        if name.schema is None:
            return _Asked(cursor, written, name, None), written
        literal = sql.quote(name.schema, self.connection.connection)
        # It goes through re.sub() and into a query with parameters.
        literal = literal.replace("\\", r"\\").replace("%", "%%")
        return _Asked(cursor, written, name, literal), written

    def _known(self) -> dict[tuple[str | None, str], str]:
        """Return what models call the tables that have a schema, by where they are here.

        A table with a schema in another alias may be without one here.
        """
        alias = self.connection.alias
        here = ((placed.within(alias), db_table) for db_table, placed in KNOWN.items())
        return {(name.schema, name.table): db_table for name, db_table in here}

    @staticmethod
    def _spelled(
        known: Mapping[tuple[str | None, str], str], schema: str, table: str, visible: bool
    ) -> str:
        if (schema, table) in known:
            return known[schema, table]
        if visible:
            return known.get((None, table), Name(None, table).db_table)
        return Name(schema, table).db_table


class DatabaseIntrospection(SchemaIntrospection, introspection.DatabaseIntrospection):
    """Django's introspection, in schemas."""
