"""The schema `howdah`: made where the role may, printed for an administrator where it may not."""

from __future__ import annotations

import shlex
from typing import Any

from psycopg import Connection, errors, sql

from howdah import pg
from howdah.errors import Refused

__all__ = ["ddl", "install"]

_DDL = "ledger.sql"

# What was added last.
_INSTALLED = """
    SELECT EXISTS (SELECT FROM pg_catalog.pg_attribute
                    WHERE attrelid = to_regclass('howdah.sources') AND attname = 'options')
"""


def install(conn: Connection[Any]) -> None:
    """Create the schema `howdah` and its tables where they are missing.

    Raises:
        Refused: The role may not create a schema in the database, or not use this one.
    """
    try:
        if _is_installed(conn):
            return
        with conn.transaction():
            pg.xact_lock(conn, "howdah: install the ledger")
            conn.execute(_ddl().encode())  # bytes: a file of ours, no literal of this module
    except errors.InsufficientPrivilege as exc:
        role = conn.info.user
        raise Refused(
            f"The role {role} may not create the schema howdah, or not use it: "
            f"{exc.diag.message_primary}.",
            next_step="Have an administrator run what this prints, in this database: "
            f"howdah load --print-ddl {shlex.quote(role)}",
        ) from exc


_GRANTS = """
GRANT USAGE ON SCHEMA howdah TO {role};
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA howdah TO {role};
"""


def ddl(role: str) -> str:
    """Return the statements that an administrator runs, so that a role may load.

    Args:
        role: Who is to load; what it needs in the schema howdah is granted to it.
    """
    return _ddl() + sql.SQL(_GRANTS).format(role=sql.Identifier(role)).as_string(None)


def _ddl() -> str:
    from importlib.resources import files  # 10 ms, and needed once a database

    return files("howdah.loading").joinpath(_DDL).read_text()


def _is_installed(conn: Connection[Any]) -> bool:
    row = conn.execute(_INSTALLED).fetchone()
    return row is not None and bool(row[0])
