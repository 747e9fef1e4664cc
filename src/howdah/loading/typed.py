"""Tables whose columns are inferred from records: made from a sample, widened as records need it.

A widened column keeps every digit: the old values go through their text. The
table's comment marks it as one that may be widened; whoever wants its columns
to stay as they are removes the comment.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from psycopg import Connection, sql

from howdah.errors import Refused
from howdah.loading.columns import MARK, columns_of, matched
from howdah.loading.inference import Kind, join, kind_of_type, kinds_of, sql_type
from howdah.loading.readers import Batch, Rows
from howdah.loading.records import parse
from howdah.loading.sampling import Sample

__all__ = ["create", "planned", "statement", "widen"]

MOST_COLUMNS = 1600
"""Source: https://www.postgresql.org/docs/current/limits.html."""

_CREATE = "CREATE TABLE {table} (\n    {columns}\n)"
_COMMENT = "COMMENT ON TABLE {table} IS {mark}"


def planned(sample: Sample, key: Sequence[str], extra: str | None) -> dict[str, sql.Composed]:
    """Return the definition of each column of a table for a sample of records.

    Raises:
        Refused: There are no records to tell by, more columns than a table may have, or no
            such key among them.
    """
    kinds = {name: kind for name, kind in sample.kinds.items() if name != extra}
    if not kinds:
        raise Refused(
            "No record could be read from which the table's columns could be told.",
            next_step="Load the sources without --as columns, or create the table yourself.",
        )
    if len(kinds) + bool(extra) > MOST_COLUMNS:
        raise Refused(
            f"The records have {len(kinds):,} attributes, and a table has at most "
            f"{MOST_COLUMNS:,} columns.",
            next_step="Load them without --as columns: as jsonb there is no such limit.",
        )
    if missing := [name for name in key if name not in kinds]:
        raise Refused(
            f"The records have no attribute {', '.join(missing)} that could be the key.",
            next_step=f"They have {', '.join(list(kinds)[:10])}.",
        )
    definitions = {
        name: sql.SQL("{} {}").format(sql.Identifier(name), _type(sql_type(kind)))
        for name, kind in kinds.items()
    }
    if extra is not None:
        definitions[extra] = sql.SQL("{} jsonb").format(sql.Identifier(extra))
    return definitions


def statement(
    table: sql.Identifier, definitions: Mapping[str, sql.Composed], key: Sequence[str]
) -> sql.Composed:
    """Return the CREATE TABLE."""
    lines = list(definitions.values())
    if key:
        names = sql.SQL(", ").join(map(sql.Identifier, key))
        lines.append(sql.SQL("PRIMARY KEY ({})").format(names))
    return sql.SQL(_CREATE).format(table=table, columns=sql.SQL(",\n    ").join(lines))


def create(
    conn: Connection[Any],
    table: sql.Identifier,
    sample: Sample,
    key: Sequence[str],
    extra: str | None,
) -> None:
    """Create a table for records like those of a sample; the arguments are `planned`'s."""
    conn.execute(statement(table, planned(sample, key, extra), key))
    conn.execute(sql.SQL(_COMMENT).format(table=table, mark=MARK))


_LOCK = "LOCK TABLE {} IN ACCESS EXCLUSIVE MODE"
_ALTER = "ALTER TABLE {table} {changes}"
_ADD = "ADD COLUMN {name} {type}"
_WIDEN = "ALTER COLUMN {name} TYPE {type} USING {value}"


def widen(
    conn: Connection[Any],
    table: sql.Identifier,
    oid: int,
    extra: str | None,
    batches: Iterable[Batch],
) -> bool:
    """Widen the columns of a table so that they hold what these records hold.

    In the transaction that the connection is in: others wait until it ends.

    Returns:
        Whether anything had to be changed.

    Raises:
        Refused: The table would have too many columns.
    """
    conn.execute(sql.SQL(_LOCK).format(table))
    columns = columns_of(conn, oid)
    needed = _kinds_in(batches)
    found = matched(needed, columns)
    changes = []
    for name, kind in needed.items():
        column = columns.get(found.get(name, ""))
        if column is None:
            if extra is None:
                changes.append(_added(name, kind))
            continue
        before = kind_of_type(column.type)
        if before is None:  # a type of someone else's choice
            continue
        wanted = sql_type(join(before, kind))
        if wanted != column.type:
            changes.append(_widened(column.name, wanted))
    if len(columns) + len(changes) > MOST_COLUMNS and any(name not in found for name in needed):
        raise Refused(
            f"The records have more attributes than a table's {MOST_COLUMNS:,} columns.",
            next_step="Name a column for the rest with --extra, or load without --as columns.",
        )
    if changes:
        listed = sql.SQL(", ").join(changes)
        conn.execute(sql.SQL(_ALTER).format(table=table, changes=listed))
    return bool(changes)


def _added(name: str, kind: Kind) -> sql.Composed:
    return sql.SQL(_ADD).format(name=sql.Identifier(name), type=_type(sql_type(kind)))


def _widened(name: str, wanted: str) -> sql.Composed:
    column = sql.Identifier(name)
    value = sql.SQL("to_jsonb({})" if wanted == "jsonb" else "{}::text::{}")
    return sql.SQL(_WIDEN).format(
        name=column, type=_type(wanted), value=value.format(column, _type(wanted))
    )


def _type(name: str) -> sql.SQL:
    """Return a type's name, which is one of ours, for a statement."""
    return sql.SQL(name)


def _kinds_in(batches: Iterable[Batch]) -> dict[str, Kind]:
    kinds: dict[str, Kind] = {}
    for batch in batches:
        pieces = batch.pieces() if isinstance(batch, Rows) else iter([batch])
        for piece in pieces:
            if isinstance(piece, Batch):
                kinds = kinds_of(_parsed(piece.texts), texts=piece.untyped, known=kinds)
    return kinds


def _parsed(texts: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    for text in texts:
        try:
            yield parse(text)
        except ValueError:
            continue  # it will be a reject
