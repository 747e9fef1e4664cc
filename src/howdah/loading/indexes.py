"""Indexes that a load drops and builds again, since to maintain them row by row is slower.

The contract: an index's definition is in `howdah.indexes` from the transaction
that drops it to the one that builds it again. Who builds it: the load itself at
its end, however it ends; if it was killed, its guard (guard.py); else the next
load of the table, or `howdah load --restore-indexes`. A session lock says that
a load still needs them dropped.

Only indexes go that mean nothing but speed: not unique, of no constraint, no
part of a partitioned index, not the one that the table is clustered by.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import Connection, sql
from psycopg.types.json import Jsonb

from howdah import pg
from howdah.errors import HowdahError, NoDatabase
from howdah.loading.guard import Guard
from howdah.loading.limits import Limits
from howdah.loading.locking import in_short_locks
from howdah.loading.report import BuildingIndexes, Event
from howdah.loading.retrying import Patience, passing_cause
from howdah.loading.target import Target

__all__ = ["SLOW_BYTES", "deferrable", "deferred", "restore", "restore_abandoned"]

SLOW_BYTES = 32 << 20
"""From which size of a load, in bytes, it pays to defer indexes: about 100,000 records.

Source: 500,000 records took 4.63 s into a table with a primary key and two indexes, and
1.73 s with these built after it.
"""


@dataclass(frozen=True, slots=True)
class _Index:
    """An index as howdah.indexes keeps it.

    Attributes:
        schema: Its schema.
        name: Its name.
        definition: The CREATE INDEX.
        tablespace: Where it is; "" for the database's own.
        comment: Its comment.
        statistics: The statistics targets of its columns, by number.
    """

    schema: str
    name: str
    definition: str
    tablespace: str
    comment: str | None
    statistics: dict[str, int]

    @property
    def identifier(self) -> sql.Identifier:
        return sql.Identifier(self.schema, self.name)


_DEFERRABLE = """
    SELECT nspname::text AS schema,
           relname::text AS name,
           pg_get_indexdef(indexrelid) AS definition,
           coalesce(spcname::text, '') AS tablespace,
           obj_description(indexrelid, 'pg_class') AS comment,
           (SELECT coalesce(jsonb_object_agg(attnum, attstattarget), '{}')
              FROM pg_catalog.pg_attribute
             WHERE attrelid = indexrelid AND attstattarget >= 0) AS statistics
      FROM pg_catalog.pg_index
      JOIN pg_catalog.pg_class ON pg_class.oid = indexrelid
      JOIN pg_catalog.pg_namespace ON pg_namespace.oid = relnamespace
      LEFT JOIN pg_catalog.pg_tablespace ON pg_tablespace.oid = reltablespace
     WHERE indrelid = %s AND relkind = 'i' AND NOT relispartition
       AND NOT (indisunique OR indisprimary OR indisexclusion OR indisclustered OR indisreplident)
       AND indisvalid AND indisready
       AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend
                        WHERE objid = indexrelid AND classid = 'pg_class'::regclass
                          AND deptype IN ('i', 'e', 'x'))
       AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend
                        WHERE refobjid = indexrelid AND refclassid = 'pg_class'::regclass)
     ORDER BY indexrelid
"""


def deferrable(conn: Connection[Any], target: Target) -> list[str]:
    """Return the names of a table's indexes that a load could drop and build again."""
    return [index.name for index in pg.fetch_all(conn, _Index, _DEFERRABLE, [target.oid])]


@contextmanager
def deferred(
    conn: Connection[Any],
    conninfo: str,
    target: Target,
    limits: Limits,
    say: Callable[[Event], None],
) -> Generator[None]:
    """Have a table without its indexes for a while.

    Args:
        conn: A connection that is not in a transaction.
        conninfo: Its database, for the guard.
        target: The table.
        limits: How long to try again to build them.
        say: Called when they are about to be built.

    Raises:
        Refused: The role does not own the table.
        HowdahError: Others held locks on the table, or an index could not be built again.
    """
    if not _locked(conn, target):  # another load has dropped them, and builds them again
        yield
        return
    try:
        with Guard(conninfo, target) as guard:
            try:
                dropped = _drop(conn, target)
                yield
            except BaseException:
                with suppress(HowdahError):  # the first error is the cause
                    _end(conn, conninfo, target, guard, Patience(limits, say))
                raise
            if dropped:
                say(BuildingIndexes(tuple(dropped)))
            _end(conn, conninfo, target, guard, Patience(limits, say))
    finally:
        _unlock(conn, target)


def _end(
    conn: Connection[Any], conninfo: str, target: Target, guard: Guard, patience: Patience
) -> None:
    """Build the indexes again; what ends us meanwhile leaves it to the guard."""
    try:
        try:
            restore(conn, target)
        except HowdahError:
            if not conn.closed:
                raise
            # The server was away for a while, and the load has gone on.
            _build_by_another(conninfo, target, patience)
    except NoDatabase:
        raise  # it is still away: the guard waits for it
    except HowdahError:
        guard.dismiss()  # it could not build them either
        raise
    guard.dismiss()


def _build_by_another(conninfo: str, target: Target, patience: Patience) -> None:
    """Build the indexes again by another session than the one that dropped them."""
    while True:
        with pg.connect(conninfo, application_name="howdah load") as again:
            try:
                restore_abandoned(again, target, wait=True)
            except (psycopg.OperationalError, HowdahError) as exc:
                cause = passing_cause(exc)
                if cause is None or not again.closed:
                    raise
                patience.bear(cause, f"build the indexes of {target} again")
            else:
                return


_TRY_LOCK = "SELECT pg_try_advisory_lock(hashtextextended(%s, 0))"
_LOCK = "SELECT pg_advisory_lock(hashtextextended(%s, 0))"
_UNLOCK = "SELECT pg_advisory_unlock(hashtextextended(%s, 0))"


def _lock_name(target: Target) -> str:
    return f"howdah: indexes of {target.oid}"


def _unlock(conn: Connection[Any], target: Target) -> None:
    with suppress(psycopg.OperationalError):  # with a session that is lost, its locks are
        conn.execute(_UNLOCK, [_lock_name(target)])


def _locked(conn: Connection[Any], target: Target) -> bool:
    row = conn.execute(_TRY_LOCK, [_lock_name(target)]).fetchone()
    return row is not None and bool(row[0])


_KEEP = """
    INSERT INTO howdah.indexes (target, schema, name, definition, tablespace, comment, statistics)
    VALUES (%s, %s, %s, %s, %s, %s, %s)
"""


def _drop(conn: Connection[Any], target: Target) -> list[str]:
    def drop() -> list[str]:
        # Before we look: an index that is made meanwhile must not be missed, nor one altered.
        conn.execute(sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(target.identifier))
        found = pg.fetch_all(conn, _Index, _DEFERRABLE, [target.oid])
        for index in found:
            values = index.schema, index.name, index.definition, index.tablespace, index.comment
            conn.execute(_KEEP, [target.oid, *values, Jsonb(index.statistics)])
            conn.execute(sql.SQL("DROP INDEX {}").format(index.identifier))
        return [index.name for index in found]

    with pg.explained(f"drop the indexes of {target} for a while"):
        return in_short_locks(conn, drop)


def restore_abandoned(conn: Connection[Any], target: Target, *, wait: bool = False) -> list[str]:
    """Build again what a load has dropped and, being killed, left so.

    Args:
        conn: A connection that is not in a transaction.
        target: The table.
        wait: Wait for a load that still needs them dropped, or is about to end.

    Returns:
        The names of the indexes that were built.

    Raises:
        HowdahError: One could not be built.
    """
    if not _abandoned(conn, target):
        return []
    if wait:
        conn.execute(_LOCK, [_lock_name(target)])
    elif not _locked(conn, target):
        return []
    try:
        return restore(conn, target)
    finally:
        _unlock(conn, target)


_DROPPED = """
    SELECT schema, name, definition, tablespace, comment, statistics
      FROM howdah.indexes
     WHERE target = %s
     ORDER BY dropped_at
"""


def _abandoned(conn: Connection[Any], target: Target) -> list[_Index]:
    return pg.fetch_all(conn, _Index, _DROPPED, [target.oid])


def restore(conn: Connection[Any], target: Target) -> list[str]:
    """Build the dropped indexes of a table again, each in a transaction; return their names.

    Raises:
        HowdahError: Some could not be built; their definitions are kept.
    """
    built, failed = [], []
    with pg.explained(f"build the indexes of {target} again"):
        for index in _abandoned(conn, target):
            settings = {"default_tablespace": index.tablespace}
            try:
                with conn.transaction(), pg.settings(conn, settings):
                    _build(conn, target, index)
                built.append(index.name)
            except psycopg.Error as exc:
                if conn.closed:
                    raise
                failed.append(f"{index.name} ({exc.diag.message_primary or exc})")
    if failed:
        raise HowdahError(
            f"Indexes of {target} were dropped for the load and could not be built again: "
            f"{', '.join(failed)}.",
            next_step=f"Mend what is wrong and run: howdah load --restore-indexes --table {target}",
        )
    return built


_IS_THERE = """
    SELECT true
      FROM pg_catalog.pg_index
     WHERE indrelid = %s AND indexrelid = to_regclass(%s)
"""
_FORGET = "DELETE FROM howdah.indexes WHERE schema = %s AND name = %s"
_SET_COMMENT = "COMMENT ON INDEX {} IS {}"
_SET_STATISTICS = "ALTER INDEX {} ALTER COLUMN {} SET STATISTICS {}"


def _build(conn: Connection[Any], target: Target, index: _Index) -> None:
    name = index.identifier.as_string(conn)
    if conn.execute(_IS_THERE, [target.oid, name]).fetchone() is None:  # else made by someone else
        conn.execute(index.definition.encode())  # as the server wrote it
        conn.execute(sql.SQL(_SET_COMMENT).format(index.identifier, index.comment))
        for number, value in index.statistics.items():
            query = sql.SQL(_SET_STATISTICS)
            conn.execute(query.format(index.identifier, int(number), value))
    conn.execute(_FORGET, [index.schema, index.name])
