"""Tables whose columns are inferred from records: made from a sample, widened as records need it.

A widened column keeps every digit: the old values go through their text. The
table's comment marks it as one that may be widened; whoever wants its columns
to stay as they are removes the comment.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import Connection, errors, sql

from howdah import pg
from howdah.errors import Refused
from howdah.loading.cells import kinds_in
from howdah.loading.columns import MARK, Column, column_name, columns_of, matched
from howdah.loading.inference import Kind, join, kind_of_type, kinds_of, sql_type
from howdah.loading.locking import in_short_locks
from howdah.loading.readers import Batch, Rows
from howdah.loading.records import parse
from howdah.loading.sampling import Sample

if TYPE_CHECKING:
    from howdah.loading.target import Target  # which stands above us

__all__ = ["align", "create", "planned", "statement", "widen"]

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
    kinds: dict[str, Kind] = {}
    for attribute, kind in sample.kinds.items():
        if (name := column_name(attribute)) != extra:
            kinds[name] = join(kinds.get(name, kind), kind)
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

# A column's values as texts: the same whatever the role or the database has set.
_AS_TEXT = {"TimeZone": "UTC", "extra_float_digits": "1"}


def widen(
    conn: Connection[Any], target: Target, extra: str | None, batches: Sequence[Batch]
) -> bool:
    """Widen the columns of a table so that they hold what these records hold.

    In the transaction that the connection is in: others wait until it ends.

    Returns:
        Whether anything had to be changed.

    Raises:
        Refused: Something depends on a column, so that it cannot be widened, or the
            table would have too many.
        psycopg.errors.LockNotAvailable: Others held locks on the table all the time.
    """
    needed = _kinds_in(batches)
    if not _changes(needed, columns_of(conn, target.oid), extra):
        return False

    def change() -> bool:
        conn.execute(sql.SQL(_LOCK).format(target.identifier))
        # Another worker may have widened it while we waited for the lock.
        changes = _changes(needed, columns_of(conn, target.oid), extra)
        _alter(conn, target, changes)
        return bool(changes)

    # Other workers hold their locks for as long as a chunk takes.
    return in_short_locks(conn, change, longest_s=20)


def align(conn: Connection[Any], target: Target, other: Target) -> None:
    """Give a table the columns and types that another one was widened to.

    Raises:
        Refused: As `widen` does.
    """
    columns = columns_of(conn, target.oid)
    changes = {}
    for name, column in columns_of(conn, other.oid).items():
        kind = kind_of_type(column.type)
        if kind is not None and (name not in columns or columns[name].type != column.type):
            changes[name] = _widened(name, column.type) if name in columns else _added(name, kind)
    _alter(conn, target, changes)


def _alter(conn: Connection[Any], target: Target, changes: Mapping[str, sql.Composed]) -> None:
    if not changes:
        return
    listed = sql.SQL(", ").join(changes.values())
    try:
        with conn.transaction(), pg.settings(conn, _AS_TEXT):
            conn.execute(sql.SQL(_ALTER).format(table=target.identifier, changes=listed))
    except psycopg.Error as exc:
        state = exc.sqlstate or ""
        if state[:2] not in _BLAMES_THE_TABLE or isinstance(exc, errors.InsufficientPrivilege):
            raise
        why = " ".join(filter(None, (exc.diag.message_primary, exc.diag.message_detail)))
        raise Refused(
            f"The records do not fit {target}, and it cannot be altered: {' '.join(why.split())}.",
            next_step=f"Make room for them yourself, with what depends on it: {_by_hand(changes)}. "
            "Then run the same command again: it goes on where it stopped.",
        ) from exc


_BLAMES_THE_TABLE = {"0A", "22", "23", "2B", "42", "54"}
"""Classes of SQLSTATE that say that the table, or what depends on it, forbids a change.

Source: https://www.postgresql.org/docs/current/errcodes-appendix.html
"""


def _by_hand(changes: Mapping[str, sql.Composed]) -> str:
    return ", ".join(change.as_string().partition(" USING ")[0] for change in changes.values())


def _changes(
    needed: Mapping[str, Kind], columns: Mapping[str, Column], extra: str | None
) -> dict[str, sql.Composed]:
    """Return, by column, what must be changed of a table so that it holds these kinds."""
    found = matched(needed, [name for name in columns if name != extra])
    found = {a: name for a, name in found.items() if not columns[name].is_generated}
    changes: dict[str, sql.Composed] = {}
    kinds: dict[str, Kind] = {}
    for attribute, kind in needed.items():
        name = found.get(attribute, column_name(attribute))
        if name not in columns:
            if extra is None:
                kinds[name] = join(kinds.get(name, kind), kind)
                changes[name] = _added(name, kinds[name])
        elif attribute in found and (before := kind_of_type(columns[name].type)) is not None:
            wanted = sql_type(join(before, kind))
            if wanted != columns[name].type:
                changes[name] = _widened(name, wanted)
    return changes


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
    return sql.SQL(name)  # ty: ignore[invalid-argument-type]


def _kinds_in(batches: Sequence[Batch]) -> dict[str, Kind]:
    kinds: dict[str, Kind] = {}
    for batch in batches:
        if isinstance(batch, Rows):
            for rows in batch.cells():
                kinds = kinds_in(rows, batch.names, kinds)
        else:
            kinds = kinds_of(_parsed(batch.texts), texts=batch.untyped, known=kinds)
    return kinds


def _parsed(texts: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    for text in texts:
        try:
            yield parse(text)
        except ValueError:
            continue  # it will be a reject
