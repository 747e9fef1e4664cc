"""The budgets of a database: made, changed, and shown with who holds them and who waits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from psycopg import Connection, errors, sql

from howdah import pg
from howdah.connections import arbiter
from howdah.errors import Refused, UsageError

__all__ = ["BudgetUse", "Holder", "budgets", "drop", "install", "limit_of", "set_limit"]


@dataclass(frozen=True, slots=True)
class Holder:
    """A process that holds slots of a budget, or waits for them.

    Attributes:
        id: Of its reservation.
        slots: How many.
        priority: The higher, the earlier.
        purpose: What for, in its own words.
        host: Its machine.
        process: Its pid there.
        granted: Whether it holds the slots, or waits for them.
        since_s: How long, in seconds.
        backends: How many connections are open under the reservation.
        lost: Whether its control connection is gone: what is left is freed with its last backend.
    """

    id: int
    slots: int
    priority: int
    purpose: str
    host: str
    process: int
    granted: bool
    since_s: float
    backends: int
    lost: bool

    def __str__(self) -> str:
        purpose = f" ({self.purpose})" if self.purpose else ""
        lost = ", lost" if self.lost else ""
        return (
            f"{self.slots} by process {self.process} on {self.host}{purpose} "
            f"for {self.since_s:,.0f} s{lost}"
        )


@dataclass(frozen=True, slots=True)
class BudgetUse:
    """A budget, and who holds it.

    Attributes:
        name: Its name.
        limit: Its slots.
        held: How many of them are held.
        controls: Control connections of those who hold or wait; they are not among the slots.
        holders: Who holds slots, the oldest first.
        line: Who waits, the first in line first.
    """

    name: str
    limit: int
    held: int
    controls: int
    holders: tuple[Holder, ...]
    line: tuple[Holder, ...]


# A control connection does not wait for the disk, since reservations end with a crash. Budgets
# do not.
_DURABLY = "SET LOCAL synchronous_commit TO on"
_INSTALLED = "SELECT to_regclass('howdah.reservations') IS NOT NULL"


def install(conn: Connection[Any]) -> None:
    """Create the tables where they are missing.

    Raises:
        Refused: The role may not create them, or not use them.
    """
    with arbiter.privileged(conn), conn.transaction():
        if not _installed(conn):
            conn.execute(_DURABLY)
            # The loader's lock: both create the schema.
            pg.xact_lock(conn, "howdah: install the ledger")
            ddl = files("howdah.connections").joinpath("budget.sql").read_text()
            conn.execute(ddl.encode())  # bytes: a file of ours, not a literal of this module


def _installed(conn: Connection[Any]) -> bool:
    return bool(conn.execute(_INSTALLED).fetchall()[0][0])


_LIMIT = "SELECT slots FROM howdah.budgets WHERE name = %s"
_ADD = "INSERT INTO howdah.budgets (name, slots) VALUES (%s, %s) ON CONFLICT DO NOTHING"


def limit_of(conn: Connection[Any], name: str, first: int | None) -> int:
    """Return the limit of a budget; make it where there is none.

    Args:
        conn: A connection in autocommit.
        name: The budget.
        first: The limit that it gets where there is none yet.

    Raises:
        UsageError: There is none, and no limit for it.
        Refused: The role may not make one.
    """
    install(conn)
    with arbiter.privileged(conn):
        found = conn.execute(_LIMIT, [name]).fetchall()
        if not found and first is not None:
            with conn.transaction():
                conn.execute(_DURABLY)
                conn.execute(_ADD, [name, first])
            found = conn.execute(_LIMIT, [name]).fetchall()
    if not found:
        raise UsageError(
            f"There is no budget {name!r} in the database {conn.info.dbname}.",
            next_step=f"Run: howdah budget set {name} N, or give limit=N.",
        )
    return int(found[0][0])


_BUDGETS = "SELECT name, slots FROM howdah.budgets ORDER BY name"
_HOLDERS = """
    WITH locked AS MATERIALIZED (
        SELECT objid::bigint AS key, pid FROM pg_catalog.pg_locks
         WHERE locktype = 'advisory' AND classid = %(space)s::int::oid AND objsubid = 2 AND granted
    )
    SELECT id, slots, priority, purpose, host, process, granted_at IS NOT NULL AS granted,
           extract(epoch FROM clock_timestamp() - coalesce(granted_at, asked_at))::float8 AS since_s,
           (SELECT count(*) FROM locked
             WHERE key = id %% 2147483648 AND pid <> backend)::int AS backends,
           NOT EXISTS (SELECT FROM locked WHERE key = id %% 2147483648 AND pid = backend) AS lost
      FROM howdah.reservations
     WHERE budget = %(budget)s
     ORDER BY granted_at IS NULL, CASE WHEN granted_at IS NULL THEN -priority END, id
"""  # noqa: E501
_CONTROLS = """
    SELECT count(DISTINCT backend) FROM howdah.reservations
      JOIN pg_catalog.pg_stat_activity ON pid = backend
     WHERE budget = %s
"""


def budgets(conn: Connection[Any], names: Sequence[str] | None = None) -> list[BudgetUse]:
    """Return budgets of a database with their holders; None: all of them.

    Raises:
        Refused: The role may not see them.
    """
    with arbiter.privileged(conn):
        if not _installed(conn):
            return []
        rows = conn.execute(_BUDGETS).fetchall()
        return [_use(conn, *row) for row in rows if names is None or row[0] in names]


def _use(conn: Connection[Any], name: str, limit: int) -> BudgetUse:
    facts = {"space": arbiter.session(conn).space, "budget": name}
    found = pg.fetch_all(conn, Holder, _HOLDERS, facts)
    holders = tuple(one for one in found if one.granted)
    line = tuple(one for one in found if not one.granted)
    controls = conn.execute(_CONTROLS, [name]).fetchall()[0][0]
    return BudgetUse(name, limit, sum(one.slots for one in holders), controls, holders, line)


_SET = """
    INSERT INTO howdah.budgets AS budget (name, slots) VALUES (%s, %s)
    ON CONFLICT (name) DO UPDATE SET slots = excluded.slots, changed_at = now(),
                                     changed_by = session_user
"""
_GRANTS: tuple[sql.SQL, ...] = (
    sql.SQL("GRANT USAGE ON SCHEMA howdah TO {}"),
    sql.SQL("GRANT SELECT, INSERT ON howdah.budgets TO {}"),
    sql.SQL("GRANT SELECT, INSERT, UPDATE, DELETE ON howdah.reservations TO {}"),
)


def set_limit(conn: Connection[Any], name: str, limit: int, grant: Sequence[str] = ()) -> None:
    """Make a budget, or change its limit while others use it.

    A lower limit takes nothing away: what is held stays, and nothing is granted before
    it fits. Requests for more than the limit fail.

    Args:
        conn: A connection in autocommit.
        name: The budget.
        limit: Its slots.
        grant: Roles that may use it from now on.

    Raises:
        UsageError: The limit is below 1, or a role does not exist.
        Refused: The role may not change it.
    """
    if limit < 1:
        raise UsageError(f"A budget of {limit} slots is none.", next_step="Give 1 or more.")
    install(conn)
    try:
        with arbiter.privileged(conn), conn.transaction():
            conn.execute(_SET, [name, limit])
            for role in grant:
                for statement in _GRANTS:
                    conn.execute(statement.format(sql.Identifier(role)))
    except errors.UndefinedObject as exc:
        raise UsageError(
            f"There is no such role: {exc.diag.message_primary}.", next_step="CREATE ROLE it first."
        ) from exc


_DROP = "DELETE FROM howdah.budgets WHERE name = %s"


def drop(conn: Connection[Any], name: str) -> None:
    """Forget a budget that nobody uses.

    Raises:
        UsageError: There is none of that name.
        Refused: It is in use.
    """
    found = budgets(conn, [name])
    if not found:
        raise UsageError(
            f"There is no budget {name!r} in the database {conn.info.dbname}.",
            next_step="See them with: howdah budget list",
        )
    users = [*found[0].holders, *found[0].line]
    if any(not one.lost for one in users):
        raise Refused(
            f"The budget {name!r} is in use: {'; '.join(map(str, users))}.",
            next_step="End these processes first.",
        )
    with arbiter.privileged(conn):
        conn.execute(_DROP, [name])
