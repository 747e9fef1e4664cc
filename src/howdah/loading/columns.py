"""The columns of a table, and how a record's attributes go into them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from psycopg import Connection

from howdah import pg

__all__ = ["MARK", "Column", "Columns", "column_name", "columns_of", "matched", "writable"]

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
        grows: Columns are added and widened as records need it: the table is of our
            making; set by `prepare`.
        staged: Rows go by way of a temporary table and INSERT, since COPY is not allowed
            (row-level security); set by `prepare`.
    """

    extra: str | None = None
    key: tuple[str, ...] = ()
    on_conflict: Literal["error", "skip", "update"] = "error"
    updates_only: bool = False
    grows: bool = False
    staged: bool = False

    @property
    def merges(self) -> bool:
        """Whether rows meet rows that are there."""
        return self.updates_only or self.on_conflict != "error"


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    Attributes:
        name: Its name.
        type: Its type, as format_type gives it.
        is_text: Whether it holds any text: text, varchar, char, citext.
        is_json: Whether it is json or jsonb.
        has_default: Whether the server fills it where a record has no such attribute.
        is_generated: Whether the server computes it, so that it cannot be written.
        is_always_identity: Whether a row that is there cannot have it changed.
    """

    name: str
    type: str
    is_text: bool
    is_json: bool
    has_default: bool
    is_generated: bool
    is_always_identity: bool


_COLUMNS = """
    SELECT attname::text AS name,
           format_type(atttypid, atttypmod) AS type,
           typcategory = 'S' AS is_text,
           coalesce(nullif(typbasetype, 0), pg_type.oid)
               IN ('json'::regtype, 'jsonb'::regtype) AS is_json,
           atthasdef OR attidentity <> '' AS has_default,
           attgenerated <> '' AS is_generated,
           attidentity = 'a' AS is_always_identity
      FROM pg_catalog.pg_attribute
      JOIN pg_catalog.pg_type ON pg_type.oid = atttypid
     WHERE attrelid = %s AND attnum > 0 AND NOT attisdropped
     ORDER BY attnum
"""


def columns_of(conn: Connection[Any], oid: int) -> dict[str, Column]:
    """Return a table's columns by name, in their order."""
    return {column.name: column for column in pg.fetch_all(conn, Column, _COLUMNS, [oid])}


def writable(columns: Mapping[str, Column]) -> dict[str, Column]:
    """Return those of a table's columns that can be written: all but the generated ones."""
    return {name: column for name, column in columns.items() if not column.is_generated}


_NAME_BYTES = 63
"""Source: https://www.postgresql.org/docs/current/limits.html ("identifier length")."""

_SYSTEM_COLUMNS = {"tableoid", "xmin", "cmin", "xmax", "cmax", "ctid"}
_NOT_STORABLE = {0: "\ufffd"} | dict.fromkeys(range(0xD800, 0xE000), "\ufffd")


def column_name(attribute: str) -> str:
    """Return what the column for an attribute is called: the same, where PostgreSQL allows it.

    A name of more than 63 bytes is cut and ends in a digest of the whole, since the
    server would cut two long ones to the same name.
    """
    name = attribute.translate(_NOT_STORABLE)
    if not name:
        return "column"
    if name in _SYSTEM_COLUMNS:
        return f"{name}_"
    encoded = name.encode()
    if len(encoded) <= _NAME_BYTES:
        return name
    import hashlib  # 5 ms, and seldom needed

    digest = hashlib.sha256(encoded).hexdigest()[:8]
    return f"{encoded[: _NAME_BYTES - 9].decode(errors='ignore')}_{digest}"


def matched(names: Iterable[str], columns: Iterable[str]) -> dict[str, str]:
    """Return, by attribute, the name of its column; an attribute without one is left out.

    An attribute belongs to the column of its very name, else to the only column
    that differs from it in case alone and is no other attribute's.
    """
    wanted = {name: column_name(name) for name in names}
    free = dict.fromkeys(columns)
    found: dict[str, str] = {}
    for name, column in wanted.items():
        if column in free:
            found[name] = column
            del free[column]
    folded: dict[str, list[str]] = {}
    for column in free:
        folded.setdefault(column.lower(), []).append(column)
    for name, column in wanted.items():
        if name not in found and len(folded.get(column.lower(), ())) == 1:
            found[name] = folded.pop(column.lower())[0]
    return found
