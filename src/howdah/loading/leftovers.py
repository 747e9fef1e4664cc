"""What killed loads have left in a database, and no load that is alive needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from psycopg import Connection

from howdah import pg
from howdah.loading.aside import MARK

__all__ = ["DroppedIndexes", "TableAside", "dropped_indexes", "tables_aside"]


@dataclass(frozen=True, slots=True)
class TableAside:
    """A table that a load with `--replace` has made beside another.

    Attributes:
        name: Its name, qualified and quoted.
        size_bytes: What it takes of the disk, in bytes.
    """

    name: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class DroppedIndexes:
    """Indexes of a table that a load with `--defer-indexes` has dropped.

    Attributes:
        table: The table, qualified and quoted.
        count: How many they are.
    """

    table: str
    count: int


# The locks are those of aside.py: of who replaces a table, and of who writes to the one beside it.
# The latter's name is that of the table, which may have been cut, and a suffix of six characters.
_ASIDE = """
      WITH held AS (
           SELECT (classid::bigint << 32) | objid::bigint AS key
             FROM pg_catalog.pg_locks
            WHERE locktype = 'advisory' AND objsubid = 1 AND granted
              AND database = (SELECT oid FROM pg_catalog.pg_database
                               WHERE datname = current_database())
           )
    SELECT format('%%I.%%I', nspname, aside.relname) AS name,
           pg_total_relation_size(aside.oid) AS size_bytes
      FROM pg_catalog.pg_description
      JOIN pg_catalog.pg_class AS aside ON aside.oid = objoid
      JOIN pg_catalog.pg_namespace ON pg_namespace.oid = relnamespace
     WHERE classoid = 'pg_catalog.pg_class'::regclass AND objsubid = 0 AND description = %s
       AND relkind = 'r'
       AND NOT EXISTS (SELECT FROM held
                        WHERE key = hashtextextended('howdah: write to ' || aside.oid, 0))
       AND NOT EXISTS (SELECT FROM held JOIN pg_catalog.pg_class AS target
                                     ON key = hashtextextended('howdah: replace ' || target.oid, 0)
                        WHERE target.relnamespace = aside.relnamespace
                          AND starts_with(target.relname, left(aside.relname, -6)))
     ORDER BY 1
"""


def tables_aside(conn: Connection[Any]) -> list[TableAside]:
    """Return the tables beside others that no load fills."""
    return pg.fetch_all(conn, TableAside, _ASIDE, [MARK])


_READABLE = """
    SELECT true
      FROM pg_catalog.pg_class
      JOIN pg_catalog.pg_namespace ON pg_namespace.oid = relnamespace
     WHERE nspname = 'howdah' AND relname = 'indexes'
       AND has_schema_privilege(pg_namespace.oid, 'USAGE')
       AND has_table_privilege(pg_class.oid, 'SELECT')
"""
# The lock is that of indexes.py.
_DROPPED = """
    SELECT format('%I.%I', nspname, relname) AS "table", count(*) AS count
      FROM howdah.indexes
      JOIN pg_catalog.pg_class ON pg_class.oid = target
      JOIN pg_catalog.pg_namespace ON pg_namespace.oid = relnamespace
     WHERE NOT EXISTS (
           SELECT FROM pg_catalog.pg_locks
            WHERE locktype = 'advisory' AND objsubid = 1 AND granted
              AND database = (SELECT oid FROM pg_catalog.pg_database
                               WHERE datname = current_database())
              AND (classid::bigint << 32) | objid::bigint
                  = hashtextextended('howdah: indexes of ' || pg_class.oid, 0)
           )
     GROUP BY 1
     ORDER BY 1
"""


def dropped_indexes(conn: Connection[Any]) -> list[DroppedIndexes]:
    """Return, by table, the dropped indexes that no load is about to build again.

    There are none where the role may not read `howdah.indexes`.
    """
    if conn.execute(_READABLE).fetchone() is None:
        return []
    return pg.fetch_all(conn, DroppedIndexes, _DROPPED)
