"""The rejects that are kept in a database: found, counted, shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg import Connection

from howdah import pg
from howdah.errors import UsageError

__all__ = [
    "Chosen",
    "KeptReject",
    "RejectGroup",
    "chosen_rejects",
    "kept_reject",
    "reject_groups",
]


@dataclass(frozen=True, slots=True)
class Chosen:
    """Which rejects are meant; all that is None chooses all.

    Attributes:
        ids: Those with these ids.
        table: Those of this table, `name` or `schema.name`.
        source: Those of this source, and of the members of the archive that it is.
    """

    ids: Sequence[int] | None = None
    table: str | None = None
    source: str | None = None


@dataclass(frozen=True, slots=True)
class RejectGroup:
    """Rejects of one source of a table, for one reason.

    Attributes:
        table: The table, as a person writes it.
        source: The source's name.
        reason: Why they were not loaded.
        rejects: How many there are.
        latest_id: The id of the one that was kept last.
        loaded_at: When its load began, in ISO 8601.
    """

    table: str
    source: str
    reason: str
    rejects: int
    latest_id: int
    loaded_at: str


@dataclass(frozen=True, slots=True)
class KeptReject:
    """A reject as it is kept.

    Attributes:
        id: Its id in howdah.rejects.
        target: The oid of the table.
        table: The table, as a person writes it.
        source: The source's name.
        record: Its number in the source; None for the source as a whole.
        place: Where it stands, for a person.
        reason: Why it was not loaded.
        loaded_at: That of the rows of the same content of the source.
        content: Its bytes; None for the source as a whole.
        options: What its load was told (told.py).
    """

    id: int
    target: int
    table: str
    source: str
    record: int | None
    place: str
    reason: str
    loaded_at: datetime
    content: bytes | None
    options: dict[str, Any] | None = None


_INSTALLED = "SELECT to_regclass('howdah.rejects') IS NOT NULL"
_GROUPS = """
    SELECT target::regclass::text AS table, source, reason, count(*) AS rejects,
           max(id) AS latest_id,
           to_char(max(loaded_at) AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') AS loaded_at
      FROM howdah.rejects
     WHERE (%(ids)s::bigint[] IS NULL OR id = ANY(%(ids)s))
       AND (%(table)s::text IS NULL OR target = to_regclass(%(table)s))
       AND (%(source)s::text IS NULL OR source = %(source)s
            OR starts_with(source, %(source)s || '!/'))
     GROUP BY target, source, reason
     ORDER BY max(id) DESC
"""
_CHOSEN = """
    SELECT id, target::oid::bigint AS target, target::regclass::text AS table, source, record,
           place, reason, loaded_at, content,
           -- by way of the whole row: an earlier ledger has no such column
           (SELECT nullif(to_jsonb(known) -> 'options', 'null') FROM howdah.sources AS known
             WHERE known.target = rejects.target AND known.name = rejects.source) AS options
      FROM howdah.rejects
     WHERE (%(ids)s::bigint[] IS NULL OR id = ANY(%(ids)s))
       AND (%(table)s::text IS NULL OR target = to_regclass(%(table)s))
       AND (%(source)s::text IS NULL OR source = %(source)s
            OR starts_with(source, %(source)s || '!/'))
     ORDER BY target, source, id
"""


def reject_groups(dsn: str, chosen: Chosen | None = None) -> list[RejectGroup]:
    """Return how many rejects there are by table, source and reason, newest first."""
    with pg.connect(dsn) as conn, pg.explained("read howdah.rejects"):
        if not _is_installed(conn):
            return []
        return pg.fetch_all(conn, RejectGroup, _GROUPS, _values(conn, chosen or Chosen()))


def chosen_rejects(
    conn: Connection[Any], chosen: Chosen, *, all_there: bool = True
) -> list[KeptReject]:
    """Return rejects with their bytes, by source, in the order in which they were found.

    Args:
        conn: The database.
        chosen: Which ones.
        all_there: Whether each id that is asked for must be there.

    Raises:
        UsageError: An id that was asked for is not there.
    """
    found = []
    if _is_installed(conn):
        found = pg.fetch_all(conn, KeptReject, _CHOSEN, _values(conn, chosen))
    missing = set(chosen.ids or ()) - {reject.id for reject in found}
    if missing and all_there:
        raise UsageError(
            f"There is no reject {', '.join(map(str, sorted(missing)))}.",
            next_step="See 'howdah rejects list'; a reject is gone when its record is loaded.",
        )
    return found


def kept_reject(dsn: str, number: int) -> KeptReject:
    """Return one reject.

    Raises:
        UsageError: There is none with this id.
    """
    with pg.connect(dsn) as conn, pg.explained("read howdah.rejects"):
        return chosen_rejects(conn, Chosen(ids=[number]))[0]


def _is_installed(conn: Connection[Any]) -> bool:
    row = conn.execute(_INSTALLED).fetchone()
    return row is not None and bool(row[0])


def _values(conn: Connection[Any], chosen: Chosen) -> dict[str, object]:
    table = chosen.table and pg.TableName.parse(chosen.table).identifier.as_string(conn)
    ids = None if chosen.ids is None else list(chosen.ids)
    return {"ids": ids, "table": table, "source": chosen.source}
