"""The table that records go to, and what one load is."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from psycopg import Connection, sql

from howdah import pg
from howdah.errors import Refused
from howdah.loading.limits import Limits

__all__ = ["COLUMNS", "Load", "Target", "prepare"]

# The attributes last: a binary COPY then frames a record as one header and its text.
COLUMNS = ("source", "loaded_at", "record", "attributes")

# CACHE: without it two backends wait for each other at the sequence, for each row.
_CREATE = """
    CREATE TABLE {table} (
        id         bigint      GENERATED ALWAYS AS IDENTITY (CACHE 1000),
        source     text        NOT NULL,
        record     bigint      NOT NULL,
        attributes jsonb       NOT NULL,
        loaded_at  timestamptz NOT NULL DEFAULT now()
    )
"""
_COMMENT = "COMMENT ON TABLE {table} IS 'loaded by howdah: one row per record or document'"

_LOOK_UP = """
    SELECT pg_class.oid::bigint AS oid,
           nspname AS schema,
           relname AS name,
           array(SELECT attname::text || ' ' || format_type(atttypid, NULL)
                   FROM pg_catalog.pg_attribute
                  WHERE attrelid = pg_class.oid AND attnum > 0 AND NOT attisdropped) AS columns
      FROM pg_catalog.pg_class
      JOIN pg_catalog.pg_namespace ON pg_namespace.oid = relnamespace
     WHERE pg_class.oid = to_regclass(%s)
"""
_NEEDED = {
    "source text",
    "loaded_at timestamp with time zone",
    "record bigint",
    "attributes jsonb",
}


@dataclass(frozen=True, slots=True)
class Target:
    """A table that takes records.

    Attributes:
        oid: Its oid; a table that is dropped and made again has another.
        schema: Its schema.
        name: Its name in the schema.
    """

    oid: int
    schema: str
    name: str

    @property
    def identifier(self) -> sql.Identifier:
        """The qualified name for `psycopg.sql`."""
        return sql.Identifier(self.schema, self.name)

    def __str__(self) -> str:
        return self.name if self.schema == "public" else f"{self.schema}.{self.name}"


@dataclass(frozen=True, slots=True)
class Load:
    """One run of `load`, as its workers know it.

    Attributes:
        target: Where the records go.
        loaded_at: The value of `loaded_at` in the rows of sources that this run begins;
            with the source's name it tells their current rows from older ones.
        again_since: Sources that were finished before this moment are loaded
            even if unchanged; None: unchanged ones are left alone.
        limits: What it bears before it gives up.
    """

    target: Target
    loaded_at: datetime
    again_since: datetime | None = None
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True, slots=True)
class _Table:
    oid: int
    schema: str
    name: str
    columns: list[str]


def prepare(conn: Connection[Any], table: pg.TableName) -> Target:
    """Return the table of that name, made where it is missing, and its schema too.

    Raises:
        Refused: It exists and has not the columns of `COLUMNS`, or the role may not make it.
    """
    with conn.transaction(), pg.explained(f"create the table {table}"):
        found = _look_up(conn, table)
        if found is None:
            # Two loads that start at once: CREATE ... IF NOT EXISTS alone can
            # fail on the catalog's unique index.
            pg.xact_lock(conn, "howdah: create a target table")
            found = _look_up(conn, table) or _create(conn, table)
    assert found is not None  # noqa: S101 - it is there or was just made
    missing = sorted(_NEEDED - set(found.columns))
    if missing:
        raise Refused(
            f"The table {table} has no column {', '.join(missing)}.",
            next_step="Name another table with --table; it is created when missing.",
        )
    return Target(found.oid, found.schema, found.name)


def _look_up(conn: Connection[Any], table: pg.TableName) -> _Table | None:
    return pg.fetch_one(conn, _Table, _LOOK_UP, [table.identifier.as_string(conn)])


# Not the ledger's schema: it is the first of the search_path ("$user", public)
# of a role that is called howdah.
_SCHEMA_FOR_NEW = """
    SELECT name::text
      FROM unnest(current_schemas(false)) WITH ORDINALITY AS path (name, place)
     WHERE name <> 'howdah'
     ORDER BY place
     LIMIT 1
"""
# Looked up, since CREATE SCHEMA IF NOT EXISTS needs the right to create it even if it is there.
_NO_SCHEMA = "SELECT true WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = %s)"


def _create(conn: Connection[Any], table: pg.TableName) -> _Table | None:
    if table.schema is None:
        row = conn.execute(_SCHEMA_FOR_NEW).fetchone()
        if row is None:
            raise Refused(
                f"The search_path names no schema that the table {table} could be created in.",
                next_step=f"Write it with its schema, as in --table public.{table}.",
            )
        table = pg.TableName(row[0], table.table)
    elif conn.execute(_NO_SCHEMA, [table.schema]).fetchone():
        conn.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(table.schema)))
    for statement in (_CREATE, _COMMENT):
        conn.execute(sql.SQL(statement).format(table=table.identifier))
    return _look_up(conn, table)
