"""What a database holds: extensions, and schemas that cannot be renamed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.db import connections
from psycopg import Connection

from howdah import pg
from howdah.django.rebuild.databases import Database

_EXTENSIONS = """
    SELECT e.extname AS name, n.nspname AS schema, e.extversion AS version
      FROM pg_extension AS e JOIN pg_namespace AS n ON n.oid = e.extnamespace
     WHERE e.extname <> 'plpgsql'
     ORDER BY e.oid
"""
_UNTRUSTED = """
    SELECT e.extname
      FROM pg_extension AS e JOIN pg_available_extension_versions AS v
        ON v.name = e.extname AND v.version = e.extversion
     WHERE v.superuser AND NOT v.trusted
"""
_SHARED = """
    SELECT n.nspname
      FROM pg_namespace AS n
     WHERE n.nspname = ANY(%s)
       AND (EXISTS (SELECT FROM pg_extension AS e WHERE e.extnamespace = n.oid)
            OR EXISTS (SELECT FROM pg_depend AS d WHERE d.classid = 'pg_namespace'::regclass
                          AND d.objid = n.oid AND d.deptype = 'e')
            OR NOT pg_has_role(n.nspowner, 'USAGE'))
"""


@dataclass(frozen=True, slots=True)
class Extension:
    """An installed extension.

    Attributes:
        name: As in CREATE EXTENSION.
        schema: Where its objects are.
        version: Installed.
    """

    name: str
    schema: str
    version: str


def extensions(conn: Connection[Any]) -> list[Extension]:
    """Return the installed extensions, in the order in which they were installed."""
    return pg.fetch_all(conn, Extension, _EXTENSIONS)


def untrusted(conn: Connection[Any]) -> list[str]:
    """Return the installed extensions that only a superuser may install."""
    return [row[0] for row in conn.execute(_UNTRUSTED).fetchall()]


def shared_schemas(
    conn: Connection[Any], schemas: Sequence[str], database: Database
) -> tuple[str, ...]:
    """Return the schemas that cannot be renamed: an extension is in them, or they are not ours."""
    found = {row[0] for row in conn.execute(_SHARED, [list(schemas)]).fetchall()}
    # Django's backend for PostGIS installs the extension into the first schema of the search_path.
    for alias, path in zip(database.aliases, database.search_paths, strict=True):
        if hasattr(connections[alias].ops, "postgis") and path:
            found |= {path[0]} & set(schemas)
    return tuple(schema for schema in schemas if schema in found)
