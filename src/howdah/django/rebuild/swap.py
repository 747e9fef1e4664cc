"""The moment of the change: NAME becomes NAME__old1, and NAME__next becomes NAME.

ALTER SCHEMA RENAME locks no table, so it cannot deadlock with running
queries, and their next statement finds the new tables. Transactions that are
writing are let to finish first: half of their rows would be in either
generation. Whoever waits for a lock here waits a few hundredths of a second,
and never while holding what a client could be waiting for longer than that.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from psycopg import Connection, errors, sql

from howdah.django.rebuild import commit, dump, keeping, names
from howdah.django.rebuild.carry import comment_of, comment_on
from howdah.errors import HowdahError, Refused
from howdah.pg import TableName

_LOCK_TIMEOUT = "40ms"
_PAUSE_S = 0.03
_WRITERS_TIMEOUT_S = 5.0
_UNDO_TIMEOUT_S = 30.0
_DROP_TIMEOUT = "200ms"
_DROP_TIMEOUT_S = 5.0

_NOT_WAITED_FOR = (
    f"some transactions wrote for more than {_WRITERS_TIMEOUT_S:.0f} s, and were not waited for"
)

_OLD_TABLES = """
    SELECT n.nspname, c.relname
      FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
     WHERE n.nspname = ANY(%s) AND c.relkind IN ('r', 'p')
       AND NOT EXISTS (SELECT FROM pg_depend AS d WHERE d.classid = 'pg_class'::regclass
                          AND d.objid = c.oid AND d.deptype = 'e')
     ORDER BY 1, 2
"""
_HOLDERS = """
    SELECT DISTINCT a.pid, a.state, left(a.query, 60)
      FROM pg_locks AS l JOIN pg_class AS c ON c.oid = l.relation
      JOIN pg_namespace AS n ON n.oid = c.relnamespace
      JOIN pg_stat_activity AS a ON a.pid = l.pid
     WHERE n.nspname = ANY(%s) AND l.pid <> pg_backend_pid() AND l.granted
     LIMIT 3
"""
_MARKED = """
    SELECT n.nspname, obj_description(n.oid, 'pg_namespace')
      FROM pg_namespace AS n
     WHERE starts_with(obj_description(n.oid, 'pg_namespace'), %s)
     ORDER BY n.nspname
"""


@dataclass(frozen=True, slots=True)
class Swap:
    """Which schemas change places.

    Attributes:
        schemas: All of them.
        shared: Those whose objects move one by one.
        keep_tables: Whose rows are carried over.
        digest: Of what comes in.
        lock_timeout_s: How long to try where locks cannot be done without.
    """

    schemas: tuple[str, ...]
    shared: tuple[str, ...]
    keep_tables: tuple[TableName, ...]
    digest: str
    lock_timeout_s: float


def swap(conn: Connection[Any], wanted: Swap) -> list[str]:
    """Put the schemas that are ready in the place of the live ones, in one transaction.

    Returns:
        What the person should know, in sentences.

    Raises:
        HowdahError: A table of a shared schema could not be locked; nothing has changed.
        CommitLost: The connection was lost at the commit.
    """
    places = {schema: (schema, names.beside(schema, names.NEXT)) for schema in wanted.schemas}
    started = time.monotonic()
    while True:
        waited = time.monotonic() - started
        hold_writers = waited < _WRITERS_TIMEOUT_S
        notes = [] if hold_writers or wanted.keep_tables else [_NOT_WAITED_FOR]
        try:
            with commit.transaction(conn):
                lock(conn, wanted, hold_writers=hold_writers)
                lost = keeping.carry_rows(conn, wanted.keep_tables, places)
                set_aside(conn, wanted)
                _take_place(conn, wanted)
        except (errors.LockNotAvailable, errors.DeadlockDetected):
            if waited > wanted.lock_timeout_s:
                raise _busy(conn, wanted) from None
            time.sleep(_PAUSE_S)
        else:
            return [*notes, *lost]


def swap_back(conn: Connection[Any], *, as_undone: bool = True) -> list[str]:
    """Bring the generation before the last swap back; return its schemas.

    Args:
        conn: To the live database.
        as_undone: Keep what was live as NAME__undone, until `--clean`.

    Raises:
        Refused: No older generation is kept.
        CommitLost: The connection was lost at the commit.
    """
    marked = generations(conn)
    last = [facts for facts in marked.values() if facts["generation"] == 1]
    if not last:
        raise Refused(
            "No generation of before the last rebuild is kept here.",
            next_step="Keep one the next time: howdah rebuild --keep-old 1",
        )
    schemas, shared = last[0]["swapped"], last[0]["shared"]
    started = time.monotonic()
    while True:
        try:
            with commit.transaction(conn):
                conn.execute("SELECT set_config('lock_timeout', %s, true)", [_LOCK_TIMEOUT])
                for schema in schemas:
                    _put_back(conn, schema, marked, is_shared=schema in shared)
        except errors.LockNotAvailable:
            if time.monotonic() - started > _UNDO_TIMEOUT_S:
                raise HowdahError(
                    "The tables could not be locked, so nothing was undone.",
                    next_step="End what reads them (pg_stat_activity), and try again.",
                ) from None
            time.sleep(_PAUSE_S)
        else:
            break
    if not as_undone:
        drop_schemas(conn, [names.beside(one, names.UNDONE) for one in schemas])
    return list(schemas)


def generations(conn: Connection[Any]) -> dict[str, dict[str, Any]]:
    """Return the schemas of ours that stand aside, with what their marks say."""
    rows = conn.execute(_MARKED, [names.MARK]).fetchall()
    found = {schema: names.facts_of(comment) for schema, comment in rows}
    return {schema: facts for schema, facts in found.items() if facts}


def drop_older(conn: Connection[Any], *, keep_old: int) -> list[str]:
    """Drop replaced generations beyond those to keep; return what could not be dropped now."""
    left = []
    marked = generations(conn)
    older = {facts["generation"] for facts in marked.values()} - set(range(keep_old + 1))
    for generation in sorted(older, reverse=True):
        schemas = [one for one, facts in marked.items() if facts["generation"] == generation]
        if not drop_schemas(conn, schemas):
            left += schemas
    return left


def drop_schemas(conn: Connection[Any], schemas: Sequence[str]) -> bool:
    """Drop schemas that nobody finds any more; False where somebody is still reading them."""
    query = sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(
        sql.SQL(", ").join(map(sql.Identifier, schemas))
    )
    deadline = time.monotonic() + _DROP_TIMEOUT_S
    while schemas:
        try:
            with conn.transaction():
                # Below deadlock_timeout: a client that needs what we have locked gets it.
                conn.execute("SELECT set_config('lock_timeout', %s, true)", [_DROP_TIMEOUT])
                conn.execute(query)
        except (errors.LockNotAvailable, errors.DeadlockDetected):
            if time.monotonic() > deadline:
                return False
            time.sleep(_PAUSE_S)
        else:
            return True
    return True


def lock(conn: Connection[Any], wanted: Swap, *, hold_writers: bool) -> None:
    """Hold writers off, and readers of tables that move, until the transaction ends."""
    conn.execute("SELECT set_config('lock_timeout', %s, true)", [_LOCK_TIMEOUT])
    rows = conn.execute(_OLD_TABLES, [list(wanted.schemas)]).fetchall()
    moved = [sql.Identifier(*row) for row in rows if row[0] in wanted.shared]
    renamed = [sql.Identifier(*row) for row in rows if row[0] not in wanted.shared]
    if moved:
        query = sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE")
        conn.execute(query.format(sql.SQL(", ").join(moved)))
    if renamed and (hold_writers or wanted.keep_tables):
        query = sql.SQL("LOCK TABLE {} IN SHARE MODE")
        conn.execute(query.format(sql.SQL(", ").join(renamed)))


def set_aside(conn: Connection[Any], wanted: Swap) -> None:
    """Make the live schemas the first generation of old ones, in the caller's transaction."""
    marked = generations(conn)
    for schema in wanted.schemas:
        if not _exists(conn, schema):
            continue
        oldest = max(_generations_of(schema, marked), default=0)
        for generation in range(oldest, 0, -1):
            _age(conn, schema, generation, marked)
        aside = names.old(schema, 1)
        if schema in wanted.shared:
            conn.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(aside)))
            dump.move(conn, schema, aside)
        else:
            dump.rename(conn, schema, aside)
        _mark(conn, aside, schema, wanted)


def _take_place(conn: Connection[Any], wanted: Swap) -> None:
    marked = generations(conn)
    for schema in wanted.schemas:
        waiting = names.beside(schema, names.NEXT)
        if schema in wanted.shared and _exists(conn, schema):
            dump.move(conn, waiting, schema)
            conn.execute(sql.SQL("DROP SCHEMA {}").format(sql.Identifier(waiting)))
        else:
            dump.rename(conn, waiting, schema)
            comment_on(conn, schema, marked[waiting]["comment"])


def _generations_of(schema: str, marked: dict[str, dict[str, Any]]) -> list[int]:
    return [one["generation"] for one in marked.values() if one["schema"] == schema]


def _age(
    conn: Connection[Any], schema: str, generation: int, marked: dict[str, dict[str, Any]]
) -> None:
    """Make room for a new first generation of old ones."""
    current = names.old(schema, generation)
    if current in marked:
        older = names.old(schema, generation + 1)
        dump.rename(conn, current, older)
        comment_on(conn, older, names.mark(**marked[current] | {"generation": generation + 1}))


def _put_back(
    conn: Connection[Any], schema: str, marked: dict[str, dict[str, Any]], *, is_shared: bool
) -> None:
    undone, aside = names.beside(schema, names.UNDONE), names.old(schema, 1)
    conn.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(undone)))
    facts = {"kind": "undone", "generation": -1, "schema": schema}
    if is_shared:
        conn.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(undone)))
        dump.move(conn, schema, undone)
        if aside in marked:
            dump.move(conn, aside, schema)
            conn.execute(sql.SQL("DROP SCHEMA {}").format(sql.Identifier(aside)))
    else:
        dump.rename(conn, schema, undone)
        if aside in marked:
            dump.rename(conn, aside, schema)
            comment_on(conn, schema, marked[aside].get("comment"))
    comment_on(conn, undone, names.mark(**facts))
    generation = 2
    while (older := names.old(schema, generation)) in marked:
        younger = names.old(schema, generation - 1)
        dump.rename(conn, older, younger)
        comment_on(conn, younger, names.mark(**marked[older] | {"generation": generation - 1}))
        generation += 1


def _mark(conn: Connection[Any], aside: str, schema: str, wanted: Swap) -> None:
    facts = {
        "kind": "old",
        "schema": schema,
        "generation": 1,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "replaced_by": wanted.digest[:20],
        "swapped": wanted.schemas,
        "shared": wanted.shared,
        "comment": comment_of(conn, aside),
    }
    comment_on(conn, aside, names.mark(**facts))


def _exists(conn: Connection[Any], schema: str) -> bool:
    row = conn.execute("SELECT to_regnamespace(quote_ident(%s)) IS NOT NULL", [schema]).fetchone()
    return bool(row and row[0])


def _busy(conn: Connection[Any], wanted: Swap) -> HowdahError:
    held = list(wanted.shared or wanted.schemas)
    rows = conn.execute(_HOLDERS, [held]).fetchall()
    who = "; ".join(f"process {pid} ({state}): {query}" for pid, state, query in rows)
    return HowdahError(
        f"The tables in {', '.join(held)} could not be locked within "
        f"{wanted.lock_timeout_s:.0f} s. They are held by {who or 'nobody any more'}.",
        next_step="Wait for it to end and run the same command again: what was built is kept.",
    )
