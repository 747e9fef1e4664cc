"""Which reservation of a budget may hold slots: decided by PostgreSQL, one transaction a move.

The contract:

- A row of `howdah.reservations` is a request (`granted_at` is null) or holds its slots.
  The granted rows of a budget never add up to more than its limit.
- Moves on one budget follow each other: each begins with the budget's *turn*, an
  advisory lock of the transaction, so what it reads is what it changes.
- Requests are granted in line: by priority, then by age. The first that does not fit
  ends the line, so that small requests do not starve a large one. A request holds
  nothing while it waits.
- A row counts as long as any session of the server holds its advisory lock. Its
  process's control connection does, and so does each connection opened under it: slots
  are free again when the last of these *backends* is gone, and not earlier.

`pg_locks` shows locks to every role, so that a plain user can clean up after others.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from psycopg import Connection, errors
from psycopg.rows import class_row

from howdah import pg
from howdah.errors import Refused

__all__ = [
    "CHANNEL",
    "Place",
    "Request",
    "Session",
    "adopt",
    "ask",
    "free",
    "keep_only",
    "let_go",
    "look",
    "privileged",
    "session",
    "still_granted",
]

CHANNEL = "howdah_budget_{}"
"""Where a control connection, by its backend's pid, is told what others' moves have granted it."""

_GRACE_S = 0.1
"""How long a reservation without a backend is kept: a backend gives up its locks a little
before it gives up its slot."""


@dataclass(frozen=True, slots=True)
class Request:
    """What a process asks of a budget.

    Attributes:
        budget: Its name.
        slots: How many, all or nothing.
        priority: The higher, the earlier; among equals the older first.
        purpose: What for; shown to those who wait.
        host: The machine's name.
        process: The process's pid there.
    """

    budget: str
    slots: int
    priority: int
    purpose: str
    host: str
    process: int


@dataclass(frozen=True, slots=True)
class Place:
    """Where a reservation stands.

    Attributes:
        id: Of the reservation.
        granted: Whether it holds its slots.
        ahead: How many requests stand before it in line.
        slots: How many it asks for.
        limit: The budget's slots now.
    """

    id: int
    granted: bool
    ahead: int
    slots: int
    limit: int


@dataclass(frozen=True, slots=True)
class Session:
    """A control connection.

    Attributes:
        conn: The connection, in autocommit.
        backend: Its pid; a move by another backend fails, as behind a transaction pooler.
        space: The first half of the reservations' lock keys; each database has its own.
    """

    conn: Connection[Any]
    backend: int
    space: int


@dataclass(frozen=True, slots=True)
class _Identity:
    backend: int
    space: int


# A database's oid: locks of two databases look alike in pg_locks where the holder's
# connections are to another database than the arbiter's.
_IDENTITY = """
    SELECT pg_backend_pid() AS backend, hashtext('howdah budget ' || oid) AS space
      FROM pg_catalog.pg_database WHERE datname = current_database()
"""


def session(conn: Connection[Any]) -> Session:
    """Return the facts of a connection that moves need."""
    found = pg.fetch_one(conn, _Identity, _IDENTITY)
    assert found is not None  # noqa: S101 - the current database is in pg_database
    return Session(conn, found.backend, found.space)


# The division fails on any backend but ours, where the locks of the move would be lost.
_TURN = """
    SELECT pg_advisory_xact_lock(hashtextextended('howdah budget ' || %s, 0)),
           1 / (pg_backend_pid() = %s)::int
"""


@contextmanager
def _turn(at: Session, budget: str) -> Generator[None]:
    """Send a move's statements at once, between its turn and its commit."""
    try:
        with privileged(at.conn), at.conn.pipeline(), at.conn.transaction():
            at.conn.execute(_TURN, [budget, at.backend])
            yield
    except errors.DivisionByZero as exc:
        raise not_a_session() from exc


def not_a_session() -> Refused:
    """Return the error for a connection whose backend changes between transactions."""
    return Refused(
        "A budget needs a session of its own, and a pooler in transaction mode stands between.",
        next_step="Give the budget the server's own address (Budget(..., dsn=...)), or a pool of "
        "the pooler in session mode; the connections it bounds may go through the pooler.",
    )


@contextmanager
def privileged(conn: Connection[Any]) -> Generator[None]:
    """Say what to do where the role may not use the budgets.

    Raises:
        Refused: It may not.
    """
    try:
        yield
    except errors.InsufficientPrivilege as exc:
        raise Refused(
            f"The role {conn.info.user} may not use the budgets of the database "
            f"{conn.info.dbname}: {exc.diag.message_primary}.",
            next_step="Have an administrator run, in this database: howdah budget set NAME N "
            f"--grant {conn.info.user}",
        ) from exc


# Where nobody waits and it fits, it is granted with the same statement.
_ASK = """
    WITH used AS (
        SELECT coalesce(sum(slots), 0) AS slots, coalesce(bool_or(granted_at IS NULL), false) AS line
          FROM howdah.reservations WHERE budget = %(budget)s
    )
    INSERT INTO howdah.reservations
           (budget, slots, priority, purpose, host, process, granted_at)
    SELECT %(budget)s, %(slots)s, %(priority)s, %(purpose)s, %(host)s, %(process)s,
           CASE WHEN NOT used.line AND used.slots + %(slots)s <=
                     (SELECT slots FROM howdah.budgets WHERE name = %(budget)s)
                THEN clock_timestamp() END
      FROM used
    RETURNING id, granted_at IS NOT NULL,
              pg_advisory_lock_shared(%(space)s, (id %% 2147483648)::int)
"""  # noqa: E501


def ask(at: Session, request: Request) -> tuple[int, bool]:
    """Stand in line.

    Returns:
        The reservation's id, and whether it is granted. If not, `look` comes next.

    Raises:
        Refused: The role may not, or the connection is not a session.
    """
    with _turn(at, request.budget):
        asked = at.conn.execute(_ASK, {"space": at.space, **asdict(request)})
    number, granted, _ = asked.fetchall()[0]
    return number, granted


_FREE = """
    DELETE FROM howdah.reservations WHERE id = %s
    RETURNING pg_advisory_unlock_shared(%s, (id %% 2147483648)::int)
"""
_LINE = "SELECT EXISTS (SELECT FROM howdah.reservations WHERE budget = %s AND granted_at IS NULL)"


def free(at: Session, budget: str, reservation: int) -> bool:
    """Give slots, or a place in line, back; return whether somebody waits: `look` comes next."""
    with _turn(at, budget):
        at.conn.execute(_FREE, [reservation, at.space])
        line = at.conn.execute(_LINE, [budget])
    return bool(line.fetchall()[0][0])


# What was let go is no longer locked by this session: it stays.
_KEEP_ONLY = """
    DELETE FROM howdah.reservations
     WHERE backend = pg_backend_pid() AND id <> ALL(%(kept)s)
       AND id %% 2147483648 IN (
           SELECT objid::bigint FROM pg_catalog.pg_locks
            WHERE locktype = 'advisory' AND classid = %(space)s::int::oid AND objsubid = 2
              AND pid = pg_backend_pid())
    RETURNING pg_advisory_unlock_shared(%(space)s, (id %% 2147483648)::int)
"""

# What others lock was let go too; the session that was left may still be there.
_DROP_LEFT = """
    DELETE FROM howdah.reservations
     WHERE backend = %(left)s AND id <> ALL(%(kept)s)
       AND id %% 2147483648 NOT IN (
           SELECT objid::bigint FROM pg_catalog.pg_locks
            WHERE locktype = 'advisory' AND classid = %(space)s::int::oid AND objsubid = 2
              AND pid <> %(left)s)
"""


def keep_only(at: Session, reservations: Sequence[int], left: int | None = None) -> None:
    """Free all of this session's slots and places in line but some.

    Args:
        at: The session.
        reservations: What is kept.
        left: The backend of a session before it, whose are freed too.
    """
    known = {"kept": list(reservations), "space": at.space}
    at.conn.execute(_KEEP_ONLY, known)
    if left is not None:
        at.conn.execute(_DROP_LEFT, {**known, "left": left})


_UNLOCK = "SELECT pg_advisory_unlock_shared(%s, (%s::bigint %% 2147483648)::int)"


def let_go(at: Session, reservation: int) -> None:
    """Leave slots to be freed when the last backend under the reservation is gone."""
    at.conn.execute(_UNLOCK, [at.space, reservation])


# Twice: a row that no session locks is marked, and goes if that is still so a little later.
_MARK = """
    WITH locked AS MATERIALIZED (
        SELECT objid::bigint AS key FROM pg_catalog.pg_locks
         WHERE locktype = 'advisory' AND classid = %(space)s::int::oid AND objsubid = 2 AND granted
    ), judged AS (
        SELECT id, id %% 2147483648 NOT IN (SELECT key FROM locked) AS lost
          FROM howdah.reservations WHERE budget = %(budget)s
    )
    UPDATE howdah.reservations AS one
       SET lost_at = CASE WHEN lost THEN clock_timestamp() END
      FROM judged
     WHERE one.id = judged.id AND lost <> (lost_at IS NOT NULL)
"""
_SWEEP = """
    DELETE FROM howdah.reservations
     WHERE budget = %s AND lost_at < clock_timestamp() - make_interval(secs => %s)
"""
_PLACES = """
    SELECT one.id, one.granted_at IS NOT NULL AS granted, one.slots, budgets.slots AS limit,
           (SELECT count(*) FROM howdah.reservations AS other
             WHERE other.budget = one.budget AND other.granted_at IS NULL
               AND (-other.priority, other.id) < (-one.priority, one.id)) AS ahead
      FROM howdah.reservations AS one JOIN howdah.budgets ON name = budget
     WHERE one.id = ANY(%s)
"""


# In the order of the line, holders first, the sum up to a row grows: what fits is its beginning.
# The process that moves learns from the result what it has granted, others by a notification.
_GRANT = """
    WITH line AS (
        SELECT id, sum(slots) OVER (ORDER BY granted_at IS NULL, priority DESC, id) AS up_to
          FROM howdah.reservations WHERE budget = %(budget)s
    ), granted AS (
        UPDATE howdah.reservations AS one SET granted_at = clock_timestamp()
          FROM line
         WHERE one.id = line.id AND one.granted_at IS NULL
           AND line.up_to <= (SELECT slots FROM howdah.budgets WHERE name = %(budget)s)
        RETURNING one.id, one.backend
    )
    SELECT id, CASE WHEN backend <> pg_backend_pid()
                    THEN pg_notify('howdah_budget_' || backend, id::text) END
      FROM granted
"""


def look(at: Session, budget: str, reservations: Sequence[int]) -> tuple[list[Place], set[int]]:
    """Free what the dead have left and grant what fits.

    Returns:
        The places of some reservations, without those that are gone; and what was granted.
    """
    with _turn(at, budget):
        at.conn.execute(_MARK, {"budget": budget, "space": at.space})
        at.conn.execute(_SWEEP, [budget, _GRACE_S])
        granted = at.conn.execute(_GRANT, {"budget": budget})
        places = at.conn.cursor(row_factory=class_row(Place)).execute(_PLACES, [list(reservations)])
    return places.fetchall(), {row[0] for row in granted.fetchall()}


_ADOPT = """
    UPDATE howdah.reservations SET backend = pg_backend_pid(), lost_at = NULL WHERE id = %(id)s
    RETURNING granted_at IS NOT NULL,
              pg_advisory_lock_shared(%(space)s, (id %% 2147483648)::int)
"""


def adopt(at: Session, budget: str, reservation: int) -> bool | None:
    """Take over a reservation from a control connection that was lost.

    Returns:
        Whether it is granted; None where it is gone.
    """
    with _turn(at, budget):
        found = at.conn.execute(_ADOPT, {"id": reservation, "space": at.space})
    rows = found.fetchall()
    return rows[0][0] if rows else None


_STILL = """
    SELECT EXISTS (SELECT FROM howdah.reservations WHERE id = %s AND granted_at IS NOT NULL),
           ARRAY(SELECT pid FROM pg_catalog.pg_stat_activity WHERE pid = ANY(%s))
"""


def still_granted(at: Session, reservation: int, backends: Sequence[int]) -> tuple[bool, set[int]]:
    """Return whether slots are still held, and which of some backends still exist."""
    granted, existing = at.conn.execute(_STILL, [reservation, list(backends)]).fetchall()[0]
    return granted, set(existing)
