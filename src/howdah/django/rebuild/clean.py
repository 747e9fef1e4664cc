"""What rebuilds have left on a server, and its removal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from psycopg import Connection

from howdah.django import testcopies
from howdah.django.rebuild import guard, store, swap
from howdah.django.rebuild.databases import Database, connect, find_databases
from howdah.django.rebuild.options import Options
from howdah.errors import HowdahError

_COPY = "a copy for tests"
_ASIDE = """
    SELECT n.nspname, obj_description(n.oid, 'pg_namespace'),
           (SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint FROM pg_class AS c
             WHERE c.relnamespace = n.oid AND c.relkind IN ('r', 'm'))
      FROM pg_namespace AS n
     WHERE n.nspname = ANY(%s)
     ORDER BY n.nspname
"""


@dataclass(frozen=True, slots=True)
class Leftover:
    """Something of ours.

    Attributes:
        kind: "schema" or "database".
        of: The live database it belongs to.
        what: For a person.
    """

    kind: str
    name: str
    of: str
    what: str
    size_bytes: int


def leftovers(options: Options) -> list[Leftover]:
    """Return what rebuilds of the project's databases have left."""
    found = []
    for database in find_databases(options.databases):
        with connect(database.conninfo(), database.aliases[0]) as conn:
            found += _of(conn, database)
    return found


def clean(options: Options) -> list[Leftover]:
    """Remove what rebuilds have left; return it.

    Raises:
        Refused: A rebuild is running.
        HowdahError: Somebody still reads a schema.
    """
    removed = []
    for database in find_databases(options.databases):
        with guard.held(database, wait_s=options.wait_s) as conn:
            for one in _of(conn, database):
                _remove(conn, one)
                removed.append(one)
    return removed


def _of(conn: Connection[Any], database: Database) -> list[Leftover]:
    name = database.name
    marked = swap.generations(conn)
    rows = conn.execute(_ASIDE, [list(marked)]).fetchall()
    found = [
        Leftover(
            "schema", schema, name, f"{marked[schema]['kind']} {marked[schema]['schema']}", size
        )
        for schema, _, size in rows
    ]
    for one in store.stored(conn, name):
        what = "a kept result" if one.is_complete else "of a rebuild that did not end"
        what = _COPY if one.is_copy else what
        found.append(Leftover("database", one.name, name, what, one.size_bytes))
    return found


def _remove(conn: Connection[Any], one: Leftover) -> None:
    if one.what == _COPY:
        testcopies.drop_unused(conn, one.name)
    elif one.kind == "database":
        store.drop(conn, one.name)
    elif not swap.drop_schemas(conn, [one.name]):
        raise HowdahError(
            f"Somebody still reads the schema {one.name}.",
            next_step="Try again when the query has ended (pg_stat_activity shows it).",
        )
