"""Changing tables in schemas: what Django's schema editor leaves to search_path is named here."""

from __future__ import annotations

from typing import Any, Self

from django.db.backends.ddl_references import ForeignKeyName, Statement
from django.db.backends.postgresql import schema
from django.db.backends.utils import names_digest, split_identifier

from howdah.django.mapping import MIGRATING
from howdah.django.names import MAX_BYTES, Name, cut, quote_part
from howdah.django.percents import note_quoted

__all__ = ["DatabaseSchemaEditor", "SchemaEditor"]

_SCHEMA_EXISTS = "SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = %s"
_TABLE_EXISTS = "SELECT to_regclass(%s) IS NOT NULL"
_PARTITIONS = """
    SELECT n.nspname, c.relname
      FROM pg_catalog.pg_class p
     CROSS JOIN LATERAL pg_partition_tree(p.oid) t
      JOIN pg_catalog.pg_class c ON c.oid = t.relid
      JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
     WHERE p.oid = to_regclass(%s) AND t.level > 0 AND c.relnamespace = p.relnamespace
     ORDER BY t.level, c.relname
"""


class _ForeignKeyName(ForeignKeyName):
    """The name that Django would give the constraint if no table had a schema.

    Django cuts the schema off before it keeps the name, and would then miss
    that the table is renamed in the same migration.
    """

    def __str__(self) -> str:
        suffix = self.suffix_template % {
            "to_table": split_identifier(self.to_reference.table)[1],
            "to_column": self.to_reference.columns[0],
        }
        name: str = self.create_fk_name(self.table, self.columns, suffix)
        return name


class SchemaEditor:
    """What both backends' schema editors add to Django's."""

    connection: Any
    collect_sql: bool
    deferred_sql: list[Any]

    sql_create_schema = "CREATE SCHEMA IF NOT EXISTS %(schema)s"
    sql_drop_schema = "DROP SCHEMA %(schema)s"
    sql_move_table = "ALTER TABLE %(table)s SET SCHEMA %(schema)s"
    sql_delete_fk = (
        "SET CONSTRAINTS %(namespace)s%(name)s IMMEDIATE; "
        "ALTER TABLE %(table)s DROP CONSTRAINT %(name)s"
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._existing: set[str] = set()

    def __enter__(self) -> Self:
        self._migrating = MIGRATING.set(self.connection.alias)
        return super().__enter__()  # type: ignore[misc,no-any-return]

    def __exit__(self, *raised: object) -> None:
        try:
            super().__exit__(*raised)  # type: ignore[misc]
        finally:
            MIGRATING.reset(self._migrating)

    def quote_name(self, name: str) -> str:
        """Quote a name, and remember one with a percent sign: indexes and constraints have them."""
        quoted: str = self.connection.ops.quote_name(name)
        if "%" in quoted:
            note_quoted(quoted)
        return quoted

    # Schemas

    def ensure_schema(self, name: str | None) -> None:
        """Create the schema, in the transaction of what needs it, unless it is there."""
        if name is None or name in self._existing:
            return
        # CREATE SCHEMA IF NOT EXISTS needs the right to create even where it exists.
        if not self._is_true(_SCHEMA_EXISTS, name):
            self._run(self.sql_create_schema % {"schema": quote_part(name)})
        self._existing.add(name)

    def drop_schema(self, name: str) -> None:
        """Drop a schema, which must be empty."""
        self._run(self.sql_drop_schema % {"schema": quote_part(name)})
        self._existing.discard(name)

    # Tables

    def create_model(self, model: Any) -> None:
        """Create the table of a model, and first its schema."""
        self.ensure_schema(self._place(model._meta.db_table).schema)
        super().create_model(model)  # type: ignore[misc]

    def alter_db_table(self, model: Any, old_db_table: str, new_db_table: str) -> None:  # noqa: ARG002
        """Rename the table, move it to another schema, or both; what it owns goes with it."""
        if old_db_table == new_db_table:
            return
        self.move_table(self._place(old_db_table), self._place(new_db_table))
        for sql in self.deferred_sql:
            if isinstance(sql, Statement):
                sql.rename_table_references(old_db_table, new_db_table)

    def move_table(self, old: Name, new: Name) -> None:
        """Move a table from one name to another, with what it owns and its partitions beside it."""
        schema = new.schema or (self._current_schema() if old.schema else None)
        if schema is None or schema == old.schema:
            return self._rename(old, new.table)
        self.ensure_schema(schema)
        if old.table != new.table and self._is_true(_TABLE_EXISTS, Name(schema, old.table).quoted):
            self._rename(old, new.table)  # else it would meet its namesake on the way
            old = Name(old.schema, new.table)
        for partition in self._partitions(old):
            self._run(
                self.sql_move_table % {"table": partition.quoted, "schema": quote_part(schema)}
            )
        self._run(self.sql_move_table % {"table": old.quoted, "schema": quote_part(schema)})
        return self._rename(Name(schema, old.table), new.table)

    def _rename(self, old: Name, table: str) -> None:
        if old.table != table:
            self._run(
                self.sql_rename_table  # type: ignore[attr-defined]
                % {"old_table": old.quoted, "new_table": quote_part(table)}
            )

    def add_field(self, model: Any, field: Any) -> None:
        """Add a column; Django names the schema of its foreign key as most aliases have it."""
        name = self._place(model._meta.db_table)
        namespace, _ = split_identifier(model._meta.db_table)
        if name.schema == (namespace or None):
            return super().add_field(model, field)  # type: ignore[misc,no-any-return]
        here = self._namespace(name).replace("%", "%%")
        inline = self.sql_create_column_inline_fk  # type: ignore[has-type]
        try:
            self.sql_create_column_inline_fk = inline.replace("%(namespace)s", here)
            return super().add_field(model, field)  # type: ignore[misc,no-any-return]
        finally:
            self.sql_create_column_inline_fk = inline

    # Indexes and constraints, which live in the schema of their table

    def _delete_index_sql(self, model: Any, name: str, *args: Any, **kwargs: Any) -> Statement:
        statement = super()._delete_index_sql(model, name, *args, **kwargs)  # type: ignore[misc]
        return self._within(statement, model, "name")

    def _rename_index_sql(self, model: Any, old_name: str, new_name: str) -> Statement:
        statement = super()._rename_index_sql(model, old_name, new_name)  # type: ignore[misc]
        return self._within(statement, model, "old_name")

    def _delete_constraint_sql(self, template: str, model: Any, name: str) -> Statement:
        statement = super()._delete_constraint_sql(template, model, name)  # type: ignore[misc]
        if template == self.sql_delete_index:  # type: ignore[attr-defined]
            return self._within(statement, model, "name")
        statement.parts["namespace"] = self._namespace(self._place(model._meta.db_table))
        return statement

    def _fk_constraint_name(self, model: Any, field: Any, suffix: str) -> ForeignKeyName:
        def create_fk_name(*args: Any) -> str:
            return self.quote_name(self._create_index_name(*args))

        return _ForeignKeyName(
            model._meta.db_table,
            [field.column],
            field.target_field.model._meta.db_table,
            [field.target_field.column],
            suffix,
            create_fk_name,
        )

    def _create_index_name(self, table_name: str, column_names: Any, suffix: str = "") -> str:
        """Return Django's name; where it has more bytes than fit, one that keeps the digest."""
        name: str = super()._create_index_name(table_name, column_names, suffix)  # type: ignore[misc]
        if len(name.encode()) <= MAX_BYTES:
            return name
        table = split_identifier(table_name)[1]
        end = cut(names_digest(table, *column_names, length=8) + suffix, MAX_BYTES // 3)
        each = (MAX_BYTES - len(end.encode())) // 2 - 1
        return f"{cut(table, each)}_{cut('_'.join(column_names), each)}_{end}"

    def _within(self, statement: Statement, model: Any, part: str) -> Statement:
        name = statement.parts[part]
        statement.parts[part] = self._namespace(self._place(model._meta.db_table)) + name
        return statement

    def _place(self, db_table: str) -> Name:
        name: Name = self.connection.ops.place(db_table)
        return name

    @staticmethod
    def _namespace(name: Name) -> str:
        return "" if name.schema is None else f"{quote_part(name.schema)}."

    def _current_schema(self) -> str:
        with self.connection.cursor() as cursor:
            cursor.execute("SELECT current_schema()")
            (schema,) = cursor.fetchone()
        return str(schema or "public")

    def _partitions(self, table: Name) -> list[Name]:
        """Return the partitions that are in the schema of their table."""
        with self.connection.cursor() as cursor:
            cursor.execute(_PARTITIONS, [table.quoted])
            return [Name(*row) for row in cursor.fetchall()]

    def _is_true(self, query: str, value: str) -> bool:
        with self.connection.cursor() as cursor:
            cursor.execute(query, [value])
            row = cursor.fetchone()
        return bool(row and row[0])

    def _run(self, sql: str) -> None:
        self.execute(sql, None)  # type: ignore[attr-defined]


class DatabaseSchemaEditor(SchemaEditor, schema.DatabaseSchemaEditor):
    """Django's schema editor, in schemas."""
