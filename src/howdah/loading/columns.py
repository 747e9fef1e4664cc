"""The columns of a table, and how a record's attributes go into them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from psycopg import Connection

from howdah import pg

__all__ = ["MARK", "Column", "Columns", "columns_of", "matched"]

MARK = "made by howdah load --as columns: columns are added and widened as records need it"
"""The comment of a table that may be widened."""


@dataclass(frozen=True, slots=True)
class Columns:
    """Have each attribute of a record in a column of its own, and merge rows by a key.

    Attributes:
        extra: The json or jsonb column that takes the attributes without a column of
            their name; None: a table of our making gets columns for them, in another
            one the record is a reject.
        key: The columns by which rows are the same: those of a unique index for
            `on_conflict`, any for `updates_only`.
        on_conflict: What becomes of a row whose key is in the table: "error" makes it a
            reject, "skip" leaves the old row, "update" writes the new one over it.
        updates_only: Change rows that are there by their key, and add none.
        grows: Columns are added and widened as records need it; set by `prepare`.
    """

    extra: str | None = None
    key: tuple[str, ...] = ()
    on_conflict: Literal["error", "skip", "update"] = "error"
    updates_only: bool = False
    grows: bool = False

    @property
    def merges(self) -> bool:
        """Whether rows meet rows that are there."""
        return self.updates_only or self.on_conflict != "error"


@dataclass(frozen=True, slots=True)
class Column:
    """A column that can be written.

    Attributes:
        name: Its name.
        type: Its type, as format_type gives it.
        is_text: Whether it holds any text: text, varchar, char, citext.
        is_json: Whether it is json or jsonb.
        has_default: Whether the server fills it where a record has no such attribute.
    """

    name: str
    type: str
    is_text: bool
    is_json: bool
    has_default: bool


_COLUMNS = """
    SELECT attname::text AS name,
           format_type(atttypid, atttypmod) AS type,
           typcategory = 'S' AS is_text,
           typname IN ('json', 'jsonb') AS is_json,
           atthasdef OR attidentity <> '' AS has_default
      FROM pg_catalog.pg_attribute
      JOIN pg_catalog.pg_type ON pg_type.oid = atttypid
     WHERE attrelid = %s AND attnum > 0 AND NOT attisdropped AND attgenerated = ''
     ORDER BY attnum
"""


def columns_of(conn: Connection[Any], oid: int) -> dict[str, Column]:
    """Return a table's columns by name, in their order, without those that are generated."""
    return {column.name: column for column in pg.fetch_all(conn, Column, _COLUMNS, [oid])}


def matched(names: Iterable[str], columns: Mapping[str, Column] | Sequence[str]) -> dict[str, str]:
    """Return, by attribute, the name of its column; an attribute without one is left out.

    An attribute belongs to the column of its very name, else to the only column
    that differs from it in case alone and is no other attribute's.
    """
    names = list(names)
    found = {name: name for name in names if name in columns}
    free: dict[str, list[str]] = {}
    for column in columns:
        if column not in found:
            free.setdefault(column.lower(), []).append(column)
    for name in names:
        if name not in found and len(free.get(name.lower(), ())) == 1:
            found[name] = free.pop(name.lower())[0]
    return found
