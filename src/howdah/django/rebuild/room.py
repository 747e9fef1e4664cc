"""How much disk a rebuild takes, and how much there is, where that can be known."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from psycopg import Connection

from howdah import pg
from howdah.server.runner import local_server

_EMPTY = "SELECT pg_database_size('template0')"
_PLACES = """
    SELECT pg_tablespace_location(d.dattablespace) AS of_database,
           (SELECT pg_tablespace_location(t.oid) FROM pg_tablespace AS t
             WHERE t.spcname = current_setting('default_tablespace')) AS of_tables
      FROM pg_database AS d WHERE d.datname = current_database()
"""


@dataclass(frozen=True, slots=True)
class _Places:
    of_database: str
    of_tables: str | None


@dataclass(frozen=True, slots=True)
class Room:
    """Disk, in bytes.

    Attributes:
        aside_bytes: What a rebuild aside takes at its height: the database that it builds in,
            where nothing is kept, and the new tables beside the old ones.
        in_place_bytes: What a rebuild in place takes: the new tables beside the old ones.
        free_bytes: What is free where the tables go; None: the server is on another host.
    """

    aside_bytes: int
    in_place_bytes: int
    free_bytes: int | None

    def fits(self, needed_bytes: int) -> bool:
        """Say whether that fits, as far as is known."""
        return self.free_bytes is None or needed_bytes <= self.free_bytes


def room(
    conn: Connection[Any], tables_bytes: int, kept_bytes: int | None, *, is_kept: bool
) -> Room:
    """Return what a rebuild of a database takes, and what is free where its tables go.

    The new tables are thought to be as large as those of the last result.

    Args:
        conn: To the live database.
        tables_bytes: Size of the tables that are there: what is known where nothing is kept.
        kept_bytes: Size of the database that keeps the last result; None: there is none.
        is_kept: The result is there already, and is only to be carried over.
    """
    row = conn.execute(_EMPTY).fetchone()
    places = pg.fetch_one(conn, _Places, _PLACES)
    assert row is not None  # noqa: S101 - a SELECT without FROM has one row
    assert places is not None  # noqa: S101 - we are connected to a database
    empty_bytes = int(row[0])
    tables = tables_bytes if kept_bytes is None else max(kept_bytes - empty_bytes, 0)
    beside = 0 if is_kept else tables
    if places.of_tables is None and not is_kept:
        beside += empty_bytes
    place = places.of_database if places.of_tables is None else places.of_tables
    return Room(beside + tables, tables, _free(conn, place))


def _free(conn: Connection[Any], tablespace: str) -> int | None:
    """Return what is free in a tablespace, where the server's files are here."""
    if (local := local_server(conn)) is None:
        return None
    try:
        return shutil.disk_usage(Path(tablespace) if tablespace else local.data).free
    except OSError:  # in a container, or hidden from us
        return None
