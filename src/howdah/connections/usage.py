"""Who holds the connection slots, and how many are truly left for us.

Works for every role. PostgreSQL shows a plain user, of other roles' sessions,
only database, role and application; `Usage.is_partial` says so.
Source: https://www.postgresql.org/docs/current/monitoring-stats.html
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, LiteralString

from psycopg import Connection, errors

from howdah import pg
from howdah.connections.refusal import NO_SLOT, Refusal, refusal
from howdah.errors import NoDatabase

__all__ = [
    "SLOTS",
    "Background",
    "Holder",
    "Session",
    "Slots",
    "Usage",
    "cancel",
    "holders_of",
    "terminate",
    "usage",
    "usage_or_refusal",
]


@dataclass(frozen=True, slots=True)
class Slots:
    """The connection slots, as a sum that can be checked.

    Attributes:
        limit: max_connections.
        superuser_reserved: superuser_reserved_connections.
        reserved: reserved_connections, for pg_use_reserved_connections (16+; 0 before).
        used: Slots held by client sessions, ours included.
        role: Our role.
        role_limit: Its CONNECTION LIMIT; None without one.
        role_used: Sessions of our role, ours included.
        database: Our database.
        database_limit: Its CONNECTION LIMIT; None without one.
        database_used: Sessions in it, ours included.
        is_superuser: Our role is one: it may use all slots, and no limit binds it.
        may_use_reserved: Our role may use `reserved` (16+).
    """

    limit: int
    superuser_reserved: int
    reserved: int
    used: int
    role: str
    role_limit: int | None
    role_used: int
    database: str
    database_limit: int | None
    database_used: int
    is_superuser: bool
    may_use_reserved: bool

    @property
    def free(self) -> int:
        """Slots that nobody holds, the reserved ones included."""
        return max(0, self.limit - self.used)

    @property
    def ordinary(self) -> int:
        """Slots for roles without a privilege: the limit less both reserves."""
        return self.limit - self.superuser_reserved - self.reserved

    @property
    def plannable(self) -> int:
        """What our role can be planned with: `ordinary`, or its or the database's limit."""
        limits = [n for n in (self.role_limit, self.database_limit) if n is not None]
        return min([self.ordinary, *([] if self.is_superuser else limits)])

    @property
    def left(self) -> int:
        """How many more sessions our role could open now, in our database."""
        if self.is_superuser:
            return self.free
        kept = self.superuser_reserved + (0 if self.may_use_reserved else self.reserved)
        bounds = [self.free - kept]
        if self.role_limit is not None:
            bounds.append(self.role_limit - self.role_used)
        if self.database_limit is not None:
            bounds.append(self.database_limit - self.database_used)
        return max(0, min(bounds))

    @property
    def binding(self) -> str:
        """Which limit leaves `left`: "role", "database" or "server"."""
        if not self.is_superuser:
            if self.role_limit is not None and self.role_limit - self.role_used <= self.left:
                return "role"
            limit = self.database_limit
            if limit is not None and limit - self.database_used <= self.left:
                return "database"
        return "server"


@dataclass(frozen=True, slots=True)
class Session:
    """One client session; what PostgreSQL hides from us is None.

    Attributes:
        pid: The backend's process.
        role: Whose it is.
        database: Where.
        application: application_name.
        client: The client's address; "local" over a Unix socket.
        state: "active", "idle", "idle in transaction", ...
        wait: What it waits for: "Lock: relation"; None where for nothing.
        age_s: Since it connected.
        state_s: Since it is in this state.
        transaction_s: Since its transaction began; None where none is open.
        query: The statement that it runs, or ran last.
        is_ours: It is the one that asks.
    """

    pid: int
    role: str | None
    database: str | None
    application: str | None
    client: str | None
    state: str | None
    wait: str | None
    age_s: float | None
    state_s: float | None
    transaction_s: float | None
    query: str | None
    is_ours: bool


@dataclass(frozen=True, slots=True)
class Holder:
    """Client sessions of one role, database, application and host.

    Attributes:
        role: See `Session`; so the next three.
        database: Where.
        application: What they call themselves.
        client: None where hidden.
        sessions: Slots held.
        active: Those that run a statement.
        idle: Those that do nothing.
        idle_in_transaction: Those that hold a transaction open and do nothing.
        waiting: Those that wait for a lock.
        oldest_s: The age of the oldest.
        longest_idle_s: The longest without work, in or out of a transaction.
    """

    role: str | None
    database: str | None
    application: str | None
    client: str | None
    sessions: int
    active: int
    idle: int
    idle_in_transaction: int
    waiting: int
    oldest_s: float | None
    longest_idle_s: float | None


@dataclass(frozen=True, slots=True)
class Background:
    """Processes that take no connection slot.

    Attributes:
        kind: pg_stat_activity.backend_type: "walsender", "autovacuum worker", ...
        processes: How many.
    """

    kind: str
    processes: int


@dataclass(frozen=True, slots=True)
class Usage:
    """Who holds the slots.

    Attributes:
        slots: The sum.
        holders: Those who hold them, the most first.
        sessions: One by one.
        background: Processes apart from them; empty where hidden.
        is_partial: Our role sees no details of other roles' sessions.
        grant: What an administrator runs to let it; None where nothing is hidden.
    """

    slots: Slots
    holders: tuple[Holder, ...]
    sessions: tuple[Session, ...]
    background: tuple[Background, ...]
    is_partial: bool
    grant: str | None


# Of a session that is hidden from us, backend_type is null and the database is
# not; a parallel worker of a hidden session is then counted with the clients.
SLOTS: LiteralString = """
    WITH client AS (
        SELECT usename, datname
          FROM pg_catalog.pg_stat_activity
         WHERE backend_type = 'client backend' OR (backend_type IS NULL AND datid IS NOT NULL)
    )
    SELECT current_setting('max_connections')::int AS limit,
           current_setting('superuser_reserved_connections')::int AS superuser_reserved,
           coalesce(current_setting('reserved_connections', true), '0')::int AS reserved,
           (SELECT count(*) FROM client) AS used,
           r.rolname AS role, nullif(r.rolconnlimit, -1) AS role_limit,
           (SELECT count(*) FROM client WHERE usename = r.rolname) AS role_used,
           d.datname AS database, nullif(d.datconnlimit, -1) AS database_limit,
           (SELECT count(*) FROM client WHERE client.datname = d.datname) AS database_used,
           r.rolsuper AS is_superuser,
           coalesce((SELECT pg_catalog.pg_has_role(r.oid, x.oid, 'USAGE')
                       FROM pg_catalog.pg_roles AS x
                      WHERE x.rolname = 'pg_use_reserved_connections'), false) AS may_use_reserved
      FROM pg_catalog.pg_roles AS r, pg_catalog.pg_database AS d
     WHERE r.rolname = session_user AND d.datname = current_database()
"""

_SESSIONS = """
    SELECT pid, usename AS role, datname AS database, nullif(application_name, '') AS application,
           CASE WHEN backend_type IS NULL THEN NULL
                ELSE coalesce(host(client_addr), 'local') END AS client,
           state,
           wait_event_type || ': ' || wait_event AS wait,
           extract(epoch FROM clock_timestamp() - backend_start)::float8 AS age_s,
           extract(epoch FROM clock_timestamp() - state_change)::float8 AS state_s,
           extract(epoch FROM clock_timestamp() - xact_start)::float8 AS transaction_s,
           CASE WHEN backend_type IS NOT NULL THEN query END AS query,
           pid = pg_catalog.pg_backend_pid() AS is_ours
      FROM pg_catalog.pg_stat_activity
     WHERE backend_type = 'client backend' OR (backend_type IS NULL AND datid IS NOT NULL)
     ORDER BY backend_start, pid
"""

_BACKGROUND = """
    SELECT backend_type AS kind, count(*) AS processes
      FROM pg_catalog.pg_stat_activity
     WHERE backend_type <> 'client backend'
     GROUP BY 1 ORDER BY 2 DESC, 1
"""
_SEES_ALL = "SELECT pg_catalog.pg_has_role(current_user, 'pg_read_all_stats', 'USAGE')"


def usage(conn: Connection[Any]) -> Usage:
    """Return who holds the connection slots, as far as our role may see."""
    slots = pg.fetch_one(conn, Slots, SLOTS)
    assert slots is not None  # noqa: S101 - our own role and database exist
    sessions = tuple(pg.fetch_all(conn, Session, _SESSIONS))
    row = conn.execute(_SEES_ALL).fetchone()
    sees_all = row is not None and bool(row[0])
    background = pg.fetch_all(conn, Background, _BACKGROUND) if sees_all else []
    grant = None if sees_all else _grant(conn, slots.role)
    return Usage(slots, holders_of(sessions), sessions, tuple(background), not sees_all, grant)


def usage_or_refusal(conninfo: str) -> Usage | Refusal:
    """Connect and return who holds the slots, or why the server has none for us.

    Raises:
        NoDatabase: It does not let us in for another reason.
    """
    try:
        with pg.connect(conninfo, application_name="howdah connections") as conn:
            return usage(conn)
    except NoDatabase:
        refused = refusal(conninfo)
        if refused is None or refused.sqlstate != NO_SLOT:
            raise
        return refused


def _grant(conn: Connection[Any], role: str) -> str:
    from psycopg import sql

    return sql.SQL("GRANT pg_monitor TO {};").format(sql.Identifier(role)).as_string(conn)


def holders_of(sessions: Sequence[Session]) -> tuple[Holder, ...]:
    """Put sessions together by role, database, application and host; the most first."""
    groups: dict[tuple[str | None, ...], list[Session]] = {}
    for each in sessions:
        key = (each.role, each.database, each.application, each.client)
        groups.setdefault(key, []).append(each)
    found = [_holder(group) for group in groups.values()]
    return tuple(sorted(found, key=lambda h: (-h.sessions, h.role or "", h.application or "")))


def _holder(group: list[Session]) -> Holder:
    first = group[0]
    states = [each.state or "" for each in group]
    idle_s = [s.state_s for s in group if s.state_s is not None and (s.state or "")[:4] == "idle"]
    return Holder(
        role=first.role,
        database=first.database,
        application=first.application,
        client=first.client,
        sessions=len(group),
        active=states.count("active"),
        idle=states.count("idle"),
        idle_in_transaction=sum(state.startswith("idle in transaction") for state in states),
        waiting=sum((each.wait or "").startswith("Lock:") for each in group),
        oldest_s=max((s.age_s for s in group if s.age_s is not None), default=None),
        longest_idle_s=max(idle_s, default=None),
    )


_TERMINATE = "SELECT pg_catalog.pg_terminate_backend(%s)"
_CANCEL = "SELECT pg_catalog.pg_cancel_backend(%s)"


def terminate(conn: Connection[Any], pid: int) -> bool:
    """End a session; False where it is gone, or our role may not (it needs pg_signal_backend)."""
    return _signal(conn, _TERMINATE, pid)


def cancel(conn: Connection[Any], pid: int) -> bool:
    """Cancel what a session runs; False where it is gone, or our role may not."""
    return _signal(conn, _CANCEL, pid)


def _signal(conn: Connection[Any], query: Any, pid: int) -> bool:
    try:
        with conn.transaction():
            row = conn.execute(query, [pid]).fetchone()
    except errors.InsufficientPrivilege:
        return False
    return row is not None and bool(row[0])
