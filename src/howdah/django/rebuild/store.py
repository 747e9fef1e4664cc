"""Databases to build in, and the built results that are kept.

A result is kept under the digest of its inputs, as a database that
IS_TEMPLATE: that is set last, and marks it as complete. Beside the project's
schemas it holds `howdah_kept`, with what is needed to carry it over.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, LiteralString

from psycopg import Connection, errors, sql

from howdah import pg
from howdah.django.rebuild import names
from howdah.django.rebuild.databases import Database, Facts
from howdah.errors import HowdahError

COPY = "test"
"""The kind of a copy for tests."""

_ICU_SINCE = 150000

_NAMED = """
    SELECT d.datname AS name, shobj_description(d.oid, 'pg_database') AS comment, d.datistemplate
      FROM pg_database AS d
     WHERE d.datname = ANY(%s)
"""
_OURS = """
    SELECT d.datname AS name, shobj_description(d.oid, 'pg_database') AS comment, d.datistemplate,
           pg_database_size(d.oid) AS size_bytes
      FROM pg_database AS d
     WHERE (starts_with(shobj_description(d.oid, 'pg_database'), %s) OR d.datname ~ '^howdah_')
       AND pg_has_role(d.datdba, 'USAGE')
     ORDER BY d.oid
"""
_KEEP = """
    CREATE SCHEMA howdah_kept;
    CREATE TABLE howdah_kept.part (name text PRIMARY KEY, value text NOT NULL)
"""


@dataclass(frozen=True, slots=True)
class Kept:
    """A result, and what is needed to carry it over.

    Attributes:
        database: The database that holds it, with the schemas' true names.
        schemas: Those that the build made.
        shared: Those of them that hold an extension's objects.
        extensions: Name, schema and version of each.
        before_data: SQL that makes the tables beside the live ones.
        after_data: SQL that makes their indexes, constraints and triggers.
    """

    database: str
    schemas: tuple[str, ...]
    shared: tuple[str, ...]
    extensions: tuple[tuple[str, str, str], ...]
    before_data: str
    after_data: str


@dataclass(frozen=True, slots=True)
class Stored:
    """A database of ours on the server.

    Attributes:
        is_complete: It keeps a whole result, or it is a copy for tests; else it was being made.
        is_copy: For tests.
        at: When it was made; empty: it was being created.
    """

    name: str
    is_complete: bool
    is_copy: bool
    at: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class _Named:
    name: str
    comment: str | None
    datistemplate: bool


@dataclass(frozen=True, slots=True)
class _Ours(_Named):
    size_bytes: int


def find(conn: Connection[Any], digest: str, *, built_since: datetime | None = None) -> str | None:
    """Return the database that keeps the result of these inputs; None where none does.

    Args:
        conn: To any database of the server.
        digest: Of the inputs.
        built_since: Not one that was built before.
    """
    name = names.kept(digest)
    found = pg.fetch_one(conn, _Named, _NAMED, [[name]])
    facts = (names.facts_of(found.comment) or {}) if found and found.datistemplate else {}
    if facts.get("digest") != digest:
        return None
    is_new = built_since is None or datetime.fromisoformat(facts["at"]) >= built_since
    return name if is_new else None


def facts(conn: Connection[Any], databases: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return what the marks of databases say, by name; nothing of those that are not there."""
    rows = pg.fetch_all(conn, _Named, _NAMED, [list(databases)])
    return {row.name: names.facts_of(row.comment) or {} for row in rows}


def create(conn: Connection[Any], database: Database) -> str:
    """Create an empty database to build in, alike in all that decides how text sorts."""
    name = names.building(database.name)
    with pg.explained(f"create the database {name}"):
        conn.execute(_create(name, database.facts))
    mark(conn, name, kind="building", of=database.name)
    # What is lost in a crash of the server is built again.
    conn.execute(
        sql.SQL("ALTER DATABASE {} SET synchronous_commit = off").format(sql.Identifier(name))
    )
    configure(conn, name, database.facts.settings)
    return name


def configure(conn: Connection[Any], name: str, settings: Sequence[str]) -> None:
    """Give a database the settings of the live one: CREATE DATABASE copies none.

    Args:
        conn: To any database of the server.
        name: The database's.
        settings: As "name=value".
    """
    for setting in settings:
        _set(conn, name, *setting.split("=", 1))


def finish(admin: Connection[Any], conn: Connection[Any], kept: Kept) -> None:
    """Store in a built database what is needed to carry it over; closes its connection."""
    parts = {
        "before_data": kept.before_data,
        "after_data": kept.after_data,
        "facts": json.dumps([kept.schemas, kept.shared, kept.extensions]),
    }
    with conn.transaction(), conn.cursor() as cursor:
        cursor.execute(_KEEP)
        cursor.executemany("INSERT INTO howdah_kept.part VALUES (%s, %s)", list(parts.items()))
    conn.close()
    name = sql.Identifier(kept.database)
    admin.execute(sql.SQL("ALTER DATABASE {} RESET synchronous_commit").format(name))


def keep(admin: Connection[Any], built: str, digest: str, of: str) -> str:
    """Give a built database its name and, last, the mark that it is complete."""
    kept = names.kept(digest)
    drop(admin, kept)
    rename(admin, built, kept)
    mark(admin, kept, kind="kept", of=of, digest=digest)
    admin.execute(sql.SQL("ALTER DATABASE {} IS_TEMPLATE true").format(sql.Identifier(kept)))
    return kept


def rename(admin: Connection[Any], name: str, new: str) -> None:
    """Rename a database."""
    query = sql.SQL("ALTER DATABASE {} RENAME TO {}")
    admin.execute(query.format(sql.Identifier(name), sql.Identifier(new)))


def read(conn: Connection[Any], name: str) -> Kept:
    """Return what a kept or built database holds; `conn` is a connection to it."""
    parts: Mapping[str, str] = dict(
        conn.execute("SELECT name, value FROM howdah_kept.part").fetchall()
    )
    schemas, shared, extensions = json.loads(parts["facts"])
    return Kept(
        database=name,
        schemas=tuple(schemas),
        shared=tuple(shared),
        extensions=tuple((one[0], one[1], one[2]) for one in extensions),
        before_data=parts["before_data"],
        after_data=parts["after_data"],
    )


def clone(admin: Connection[Any], kept: str, name: str) -> None:
    """Create a database as a copy of a kept one."""
    template, new = sql.Identifier(kept), sql.Identifier(name)
    admin.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(new, template))


def stored(conn: Connection[Any], of: str) -> list[Stored]:
    """Return the databases of ours that were made for a live one, oldest first.

    Args:
        conn: To any database of the server.
        of: The live one.
    """
    found = []
    for one in pg.fetch_all(conn, _Ours, _OURS, [names.MARK]):
        facts = names.facts_of(one.comment)
        if facts["of"] == of if facts else names.is_unmarked(one.name, of):
            facts = facts or {"at": ""}
            is_copy = facts.get("kind") == COPY or one.name.startswith(names.COPYING)
            if not is_copy and not one.name.startswith((names.BUILDING, names.KEPT)):
                continue
            is_complete = one.datistemplate or (is_copy and "digest" in facts)
            found.append(Stored(one.name, is_complete, is_copy, facts["at"], one.size_bytes))
    return found


def prune(conn: Connection[Any], of: str, *, kept_results: int) -> list[str]:
    """Drop what a dead rebuild has left, and the oldest results; return their names.

    Only to be called under the lock of the database: no other rebuild of it is at work.
    """
    ours = [one for one in stored(conn, of) if not one.is_copy]
    complete = sorted((one for one in ours if one.is_complete), key=lambda one: one.at)
    gone = [one.name for one in ours if not one.is_complete]
    gone += [one.name for one in complete[: max(len(complete) - kept_results, 0)]]
    for name in gone:
        drop(conn, name)
    return gone


def drop(conn: Connection[Any], name: str) -> None:
    """Drop a database of ours, whoever is in it."""
    if not name.startswith((names.BUILDING, names.KEPT)):
        raise HowdahError(f"{name!r} is not a database of Howdah's.")
    identifier = sql.Identifier(name)
    row = conn.execute(
        "SELECT datistemplate FROM pg_database WHERE datname = %s", [name]
    ).fetchone()
    if row is None:
        return
    if row[0]:
        conn.execute(sql.SQL("ALTER DATABASE {} IS_TEMPLATE false").format(identifier))
    conn.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(identifier))


def _create(name: str, facts: Facts) -> sql.Composed:
    words: list[tuple[LiteralString, str | None]] = [
        ("ENCODING", facts.encoding),
        ("LC_COLLATE", facts.datcollate),
        ("LC_CTYPE", facts.datctype),
    ]
    if facts.server_version >= _ICU_SINCE and facts.locale_provider != "c":
        provider = {"i": "icu", "b": "builtin"}[facts.locale_provider]
        words += [("LOCALE_PROVIDER", provider)]
        words += [("ICU_LOCALE" if provider == "icu" else "BUILTIN_LOCALE", facts.locale)]
    options = sql.SQL(" ").join(
        sql.SQL("{} {}").format(sql.SQL(word), sql.Literal(value)) for word, value in words
    )
    return sql.SQL("CREATE DATABASE {} TEMPLATE template0 {}").format(sql.Identifier(name), options)


def mark(conn: Connection[Any], name: str, **facts: Any) -> None:
    """Mark a database as ours."""
    text = names.mark(at=datetime.now(UTC).isoformat(timespec="microseconds"), **facts)
    query = sql.SQL("COMMENT ON DATABASE {} IS {}")
    conn.execute(query.format(sql.Identifier(name), sql.Literal(text)))


def _set(conn: Connection[Any], database: str, setting: str, value: str) -> None:
    """Give a database a setting of the live one, by way of the session: lists keep their form.

    What only a superuser may set decides nothing that is built.
    """
    with suppress(errors.InsufficientPrivilege), conn.transaction():
        conn.execute("SELECT set_config(%s, %s, true)", [setting, value])
        conn.execute(
            sql.SQL("ALTER DATABASE {} SET {} FROM CURRENT").format(
                sql.Identifier(database), sql.Identifier(setting)
            )
        )
