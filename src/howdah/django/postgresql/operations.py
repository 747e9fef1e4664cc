"""Quoting, and the SQL that Django writes outside the compiler and the schema editor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db.backends.postgresql import operations

from howdah.django.mapping import cache_tables
from howdah.django.names import Name, parse, quote
from howdah.django.percents import doubled
from howdah.django.placing import KNOWN

__all__ = ["DatabaseOperations", "SchemaOperations"]


class SchemaOperations:
    """What both backends' operations add to Django's."""

    connection: Any
    compiler_module = "howdah.django.postgresql.compiler"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._quoted: dict[str, str] = {}

    def quote_name(self, name: str) -> str:
        """Quote a column, a table with or without its schema, or what is quoted already."""
        if '"' not in name and "." not in name:
            return f'"{name}"'  # nearly always, and as quick as Django's own
        if name in self._quoted:
            return self._quoted[name]
        return self._quote(name)

    def _quote(self, name: str) -> str:
        if '"' in name:
            placed = KNOWN.get(name)
            quoted = self.place(name).quoted if placed else quote(name)
        else:
            # "licensing.product" is the table if there is such a table, else a column with a dot.
            table = parse(name)
            if table.db_table not in KNOWN and name not in cache_tables():
                return quote(name)
            quoted = self.place(table.db_table).quoted
        self._quoted[name] = quoted
        return quoted

    def place(self, written: str) -> Name:
        """Return where a table is in this database: its schema may differ between aliases."""
        placed = KNOWN.get(written)
        if placed is None:
            name = parse(written)
            placed = KNOWN.get(name.db_table)
        return name if placed is None else placed.within(self.connection.alias)

    def compose_sql(self, sql: str, params: Any) -> str:
        """Put the parameters into a query."""
        composed: str = super().compose_sql(doubled(sql), params)  # type: ignore[misc]
        return composed

    def for_update_sql(self, *args: Any, of: Sequence[str] = (), **kwargs: Any) -> str:
        """Lock rows; PostgreSQL wants the tables without their schemas here."""
        bare = tuple(
            Name(None, parse(table).table).quoted if '"' in table else table for table in of
        )
        sql: str = super().for_update_sql(*args, of=bare, **kwargs)  # type: ignore[misc]
        return sql

    def sequence_reset_sql(self, style: Any, model_list: Sequence[Any]) -> list[str]:
        """Return statements that set sequences after their tables' rows."""
        statements: list[str] = super().sequence_reset_sql(style, model_list)  # type: ignore[misc]
        return self._literal(statements, [model._meta.db_table for model in model_list])

    def sequence_reset_by_name_sql(self, style: Any, sequences: Sequence[Any]) -> list[str]:
        """Return statements that set sequences to their start."""
        statements: list[str] = super().sequence_reset_by_name_sql(style, sequences)  # type: ignore[misc]
        return self._literal(statements, [sequence["table"] for sequence in sequences])

    def _literal(self, statements: list[str], tables: Sequence[str]) -> list[str]:
        """Double the apostrophes of names that Django has put between apostrophes."""
        for table in tables:
            if "'" in (quoted := self.quote_name(table)):
                escaped = quoted.replace("'", "''")
                statements = [each.replace(f"'{quoted}'", f"'{escaped}'") for each in statements]
        return statements


class DatabaseOperations(SchemaOperations, operations.DatabaseOperations):
    """Django's operations, in schemas."""
