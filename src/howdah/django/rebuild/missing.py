"""Databases of the settings that do not exist yet: the first rebuild makes them."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import LiteralString

import psycopg
from psycopg import errors, sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from howdah.django.rebuild.databases import chosen_aliases, connect, conninfo_of
from howdah.errors import HowdahError, NoDatabase, Refused

# Which databases to connect to where one's own is not there yet, as createdb does.
_OTHERS = ("postgres", "template1")


@dataclass(frozen=True, slots=True)
class Missing:
    """A database that its server does not have.

    Attributes:
        name: Its name.
        alias: The first that leads to it.
        conninfo: Of another database of its server.
    """

    name: str
    alias: str
    conninfo: str


def missing_databases(chosen: Sequence[str] = ()) -> list[Missing]:
    """Return the databases that do not exist, each once.

    Args:
        chosen: Only those of these aliases; empty: of all that are PostgreSQL's.

    Raises:
        UsageError: An alias is unknown.
    """
    found: dict[str, Missing] = {}
    for alias in chosen_aliases(chosen):
        if (one := _missing(alias)) is not None:
            found.setdefault(one.conninfo + one.name, one)
    return list(found.values())


def check_existing(chosen: Sequence[str] = ()) -> None:
    """Say what makes a database that does not exist, where nothing is to be done yet.

    Raises:
        NoDatabase: One does not exist.
    """
    for one in missing_databases(chosen):
        raise NoDatabase(
            f"The database {one.name!r} does not exist yet, so there is nothing to plan for.",
            next_step="A rebuild makes it; run the same command without --plan.",
        )


def check_allowed(missing: Sequence[Missing], allowed: Sequence[str]) -> None:
    """Refuse to make what no later rebuild may touch.

    Raises:
        Refused: A database is not declared disposable.
    """
    for one in missing:
        if one.name not in allowed:
            raise Refused(
                f"The database {one.name!r} does not exist yet, and is not declared disposable.",
                next_step=f'Add {one.name!r} to "allow" of HOWDAH["REBUILD"] in the settings, and '
                f"a rebuild makes it; or type: --allow {one.name}",
            )


@contextmanager
def made(missing: Sequence[Missing]) -> Generator[None]:
    """Make databases; drop them again where what follows fails.

    Raises:
        Refused: The role may not create databases.
    """
    ours: list[Missing] = []
    try:
        ours.extend(one for one in missing if _create(one))
        yield
    except BaseException:
        for one in ours:
            with suppress(HowdahError, psycopg.Error):
                _execute(one, "DROP DATABASE IF EXISTS {}")
        raise


def _missing(alias: str) -> Missing | None:
    conninfo = conninfo_of(alias)
    try:
        with connect(conninfo, alias):
            return None
    except NoDatabase:
        name = conninfo_to_dict(conninfo).get("dbname")
        for other in _OTHERS:
            elsewhere = make_conninfo(conninfo, dbname=other)
            with suppress(NoDatabase), connect(elsewhere, alias) as conn:
                query = "SELECT FROM pg_database WHERE datname = %s"
                exists = conn.execute(query, [name]).fetchone() is not None
                return None if exists or not name else Missing(str(name), alias, elsewhere)
        return None  # then it is the server that does not answer: who connects next says so


def _create(one: Missing) -> bool:
    try:
        _execute(one, "CREATE DATABASE {}")
    except errors.DuplicateDatabase:  # another rebuild was faster
        return False
    except errors.InsufficientPrivilege as exc:
        raise Refused(
            f"The database {one.name!r} does not exist yet, and the role may not create it.",
            next_step="As an administrator, run: createdb --owner ROLE "
            f"{one.name}, or ALTER ROLE ... CREATEDB",
        ) from exc
    return True


def _execute(one: Missing, statement: LiteralString) -> None:
    with connect(one.conninfo, one.alias) as conn:
        conn.execute(sql.SQL(statement).format(sql.Identifier(one.name)))
