"""What must hold before anything is dropped."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, LiteralString

from psycopg import Connection

from howdah import pg
from howdah.django.rebuild.databases import Database, connect
from howdah.django.rebuild.plan import DatabasePlan, RebuildPlan
from howdah.errors import Refused

_MIB = 1024**2
_GIB = 1024**3

_LOCK = "SELECT pg_try_advisory_lock(hashtextextended('howdah rebuild', 0))"
_LOCK_OF_TRANSACTION = "SELECT pg_try_advisory_xact_lock(hashtextextended('howdah rebuild', 0))"
_POLL_S = 0.1

_DEPENDENTS = """
    WITH replaced AS (
        SELECT c.oid FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
         WHERE n.nspname = ANY(%(schemas)s)
    ), user_of AS (
        SELECT k.conrelid AS user, k.confrelid AS used, 'foreign key ' || k.conname AS what
          FROM pg_constraint AS k WHERE k.contype = 'f'
        UNION
        SELECT r.ev_class, d.refobjid, 'view'
          FROM pg_rewrite AS r JOIN pg_depend AS d
            ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid
           AND d.refclassid = 'pg_class'::regclass
    )
    SELECT DISTINCT n.nspname AS schema, c.relname AS name, u.what AS what,
           (SELECT format('%%I.%%I', m.nspname, t.relname) FROM pg_class AS t
              JOIN pg_namespace AS m ON m.oid = t.relnamespace WHERE t.oid = u.used) AS used
      FROM user_of AS u
      JOIN pg_class AS c ON c.oid = u.user JOIN pg_namespace AS n ON n.oid = c.relnamespace
     WHERE u.used IN (SELECT oid FROM replaced) AND u.user NOT IN (SELECT oid FROM replaced)
       AND n.nspname NOT LIKE '%%\\_\\_old%%' AND n.nspname NOT LIKE '%%\\_\\_undone'
     ORDER BY 1, 2
"""


@dataclass(frozen=True, slots=True)
class Dependent:
    """Something outside the replaced schemas that would be lost with what it uses."""

    schema: str
    name: str
    what: str
    used: str


def check(plan: RebuildPlan) -> None:
    """Refuse what should not be rebuilt.

    Raises:
        Refused: A database is not declared disposable, is replicated, is too large, or the
            role may not do what is needed.
    """
    for one in plan.databases:
        _check_allowed(one, plan)
        _check_possible(one)
        if one.name not in plan.options.allow:
            _check_harmless(one, plan.rules.max_size_bytes)
            _check_room(one)


def check_dependents(conn: Connection[Any], schemas: Sequence[str]) -> None:
    """Refuse where something else would go with the schemas.

    Raises:
        Refused: A view or a foreign key of another schema uses one of their tables.
    """
    found = pg.fetch_all(conn, Dependent, _DEPENDENTS, {"schemas": list(schemas)})
    if found:
        first = found[0]
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        raise Refused(
            f"{first.schema}.{first.name} is not rebuilt, and its {first.what} uses "
            f"{first.used}, which is replaced{more}.",
            next_step='Drop it, and make it again in "after_sql" of HOWDAH["REBUILD"].',
        )


@contextmanager
def held(database: Database, *, wait_s: float) -> Generator[Connection[Any]]:
    """Connect to a live database and keep other rebuilds out of it.

    Raises:
        Refused: Another one is running, and did not end in time.
    """
    conninfo, alias = database.conninfo(), database.aliases[0]
    with connect(conninfo, alias) as conn:
        if not database.is_pooled:
            with alone(conn, database.name, wait_s=wait_s):
                yield conn
            return
        # A pooler gives a session's lock to others; a transaction keeps its server's process.
        with connect(conninfo, alias) as holding, holding.transaction():
            _wait_for(holding, _LOCK_OF_TRANSACTION, database.name, wait_s)
            yield conn


@contextmanager
def alone(conn: Connection[Any], name: str, *, wait_s: float) -> Generator[None]:
    """Keep other rebuilds of the database out.

    Raises:
        Refused: Another one is running, and did not end in time.
    """
    _wait_for(conn, _LOCK, name, wait_s)
    try:
        yield
    finally:
        if not conn.closed:
            conn.execute("SELECT pg_advisory_unlock(hashtextextended('howdah rebuild', 0))")


def _wait_for(conn: Connection[Any], lock: LiteralString, name: str, wait_s: float) -> None:
    deadline = time.monotonic() + wait_s
    while not _is_true(conn, lock):
        if time.monotonic() >= deadline:
            raise Refused(
                f"Another rebuild of {name} is running.",
                next_step="Try again when it is done, or wait for it with --wait SECONDS.",
            )
        time.sleep(_POLL_S)


def _is_true(conn: Connection[Any], query: LiteralString) -> bool:
    row = conn.execute(query).fetchone()
    return bool(row and row[0])


def _check_allowed(one: DatabasePlan, plan: RebuildPlan) -> None:
    if one.name not in (*plan.rules.allow, *plan.options.allow):
        rows = sum(max(table.rows, 0) for table in one.tables)
        raise Refused(
            f"The database {one.name!r} is not declared disposable, and a rebuild would drop "
            f"{len(one.tables)} tables with about {rows:,} rows in it.",
            next_step=f'Add {one.name!r} to "allow" of HOWDAH["REBUILD"] in the settings, '
            f"or type: --allow {one.name}",
        )


def _check_possible(one: DatabasePlan) -> None:
    facts = one.database.facts
    if facts.is_standby:
        raise Refused(
            f"{one.name!r} is on a standby, which takes no writes.",
            next_step="Name its primary as HOST in DATABASES.",
        )
    if not facts.may_create_schemas:
        raise Refused(
            f"The role {facts.role!r} may not create schemas in {one.name!r}.",
            next_step=f"As its owner: GRANT CREATE ON DATABASE {one.name} TO {facts.role}",
        )


def _check_harmless(one: DatabasePlan, max_size_bytes: int) -> None:
    facts = one.database.facts
    reason = None
    if facts.logical_slots:
        reason = f"has {facts.logical_slots} logical replication slots"
    elif facts.standbys:
        reason = f"is followed by {facts.standbys} standbys"
    elif facts.size_bytes > max_size_bytes:
        size, limit = facts.size_bytes / _GIB, max_size_bytes / _GIB
        reason = f"has {size:,.1f} GiB, more than the limit of {limit:,.1f} GiB"
    if reason:
        raise Refused(
            f"{one.name!r} {reason}, so it may be more than a developer's database.",
            next_step=f"If it is disposable all the same, type: --allow {one.name}",
        )


def _check_room(one: DatabasePlan) -> None:
    room = one.room
    needed = room.aside_bytes if one.strategy == "aside" else room.in_place_bytes
    if not room.fits(needed):
        raise Refused(
            f"A rebuild of {one.name!r} takes about {needed / _MIB:,.0f} MB of disk, and "
            f"{(room.free_bytes or 0) / _MIB:,.0f} MB are free.",
            next_step="Free some: howdah rebuild --clean removes what earlier ones have left. "
            f"Or, if the new tables will be smaller, type: --allow {one.name}",
        )
