"""Other rows for a table: emptied before a load, or loaded aside and then put in its place.

Aside means into a table beside it, `NAME__next`. When all is loaded, one short
transaction makes that the table: by renaming, where nothing else in the
database hangs on the old one; else by DELETE and INSERT, which views, triggers,
foreign keys and publications follow. Either way a reader sees all old rows or
all new ones, and until then, or if the load fails, the old ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from psycopg import Connection, errors, sql

from howdah import pg
from howdah.errors import HowdahError, Refused
from howdah.loading.columns import columns_of
from howdah.loading.target import Target

__all__ = ["aside", "put_in_place", "truncate"]

LOCK_TIMEOUT = "2s"
"""How long the swap waits for a lock, and others behind it, before it tries again."""

TRIES = 30

_FORGET = "DELETE FROM howdah.{} WHERE target = %s"


def truncate(conn: Connection[Any], target: Target) -> None:
    """Empty a table, and forget what was loaded into it.

    Raises:
        Refused: The role may not, or other tables refer to it.
    """
    with conn.transaction(), pg.explained(f"empty the table {target}"):
        try:
            conn.execute(sql.SQL("TRUNCATE {}").format(target.identifier))
        except errors.FeatureNotSupported as exc:
            raise Refused(
                f"Other tables have foreign keys to {target}, so it cannot be truncated.",
                next_step="Load with --replace, which deletes rows the slower way.",
            ) from exc
        _forget(conn, target.oid)


def _forget(conn: Connection[Any], oid: int) -> None:
    for table in ("sources", "rejects"):
        conn.execute(sql.SQL(_FORGET).format(sql.Identifier(table)), [oid])


@dataclass(frozen=True, slots=True)
class _Index:
    """An index of the table that is replaced.

    Attributes:
        name: Its name.
        definition: The CREATE INDEX that made it.
        constraint: What ADD CONSTRAINT takes, if a constraint owns it.
        is_unique: Whether it says that two rows cannot both be there.
    """

    name: str
    definition: str
    constraint: str | None
    is_unique: bool


_CREATE = """
    CREATE TABLE {next} (LIKE {table} INCLUDING ALL EXCLUDING INDEXES)
"""
_INDEXES = """
    SELECT relname::text AS name,
           pg_get_indexdef(indexrelid) AS definition,
           (SELECT pg_get_constraintdef(oid) FROM pg_catalog.pg_constraint
             WHERE conindid = indexrelid AND conrelid = indrelid
               AND contype IN ('p', 'u', 'x')) AS constraint,
           indisunique AS is_unique
      FROM pg_catalog.pg_index
      JOIN pg_catalog.pg_class ON pg_class.oid = indexrelid
     WHERE indrelid = %s
     ORDER BY indexrelid
"""


def aside(conn: Connection[Any], target: Target) -> Target:
    """Make an empty table beside a target, with its columns, checks and unique indexes.

    One that a killed load left is dropped: its rows may be of other sources.

    Raises:
        Refused: The role may not create it.
    """
    following = replace(target, name=_next(target.name))
    with conn.transaction(), pg.explained(f"create the table {following}"):
        pg.xact_lock(conn, f"howdah: replace {target.oid}")
        conn.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(following.identifier))
        names = {"next": following.identifier, "table": target.identifier}
        conn.execute(sql.SQL(_CREATE).format(**names))
        comment = _value(conn, "SELECT obj_description(%s, 'pg_class')", [target.oid])
        conn.execute(
            sql.SQL("COMMENT ON TABLE {next} IS {comment}").format(**names, comment=comment)
        )
        for number, index in enumerate(_indexes(conn, target.oid)):
            if index.is_unique:
                _build(conn, following, index, number)
        row = conn.execute(
            "SELECT to_regclass(%s)::oid::bigint", [following.identifier.as_string(conn)]
        ).fetchone()
    assert row is not None  # noqa: S101 - it was just made
    return replace(following, oid=row[0])


def _next(name: str) -> str:
    return f"{name.encode()[:57].decode(errors='ignore')}__next"


def _indexes(conn: Connection[Any], oid: int) -> list[_Index]:
    return pg.fetch_all(conn, _Index, _INDEXES, [oid])


def _temporary(number: int, following: Target) -> str:
    return f"howdah_{following.name[:40]}_{number}"


def _build(conn: Connection[Any], following: Target, index: _Index, number: int) -> None:
    """Build an index of the old table on the new one, under a name of its own for now."""
    name = sql.Identifier(_temporary(number, following))
    if index.constraint is not None:
        query = "ALTER TABLE {table} ADD CONSTRAINT {name} {definition}"
        definition = index.constraint
    else:
        # "CREATE [UNIQUE] INDEX name ON schema.table USING ...", as the server wrote it.
        query = "CREATE {unique} INDEX {name} ON {table} USING {definition}"
        definition = index.definition.split(" USING ", 1)[1]
    conn.execute(
        sql.SQL(query).format(
            table=following.identifier,
            name=name,
            unique=sql.SQL("UNIQUE" if index.is_unique else ""),
            definition=sql.SQL(definition),
        )
    )


_BOUND = """
    SELECT EXISTS (SELECT FROM pg_catalog.pg_rewrite, pg_catalog.pg_depend
                    WHERE refobjid = %(oid)s AND refclassid = 'pg_class'::regclass
                      AND classid = 'pg_rewrite'::regclass AND objid = pg_rewrite.oid)
        OR EXISTS (SELECT FROM pg_catalog.pg_constraint
                    WHERE contype = 'f' AND %(oid)s IN (conrelid, confrelid))
        OR EXISTS (SELECT FROM pg_catalog.pg_trigger WHERE tgrelid = %(oid)s AND NOT tgisinternal)
        OR EXISTS (SELECT FROM pg_catalog.pg_inherits WHERE %(oid)s IN (inhrelid, inhparent))
        OR EXISTS (SELECT FROM pg_catalog.pg_policy WHERE polrelid = %(oid)s)
        OR EXISTS (SELECT FROM pg_catalog.pg_publication_rel WHERE prrelid = %(oid)s)
        OR EXISTS (SELECT FROM pg_catalog.pg_depend
                    WHERE refobjid = %(oid)s AND classid = 'pg_class'::regclass AND deptype = 'a'
                      AND objid IN (SELECT oid FROM pg_catalog.pg_class WHERE relkind = 'S'))
        OR EXISTS (SELECT FROM pg_catalog.pg_class
                    WHERE oid = %(oid)s
                      AND (relkind <> 'r' OR relacl IS NOT NULL OR relrowsecurity
                           OR relowner <> (SELECT oid FROM pg_catalog.pg_roles
                                            WHERE rolname = current_user)))
        OR EXISTS (SELECT FROM pg_catalog.pg_attribute
                    WHERE attrelid = %(oid)s AND attacl IS NOT NULL)
"""
"""Whether something hangs on a table that a renamed table would not have."""


def put_in_place(conn: Connection[Any], target: Target, following: Target) -> Target:
    """Make a table that was loaded aside the target, in one transaction; return the target.

    Raises:
        HowdahError: The lock was not to be had; the old rows stay, and so does the new table.
    """
    bound = _value(conn, _BOUND, {"oid": target.oid})
    indexes = _indexes(conn, target.oid)
    if not bound:
        for number, index in enumerate(indexes):
            if not index.is_unique:
                _build(conn, following, index, number)
        conn.execute(sql.SQL("ANALYZE {}").format(following.identifier))
    for _ in range(TRIES):
        try:
            with conn.transaction():
                conn.execute("SELECT set_config('lock_timeout', %s, true)", [LOCK_TIMEOUT])
                if bound:
                    return _move_rows(conn, target, following)
                return _rename(conn, target, following, indexes)
        except errors.LockNotAvailable:
            continue
    raise HowdahError(
        f"Others held locks on {target} all the time, so it still has its old rows.",
        next_step=f"The new ones are in {following}; see pg_locks and run the same command again.",
    )


def _rename(
    conn: Connection[Any], target: Target, following: Target, indexes: Sequence[_Index]
) -> Target:
    old = replace(target, name=f"{following.name[:55]}__old")
    rename = sql.SQL("ALTER TABLE {} RENAME TO {}").format
    conn.execute(rename(target.identifier, sql.Identifier(old.name)))
    conn.execute(rename(following.identifier, sql.Identifier(target.name)))
    conn.execute(sql.SQL("DROP TABLE {}").format(old.identifier))
    for number, index in enumerate(indexes):
        temporary = sql.Identifier(target.schema, _temporary(number, following))
        query = sql.SQL("ALTER INDEX {} RENAME TO {}")
        conn.execute(query.format(temporary, sql.Identifier(index.name)))
    return replace(target, oid=following.oid)


_MOVE = "INSERT INTO {table} ({columns}) OVERRIDING SYSTEM VALUE SELECT {columns} FROM {next}"
_OURS_NOW = "UPDATE howdah.{} SET target = %s WHERE target = %s"


def _move_rows(conn: Connection[Any], target: Target, following: Target) -> Target:
    names = sql.SQL(", ").join(map(sql.Identifier, columns_of(conn, target.oid)))
    conn.execute(sql.SQL("DELETE FROM {}").format(target.identifier))
    conn.execute(
        sql.SQL(_MOVE).format(table=target.identifier, columns=names, next=following.identifier)
    )
    _forget(conn, target.oid)
    for table in ("sources", "rejects"):
        conn.execute(sql.SQL(_OURS_NOW).format(sql.Identifier(table)), [target.oid, following.oid])
    conn.execute(sql.SQL("DROP TABLE {}").format(following.identifier))
    return target


def _value(conn: Connection[Any], query: Any, params: Any) -> Any:
    row = conn.execute(query, params).fetchone()
    return row and row[0]
