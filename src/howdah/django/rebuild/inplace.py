"""The way for roles that may not create databases: in the live database, in one transaction.

The live schemas are renamed aside first, then everything is built under the
true names, and nobody sees any of it before the commit. Renaming locks no
table, so the application goes on; only tables that have to move one by one
are locked as long as it takes.

A transaction is one connection's, so all aliases of the database share one
for that time, each with its own search_path.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

from django.db import connections
from psycopg import Connection, errors, sql
from psycopg.pq import TransactionStatus

from howdah import pg
from howdah.django.rebuild import build, carry, keeping, names, swap
from howdah.django.rebuild.commit import COMMITTED, CommitLost, check_committed, commit
from howdah.django.rebuild.databases import pointed_at
from howdah.django.rebuild.events import Clock
from howdah.django.rebuild.plan import DatabasePlan, RebuildPlan
from howdah.django.rebuild.report import DatabaseReport
from howdah.errors import HowdahError

_WRITERS_TIMEOUT_S = 5.0
_PAUSE_S = 0.03
_COUNT = """
    SELECT c.relname, n.nspname
      FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
     WHERE n.nspname = ANY(%s) AND c.relkind = 'r' AND pg_relation_size(c.oid) > 0
       AND NOT EXISTS (SELECT FROM pg_depend AS d WHERE d.classid = 'pg_class'::regclass
                          AND d.objid = c.oid AND d.deptype = 'e')
"""


def rebuild(
    plan: RebuildPlan, one: DatabasePlan, live: Connection[Any], clock: Clock
) -> DatabaseReport:
    """Rebuild one database in its own place.

    Args:
        plan: The whole plan.
        one: The part for this database.
        live: A connection to it, for what comes after the transaction.
        clock: Takes the steps.

    Raises:
        HowdahError: A step failed, and the transaction was rolled back.
    """
    wanted = swap.Swap(
        schemas=one.schemas,
        shared=one.shared,
        keep_tables=plan.rules.keep_tables,
        digest=one.digest,
        lock_timeout_s=plan.rules.lock_timeout_s,
    )
    with (
        clock.step("build in place") as tell,
        pg.explained(f"build in {one.name}"),
        pointed_at(dict.fromkeys(one.database.aliases, one.name), [one.database]),
    ):
        rows, notes = _build(plan, one, wanted, tell)
    with clock.step("drop old"):
        left = swap.drop_older(live, keep_old=plan.keep_old)
    return DatabaseReport(
        one.name, one.schemas, False, len(rows), sum(rows), tuple(left), tuple(notes)
    )


def _build(
    plan: RebuildPlan, one: DatabasePlan, wanted: swap.Swap, tell: Callable[[str], None]
) -> tuple[list[int], list[str]]:
    """Build all in one transaction, and commit it; return each table's rows, and notes."""
    rows: list[int] = []
    notes: list[str] = []
    try:
        with _one_transaction(one) as conn:
            _set_aside(conn, wanted)
            for schema in one.schemas:
                query = sql.SQL("CREATE SCHEMA IF NOT EXISTS {}")
                conn.execute(query.format(sql.Identifier(schema)))
            build.fill(plan, one.database.aliases, _settling(conn, tell))
            _follow(conn, one)
            notes += _finish(conn, wanted)
            rows += [_rows(conn, schema, table) for table, schema in _tables(conn, one)]
    except CommitLost as lost:
        check_committed(one.database, lost)
        notes.append(COMMITTED)
    return rows, notes


def _follow(conn: Connection[Any], one: DatabasePlan) -> None:
    """Give the new objects what the old ones had from people."""
    marked = swap.generations(conn)
    for schema in one.schemas:
        aside, is_new = names.old(schema, 1), schema not in one.shared
        carry.follow(conn, aside, schema, is_new=is_new)
        # The mark stands in the comment's place.
        if is_new and aside in marked and carry.comment_of(conn, schema) is None:
            carry.comment_on(conn, schema, marked[aside]["comment"])


def _set_aside(conn: Connection[Any], wanted: swap.Swap) -> None:
    deadline = time.monotonic() + wanted.lock_timeout_s
    while True:
        try:
            with conn.transaction():
                swap.lock(conn, wanted, hold_writers=False)
                swap.set_aside(conn, wanted)
                conn.execute("SET LOCAL lock_timeout = 0")
        except errors.LockNotAvailable as exc:
            if time.monotonic() > deadline:
                raise HowdahError(
                    f"The tables in {', '.join(wanted.shared)} could not be locked within "
                    f"{wanted.lock_timeout_s:.0f} s.",
                    next_step="End what reads them (pg_stat_activity), and try again.",
                ) from exc
            time.sleep(_PAUSE_S)
        else:
            return


def _finish(conn: Connection[Any], wanted: swap.Swap) -> list[str]:
    """Let writers finish, and carry rows over; the commit is next."""
    places = {schema: (names.old(schema, 1), schema) for schema in wanted.schemas}
    aside = swap.Swap(
        schemas=tuple(names.old(schema, 1) for schema in wanted.schemas),
        shared=(),
        keep_tables=wanted.keep_tables,
        digest=wanted.digest,
        lock_timeout_s=wanted.lock_timeout_s,
    )
    deadline = time.monotonic() + _WRITERS_TIMEOUT_S
    while time.monotonic() < deadline:
        try:
            with conn.transaction():
                swap.lock(conn, aside, hold_writers=True)
                return keeping.carry_rows(conn, wanted.keep_tables, places)
        except errors.LockNotAvailable:
            time.sleep(_PAUSE_S)
    if wanted.keep_tables:
        raise HowdahError(
            "The tables whose rows are kept are written to all the time.",
            next_step="Try again when less is going on.",
        )
    return ["some transactions were writing, and were not waited for"]


def _settling(conn: Connection[Any], tell: Callable[[str], None]) -> Callable[[str], None]:
    """Check what is deferred between two migrations, as the ends of transactions would."""

    def step(detail: str) -> None:
        conn.execute("SET CONSTRAINTS ALL IMMEDIATE")
        conn.execute("SET CONSTRAINTS ALL DEFERRED")
        tell(detail)

    return step


@contextmanager
def _one_transaction(one: DatabasePlan) -> Generator[Connection[Any]]:
    """Have all aliases of a database share one connection, in one transaction."""
    # PostGIS's backend teaches its connection about geometries.
    aliases = sorted(one.database.aliases, key=lambda a: not hasattr(connections[a].ops, "postgis"))
    first = connections[aliases[0]]
    first.close()
    first.connect()
    conn: Connection[Any] = first.connection
    wrappers: dict[str, Callable[..., Any]] = {}
    try:
        first.set_autocommit(False)
        conn.execute("SELECT 1")  # begins it: what follows are savepoints in it
        paths = dict(zip(one.database.aliases, one.database.search_paths, strict=True))
        for alias in aliases:
            _share(alias, conn)
            wrappers[alias] = _in_search_path(conn, paths[alias])
            connections[alias].execute_wrappers.append(wrappers[alias])
        yield conn
        commit(conn)
    finally:
        conn.close()
        for alias, wrapper in wrappers.items():
            connection = connections[alias]
            connection.execute_wrappers.remove(wrapper)
            connection.in_atomic_block = False
            connection.connection = None
            connection.run_on_commit = []
            connection.savepoint_ids = []
        first.connection = None


def _share(alias: str, conn: Connection[Any]) -> None:
    connection = connections[alias]
    if connection.connection is not conn:
        connection.close()
        connection.connect()
        connection.connection.close()
        connection.connection = conn
    connection.autocommit = False
    # What Django begins is a savepoint from now on: the transaction is ours.
    connection.in_atomic_block = True
    connection.needs_rollback = False


def _in_search_path(conn: Connection[Any], path: tuple[str, ...]) -> Callable[..., Any]:
    names_of = sql.SQL(", ").join(map(sql.Identifier, path))
    query = sql.SQL("SET LOCAL search_path TO {}").format(names_of)

    def wrapper(execute: Callable[..., Any], *args: Any) -> Any:
        # After an error only ROLLBACK TO SAVEPOINT is possible, which restores search_path.
        if conn.info.transaction_status != TransactionStatus.INERROR:
            conn.execute(query)
        return execute(*args)

    return wrapper


def _tables(conn: Connection[Any], one: DatabasePlan) -> list[tuple[str, str]]:
    return conn.execute(_COUNT, [list(one.schemas)]).fetchall()


def _rows(conn: Connection[Any], schema: str, table: str) -> int:
    query = sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(schema, table))
    row = conn.execute(query).fetchone()
    return int(row[0]) if row else 0
