"""Rows that a rebuild carries over: `keep_tables`, as for users and tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from psycopg import Connection, errors, sql

from howdah import pg
from howdah.errors import HowdahError, Refused
from howdah.pg import TableName

_COLUMNS = """
    SELECT a.attname AS name,
           a.attnotnull AND NOT a.atthasdef AND a.attidentity = '' AS is_needed,
           EXISTS (SELECT FROM pg_index AS i WHERE i.indrelid = a.attrelid AND i.indisprimary
                      AND a.attnum = ANY(i.indkey)) AS is_key,
           pg_get_serial_sequence(format('%%I.%%I', n.nspname, c.relname), a.attname) AS sequence
      FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = a.attrelid
      JOIN pg_namespace AS n ON n.oid = c.relnamespace
     WHERE n.nspname = %s AND c.relname = %s
       AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
     ORDER BY a.attnum
"""


@dataclass(frozen=True, slots=True)
class _Column:
    name: str
    is_needed: bool
    is_key: bool
    sequence: str | None


def carry_rows(
    conn: Connection[Any], tables: Sequence[TableName], places: Mapping[str, tuple[str, str]]
) -> list[str]:
    """Copy the rows of live tables into the new ones; a live row wins over a fixture's.

    Inside the transaction of the swap, with writers held off: no row is lost.

    Args:
        conn: To the live database.
        tables: Which.
        places: Where the old and the new tables are now, by the schema's name.

    Returns:
        What did not fit, in sentences.

    Raises:
        Refused: A new column needs a value that the old rows do not have.
        HowdahError: The rows do not fit in with the others, as by a foreign key.
    """
    notes = []
    for table in tables:
        if table.schema is not None and table.schema in places:
            notes += _carry(conn, table, *places[table.schema])
    return notes


def _carry(conn: Connection[Any], table: TableName, source: str, target: str) -> list[str]:
    old = pg.fetch_all(conn, _Column, _COLUMNS, [source, table.table])
    new = pg.fetch_all(conn, _Column, _COLUMNS, [target, table.table])
    if not old or not new:
        return [f"{table} is {'new' if new else 'gone'}, so no rows were carried over"]
    common = [one for one in new if one.name in {column.name for column in old}]
    missing = [one.name for one in new if one.is_needed and one not in common]
    if missing:
        raise Refused(
            f"The rows of {table} cannot be carried over: the new column "
            f"{missing[0]!r} needs a value, and has no default in the database.",
            next_step='Give it db_default or null=True, or take the table out of "keep_tables".',
        )
    try:
        _insert(conn, (source, table.table), (target, table.table), common)
        conn.execute("SET CONSTRAINTS ALL IMMEDIATE")
    except errors.IntegrityError as exc:
        raise HowdahError(
            f"The rows of {table} do not fit in: {' '.join(str(exc).split())}",
            next_step='Add the tables that they refer to to "keep_tables" as well.',
        ) from exc
    lost = [one.name for one in old if one.name not in {column.name for column in common}]
    return [f"{table} lost the columns {', '.join(lost)}"] if lost else []


def _insert(
    conn: Connection[Any],
    source: tuple[str, str],
    target: tuple[str, str],
    columns: Sequence[_Column],
) -> None:
    keys = [sql.Identifier(one.name) for one in columns if one.is_key]
    rest = [sql.Identifier(one.name) for one in columns if not one.is_key]
    action: sql.Composable = sql.SQL("NOTHING")
    if keys and rest:
        sets = (sql.SQL("{} = excluded.{}").format(one, one) for one in rest)
        action = sql.SQL("UPDATE SET {}").format(sql.SQL(", ").join(sets))
    names_of = sql.SQL(", ").join(sql.Identifier(one.name) for one in columns)
    conn.execute(
        sql.SQL(
            "INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE SELECT {} FROM {} ON CONFLICT {} DO {}"
        ).format(
            sql.Identifier(*target),
            names_of,
            names_of,
            sql.Identifier(*source),
            sql.SQL("({})").format(sql.SQL(", ").join(keys)) if keys and rest else sql.SQL(""),
            action,
        )
    )
    for one in columns:
        if one.sequence:
            conn.execute(
                sql.SQL(
                    "SELECT setval(%s::regclass, greatest(max({}), 1), max({}) IS NOT NULL) FROM {}"
                ).format(
                    sql.Identifier(one.name), sql.Identifier(one.name), sql.Identifier(*target)
                ),
                [one.sequence],
            )
