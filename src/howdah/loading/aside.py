"""The table beside a target that `--replace` loads into: made like the target, and what binds it.

It has the target's columns, defaults, checks, unique indexes and foreign keys, so
that what the target would refuse is a reject; its other indexes are built when
all is loaded. Its sequences go on where the target's are.

The contract: two locks keep one load from dropping the table of another that is
alive. The session that makes it holds the target's. Each session that writes to
it holds its own, shared, and has looked that the name still leads to it (asidelock.py):
so the first may be lost without harm, and where all of them were lost and another
load has begun, what is left of this one ends with an error.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

import psycopg
from psycopg import Connection, sql

from howdah import pg
from howdah.errors import Refused
from howdah.loading.asidelock import writers
from howdah.loading.target import Target

__all__ = [
    "MARK",
    "Index",
    "Sequence",
    "beside",
    "build",
    "indexes",
    "is_bound",
    "sequences",
    "temporary",
]

MARK = "made by howdah load --replace, which drops it again"
"""The comment of a table that a load has made beside another."""


@dataclass(frozen=True, slots=True)
class Index:
    """An index of the table that is replaced.

    Attributes:
        name: Its name.
        definition: What follows the table's name in its CREATE INDEX, or in the ADD
            CONSTRAINT of a constraint that owns it.
        is_constraint: Which of these.
        is_unique: Whether CREATE INDEX needs UNIQUE.
        refuses: Whether it refuses rows: it is unique, or of an exclusion constraint.
    """

    name: str
    definition: str
    is_constraint: bool
    is_unique: bool
    refuses: bool


@dataclass(frozen=True, slots=True)
class Sequence:
    """The sequence of an identity column.

    Attributes:
        column: The column.
        schema: The sequence's schema.
        name: The sequence's name.
    """

    column: str
    schema: str
    name: str

    @property
    def identifier(self) -> sql.Identifier:
        """The qualified name for `psycopg.sql`."""
        return sql.Identifier(self.schema, self.name)


_CREATE = "CREATE TABLE {next} (LIKE {table} INCLUDING ALL EXCLUDING INDEXES)"
_COMMENT = "COMMENT ON TABLE {next} IS {mark}"
_DROP = "DROP TABLE IF EXISTS {next}"
_OID = "SELECT to_regclass(%s)::oid::bigint"
_LEFT = """
    SELECT oid::bigint AS oid,
           coalesce(obj_description(oid, 'pg_class'), '') = %s AND relkind = 'r' AS is_ours
      FROM pg_catalog.pg_class
     WHERE oid = to_regclass(%s)
"""
_TRY_LOCK = "SELECT pg_try_advisory_lock(hashtextextended(%s, 0))"
_TRY_XACT_LOCK = "SELECT pg_try_advisory_xact_lock(hashtextextended(%s, 0))"


@contextmanager
def beside(conn: Connection[Any], target: Target) -> Generator[Target]:
    """Have an empty table beside a target, and keep other loads from replacing the target too.

    If what is done with it fails, it is dropped; one that a killed load left is dropped
    by the next, since its rows may be of other sources.

    Args:
        conn: A connection, not in a transaction; the lock is held until it is closed.
        target: The table that is to be replaced.

    Yields:
        The table beside it.

    Raises:
        Refused: The role may not create it, or the target cannot be replaced.
    """
    _check(conn, target)
    if not _value(conn, _TRY_LOCK, [f"howdah: replace {target.oid}"]):
        raise _busy(target)
    following = _made(conn, target)
    try:
        yield following
    except BaseException:
        with suppress(psycopg.Error):  # the first error is the cause
            conn.execute(sql.SQL(_DROP).format(next=following.identifier))
        raise


def _busy(target: Target) -> Refused:
    return Refused(
        f"Another load is replacing {target} now.",
        next_step="Run the same command again when it is done.",
    )


def _made(conn: Connection[Any], target: Target) -> Target:
    name = f"{target.name.encode()[:57].decode(errors='ignore')}__next"
    following = replace(target, name=name, replaces=str(target))
    with conn.transaction(), pg.explained(f"create the table {following}"):
        qualified = following.identifier.as_string(conn)
        _refuse_of_others(conn, target, following)
        names = {"next": following.identifier, "table": target.identifier}
        conn.execute(sql.SQL(_DROP).format(**names))
        conn.execute(sql.SQL(_CREATE).format(**names))
        conn.execute(sql.SQL(_COMMENT).format(**names, mark=MARK))
        following = replace(following, oid=_value(conn, _OID, [qualified]))
        for number, index in enumerate(indexes(conn, target)):
            if index.refuses:
                build(conn, following, index, temporary(target, number))
        _add_foreign_keys(conn, target, following)
        _go_on_counting(conn, target, following)
    return following


_CASCADES = """
    SELECT conrelid::regclass::text
      FROM pg_catalog.pg_constraint
     WHERE contype = 'f' AND confrelid = %s AND conrelid <> confrelid
       AND confdeltype IN ('c', 'n', 'd')
     ORDER BY 1
"""
_IS_FOREIGN = "SELECT relkind = 'f' FROM pg_catalog.pg_class WHERE oid = %s"


def _refuse_of_others(conn: Connection[Any], target: Target, following: Target) -> None:
    """Refuse to drop what is there by that name, unless a load has left it that is dead."""
    qualified = following.identifier.as_string(conn)
    there = conn.execute(_LEFT, [MARK, qualified]).fetchone()
    if there is None:
        return
    oid, is_ours = there
    if not is_ours:
        raise Refused(
            f"There is a table {following}, where the new rows of {target} are to be put for now.",
            next_step=f"Rename {following}, and run the same command again.",
        )
    if not _value(conn, _TRY_XACT_LOCK, [writers(oid)]):
        raise _busy(target)


def _check(conn: Connection[Any], target: Target) -> None:
    if _value(conn, _IS_FOREIGN, [target.oid]):
        raise Refused(
            f"{target} is a foreign table, whose rows cannot be replaced at once.",
            next_step="Load into the table on its own server.",
        )
    if other := _value(conn, _CASCADES, [target.oid]):
        raise Refused(
            f"Rows of {other} go, or lose their reference, with the rows of {target} that they "
            "refer to (ON DELETE CASCADE or SET): to replace these would change those.",
            next_step="Load with --key and --on-conflict update.",
        )


# pg_get_indexdef's text without its beginning, which names the index and the table.
_INDEXES = """
    SELECT class.relname::text AS name,
           coalesce(pg_get_constraintdef(con.oid),
                    right(pg_get_indexdef(indexrelid),
                          -length(format('CREATE %%sINDEX %%I ON %%s%%I.%%I ',
                                         CASE WHEN indisunique THEN 'UNIQUE ' END, class.relname,
                                         CASE WHEN class.relkind = 'I' THEN 'ONLY ' END,
                                         nspname, owner.relname)))) AS definition,
           con.oid IS NOT NULL AS is_constraint,
           indisunique AS is_unique,
           indisunique OR indisexclusion AS refuses
      FROM pg_catalog.pg_index
      JOIN pg_catalog.pg_class AS class ON class.oid = indexrelid
      JOIN pg_catalog.pg_class AS owner ON owner.oid = indrelid
      JOIN pg_catalog.pg_namespace ON pg_namespace.oid = owner.relnamespace
      LEFT JOIN pg_catalog.pg_constraint AS con
        ON con.conindid = indexrelid AND con.conrelid = indrelid AND con.contype IN ('p', 'u', 'x')
     WHERE indrelid = %s
     ORDER BY indexrelid
"""


def indexes(conn: Connection[Any], target: Target) -> list[Index]:
    """Return the indexes of a table, oldest first."""
    return pg.fetch_all(conn, Index, _INDEXES, [target.oid])


def temporary(target: Target, number: int) -> str:
    """Return what an index of the table beside the target is called until the swap."""
    return f"howdah_{target.oid}_{number}"


_ADD_CONSTRAINT = "ALTER TABLE {table} ADD CONSTRAINT {name} {definition}"
_CREATE_INDEX = "CREATE {unique} INDEX {name} ON {table} {definition}"


def build(conn: Connection[Any], table: Target, index: Index, name: str) -> None:
    """Build an index of the target on the table beside it, under a name of its own."""
    query = sql.SQL(_ADD_CONSTRAINT if index.is_constraint else _CREATE_INDEX)
    conn.execute(
        query.format(
            table=table.identifier,
            name=sql.Identifier(name),
            unique=sql.SQL("UNIQUE" if index.is_unique else ""),
            definition=_as_it_is(index.definition),
        )
    )


# To itself: until the swap, the new rows' own references would be looked for among the old rows.
_FOREIGN_KEYS = """
    SELECT pg_get_constraintdef(oid)
      FROM pg_catalog.pg_constraint
     WHERE contype = 'f' AND conrelid = %s AND confrelid <> conrelid AND conparentid = 0
"""
_ADD = "ALTER TABLE {} ADD {}"


def _add_foreign_keys(conn: Connection[Any], target: Target, following: Target) -> None:
    for (definition,) in conn.execute(_FOREIGN_KEYS, [target.oid]).fetchall():
        conn.execute(sql.SQL(_ADD).format(following.identifier, _as_it_is(definition)))


_SEQUENCES = """
    SELECT attname::text AS column, nspname::text AS schema, relname::text AS name
      FROM pg_catalog.pg_attribute
      JOIN pg_catalog.pg_depend
        ON refobjid = attrelid AND refobjsubid = attnum AND deptype = 'i'
       AND classid = 'pg_class'::regclass AND refclassid = 'pg_class'::regclass
      JOIN pg_catalog.pg_class ON pg_class.oid = objid AND relkind = 'S'
      JOIN pg_catalog.pg_namespace ON pg_namespace.oid = relnamespace
     WHERE attrelid = %s AND attidentity <> ''
     ORDER BY attnum
"""
_GO_ON = "SELECT setval({name}, last_value, is_called) FROM {known}"


def sequences(conn: Connection[Any], table: Target) -> dict[str, Sequence]:
    """Return the sequences of a table's identity columns, by column."""
    return {one.column: one for one in pg.fetch_all(conn, Sequence, _SEQUENCES, [table.oid])}


def _go_on_counting(conn: Connection[Any], target: Target, following: Target) -> None:
    known = sequences(conn, target)
    for column, sequence in sequences(conn, following).items():
        name = sequence.identifier.as_string(conn)
        conn.execute(sql.SQL(_GO_ON).format(name=name, known=known[column].identifier))


_BOUND = """
    SELECT EXISTS (SELECT FROM pg_catalog.pg_depend
                    WHERE refobjid = %(oid)s AND refclassid = 'pg_class'::regclass
                      AND classid IN ('pg_rewrite'::regclass, 'pg_proc'::regclass,
                                      'pg_policy'::regclass, 'pg_publication_rel'::regclass))
        OR EXISTS (SELECT FROM pg_catalog.pg_constraint
                    WHERE contype = 'f' AND %(oid)s IN (conrelid, confrelid))
        OR EXISTS (SELECT FROM pg_catalog.pg_trigger WHERE tgrelid = %(oid)s AND NOT tgisinternal)
        OR EXISTS (SELECT FROM pg_catalog.pg_inherits WHERE %(oid)s IN (inhrelid, inhparent))
        OR EXISTS (SELECT FROM pg_catalog.pg_depend
                     JOIN pg_catalog.pg_class ON pg_class.oid = objid AND relkind = 'S'
                    WHERE refobjid = %(oid)s AND classid = 'pg_class'::regclass AND deptype = 'a')
        OR EXISTS (SELECT FROM pg_catalog.pg_class
                    WHERE oid = %(oid)s
                      AND (relkind <> 'r' OR relpersistence <> 'p' OR relreplident <> 'd'
                           OR relacl IS NOT NULL OR reloptions IS NOT NULL OR reltablespace <> 0
                           OR reloftype <> 0 OR relrowsecurity OR relforcerowsecurity
                           OR relowner <> current_user::regrole))
        OR EXISTS (SELECT FROM pg_catalog.pg_attribute
                    WHERE attrelid = %(oid)s AND (attacl IS NOT NULL OR attoptions IS NOT NULL))
        OR EXISTS (SELECT FROM pg_catalog.pg_index
                     JOIN pg_catalog.pg_class ON pg_class.oid = indexrelid
                    WHERE indrelid = %(oid)s AND (indisclustered OR reltablespace <> 0))
"""


def is_bound(conn: Connection[Any], target: Target) -> bool:
    """Say whether something hangs on a table that one put in its place would not have."""
    return bool(_value(conn, _BOUND, {"oid": target.oid}))


def _as_it_is(text: str) -> sql.SQL:
    """Return what the server itself wrote, for a statement."""
    escaped = text.replace("{", "{{").replace("}", "}}")
    return sql.SQL(escaped)  # ty: ignore[invalid-argument-type]


def _value(conn: Connection[Any], query: Any, params: Any) -> Any:
    row = conn.execute(query, params).fetchone()
    return row and row[0]
