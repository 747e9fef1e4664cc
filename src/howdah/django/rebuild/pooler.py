"""A pooler in front of the server, as PgBouncer, and the way around it.

In transaction mode a session's locks and settings go to whoever gets the
connection next, and a pooler knows only the databases on its list. So a
rebuild talks to the server itself, where that lets the same role in.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from psycopg import Connection, errors
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from howdah import pg
from howdah.errors import NoDatabase

_TIMEOUT_S = "3"
_FOLDERS = ("/var/run/postgresql", "/tmp")  # noqa: S108 - where PostgreSQL's sockets are

_ADDRESS = """
    SELECT pg_backend_pid(), host(inet_server_addr()),
           coalesce(inet_server_port()::text, current_setting('port'))
"""
_SAME = """
    SELECT s.system_identifier, d.oid::bigint
      FROM pg_control_system() AS s, pg_database AS d WHERE d.datname = current_database()
"""


def is_pooled(conn: Connection[Any]) -> bool:
    """Say whether something between us and the server deals its connections out.

    The process that the protocol's greeting named is then not the one that answers.
    """
    row = conn.execute("SELECT pg_backend_pid()").fetchone()
    return row is not None and row[0] != conn.info.backend_pid


def way_around(conn: Connection[Any], conninfo: str, given: str | None) -> dict[str, str] | None:
    """Return host, port and what else leads past a pooler to the very same database.

    Args:
        conn: Through the pooler.
        conninfo: Of that connection.
        given: What the settings say, as a connection string; None: where the server says it is.

    Returns:
        None where the server does not let this role in.

    Raises:
        NoDatabase: What the settings say leads elsewhere, or nowhere.
    """
    same = conn.execute(_SAME).fetchone()
    for words in [_words(given)] if given else _addresses(conn):
        direct = make_conninfo(conninfo, **{"connect_timeout": _TIMEOUT_S} | words)
        try:
            with pg.connect(direct, application_name="howdah rebuild") as there:
                if not is_pooled(there) and there.execute(_SAME).fetchone() == same:
                    return words
        except NoDatabase:
            if given:
                raise
    if given:
        raise NoDatabase(
            '"direct" of HOWDAH["REBUILD"] does not lead to the server behind the pooler.',
            next_step="Write the host and the port that the pooler itself connects to.",
        )
    return None


def _words(given: str) -> dict[str, str]:
    parsed: Mapping[str, Any] = conninfo_to_dict(given)
    return {key: str(value) for key, value in parsed.items()}


def _addresses(conn: Connection[Any]) -> Iterator[dict[str, str]]:
    row = conn.execute(_ADDRESS).fetchone()
    _, address, port = row or (0, None, "5432")
    if address:
        yield {"host": address, "port": port}
        # As the pooler sees it, "localhost" is the pooler's host.
        hosts = [conn.info.host] if address in {"127.0.0.1", "::1"} else []
    else:
        hosts = [*_folders(conn), conn.info.host]
    for host in hosts:
        yield {"host": host, "port": port}


def _folders(conn: Connection[Any]) -> list[str]:
    try:
        row = conn.execute("SELECT current_setting('unix_socket_directories')").fetchone()
    except errors.InsufficientPrivilege:
        return list(_FOLDERS)
    return [part.strip() for part in str(row[0] if row else "").split(",")]
