"""Other rows for a table: emptied before a load, or loaded aside and then put in its place.

Aside means into a table beside it, `NAME__next`. When all is loaded, one short
transaction makes that the table: by renaming, where nothing else in the
database hangs on the old one; else by DELETE and INSERT, which views, triggers,
foreign keys and publications follow. Either way a reader sees all old rows or
all new ones, and until then, or if the load fails, the old ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, LiteralString

import psycopg
from psycopg import Connection, errors, sql

from howdah import pg
from howdah.errors import Refused
from howdah.loading import aside, typed
from howdah.loading.asidelock import is_called_so
from howdah.loading.columns import columns_of, writable
from howdah.loading.locking import in_short_locks
from howdah.loading.target import Target

__all__ = ["put_in_place", "truncate"]

_FORGET = "DELETE FROM howdah.{} WHERE target = %s"


def truncate(conn: Connection[Any], target: Target) -> None:
    """Empty a table, and forget what was loaded into it.

    Raises:
        Refused: The role may not, or other tables refer to it.
        HowdahError: Others held locks on it all the time.
    """

    def empty() -> None:
        conn.execute(sql.SQL("TRUNCATE {}").format(target.identifier))
        _forget(conn, target)

    with pg.explained(f"empty the table {target}"):
        try:
            in_short_locks(conn, empty)
        except errors.FeatureNotSupported as exc:
            raise Refused(
                f"Other tables have foreign keys to {target}, so it cannot be truncated.",
                next_step="Load with --replace, which deletes rows the slower way.",
            ) from exc


def _forget(conn: Connection[Any], target: Target) -> None:
    for table in ("sources", "rejects"):
        conn.execute(sql.SQL(_FORGET).format(sql.Identifier(table)), [target.oid])


def put_in_place(
    conn: Connection[Any], target: Target, following: Target, note: Callable[[Target], None]
) -> None:
    """Make a table that was loaded aside the target, in one transaction.

    Args:
        conn: A connection that holds the table aside (`asidelock.hold`).
        target: The table that is replaced.
        following: The table that was loaded aside.
        note: Called in the transaction, with the target as it is then.

    Raises:
        Refused: A constraint forbids it, or the target is another table by now; the old
            rows stay.
        HowdahError: The lock was not to be had; the old rows stay.
    """

    def noted(way: Callable[[], Target]) -> Callable[[], None]:
        return lambda: note(way())

    with pg.explained(f"put the new rows into {target}; it still has its old ones"):
        if not aside.is_bound(conn, target):
            indexes = aside.indexes(conn, target)
            there = {index.name for index in aside.indexes(conn, following)}
            for number, index in enumerate(indexes):
                name = aside.temporary(target, number)
                if name not in there:  # those that refuse rows, or an earlier try's
                    aside.build(conn, following, index, name)
            conn.execute(sql.SQL("ANALYZE {}").format(following.identifier))
            try:
                in_short_locks(conn, noted(lambda: _rename(conn, target, following, indexes)))
            except errors.DependentObjectsStillExist:
                pass  # something that is_bound does not know of
            else:
                return
        try:
            in_short_locks(conn, noted(lambda: _move_rows(conn, target, following)))
        except psycopg.IntegrityError as exc:
            why = " ".join(filter(None, (exc.diag.message_primary, exc.diag.message_detail)))
            raise Refused(
                f"{target} keeps its old rows, since the new ones do not fit: {why}",
                next_step="Mend the sources, or what refers to the old rows, and run the same "
                "command again.",
            ) from exc


_LOCK = "LOCK TABLE {} IN {} MODE"


def _lock(conn: Connection[Any], target: Target, mode: LiteralString) -> None:
    """Lock the target, if it is the table still that it was when the load began."""
    other = Refused(
        f"{target} was dropped or made anew while the rows to replace its own were loaded.",
        next_step="Run the same command again.",
    )
    try:
        conn.execute(sql.SQL(_LOCK).format(target.identifier, sql.SQL(mode)))
    except errors.UndefinedTable as exc:
        raise other from exc
    if not is_called_so(conn, target):
        raise other


_COMMENT = "SELECT obj_description(%s, 'pg_class')"
_SET_COMMENT = "COMMENT ON TABLE {table} IS {comment}"


def _rename(
    conn: Connection[Any], target: Target, following: Target, indexes: Sequence[aside.Index]
) -> Target:
    _lock(conn, target, "ACCESS EXCLUSIVE")
    old = replace(target, name=f"howdah_{target.oid}_old")
    comment = conn.execute(_COMMENT, [target.oid]).fetchone()
    sequences = aside.sequences(conn, target)
    _rename_one(conn, "TABLE", target.identifier, old.name)
    _rename_one(conn, "TABLE", following.identifier, target.name)
    conn.execute(sql.SQL("DROP TABLE {}").format(old.identifier))
    for number, index in enumerate(indexes):
        temporary = sql.Identifier(target.schema, aside.temporary(target, number))
        _rename_one(conn, "INDEX", temporary, index.name)
    for column, sequence in aside.sequences(conn, following).items():
        if sequence.name != sequences[column].name:
            _rename_one(conn, "SEQUENCE", sequence.identifier, sequences[column].name)
    query = sql.SQL(_SET_COMMENT)
    conn.execute(query.format(table=target.identifier, comment=comment and comment[0]))
    return replace(target, oid=following.oid)


def _rename_one(conn: Connection[Any], kind: LiteralString, name: sql.Identifier, new: str) -> None:
    query = sql.SQL("ALTER {} {} RENAME TO {}")
    conn.execute(query.format(sql.SQL(kind), name, sql.Identifier(new)))


_DELETE = "DELETE FROM {table}"
_INSERT = "INSERT INTO {table} ({columns}) OVERRIDING SYSTEM VALUE SELECT {columns} FROM {next}"

# Rows that others refer to must not go, not even for a moment.
_REFERRED = """
    SELECT attname::text
      FROM (SELECT confkey
              FROM pg_catalog.pg_constraint
             WHERE contype = 'f' AND confrelid = %(oid)s AND conrelid <> confrelid
             ORDER BY oid
             LIMIT 1) AS reference
      JOIN pg_catalog.pg_attribute ON attrelid = %(oid)s AND attnum = ANY(confkey)
"""
_DELETE_GONE = """
    DELETE FROM {table} AS known
     WHERE NOT EXISTS (SELECT FROM {next} AS new WHERE {same_key})
"""
_UPDATE_KNOWN = """
    UPDATE {table} AS known
       SET ({others}) = ROW({new_others})
      FROM {next} AS new
     WHERE {same_key} AND ROW({known_others})::record *<> ROW({new_others})::record
"""
_INSERT_NEW = """
    INSERT INTO {table} ({columns}) OVERRIDING SYSTEM VALUE
    SELECT {columns} FROM {next} AS new
     WHERE NOT EXISTS (SELECT FROM {table} AS known WHERE {same_key})
"""
_OURS_NOW = "UPDATE howdah.{} SET target = %s WHERE target = %s"
_COUNTED = """
    SELECT setval({name}, next.last_value, next.is_called)
      FROM {next} AS next, {known} AS known
     WHERE next.last_value > known.last_value
"""


def _move_rows(conn: Connection[Any], target: Target, following: Target) -> Target:
    """Replace the rows of a table; its readers are not held up, its writers are."""
    _lock(conn, target, "SHARE ROW EXCLUSIVE")
    typed.align(conn, target, following)
    key = [name for (name,) in conn.execute(_REFERRED, {"oid": target.oid})]
    columns = writable(columns_of(conn, target.oid))
    others = [n for n, c in columns.items() if n not in key and not c.is_always_identity]
    queries = [_DELETE, _INSERT]
    if key:
        queries = [_DELETE_GONE, _INSERT_NEW, *([_UPDATE_KNOWN] if others else [])]
    same = (sql.SQL("new.{0} = known.{0}").format(sql.Identifier(name)) for name in key)
    names = {
        "table": target.identifier,
        "next": following.identifier,
        "columns": _listed(columns),
        "same_key": sql.SQL(" AND ").join(same),
        "others": _listed(others),
        "known_others": _listed(others, "known"),
        "new_others": _listed(others, "new"),
    }
    for query in queries:
        conn.execute(sql.SQL(query).format(**names))  # ty: ignore[invalid-argument-type]
    _take_over(conn, target, following)
    return target


def _take_over(conn: Connection[Any], target: Target, following: Target) -> None:
    """Have the target count on where the other table was, and its sources; drop that."""
    known = aside.sequences(conn, target)
    for column, sequence in aside.sequences(conn, following).items():
        name = known[column].identifier.as_string(conn)
        query = sql.SQL(_COUNTED)
        conn.execute(
            query.format(name=name, next=sequence.identifier, known=known[column].identifier)
        )
    _forget(conn, target)
    for table in ("sources", "rejects"):
        conn.execute(sql.SQL(_OURS_NOW).format(sql.Identifier(table)), [target.oid, following.oid])
    conn.execute(sql.SQL("DROP TABLE {}").format(following.identifier))


def _listed(names: Iterable[str], row: str | None = None) -> sql.Composed:
    parts = [row] if row else []
    return sql.SQL(", ").join(sql.Identifier(*parts, name) for name in names)
