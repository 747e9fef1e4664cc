"""The table that records go to, and what one load is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, LiteralString

from psycopg import Connection, errors, sql

from howdah import pg
from howdah.errors import Refused
from howdah.loading.columns import MARK, Columns, columns_of, matched, writable
from howdah.loading.limits import Limits
from howdah.loading.readers.options import ReaderOptions

if TYPE_CHECKING:
    from howdah.loading.sources import SourceFile

__all__ = ["COLUMNS", "Load", "Target", "found", "prepare"]

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
           relkind IN ('r', 'p', 'f') AS is_table,
           coalesce(obj_description(pg_class.oid, 'pg_class'), '') AS comment,
           row_security_active(pg_class.oid) AS has_row_security,
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
        columns: How records become rows; None: as `COLUMNS` has it.
        replaces: The table that this one is beside and is to replace (aside.py); None: it is
            loaded into itself.
    """

    oid: int
    schema: str
    name: str
    columns: Columns | None = None
    replaces: str | None = None

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
        options: What the readers are told; part of the fingerprint of each source.
        limits: What it bears before it gives up.
    """

    target: Target
    loaded_at: datetime
    again_since: datetime | None = None
    options: ReaderOptions = field(default_factory=ReaderOptions)
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True, slots=True)
class _Table:
    oid: int
    schema: str
    name: str
    is_table: bool
    comment: str
    has_row_security: bool
    columns: list[str]


def prepare(
    conn: Connection[Any],
    table: pg.TableName,
    columns: Columns | None = None,
    files: Sequence[SourceFile] = (),
    options: ReaderOptions | None = None,
) -> Target:
    """Return the table of that name, made where it is missing, and its schema too.

    Args:
        conn: A connection that is not in a transaction.
        table: Its name.
        columns: How records become rows; None: as documents, but in a table that
            is there and has other columns than `COLUMNS`.
        files: What is to be loaded: the columns of a new table are told from a sample.
        options: How they are to be read.

    Raises:
        Refused: The table has not the columns, the index or the kind that is needed, or
            the role may not make it.
    """
    found = _look_up(conn, table)
    if found is None and columns is not None:
        if columns.updates_only:
            raise Refused(
                f"There is no table {table} whose rows could be updated.",
                next_step="Load without --update-on to make it.",
            )
        from howdah.loading import sampling, typed  # which a load of documents does not need

        sample = sampling.sample(
            files, options or ReaderOptions()
        )  # takes a while: not under the lock
    if found is None:
        with conn.transaction(), pg.explained(f"create the table {table}"):
            # Two loads that start at once: CREATE ... IF NOT EXISTS alone can
            # fail on the catalog's unique index.
            pg.xact_lock(conn, "howdah: create a target table")
            found = _look_up(conn, table)
            if found is None:
                table = _in_schema(conn, table)
                if columns is None:
                    _create(conn, table)
                else:
                    typed.create(conn, table.identifier, sample, columns.key, columns.extra)
                found = _look_up(conn, table)
    assert found is not None  # noqa: S101 - it is there or was just made
    return _target(conn, found, columns)


def found(conn: Connection[Any], table: pg.TableName) -> Target:
    """Return the table of that name.

    Raises:
        Refused: There is none.
    """
    there = _look_up(conn, table)
    if there is None:
        raise Refused(
            f"There is no table {table}.", next_step="Name it with --table NAME or SCHEMA.NAME."
        )
    return Target(there.oid, there.schema, there.name)


def _target(conn: Connection[Any], found: _Table, columns: Columns | None) -> Target:
    target = Target(found.oid, found.schema, found.name)
    if not found.is_table:
        raise Refused(
            f"{target} is a view or the like, not a table.",
            next_step="Name another table with --table; it is created when missing.",
        )
    if columns is None:
        missing = sorted(_NEEDED - set(found.columns))
        if not missing:
            return target
        if "attributes jsonb" in found.columns:  # nearly a table of ours: a mistake, not a plan
            raise Refused(
                f"The table {target} has no column {', '.join(missing)}.",
                next_step="Name another table with --table; it is created when missing. Or have "
                "each attribute in a column of its name: --as columns.",
            )
        columns = Columns()
    columns = replace(columns, grows=found.comment == MARK, staged=found.has_row_security)
    return replace(target, columns=_checked(conn, target, columns))


_UNIQUE = """
    SELECT EXISTS (
        SELECT FROM pg_catalog.pg_index
         WHERE indrelid = %(oid)s AND indisunique AND indimmediate AND indisvalid
           AND indpred IS NULL AND indexprs IS NULL
           AND (SELECT array_agg(attname::text ORDER BY attname::text)
                  FROM unnest(indkey[:indnkeyatts - 1]) AS place
                  JOIN pg_catalog.pg_attribute ON attrelid = indrelid AND attnum = place)
               = (SELECT array_agg(name ORDER BY name) FROM unnest(%(key)s::text[]) AS name))
"""
_COMPARED = "SELECT FROM {table} WHERE false GROUP BY {key}"


def _checked(conn: Connection[Any], target: Target, columns: Columns) -> Columns:
    """Return the columns' plan with the key as the table spells it, if the table allows it."""
    known = writable(columns_of(conn, target.oid))
    found = matched(columns.key, known)
    if missing := [name for name in columns.key if name not in found]:
        raise Refused(
            f"The table {target} has no column {', '.join(missing)} that could be the key.",
            next_step=f"It has {', '.join(known)}.",
        )
    columns = replace(columns, key=tuple(found[name] for name in columns.key))
    extra = columns.extra
    if extra is not None and not (extra in known and known[extra].is_json):
        raise Refused(
            f"The table {target} has no json or jsonb column {extra} for the other attributes.",
            next_step=f"Add it: {_statement(_ADD_EXTRA, target, [extra])};",
        )
    if columns.merges and columns.key:
        _check_key(conn, target, columns)
    return columns


_ADD_EXTRA = "ALTER TABLE {table} ADD COLUMN {columns} jsonb"
_ADD_INDEX = "CREATE UNIQUE INDEX ON {table} ({columns})"


def _check_key(conn: Connection[Any], target: Target, columns: Columns) -> None:
    """Raise Refused where rows cannot be found by the key."""
    names = ", ".join(columns.key)
    if not columns.updates_only:
        row = conn.execute(_UNIQUE, {"oid": target.oid, "key": list(columns.key)}).fetchone()
        if row is None or not row[0]:
            raise Refused(
                f"The table {target} has no unique index on {names}, "
                "by which a conflict could be seen.",
                next_step=f"Make one: {_statement(_ADD_INDEX, target, columns.key)};",
            )
    key = sql.SQL(", ").join(map(sql.Identifier, columns.key))
    try:
        conn.execute(sql.SQL(_COMPARED).format(table=target.identifier, key=key))
    except errors.UndefinedFunction as exc:
        raise Refused(
            f"The key {names} of {target} has a type whose values cannot be compared.",
            next_step="Choose other columns with --key or --update-on.",
        ) from exc


def _statement(query: LiteralString, target: Target, names: Sequence[str]) -> str:
    columns = sql.SQL(", ").join(map(sql.Identifier, names))
    return sql.SQL(query).format(table=target.identifier, columns=columns).as_string()


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


def _in_schema(conn: Connection[Any], table: pg.TableName) -> pg.TableName:
    """Return the name with the schema that the table is to be made in, which is there."""
    if table.schema is None:
        row = conn.execute(_SCHEMA_FOR_NEW).fetchone()
        if row is None:
            raise Refused(
                f"The search_path names no schema that the table {table} could be created in.",
                next_step=f"Write it with its schema, as in --table public.{table}.",
            )
        return pg.TableName(row[0], table.table)
    if conn.execute(_NO_SCHEMA, [table.schema]).fetchone():
        conn.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(table.schema)))
    return table


def _create(conn: Connection[Any], table: pg.TableName) -> None:
    for statement in (_CREATE, _COMMENT):
        conn.execute(sql.SQL(statement).format(table=table.identifier))
