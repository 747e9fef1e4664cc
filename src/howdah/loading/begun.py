"""Sources of several chunks in the ledger: begun, committed chunk by chunk, finished.

A killed load's source stays begun, and the next load goes on with its missing
chunks; two loads of one source share its chunks. Finishing a source removes
what an earlier content of it left in the table, so that readers of the table
see the old rows until all new ones are there.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg import Connection, sql

from howdah import pg
from howdah.loading import ledger
from howdah.loading.target import Load
from howdah.loading.told import told

__all__ = ["Begun", "begin", "chunk_of_ours", "claim_chunk", "count_chunk", "finish"]


@dataclass(frozen=True, slots=True)
class Begun:
    """A source that takes several chunks.

    Attributes:
        id: Its id in howdah.sources.
        name: Its name.
        loaded_at: That of its rows: this load's, or the killed load's that is being resumed.
        done: Numbers of the chunks that are committed.
    """

    id: int
    name: str
    loaded_at: datetime
    done: frozenset[int]


_BEGIN = """
    INSERT INTO howdah.sources AS known
           (target, name, fingerprint, loaded_at, cut, finished, properties, options)
    VALUES (%(target)s, %(name)s, %(fingerprint)s, %(loaded_at)s, %(cut)s, false,
            %(properties)s::jsonb, %(options)s::jsonb)
        ON CONFLICT (target, name) DO UPDATE
       SET fingerprint = excluded.fingerprint, cut = excluded.cut, finished = false,
           properties = excluded.properties, options = excluded.options,
           replaces = known.replaces OR NOT {resumes},
           loaded_at = CASE WHEN {resumes} THEN known.loaded_at ELSE excluded.loaded_at END
     WHERE NOT known.finished
        OR known.fingerprint <> excluded.fingerprint
        OR known.fingerprint = ''
        OR known.loaded_at < coalesce(%(again_since)s::timestamptz, '-infinity')
 RETURNING id, loaded_at,
           ARRAY(SELECT chunk FROM howdah.chunks
                  WHERE source = known.id AND chunks.loaded_at = known.loaded_at) AS done
"""
_RESUMES = """
    (NOT known.finished AND known.fingerprint = excluded.fingerprint
     AND known.fingerprint <> '' AND known.cut = excluded.cut)
"""


def begin(
    conn: Connection[Any],
    load: Load,
    *,
    name: str,
    fingerprint: str,
    cut: str,
    properties: str | None = None,
) -> Begun | None:
    """Note that a source of several chunks is being loaded, or go on where a load was killed.

    Args:
        conn: A connection; the note commits with its transaction, if it is in one.
        load: This load.
        name: The source's name.
        fingerprint: That of its content.
        cut: How its chunks are cut; a load goes on only where this is unchanged.
        properties: What it says of itself as a whole, as JSON text; None: nothing.

    Returns:
        None if another load has finished the same content meanwhile.
    """
    query = sql.SQL(_BEGIN).format(resumes=sql.SQL(_RESUMES))
    values = ledger.parameters(
        load, name=name, fingerprint=fingerprint, cut=cut, properties=properties, options=told(load)
    )
    row = conn.execute(query, values).fetchone()
    return Begun(row[0], name, row[1], frozenset(row[2])) if row is not None else None


# FOR SHARE: the source can be neither finished nor begun anew before we commit.
_CLAIM_CHUNK = """
    INSERT INTO howdah.chunks (source, loaded_at, chunk, load)
    SELECT id, loaded_at, %(chunk)s, %(load)s
      FROM (SELECT id, loaded_at
              FROM howdah.sources
             WHERE id = %(source)s AND loaded_at = %(loaded_at)s AND NOT finished
               FOR SHARE) AS begun
        ON CONFLICT DO NOTHING
"""


def claim_chunk(conn: Connection[Any], load: Load, begun: Begun, chunk: int) -> bool:
    """Mark a chunk as loaded in this transaction; False if it is committed already."""
    return conn.execute(_CLAIM_CHUNK, _chunk(load, begun, chunk)).rowcount == 1


_COUNT_CHUNK = """
    UPDATE howdah.chunks
       SET records = %(records)s, rejects = %(rejects)s
     WHERE source = %(source)s AND loaded_at = %(loaded_at)s AND chunk = %(chunk)s
"""


def count_chunk(
    conn: Connection[Any], load: Load, begun: Begun, chunk: int, counts: ledger.Counts
) -> None:
    """Note the records and rejects of a chunk that this transaction has claimed."""
    values = {"records": counts.records, "rejects": counts.rejects}
    conn.execute(_COUNT_CHUNK, _chunk(load, begun, chunk) | values)


_CHUNK_OF_OURS = """
    SELECT '' AS name, records, rejects
      FROM howdah.chunks
     WHERE source = %(source)s AND loaded_at = %(loaded_at)s AND chunk = %(chunk)s
       AND load = %(load)s
"""


def chunk_of_ours(
    conn: Connection[Any], load: Load, begun: Begun, chunk: int
) -> ledger.Counts | None:
    """Return what a worker of this very load committed of a chunk before it died."""
    return pg.fetch_one(conn, ledger.Counts, _CHUNK_OF_OURS, _chunk(load, begun, chunk))


def _chunk(load: Load, begun: Begun, chunk: int) -> dict[str, object]:
    return {
        "source": begun.id,
        "loaded_at": begun.loaded_at,
        "chunk": chunk,
        "load": load.loaded_at,
    }


_FINISH = """
    UPDATE howdah.sources
       SET finished = true, members = 0,
           (records, rejects) = (SELECT coalesce(sum(records), 0), coalesce(sum(rejects), 0)
                                   FROM howdah.chunks
                                  WHERE source = id AND chunks.loaded_at = sources.loaded_at)
     WHERE id = %(source)s AND loaded_at = %(loaded_at)s AND NOT finished
       AND %(chunks)s <= (SELECT count(*) FROM howdah.chunks
                           WHERE source = id AND chunks.loaded_at = sources.loaded_at)
 RETURNING replaces
"""
_UNFINISHED = """
    SELECT FROM howdah.sources
     WHERE id = %(source)s AND loaded_at = %(loaded_at)s AND NOT finished
"""


def finish(conn: Connection[Any], load: Load, begun: Begun, chunks: int) -> bool:
    """Mark a source as finished and remove its old rows, if the ledger has all its chunks.

    Args:
        conn: A connection that is not in a transaction.
        load: This load.
        begun: The source.
        chunks: How many chunks it has; all of them were committed once.

    Returns:
        Whether the source needs nothing more; False where a crash of the server
        has taken chunks again (session.py).
    """
    with conn.transaction():
        values = {"source": begun.id, "loaded_at": begun.loaded_at, "chunks": chunks}
        row = conn.execute(_FINISH, values).fetchone()
        if row is None:  # or another load has finished it, or began it anew
            return conn.execute(_UNFINISHED, values).fetchone() is None
        conn.execute("DELETE FROM howdah.chunks WHERE source = %s", [begun.id])
        if row[0]:
            ledger.remove_rows(conn, load.target, [begun.name], begun.loaded_at)
        return True
