"""Rows that meet rows with the same key: staged in a temporary table, then merged.

Records are merged as if one by one in their order: of those with the same key
the last one counts, or the first one where rows that are there are skipped. A
record changes only the columns that it brings. Records that bring the same
columns are a *set*, merged by one statement; where a key comes in several sets,
they are merged in rounds, so that none has a key twice.

Source: https://www.postgresql.org/docs/current/sql-insert.html ("ON CONFLICT Clause").
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, LiteralString

from psycopg import Connection, sql

from howdah.loading.columns import Column, Columns
from howdah.loading.target import Target

__all__ = ["SET", "Stage"]

SET = "howdah set"
"""The stage's column that says which columns the record brings."""

# The identity at once: added to a table that is there, it has the server write the table anew.
_CREATE = """
    CREATE TEMPORARY TABLE {name} (
        LIKE {table},
        "howdah order" bigint GENERATED ALWAYS AS IDENTITY (CACHE 1000),
        "howdah set" integer NOT NULL DEFAULT 0,
        "howdah round" integer
    ) ON COMMIT DROP
"""
_EXISTS = "SELECT to_regclass(%s) IS NOT NULL"
# What is missing may have a default in the table itself.
_ALLOW_NULLS = "ALTER TABLE {stage} {changes}"
_ALLOW_NULL = "ALTER COLUMN {} DROP NOT NULL"

_ALL_ROWS = """
    SELECT {columns} FROM {stage} WHERE "howdah set" = {set} ORDER BY "howdah order"
"""
_ONE_ROW_A_KEY = """
    SELECT {columns}
      FROM (SELECT *, row_number() OVER (PARTITION BY {key} ORDER BY "howdah order" {direction})
                      AS "howdah place"
              FROM {stage}) AS staged
     WHERE "howdah place" = 1 OR {key_is_null}
     ORDER BY "howdah order"
"""
# Rows whose key is null update nothing. In the order of the key: the rows that are updated lie
# nearer together in its index, and two loads lock them in the same order.
_LAST_OF_A_KEY = """
    SELECT DISTINCT ON ({key}) {columns} FROM {stage} ORDER BY {key}, "howdah order" DESC
"""
_ROUND = """
    SELECT {columns}
      FROM {stage}
     WHERE "howdah set" = {set} AND "howdah round" = {round}
     ORDER BY "howdah order"
"""
# Rows without a round are superseded by others of their set.
_NUMBER_ROUNDS = """
    UPDATE {stage} AS staged
       SET "howdah round" = numbered."howdah round"
      FROM (SELECT "howdah order",
                   CASE WHEN {key_is_null} THEN 1
                        ELSE row_number() OVER (PARTITION BY {key} ORDER BY "howdah order")
                   END AS "howdah round"
              FROM (SELECT {key}, "howdah order",
                           row_number() OVER (PARTITION BY {key}, "howdah set"
                                              ORDER BY "howdah order" {direction})
                               AS "howdah place"
                      FROM {stage}) AS latest
             WHERE "howdah place" = 1 OR {key_is_null}) AS numbered
     WHERE staged."howdah order" = numbered."howdah order"
"""
_ROUNDS = """
    SELECT DISTINCT "howdah round", "howdah set"
      FROM {stage}
     WHERE "howdah round" IS NOT NULL
     ORDER BY 1, 2
"""

_INSERT = """
    INSERT INTO {table} AS known ({columns}) OVERRIDING SYSTEM VALUE
    {rows}
    {on_conflict}
"""
_ON_CONFLICT = "ON CONFLICT {key} DO {action}"
# Compared by their bytes: json, xml and point have no equality, and for numeric
# and citext equal is not the same.
_SET = "UPDATE SET {changes} WHERE ROW({old})::record *<> ROW({new})::record"
_UPDATE = """
    UPDATE {table} AS known
       SET {changes}
      FROM ({rows}) AS excluded
     WHERE {same_key} AND ROW({old})::record *<> ROW({new})::record
"""


@dataclass(frozen=True, slots=True)
class Stage:
    """A temporary table for rows on their way to a target; it goes with the transaction.

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
    _sets: dict[tuple[str, ...], int] = field(default_factory=dict)

    @property
    def name(self) -> sql.Identifier:
        """The stage's name."""
        return sql.Identifier("pg_temp", self._table)

    @property
    def _table(self) -> str:
        return f"howdah stage {self.target.oid}"

    def make(self) -> None:
        """Make the stage where it is missing, and empty it where it is there."""
        row = self.conn.execute(_EXISTS, [f'pg_temp."{self._table}"']).fetchone()
        if row is None or not row[0]:
            name = sql.Identifier(self._table)
            self.conn.execute(sql.SQL(_CREATE).format(name=name, table=self.target.identifier))
            changes = (sql.SQL(_ALLOW_NULL).format(sql.Identifier(n)) for n in self.columns)
            allow = sql.SQL(_ALLOW_NULLS).format(
                stage=self.name, changes=sql.SQL(", ").join(changes)
            )
            self.conn.execute(allow)
        else:
            self.conn.execute(sql.SQL("DELETE FROM {}").format(self.name))

    def drop(self) -> None:
        """Drop the stage: the target's columns are about to change."""
        self.conn.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(self.name))

    def number_of(self, columns: tuple[str, ...]) -> int:
        """Return the number of the set of records that bring these columns."""
        return self._sets.setdefault(columns, len(self._sets))

    def merge(self, columns: Sequence[str] | None) -> int:
        """Merge the staged rows, and return how many rows were written.

        Args:
            columns: What all of the rows bring; None: what their sets say, of which some
                may have no rows: those of the next ones are numbered already.
        """
        sets = list(self._sets) if columns is None else [tuple(columns)]
        if not self.into.merges or not self.into.key:
            written = sum(self._write(sets[n], _ALL_ROWS, set=n) for n in range(len(sets)))
        elif len(sets) == 1:
            rows = _LAST_OF_A_KEY if self.into.updates_only else _ONE_ROW_A_KEY
            written = self._write(sets[0], rows)
        else:
            self.conn.execute(self._composed(_NUMBER_ROUNDS))
            rounds = self.conn.execute(self._composed(_ROUNDS)).fetchall()
            written = sum(self._write(sets[n], _ROUND, set=n, round=place) for place, n in rounds)
        return written

    def _write(self, columns: Sequence[str], rows: LiteralString, **numbers: int) -> int:
        """Write the staged rows that a query selects, and return how many it were."""
        chosen = self._composed(rows, columns=_listed(columns), **numbers)
        others = [
            name
            for name in columns
            if name not in self.into.key and not self.columns[name].is_always_identity
        ]
        if not self.into.updates_only:
            query = self._insert(chosen, columns, others)
        elif others:
            query = self._update(chosen, others)
        else:
            return 0
        return self.conn.execute(query).rowcount

    def _insert(
        self, rows: sql.Composed, columns: Sequence[str], others: Sequence[str]
    ) -> sql.Composed:
        on_conflict: sql.Composable = sql.SQL("")
        if self.into.merges:
            changes = self.into.on_conflict == "update" and others
            action = sql.SQL(_SET).format(**_changes(others)) if changes else sql.SQL("NOTHING")
            key = sql.SQL("({})").format(_listed(self.into.key)) if self.into.key else sql.SQL("")
            on_conflict = sql.SQL(_ON_CONFLICT).format(key=key, action=action)
        return self._composed(_INSERT, columns=_listed(columns), rows=rows, on_conflict=on_conflict)

    def _update(self, rows: sql.Composed, others: Sequence[str]) -> sql.Composed:
        same = (
            sql.SQL("known.{0} = excluded.{0}").format(sql.Identifier(k)) for k in self.into.key
        )
        return self._composed(
            _UPDATE, rows=rows, same_key=sql.SQL(" AND ").join(same), **_changes(others)
        )

    def _composed(self, query: LiteralString, **parts: Any) -> sql.Composed:
        is_null = (sql.SQL("{} IS NULL").format(sql.Identifier(name)) for name in self.into.key)
        return sql.SQL(query).format(
            table=self.target.identifier,
            stage=self.name,
            key=_listed(self.into.key),
            key_is_null=sql.SQL("({})").format(sql.SQL(" OR ").join(is_null)),
            direction=sql.SQL("ASC" if self.into.on_conflict == "skip" else "DESC"),
            **parts,
        )


def _changes(names: Sequence[str]) -> dict[str, sql.Composed]:
    changes = (sql.SQL("{0} = excluded.{0}").format(sql.Identifier(name)) for name in names)
    return {
        "changes": sql.SQL(", ").join(changes),
        "old": sql.SQL(", ").join(sql.Identifier("known", name) for name in names),
        "new": sql.SQL(", ").join(sql.Identifier("excluded", name) for name in names),
    }


def _listed(names: Iterable[str]) -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Identifier, names))
