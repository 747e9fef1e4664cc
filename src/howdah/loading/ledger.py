"""Which sources and chunks are committed, so that every record is loaded once.

The contract: rows, their rejects and their ledger row commit in one
transaction, the ledger row first. A second load of the same source waits at
that row and then finds that there is nothing to do. A source that fits one
chunk has one ledger row, finished; for larger ones see begun.py. What an
earlier content of a source left in the table goes in the same transaction; the
rows of one content are told from those of another by `loaded_at`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from psycopg import Connection, sql

from howdah import pg
from howdah.loading.report import Outcome
from howdah.loading.sources import MEMBER_SEPARATOR
from howdah.loading.target import Load, Target
from howdah.loading.told import told

__all__ = [
    "Counts",
    "Finished",
    "Whole",
    "claim_whole",
    "committed",
    "count_whole",
    "finish_archive",
    "finished",
    "finished_members",
    "forget_if_emptied",
    "other_contents",
    "ours",
    "parameters",
    "remove_rows",
    "sweep",
]


@dataclass(frozen=True, slots=True)
class Finished:
    """A source that is in the table.

    Attributes:
        name: Its name.
        fingerprint: That of the content in the table.
        sources: How many sources it counts as: its members, if it is an archive.
        ours: Whether this very load has loaded it.
    """

    name: str
    fingerprint: str
    sources: int
    ours: bool


@dataclass(frozen=True, slots=True)
class Whole:
    """A source that is committed in one transaction.

    Attributes:
        name: Its name.
        fingerprint: Changes when it changes; "" if the next load is to try it again.
        reader: Which reader read it.
        properties: What it says of itself as a whole, as JSON text; None: nothing.
        records: How many records it will have, if the server takes all; 0 where that
            is not known yet.
        rejects: How many rejects it will have then.
    """

    name: str
    fingerprint: str
    reader: str
    properties: str | None = None
    records: int = 0
    rejects: int = 0


@dataclass(frozen=True, slots=True)
class Counts:
    """How much of a source, or of a chunk, is committed."""

    name: str
    records: int
    rejects: int


_IS_EMPTY = "SELECT NOT EXISTS (SELECT FROM {})"

# With a source go its rejects, which would be there twice when it is loaded again.
_FORGET = """
    WITH forgotten AS (
        DELETE FROM howdah.sources
         WHERE target = {target}
           AND (records > 0 OR members > 0 OR EXISTS (SELECT FROM howdah.chunks WHERE source = id))
           AND NOT EXISTS (SELECT FROM {table})
     RETURNING name
    )
    DELETE FROM howdah.rejects
     USING forgotten
     WHERE target = {target} AND source = name
"""


def forget_if_emptied(conn: Connection[Any], target: Target) -> bool:
    """Forget what was loaded into a table that was truncated since; say whether it is empty."""
    row = conn.execute(sql.SQL(_IS_EMPTY).format(target.identifier)).fetchone()
    if row is None or not row[0]:
        return False
    # Values as literals, here and below: psycopg takes a "%" in an identifier
    # for a placeholder as soon as a query has parameters.
    conn.execute(sql.SQL(_FORGET).format(table=target.identifier, target=target.oid))
    return True


_SWEEP = """
    DELETE FROM howdah.{table}
     WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_class WHERE oid = target)
"""
_OF_TARGETS = ("sources", "rejects", "loads", "indexes")


def sweep(conn: Connection[Any]) -> None:
    """Forget what was loaded into tables that were dropped since."""
    sweeps = (sql.SQL(_SWEEP).format(table=sql.Identifier(name)) for name in _OF_TARGETS)
    conn.execute(sql.SQL("; ").join(sweeps))  # in one transaction


# By the index, whatever the statistics say.
_ANY_KNOWN = "SELECT name FROM howdah.sources WHERE target = %s ORDER BY name LIMIT 1"
# The names in binary, a fifth of the time: else psycopg looks into each for what to quote.
_FINISHED = """
    SELECT name, fingerprint, greatest(members, 1) AS sources, loaded_at = %(loaded_at)s AS ours
      FROM howdah.sources
     WHERE target = %(target)s AND finished AND (fingerprint <> '' OR loaded_at = %(loaded_at)s)
       AND loaded_at >= coalesce(%(again_since)s::timestamptz, '-infinity')
       AND name = ANY(%(names)b)
"""


def finished(conn: Connection[Any], load: Load, names: Sequence[str]) -> dict[str, Finished]:
    """Return, by name, those of the sources that are in the table and need not be loaded again."""
    if conn.execute(_ANY_KNOWN, [load.target.oid]).fetchone() is None:
        return {}  # to send thousands of names takes longer
    rows = pg.fetch_all(conn, Finished, _FINISHED, parameters(load, names=list(names)))
    return {row.name: row for row in rows}


# A source that was begun by a killed load, with the same content, is gone on with.
_OTHER_CONTENTS = """
    SELECT name
      FROM howdah.sources
      JOIN unnest(%(names)s::text[], %(fingerprints)s::text[]) AS wanted (name, fingerprint)
     USING (name)
     WHERE target = %(target)s
       AND (sources.records + sources.members > 0
            OR EXISTS (SELECT FROM howdah.chunks WHERE source = sources.id))
       AND (sources.finished OR sources.fingerprint <> wanted.fingerprint)
     ORDER BY name
"""


def other_contents(
    conn: Connection[Any], load: Load, sources: Collection[tuple[str, str]]
) -> list[str]:
    """Return which sources, given with their fingerprints, are in the table in another way."""
    names, fingerprints = zip(*sources, strict=True) if sources else ((), ())
    values = parameters(load, names=list(names), fingerprints=list(fingerprints))
    return [name for (name,) in conn.execute(_OTHER_CONTENTS, values)]


_FINISHED_MEMBERS = """
    SELECT name, records, rejects, loaded_at = %(loaded_at)s AS ours
      FROM howdah.sources
     WHERE target = %(target)s AND finished AND fingerprint = %(fingerprint)s AND fingerprint <> ''
       AND loaded_at >= coalesce(%(again_since)s::timestamptz, '-infinity')
       AND starts_with(name, %(prefix)s)
"""


def finished_members(
    conn: Connection[Any], load: Load, archive: str, fingerprint: str
) -> dict[str, Counts | None]:
    """Return, by name, the archive's members that are committed; with counts where by this load."""
    values = parameters(load, prefix=archive + MEMBER_SEPARATOR, fingerprint=fingerprint)
    return {
        name: Counts(name, records, rejects) if ours else None
        for name, records, rejects, ours in conn.execute(_FINISHED_MEMBERS, values)
    }


# In the order of the names: two loads that claim the same ones cannot deadlock.
_CLAIM_WHOLE = """
    INSERT INTO howdah.sources AS known
           (target, name, fingerprint, loaded_at, cut, finished, properties, options,
            records, rejects)
    SELECT %(target)s, name, fingerprint, %(loaded_at)s, reader, true, properties::jsonb,
           %(options)s::jsonb, records, rejects
      FROM jsonb_to_recordset(%(sources)s::jsonb)
           AS source (name text, fingerprint text, reader text, properties text,
                      records bigint, rejects bigint)
     ORDER BY name
        ON CONFLICT (target, name) DO UPDATE
       SET fingerprint = excluded.fingerprint, loaded_at = excluded.loaded_at,
           cut = excluded.cut, finished = true, replaces = true, properties = excluded.properties,
           options = excluded.options,
           members = 0, records = excluded.records, rejects = excluded.rejects
     WHERE NOT known.finished
        OR known.fingerprint <> excluded.fingerprint
        -- not what this load has committed itself, before it lost the answer
        OR (known.fingerprint = '' AND known.loaded_at <> excluded.loaded_at)
        OR known.loaded_at < coalesce(%(again_since)s::timestamptz, '-infinity')
 RETURNING name, replaces
"""


def claim_whole(conn: Connection[Any], load: Load, sources: Collection[Whole]) -> set[str]:
    """Mark sources as loaded in this transaction, and remove their old rows.

    Returns:
        The names of those that are ours to load; the others have been loaded
        by another load meanwhile.
    """
    # As JSON, which orjson makes of the dataclasses themselves: six arrays take psycopg ten
    # times as long, 12 us a document.
    rows = orjson.dumps(list(sources)).decode()
    values = parameters(load, sources=rows, options=told(load))
    claimed = conn.execute(_CLAIM_WHOLE, values).fetchall()
    remove_rows(conn, load.target, [name for name, replaces in claimed if replaces], load.loaded_at)
    return {name for name, _ in claimed}


_COUNT_WHOLE = """
    UPDATE howdah.sources
       SET records = counted.records, rejects = counted.rejects
      FROM unnest(%(names)s::text[], %(records)s::bigint[], %(rejects)s::bigint[])
           AS counted (name, records, rejects)
     WHERE target = %(target)s AND sources.name = counted.name
"""


def count_whole(conn: Connection[Any], load: Load, counts: Collection[Counts]) -> None:
    """Note the records and rejects of sources that this transaction has claimed."""
    if not counts:
        return
    values = parameters(
        load,
        names=[source.name for source in counts],
        records=[source.records for source in counts],
        rejects=[source.rejects for source in counts],
    )
    conn.execute(_COUNT_WHOLE, values)


_OURS = """
    SELECT name, records, rejects
      FROM howdah.sources
     WHERE target = %(target)s AND name = ANY(%(names)s) AND finished
       AND loaded_at = %(loaded_at)s
"""


def ours(conn: Connection[Any], load: Load, names: Collection[str]) -> list[Counts]:
    """Return those sources that a worker of this very load committed before it died."""
    return pg.fetch_all(conn, Counts, _OURS, parameters(load, names=list(names)))


_COMMITTED = """
    SELECT count(*) FILTER (WHERE finished AND members = 0) AS sources,
           coalesce(sum(known.records + coalesce(part.records, 0)), 0)::bigint AS records,
           coalesce(sum(known.rejects + coalesce(part.rejects, 0)), 0)::bigint AS rejects
      FROM (SELECT id, finished, members,
                   CASE WHEN finished AND loaded_at = %(loaded_at)s THEN records ELSE 0 END
                       AS records,
                   CASE WHEN finished AND loaded_at = %(loaded_at)s THEN rejects ELSE 0 END
                       AS rejects
              FROM howdah.sources
             WHERE target = %(target)s AND (loaded_at = %(loaded_at)s OR NOT finished)) AS known
      LEFT JOIN (SELECT source, sum(records) AS records, sum(rejects) AS rejects
                   FROM howdah.chunks
                  WHERE load = %(loaded_at)s
                  GROUP BY source) AS part ON source = id
"""


def committed(conn: Connection[Any], load: Load) -> Outcome:
    """Return what the ledger says that this load has committed: sources, records and rejects.

    Of a source that a killed load began and this one has finished, nothing: the
    ledger does not say who loaded how much of it.
    """
    found = pg.fetch_one(conn, Outcome, _COMMITTED, parameters(load))
    assert found is not None  # noqa: S101 - an aggregate has one row
    return found


_FINISH_ARCHIVE = """
    INSERT INTO howdah.sources AS known
           (target, name, fingerprint, loaded_at, cut, finished, members, options)
    VALUES (%(target)s, %(name)s, %(fingerprint)s, %(loaded_at)s, 'archive', true, %(members)s,
            %(options)s::jsonb)
        ON CONFLICT (target, name) DO UPDATE
       SET fingerprint = excluded.fingerprint, loaded_at = excluded.loaded_at, cut = excluded.cut,
           finished = true, replaces = true, members = excluded.members, records = 0, rejects = 0,
           options = excluded.options
 RETURNING replaces
"""
_STALE_MEMBERS = """
    DELETE FROM howdah.sources
     WHERE target = %(target)s AND starts_with(name, %(prefix)s)
       AND (fingerprint <> %(fingerprint)s
            OR (fingerprint = '' AND loaded_at <> %(loaded_at)s))
 RETURNING name
"""


def finish_archive(
    conn: Connection[Any], load: Load, name: str, fingerprint: str, members: int
) -> None:
    """Mark an archive as loaded, all its members being committed, and remove members it lost."""
    values = parameters(load, name=name, fingerprint=fingerprint, members=members)
    values |= {"options": told(load), "prefix": name + MEMBER_SEPARATOR}
    with conn.transaction():
        row = conn.execute(_FINISH_ARCHIVE, values).fetchone()
        if row and row[0]:
            gone = [name for (name,) in conn.execute(_STALE_MEMBERS, values)]
            # The archive's own name too: it may have been no archive before.
            remove_rows(conn, load.target, [*gone, name], load.loaded_at)


_REMOVE_ROWS = "DELETE FROM {table} WHERE source = ANY({names}) AND loaded_at <> {loaded_at}"
_REMOVE_REJECTS = """
    DELETE FROM howdah.rejects
     WHERE target = %(target)s AND source = ANY(%(names)s) AND loaded_at <> %(loaded_at)s
"""
_REMOVE_CHUNKS = """
    DELETE FROM howdah.chunks
     USING howdah.sources
     WHERE source = sources.id AND sources.finished
       AND target = %(target)s AND name = ANY(%(names)s)
"""


def remove_rows(
    conn: Connection[Any], target: Target, names: Iterable[str], loaded_at: datetime
) -> None:
    """Remove what earlier contents of sources left: all their rows but those of `loaded_at`."""
    values = {"names": list(names), "loaded_at": loaded_at}
    if values["names"]:
        if target.columns is None:  # else no column tells whose rows they are
            conn.execute(sql.SQL(_REMOVE_ROWS).format(table=target.identifier, **values))
        values["target"] = target.oid
        conn.execute(_REMOVE_REJECTS, values)
        conn.execute(_REMOVE_CHUNKS, values)


def parameters(load: Load, **more: object) -> dict[str, object]:
    """Return the parameters that a query about a load takes, and more."""
    return {
        "target": load.target.oid,
        "loaded_at": load.loaded_at,
        "again_since": load.again_since,
        **more,
    }
