"""The inserts and updates that cost a database most, as pg_stat_statements has them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from psycopg import Connection, errors, sql

from howdah import pg

__all__ = ["Costly", "costly_statements", "shortened"]

_COSTLIEST = 20


@dataclass(frozen=True, slots=True)
class Costly:
    """A statement that the server has done often.

    Attributes:
        query: With `$1`, `$2` for values.
        calls: How often.
        total_ms: How long in all, in milliseconds.
        rows: Inserted or updated in all.
    """

    query: str
    calls: int
    total_ms: float
    rows: int


_COSTLY = r"""
    SELECT query, calls, total_exec_time AS total_ms, rows
      FROM {}
     WHERE dbid = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
       AND query ~* '^(\s|--[^\n]*\n|/\*([^*]|\*[^/])*\*/)*(insert\s+into|update)\s'
       AND query !~* 'howdah'
     ORDER BY total_exec_time DESC
     LIMIT {}
"""
_EXTENSION = """
    SELECT n.nspname FROM pg_catalog.pg_extension AS e
      JOIN pg_catalog.pg_namespace AS n ON n.oid = e.extnamespace
     WHERE e.extname = 'pg_stat_statements'
"""


def costly_statements(conn: Connection[Any]) -> list[Costly]:
    """Return the inserts and updates that cost most in this database; none where it is not told.

    It is told where pg_stat_statements is loaded, and created in this database.
    """
    found = conn.execute(_EXTENSION).fetchone()
    if found is None:
        return []
    view = sql.Identifier(found[0], "pg_stat_statements")
    query = sql.SQL(_COSTLY).format(view, sql.Literal(_COSTLIEST))
    try:
        return pg.fetch_all(conn, Costly, query)
    except errors.ObjectNotInPrerequisiteState:  # created, and not in shared_preload_libraries
        return []


def shortened(query: str, length: int) -> str:
    """Return a statement in one line of at most that length."""
    line = " ".join(query.split())
    return line if len(line) <= length else f"{line[: length - 4]} ..."
