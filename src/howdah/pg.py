"""Talking to PostgreSQL: connections of ours, rows as dataclasses, names, locks, versions."""

from __future__ import annotations

import os
import re
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, LiteralString, TypeVar

import psycopg
from psycopg import Connection, errors, sql
from psycopg.rows import class_row

from howdah.errors import HowdahError, NoDatabase, Refused, UsageError

__all__ = [
    "TableName",
    "Whereabouts",
    "connect",
    "explained",
    "fetch_all",
    "fetch_one",
    "open_connection",
    "settings",
    "whereabouts",
    "xact_lock",
]

T = TypeVar("T")
Params = Sequence[Any] | Mapping[str, Any] | None

_CONNECT_TIMEOUT_S = 10
_PART = r'("(?:[^"\x00]|"")+"|[^".\s\x00]+)'
_NAME = re.compile(rf"(?:{_PART}\.)?{_PART}")


def _unquoted(part: str) -> str:
    return part[1:-1].replace('""', '"') if part.startswith('"') else part.lower()


@dataclass(frozen=True, slots=True)
class TableName:
    """A table's name, perhaps with its schema.

    Attributes:
        schema: None where search_path decides.
        table: The name as the catalog holds it, unquoted.
    """

    schema: str | None
    table: str

    @classmethod
    def parse(cls, text: str) -> TableName:
        """Return the name in `text`, read as SQL reads it: `table`, `schema.table`, `"Quoted"`.

        Parts without quotes are folded to lower case, as PostgreSQL does.

        Raises:
            UsageError: It is not a name of one or two parts.
        """
        match = _NAME.fullmatch(text)
        if match is None:
            raise UsageError(
                f"{text!r} is not the name of a table.",
                next_step="Write NAME or SCHEMA.NAME, with double quotes around a part "
                "that holds a dot or capitals.",
            )
        schema, table = (part and _unquoted(part) for part in match.groups())
        return cls(schema, table)

    @property
    def identifier(self) -> sql.Identifier:
        """The name for `psycopg.sql`."""
        return sql.Identifier(*([self.schema] if self.schema else []), self.table)

    def __str__(self) -> str:
        return f"{self.schema}.{self.table}" if self.schema else self.table


@contextmanager
def connect(
    conninfo: str, *, application_name: str = "howdah", autocommit: bool = True
) -> Generator[Connection[Any]]:
    """Connect as Howdah and close at the end.

    Raises:
        NoDatabase: The server cannot be reached or does not let us in.
    """
    conn = open_connection(conninfo, application_name=application_name, autocommit=autocommit)
    try:
        yield conn
    finally:
        conn.close()


def open_connection(
    conninfo: str, *, application_name: str = "howdah", autocommit: bool = True
) -> Connection[Any]:
    """Return a connection that the caller closes; see `connect`."""
    options: dict[str, Any] = {"application_name": application_name, "client_encoding": "UTF8"}
    if "connect_timeout" not in conninfo and "PGCONNECT_TIMEOUT" not in os.environ:
        options["connect_timeout"] = _CONNECT_TIMEOUT_S
    try:
        conn = psycopg.connect(conninfo, autocommit=autocommit, **options)
    except psycopg.OperationalError as exc:
        raise NoDatabase(
            f"PostgreSQL does not answer: {_one_line(exc)}.",
            next_step="Run 'howdah where' to see which database was chosen and why.",
        ) from exc
    if not (conn.info.parameter_status("DateStyle") or "").startswith("ISO"):
        conn.execute("SET DateStyle TO ISO")  # the only one in which psycopg reads moments
        conn.commit()
    return conn


def fetch_all(
    conn: Connection[Any],
    row: type[T],
    query: LiteralString | sql.Composed,
    params: Params = None,
) -> list[T]:
    """Return every row of a query as a dataclass whose fields are the query's columns."""
    with conn.cursor(row_factory=class_row(row)) as cursor:
        return cursor.execute(query, params).fetchall()


def fetch_one(
    conn: Connection[Any],
    row: type[T],
    query: LiteralString | sql.Composed,
    params: Params = None,
) -> T | None:
    """Return the first row of a query as a dataclass, or None where there is none."""
    with conn.cursor(row_factory=class_row(row)) as cursor:
        return cursor.execute(query, params).fetchone()


def xact_lock(conn: Connection[Any], name: str) -> None:
    """Hold the advisory lock of that name until the transaction ends; wait for it."""
    # 64 bits of hash: two names that collide would wait for each other.
    conn.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [name])


_SETTING = "SELECT current_setting(%(name)s), set_config(%(name)s, %(value)s, true)"


@contextmanager
def settings(conn: Connection[Any], values: Mapping[str, str]) -> Generator[None]:
    """Have settings in a part of the transaction, and those from before in the rest of it.

    If the part fails, rolling it back restores them.
    """
    before = {}
    for name, value in values.items():
        row = conn.execute(_SETTING, {"name": name, "value": value}).fetchone()
        assert row is not None  # noqa: S101 - a SELECT without FROM has one row
        before[name] = row[0]
    yield
    for name, value in before.items():
        conn.execute(_SETTING, {"name": name, "value": value})


@contextmanager
def explained(doing: str) -> Generator[None]:
    """Turn PostgreSQL's refusals into sentences, by SQLSTATE; others pass through.

    Args:
        doing: What was tried, as in "create the table documents".

    Raises:
        Refused: The role may not do it, or the server is read-only.
        HowdahError: The disk is full, a lock was not to be had, the server went away.
    """
    try:
        yield
    except errors.InsufficientPrivilege as exc:
        raise Refused(
            f"The role may not {doing}: {_one_line(exc)}.",
            next_step="Ask an administrator to grant it, or connect as another role.",
        ) from exc
    except errors.ReadOnlySqlTransaction as exc:
        raise Refused(
            f"The server takes no writes, so it could not {doing}: {_one_line(exc)}.",
            next_step="A standby: name its primary, or add target_session_attrs=read-write to "
            "--dsn. Else turn default_transaction_read_only off for the role or the database.",
        ) from exc
    except errors.DiskFull as exc:
        raise HowdahError(
            f"The server's disk is full, so it could not {doing}: {_one_line(exc)}.",
            next_step="Free space on the server and run the same command again: "
            "what is committed stays.",
        ) from exc
    except (errors.LockNotAvailable, errors.QueryCanceled) as exc:
        raise HowdahError(
            f"The server gave up waiting to {doing}: {_one_line(exc)}.",
            next_step="See who holds the lock in pg_locks and run the same command again.",
        ) from exc
    except (errors.AdminShutdown, errors.CrashShutdown, errors.CannotConnectNow) as exc:
        raise HowdahError(
            f"The server was shut down while it was to {doing}.",
            next_step="Start it and run the same command again: what is committed stays.",
        ) from exc
    except psycopg.OperationalError as exc:
        if exc.sqlstate is not None:
            raise
        raise HowdahError(
            f"The connection was lost while the server was to {doing}: {_one_line(exc)}.",
            next_step="Run the same command again: what is committed stays.",
        ) from exc


def _one_line(exc: BaseException) -> str:
    """Return what an error of psycopg says, on one line without the statement and a full stop."""
    diag = exc.diag if isinstance(exc, psycopg.Error) else None
    said = (diag.message_primary, diag.message_detail) if diag else ()
    return " ".join((" ".join(filter(None, said)) or str(exc)).split()).rstrip(".")


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """What a connection leads to.

    Attributes:
        version: The server's version, as in "18.6".
        host: The host or the folder of the unix socket.
        port: The port.
        database: The database's name.
        role: The session's role.
        superuser: Whether it is a superuser.
    """

    version: str
    host: str
    port: int
    database: str
    role: str
    superuser: bool


_WHEREABOUTS = """
    SELECT split_part(current_setting('server_version'), ' ', 1) AS version,
           %s AS host, %s::int AS port,
           current_database() AS database, current_user AS role,
           current_setting('is_superuser') = 'on' AS superuser
"""


def whereabouts(conn: Connection[Any]) -> Whereabouts:
    """Return what a connection leads to."""
    found = fetch_one(conn, Whereabouts, _WHEREABOUTS, [conn.info.host, conn.info.port])
    assert found is not None  # noqa: S101 - a SELECT without FROM has one row
    return found
