"""Quoting, and the SQL that Django writes outside the compiler and the schema editor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db.backends.postgresql import operations

from howdah.django.names import Name, parse, quote
from howdah.django.placing import KNOWN

__all__ = ["DatabaseOperations", "SchemaOperations"]


class SchemaOperations:
    """What both backends' operations add to Django's."""

    connection: Any

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
            if table.db_table not in KNOWN:
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

    def for_update_sql(self, *args: Any, of: Sequence[str] = (), **kwargs: Any) -> str:
        """Lock rows; PostgreSQL wants the tables without their schemas here."""
        bare = tuple(Name(None, parse(table).table).quoted if '"' in table else table for table in of)
        sql: str = super().for_update_sql(*args, of=bare, **kwargs)  # type: ignore[misc]
        return sql


class DatabaseOperations(SchemaOperations, operations.DatabaseOperations):
    """Django's operations, in schemas."""
