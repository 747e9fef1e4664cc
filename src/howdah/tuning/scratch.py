"""A schema for measurements, which goes at the end, and copies of a user's table in it.

Whoever measures holds an advisory lock named after the schema while it is in
use; a schema whose lock is free was left by a process that died, and the next
one removes it. A copy has the table's columns, defaults, constraints, indexes,
foreign keys and triggers; its sequences are its own.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, LiteralString, cast

from psycopg import Connection, sql

from howdah import pg
from howdah.errors import Refused, UsageError

__all__ = ["Scratch", "copy_table", "scratch_schema"]

logger = logging.getLogger(__name__)

_LOCK_TIMEOUT = "2s"

_LEFTOVERS = r"SELECT nspname FROM pg_catalog.pg_namespace WHERE nspname LIKE 'howdah\_tune\_%'"
_TRY_LOCK = "SELECT pg_catalog.pg_try_advisory_lock(hashtextextended(%s, 0))"
_UNLOCK = "SELECT pg_catalog.pg_advisory_unlock(hashtextextended(%s, 0))"


@dataclass(frozen=True, slots=True)
class Scratch:
    """Where a measurement writes.

    Attributes:
        schema: Its name.
        table: The table's.
        origin: Of which table it is a copy; None for a built-in one.
        triggers: Names of the triggers that were copied.
    """

    schema: str
    table: str
    origin: pg.TableName | None = None
    triggers: tuple[str, ...] = ()

    @property
    def identifier(self) -> sql.Identifier:
        """The table's name for `psycopg.sql`."""
        return sql.Identifier(self.schema, self.table)


@contextmanager
def scratch_schema(conninfo: str) -> Generator[tuple[Connection[Any], str]]:
    """Make a schema, and drop it with all that is in it at the end.

    Args:
        conninfo: The database; the server may be restarted meanwhile.

    Yields:
        A connection in autocommit, and the schema's name.

    Raises:
        Refused: The role may not create schemas in this database.
    """
    name = f"howdah_tune_{secrets.token_hex(6)}"
    with pg.connect(conninfo, application_name="howdah tune") as conn:
        _sweep(conn)
        conn.execute(_TRY_LOCK, [name])
        with pg.explained("create a schema for the measurement"):
            conn.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(name)))
        try:
            yield conn, name
        finally:
            # Our own connection may have ended with a restart of the server.
            with pg.connect(conninfo, application_name="howdah tune") as living:
                _drop(living, name)


def _sweep(conn: Connection[Any]) -> None:
    """Drop what measurements that died have left."""
    for (name,) in conn.execute(_LEFTOVERS).fetchall():
        row = conn.execute(_TRY_LOCK, [name]).fetchone()
        if row and row[0]:
            logger.info("schema %s: left by a measurement that died, dropped", name)
            _drop(conn, name)
            conn.execute(_UNLOCK, [name])


def _drop(conn: Connection[Any], name: str) -> None:
    conn.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(name)))


_KIND = """
    SELECT c.oid::int8, n.nspname, c.relname, c.relkind::text
      FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
     WHERE c.oid = to_regclass(%s)
"""
_SERIALS = """
    SELECT a.attname, format_type(a.atttypid, NULL)
      FROM pg_catalog.pg_attribute AS a
      JOIN pg_catalog.pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
      JOIN pg_catalog.pg_depend AS uses ON uses.classid = 'pg_attrdef'::regclass
       AND uses.objid = d.oid AND uses.refclassid = 'pg_class'::regclass
      JOIN pg_catalog.pg_class AS s ON s.oid = uses.refobjid AND s.relkind = 'S'
     WHERE a.attrelid = %s AND NOT a.attisdropped
"""
_FOREIGN_KEYS = """
    SELECT f.confrelid = f.conrelid AS own, n.nspname, p.relname,
           ARRAY(SELECT a.attname::text FROM unnest(f.conkey) WITH ORDINALITY AS k(num, place)
                   JOIN pg_catalog.pg_attribute AS a
                     ON a.attrelid = f.conrelid AND a.attnum = k.num ORDER BY k.place),
           ARRAY(SELECT a.attname::text FROM unnest(f.confkey) WITH ORDINALITY AS k(num, place)
                   JOIN pg_catalog.pg_attribute AS a
                     ON a.attrelid = f.confrelid AND a.attnum = k.num ORDER BY k.place)
      FROM pg_catalog.pg_constraint AS f
      JOIN pg_catalog.pg_class AS p ON p.oid = f.confrelid
      JOIN pg_catalog.pg_namespace AS n ON n.oid = p.relnamespace
     WHERE f.conrelid = %s AND f.contype = 'f' AND f.conparentid = 0
"""
_TRIGGERS = """
    SELECT t.tgname, pg_catalog.pg_get_triggerdef(t.oid, true)
      FROM pg_catalog.pg_trigger AS t
     WHERE t.tgrelid = %s AND NOT t.tgisinternal AND t.tgenabled <> 'D'
"""
_COLUMNS = """
    SELECT array_agg(attname::text ORDER BY attnum)
      FROM pg_catalog.pg_attribute
     WHERE attrelid = %s AND attnum > 0 AND NOT attisdropped AND attgenerated = ''
"""
_PATH = "SELECT pg_catalog.set_config('search_path', %s, true)"
_LOCK = "SELECT pg_catalog.set_config('lock_timeout', %s, true)"
_OWNED = """
    SELECT a.attname, pg_catalog.pg_get_serial_sequence(%(table)s, a.attname)
      FROM pg_catalog.pg_attribute AS a
     WHERE a.attrelid = to_regclass(%(table)s) AND a.attnum > 0 AND NOT a.attisdropped
       AND pg_catalog.pg_get_serial_sequence(%(table)s, a.attname) IS NOT NULL
"""


def copy_table(
    conn: Connection[Any], schema: str, origin: pg.TableName, *, rows: int, triggers: bool = True
) -> Scratch:
    """Copy a table with all that an insert has to serve.

    Args:
        conn: In autocommit.
        schema: Of `scratch_schema`.
        origin: The table.
        rows: How many of its rows are copied at most.
        triggers: Whether its triggers are.

    Raises:
        UsageError: There is no such table.
        Refused: It is none that can be copied, or somebody holds a lock on it.
    """
    found = conn.execute(_KIND, [origin.identifier.as_string(conn)]).fetchone()
    if found is None:
        raise UsageError(
            f"There is no table {origin}.", next_step="Name it with its schema, or see --dsn."
        )
    oid, its_schema, name, kind = found
    if kind not in ("r", "p"):
        raise Refused(f"{origin} is no table.", next_step="Measure on the table below it.")
    source, copy = sql.Identifier(its_schema, name), sql.Identifier(schema, name)
    with pg.explained(f"copy the table {origin}"), conn.transaction():
        conn.execute(_LOCK, [_LOCK_TIMEOUT])
        conn.execute(sql.SQL("CREATE TABLE {} (LIKE {} INCLUDING ALL)").format(copy, source))
        _own_sequences(conn, oid, schema, name)
        _copy_rows(conn, oid, source, copy, rows)
        _foreign_keys(conn, oid, copy)
        copied = _triggers(conn, oid, schema, its_schema) if triggers else ()
    conn.execute(sql.SQL("ANALYZE {}").format(copy))
    return Scratch(schema, name, pg.TableName(its_schema, name), copied)


def _own_sequences(conn: Connection[Any], oid: int, schema: str, table: str) -> None:
    """Give serial columns sequences of the copy's: the table's own would lose numbers."""
    copy = sql.Identifier(schema, table)
    for column, type_name in conn.execute(_SERIALS, [oid]).fetchall():
        sequence = sql.Identifier(schema, f"{column}_seq")
        create = sql.SQL("CREATE SEQUENCE {} AS {} OWNED BY {}")
        kind = sql.SQL(type_name if type_name in ("smallint", "integer", "bigint") else "bigint")
        owner = sql.Identifier(schema, table, column)
        conn.execute(create.format(sequence, kind, owner))
        default = sql.SQL("ALTER TABLE {} ALTER COLUMN {} SET DEFAULT nextval({})")
        name = sql.Literal(sequence.as_string(conn))
        conn.execute(default.format(copy, sql.Identifier(column), name))


def _copy_rows(
    conn: Connection[Any], oid: int, source: sql.Identifier, copy: sql.Identifier, rows: int
) -> None:
    row = conn.execute(_COLUMNS, [oid]).fetchone()
    assert row is not None  # noqa: S101 - an aggregate has one row
    columns = sql.SQL(", ").join(map(sql.Identifier, row[0] or []))
    insert = sql.SQL(
        "INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE SELECT {} FROM {} LIMIT {}"
    ).format(copy, columns, columns, source, sql.Literal(rows))
    conn.execute(insert)
    table = copy.as_string(conn)
    for column, sequence in conn.execute(_OWNED, {"table": table}).fetchall():
        # Beyond the table's greatest, not the copied rows': a key looks as it does there.
        greatest = sql.SQL("SELECT setval({}, coalesce(max({}), 0)::bigint + 1, false) FROM {}")
        conn.execute(greatest.format(sql.Literal(sequence), sql.Identifier(column), source))


def _foreign_keys(conn: Connection[Any], oid: int, copy: sql.Identifier) -> None:
    """Add the foreign keys, to the tables that they refer to: those are read, and not written."""
    add = sql.SQL("ALTER TABLE {} ADD FOREIGN KEY ({}) REFERENCES {} ({}) NOT VALID")
    for own, schema, name, columns, referred in conn.execute(_FOREIGN_KEYS, [oid]).fetchall():
        target = copy if own else sql.Identifier(schema, name)
        conn.execute(add.format(copy, _names(columns), target, _names(referred)))


def _triggers(conn: Connection[Any], oid: int, schema: str, its_schema: str) -> tuple[str, ...]:
    """Make the triggers again on the copy.

    PostgreSQL writes a name without its schema where search_path finds it
    first; read under the table's path and run under the copy's, a definition
    is the copy's.
    """
    theirs = sql.Identifier(its_schema).as_string(conn)
    conn.execute(_PATH, [theirs])
    definitions = conn.execute(_TRIGGERS, [oid]).fetchall()
    ours = sql.Identifier(schema).as_string(conn)
    conn.execute(_PATH, [f"{ours}, {theirs}"])
    for _, definition in definitions:
        conn.execute(sql.SQL(cast("LiteralString", definition)))
    return tuple(name for name, _ in definitions)


def _names(columns: list[str]) -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Identifier, columns))
