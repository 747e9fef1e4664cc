"""Rows that meet rows with the same key: staged in a temporary table, then merged by one statement.

Of the rows of one statement that have the same key, the last one counts.

Source: https://www.postgresql.org/docs/current/sql-insert.html ("ON CONFLICT Clause").
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from psycopg import Connection, sql

from howdah.loading.columns import Column, Columns
from howdah.loading.target import Target

__all__ = ["Stage"]

_ORDER = "howdah order"

# No column is NOT NULL here: what is missing may have a default in the table itself.
_CREATE = """
    CREATE TEMPORARY TABLE IF NOT EXISTS {stage} ON COMMIT DELETE ROWS AS
    SELECT {columns} FROM {table} WITH NO DATA
"""
_NUMBER = "ALTER TABLE {stage} ADD COLUMN {order} bigint GENERATED ALWAYS AS IDENTITY"
_EXISTS = "SELECT to_regclass({name}) IS NOT NULL"

_INSERT = """
    INSERT INTO {table} AS known ({columns}) OVERRIDING SYSTEM VALUE
    {rows}
    ON CONFLICT {key} DO {action}
"""
_ALL_ROWS = "SELECT {columns} FROM {stage} ORDER BY {order}"
_LAST_ROWS = "SELECT DISTINCT ON ({key}) {columns} FROM {stage} ORDER BY {key}, {order} DESC"
_SET = "UPDATE SET {changes} WHERE ({old}) IS DISTINCT FROM ({new})"

_UPDATE = """
    UPDATE {table} AS known
       SET {changes}
      FROM ({rows}) AS excluded
     WHERE {same_key} AND ({old}) IS DISTINCT FROM ({new})
"""


@dataclass(frozen=True, slots=True)
class Stage:
    """A temporary table of this session for rows on their way to a target.

    Attributes:
        conn: A connection in a transaction.
        target: The table that they are merged into.
        into: Says by which key, and what becomes of rows that meet.
        columns: The target's columns by name.
    """

    conn: Connection[Any]
    target: Target
    into: Columns
    columns: Mapping[str, Column]

    @property
    def name(self) -> sql.Identifier:
        """The stage's name; the stage is made where it is missing."""
        stage = sql.Identifier(self._table)
        row = self.conn.execute(sql.SQL(_EXISTS).format(name=f'pg_temp."{self._table}"')).fetchone()
        if row is None or not row[0]:
            names = {"stage": stage, "table": self.target.identifier}
            columns = _listed(self.columns)
            self.conn.execute(sql.SQL(_CREATE).format(**names, columns=columns))
            self.conn.execute(sql.SQL(_NUMBER).format(**names, order=sql.Identifier(_ORDER)))
        return stage

    @property
    def _table(self) -> str:
        return f"howdah stage {self.target.oid}"

    def drop(self) -> None:
        """Drop the stage: the target's columns are about to change."""
        self.conn.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(sql.Identifier(self._table)))

    def merge(self, columns: Sequence[str]) -> int:
        """Merge the staged rows, empty the stage, and return how many rows were written."""
        key = self.into.key
        stage = sql.Identifier(self._table)
        rows = sql.SQL(_LAST_ROWS if key else _ALL_ROWS).format(
            key=_listed(key), columns=_listed(columns), stage=stage, order=sql.Identifier(_ORDER)
        )
        others = [name for name in columns if name not in key]
        if self.into.updates_only:
            query = self._update(rows, others)
        else:
            query = self._insert(rows, columns, others)
        written = self.conn.execute(query).rowcount if query is not None else 0
        self.conn.execute(sql.SQL("DELETE FROM {}").format(stage))
        return written

    def _insert(
        self, rows: sql.Composed, columns: Sequence[str], others: Sequence[str]
    ) -> sql.Composed:
        key = self.into.key
        action: sql.Composable = sql.SQL("NOTHING")
        if self.into.on_conflict == "update" and others:
            action = sql.SQL(_SET).format(**self._changes(others))
        return sql.SQL(_INSERT).format(
            table=self.target.identifier,
            columns=_listed(columns),
            rows=rows,
            key=sql.SQL("({})").format(_listed(key)) if key else sql.SQL(""),
            action=action,
        )

    def _update(self, rows: sql.Composed, others: Sequence[str]) -> sql.Composed | None:
        if not others:
            return None
        same = (
            sql.SQL("known.{0} = excluded.{0}").format(sql.Identifier(k)) for k in self.into.key
        )
        return sql.SQL(_UPDATE).format(
            table=self.target.identifier,
            rows=rows,
            same_key=sql.SQL(" AND ").join(same),
            **self._changes(others),
        )

    def _changes(self, names: Sequence[str]) -> dict[str, sql.Composed]:
        changes = (sql.SQL("{0} = excluded.{0}").format(sql.Identifier(name)) for name in names)
        return {
            "changes": sql.SQL(", ").join(changes),
            "old": sql.SQL(", ").join(self._compared("known", name) for name in names),
            "new": sql.SQL(", ").join(self._compared("excluded", name) for name in names),
        }

    def _compared(self, row: str, name: str) -> sql.Composed:
        value = sql.Identifier(row, name)
        # json, unlike jsonb, has no equality.
        as_text = self.columns[name].type == "json"
        return sql.SQL("{}::text").format(value) if as_text else sql.SQL("{}").format(value)


def _listed(names: Iterable[str]) -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Identifier, names))
