"""The loader's sessions: how they are opened, and the parent's, whose loss tells of a crash.

Workers commit without waiting for the disk. A server that crashes may so lose
transactions whose success it has already told, rows and ledger rows together,
and no SQLSTATE says so. What says so is the parent's session:

1. A crash, an immediate shutdown and a failover end every session of the server.
2. So if the parent's session of the beginning still answers at the end, then no
   crash lies in between, and all that was reported in between is in the WAL.
3. The parent's last commit (`closing.close`) waits until the WAL up to it is on
   disk. All that was reported lies before it. So when it returns on that same
   session, everything reported is on disk.
4. If the session was lost on the way, whatever the reason, then what was reported
   proves nothing. The load then does what the next run of the same command
   would do: it looks into the ledger for what is missing, and loads it. That
   is a new round with a new session, and it ends by the same rule.

A session that was lost without a crash (a firewall, pg_terminate_backend) costs
the look into the ledger and no loading. Between the loader and the server there
must be nothing that hands one client's session to several backends, such as
PgBouncer's transaction pooling.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any, Self, TypeVar

import psycopg
from psycopg import Connection
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from howdah import pg
from howdah.errors import HowdahError, NoDatabase
from howdah.loading import asidelock
from howdah.loading.holders import blocked_by
from howdah.loading.limits import LOCK_TIMEOUT_S, Limits
from howdah.loading.report import Waiting
from howdah.loading.retrying import Patience, ends_session, passing_cause
from howdah.loading.target import Target

__all__ = ["Session", "by_own_session", "open_session"]

T = TypeVar("T")

# A peer that is silent is given up after a minute, not after the two hours of TCP.
# Source: https://www.postgresql.org/docs/current/libpq-connect.html
_KEEPALIVES = {
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}
_LOCK_TIMEOUT = """
    SELECT set_config('lock_timeout', %(wanted)s, false)
     WHERE %(always)s OR current_setting('lock_timeout') = '0'
"""


class _EndedAtOnce(NoDatabase):
    """The server let us in, so it is there; but then it ended the session."""


def open_session(conninfo: str, limits: Limits) -> Connection[Any]:
    """Return a new autocommit connection with the loader's time-outs.

    Raises:
        NoDatabase: The server cannot be reached or does not let us in.
    """
    given = conninfo_to_dict(conninfo)
    more = {name: value for name, value in _KEEPALIVES.items() if name not in given}
    conn = pg.open_connection(make_conninfo(conninfo, **more), application_name="howdah load")
    seconds = limits.lock_timeout_s
    wanted = LOCK_TIMEOUT_S if seconds is None else seconds
    values = {"wanted": f"{round(wanted * 1000)}ms", "always": seconds is not None}
    try:
        conn.execute(_LOCK_TIMEOUT, values)
    except psycopg.OperationalError as exc:
        raise _EndedAtOnce("PostgreSQL ended the session at once.") from exc
    return conn


@contextmanager
def by_own_session(
    conninfo: str,
    limits: Limits,
    say: Callable[[Waiting], None],
    doing: str,
    make: Callable[[Connection[Any]], AbstractContextManager[T]],
) -> Generator[T]:
    """Have something that a session of its own makes, and holds until the end by its locks.

    Args:
        conninfo: The database.
        limits: How long to try again to make it.
        say: Called before each wait.
        doing: What it does, as in "load into documents".
        make: What makes it, given the session; called again where the server was away.
    """
    patience = Patience(limits, say)
    with ExitStack() as stack:
        while True:
            try:
                with ExitStack() as own:
                    conn = own.enter_context(pg.connect(conninfo, application_name="howdah load"))
                    made = own.enter_context(make(conn))
                    stack.enter_context(own.pop_all())
                break
            except (psycopg.OperationalError, HowdahError) as exc:
                cause = passing_cause(exc)
                if cause is None:
                    raise
                patience.bear(cause, doing)
        yield made


class Session:
    """The parent's connection: opened anew where it is lost, and it remembers that it was.

    Args:
        conninfo: The database; may hold a password.
        limits: How long to try again.
        say: Called before each wait.

    Attributes:
        lost: Whether a connection was lost since `begin_round`.
        table: The oid of the table that is loaded into; 0 until it is known.
        held: A table beside the target that each new connection holds, or ends with an
            error (`asidelock.hold`).

    Raises:
        NoDatabase: The server cannot be reached now; the first time is not tried again,
            unless the server let us in and then ended the session.
    """

    def __init__(self, conninfo: str, limits: Limits, say: Callable[[Waiting], None]) -> None:
        self.lost = False
        self.table = 0
        self.held: Target | None = None
        self._conninfo = conninfo
        self._limits = limits
        self._say = say
        self._conn = self._let_in()

    def _let_in(self) -> Connection[Any]:
        patience = Patience(self._limits, self._say)
        while True:
            try:
                return open_session(self._conninfo, self._limits)
            except _EndedAtOnce as exc:
                patience.bear(exc, "open a session")

    def begin_round(self) -> None:
        """Take the connection of now for the witness that no crash lies in between."""
        self.lost = False

    def hold(self, doing: str, following: Target) -> None:
        """Hold a table beside the target, by this connection and by those opened in its place."""
        self.call(doing, lambda conn: asidelock.hold(conn, following))
        self.held = following

    def call(self, doing: str, work: Callable[[Connection[Any]], T]) -> T:
        """Return what `work` returns; it is called again where the server was away.

        Args:
            doing: What it does, as in "load into documents".
            work: One or more transactions that may be repeated.
        """
        patience = Patience(self._limits, self._say)
        while True:
            try:
                self._ensure_open()
                return work(self._conn)
            except (psycopg.OperationalError, HowdahError) as exc:
                self._bear(exc, doing, patience)

    def _ensure_open(self) -> None:
        if self._conn.closed:
            self.lost = True
            conn = open_session(self._conninfo, self._limits)
            try:
                if self.held is not None:
                    asidelock.hold(conn, self.held)
            except BaseException:
                conn.close()
                raise
            self._conn = conn

    def once(self, doing: str, work: Callable[[Connection[Any]], object]) -> bool:
        """Do a last piece of work, if the session is still the one of `begin_round`.

        Returns:
            Whether it was done, by a session that was never lost.
        """
        patience = Patience(self._limits, self._say)
        while not self.lost and not self._conn.closed:
            try:
                work(self._conn)
            except (psycopg.OperationalError, HowdahError) as exc:
                if isinstance(exc, HowdahError) and not self._conn.closed:
                    raise
                self._bear(exc, doing, patience)
            else:
                return True
        return False

    def _bear(self, exc: Exception, doing: str, patience: Patience) -> None:
        cause = passing_cause(exc)
        if cause is None:
            raise exc
        blocked = blocked_by(self._conn, self.table, cause)
        if ends_session(cause):
            self.lost = True
            self._conn.close()
        patience.bear(cause, doing, blocked)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._conn.close()
