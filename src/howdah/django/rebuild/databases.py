"""The physical databases behind the aliases of DATABASES, and what there is to know of each.

Two aliases are one database where the server and the database are the same,
however each of them is spelt: as many projects do to have one alias for each
search_path.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from django.conf import settings
from django.db import connections
from psycopg import Connection, sql
from psycopg.conninfo import make_conninfo

from howdah import pg
from howdah.django.rebuild import pooler
from howdah.django.rebuild.rules import rules_of
from howdah.dsn import Dsn
from howdah.errors import NoDatabase, UsageError

_OURS = {"cursor_factory", "context", "prepare_threshold", "row_factory", "autocommit"}

_FACTS = """
    SELECT d.datname AS name, current_user::text AS role, d.oid::bigint AS oid,
           s.system_identifier, current_setting('server_version_num')::int AS server_version,
           r.rolsuper AS is_superuser, r.rolsuper OR r.rolcreatedb AS may_create_databases,
           pg_has_role(d.datdba, 'USAGE') AS is_owner,
           has_database_privilege(d.oid, 'CREATE') AS may_create_schemas,
           pg_database_size(d.oid) AS size_bytes, pg_is_in_recovery() AS is_standby,
           (SELECT count(*) FROM pg_replication_slots AS l
             WHERE l.database = d.datname) AS logical_slots,
           (SELECT count(*) FROM pg_stat_replication) AS standbys,
           pg_encoding_to_char(d.encoding) AS encoding, d.datcollate, d.datctype,
           coalesce(to_jsonb(d)->>'datlocprovider', 'c') AS locale_provider,
           coalesce(to_jsonb(d)->>'datlocale', to_jsonb(d)->>'daticulocale') AS locale,
           ARRAY(SELECT unnest(setconfig) FROM pg_db_role_setting
                  WHERE setdatabase = d.oid AND setrole = 0) AS settings
      FROM pg_database AS d, pg_control_system() AS s, pg_roles AS r
     WHERE d.datname = current_database() AND r.rolname = current_user
"""
_SEARCH_PATH = """
    SELECT CASE trim(part, ' ')
             WHEN '"$user"' THEN CASE WHEN to_regnamespace(quote_ident(current_user)) IS NOT NULL
                                      THEN current_user::text END
             ELSE (parse_ident(trim(part, ' ')))[1]
           END AS schema
      FROM string_to_table(current_setting('search_path'), ',') AS part
     WHERE trim(part, ' ') NOT IN ('', '""', 'pg_catalog', 'pg_temp')
"""


@dataclass(frozen=True, slots=True)
class Facts:
    """What a server says of the database that a connection is in.

    Attributes:
        size_bytes: On disk.
        logical_slots: Logical replication slots of this database.
        standbys: Servers that follow this one.
        settings: Of ALTER DATABASE SET, as "name=value".
    """

    name: str
    role: str
    oid: int
    system_identifier: int
    server_version: int
    is_superuser: bool
    may_create_databases: bool
    is_owner: bool
    may_create_schemas: bool
    size_bytes: int
    is_standby: bool
    logical_slots: int
    standbys: int
    encoding: str
    datcollate: str
    datctype: str
    locale_provider: str
    locale: str | None
    settings: Sequence[str]


@dataclass(frozen=True, slots=True)
class Database:
    """One physical database.

    Attributes:
        facts: As its server tells them.
        aliases: Those of DATABASES that lead to it, in the order of the settings.
        search_paths: Of each alias, in that order; without the server's own schemas.
        dsn: Of the first alias; around a pooler where that is possible.
        around: What leads around a pooler: host, port; empty: no pooler, or no way.
        is_pooled: A pooler stands between us and the server.
    """

    facts: Facts
    aliases: tuple[str, ...]
    search_paths: tuple[tuple[str, ...], ...]
    dsn: Dsn
    around: Mapping[str, str] = field(default_factory=dict)
    is_pooled: bool = False

    @property
    def name(self) -> str:
        """The database's name."""
        return self.facts.name

    def conninfo(self, name: str | None = None) -> str:
        """Return how to connect to it, or to another database of the same server."""
        return make_conninfo(self.dsn.conninfo, dbname=name or self.name)


@dataclass(frozen=True, slots=True)
class _Schema:
    schema: str | None


def find_databases(chosen: Sequence[str] = ()) -> list[Database]:
    """Return the physical databases of the project, in the order of the settings.

    Args:
        chosen: Only those that one of these aliases leads to; empty: all of PostgreSQL's.

    Raises:
        UsageError: An alias is unknown.
        NoDatabase: A server does not let us in.
    """
    aliases = chosen_aliases()
    wanted = set(chosen_aliases(chosen))
    found: dict[tuple[int, int], Database] = {}
    for alias in aliases:
        dsn = Dsn(conninfo_of(alias), origin=f"alias {alias!r}")
        try:
            before, path = _looked_at(dsn, alias, found)
        except NoDatabase:
            if alias not in wanted:
                continue  # it is not asked for, and cannot be what is
            raise
        found[before.facts.system_identifier, before.facts.oid] = replace(
            before, aliases=(*before.aliases, alias), search_paths=(*before.search_paths, path)
        )
    return [one for one in found.values() if wanted & set(one.aliases)]


def chosen_aliases(chosen: Sequence[str] = ()) -> list[str]:
    """Return those aliases of DATABASES that are PostgreSQL's, or the chosen ones of them.

    Raises:
        UsageError: An alias is unknown.
    """
    aliases = [alias for alias in connections if _is_ours(alias)]
    if unknown := sorted(set(chosen) - set(aliases)):
        raise UsageError(
            f"DATABASES has no PostgreSQL alias {unknown[0]!r}.",
            next_step=f"Choose one of: {', '.join(aliases)}.",
        )
    return [alias for alias in aliases if not chosen or alias in chosen]


def _around(conn: Connection[Any], one: Database, alias: str) -> Database:
    """Lead around a pooler, if one is in front and the server lets us in."""
    if not pooler.is_pooled(conn):
        return one
    direct = rules_of(getattr(settings, "HOWDAH", {})).direct
    given = direct.get(alias) or direct.get("*")
    words = pooler.way_around(conn, one.dsn.conninfo, given)
    if words is None:
        return replace(one, is_pooled=True)
    conninfo: Any = make_conninfo(one.dsn.conninfo, **words)
    return replace(one, dsn=replace(one.dsn, conninfo=conninfo), around=words)


@contextmanager
def connect(conninfo: str, alias: str) -> Generator[Connection[Any]]:
    """Connect as the alias does, in the role that it assumes."""
    with pg.connect(conninfo, application_name="howdah rebuild") as conn:
        conn.prepare_threshold = None  # each statement runs once, and a pooler has none prepared
        if role := assumed_role(alias):
            conn.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(role)))
        yield conn


def assumed_role(alias: str) -> str | None:
    """Return the role that Django sets after connecting, if any."""
    role: str | None = connections[alias].settings_dict.get("OPTIONS", {}).get("assume_role")
    return role


@contextmanager
def pointed_at(
    names: Mapping[str, str], databases: Sequence[Database] = (), *, is_read_only: bool = False
) -> Generator[None]:
    """Have Django's aliases lead to other databases of their servers, and back in the end.

    Args:
        names: The database's name, by alias.
        databases: Those of the aliases, to go around poolers.
        is_read_only: Nothing may be written there.
    """
    around = {alias: one.around for one in databases for alias in one.aliases}
    before = {alias: dict(connections[alias].settings_dict) for alias in names}
    try:
        for alias, name in names.items():
            entry: dict[str, Any] = {"NAME": name} | django_words(around.get(alias, {}))
            if is_read_only:
                given = before[alias].get("OPTIONS", {})
                words = f"{given.get('options', '')} -c default_transaction_read_only=on"
                entry["OPTIONS"] = given | {"options": words.strip()}
            point(alias, entry)
        yield
    finally:
        for alias, entry in before.items():
            point(alias, entry)


def point(alias: str, entry: Mapping[str, Any]) -> None:
    """Have one of Django's aliases lead elsewhere from now on.

    Args:
        alias: Which.
        entry: What changes in its entry of DATABASES.
    """
    connection = connections[alias]
    connection.close()
    if hasattr(connection, "close_pool"):
        connection.close_pool()
    connection.settings_dict.update(entry)


def django_words(words: Mapping[str, str]) -> dict[str, str]:
    """Return a connection string's words by the names that they have in DATABASES."""
    return {key.upper(): words[key] for key in ("host", "port", "user", "password") if key in words}


def _is_ours(alias: str) -> bool:
    # What TEST calls a mirror is a replica: it gets its tables from its primary.
    connection = connections[alias]
    return connection.vendor == "postgresql" and not connection.settings_dict["TEST"]["MIRROR"]


def _looked_at(
    dsn: Dsn, alias: str, found: Mapping[tuple[int, int], Database]
) -> tuple[Database, tuple[str, ...]]:
    """Return the database of an alias, as it was found before or new, and its search_path."""
    with connect(dsn.conninfo, alias) as conn:
        facts = pg.fetch_one(conn, Facts, _FACTS)
        assert facts is not None  # noqa: S101 - we are connected to a database
        rows = pg.fetch_all(conn, _Schema, _SEARCH_PATH)
        path = tuple(row.schema for row in rows if row.schema)
        key = (facts.system_identifier, facts.oid)
        return found.get(key) or _around(conn, Database(facts, (), (), dsn), alias), path


def conninfo_of(alias: str) -> str:
    """Return how Django connects to an alias."""
    params: dict[str, Any] = connections[alias].get_connection_params()
    return make_conninfo(**{key: value for key, value in params.items() if key not in _OURS})
