"""Which database: what the user named, what the environment names, or none (the embedded server).

The order, first match wins; `howdah where` shows it:

1. `--dsn`
2. `--settings MODULE`, `--database ALIAS` (Django's settings)
3. the variable `HOWDAH_DSN`
4. the variable `DATABASE_URL`
5. libpq's own variables (`PGHOST`, `PGDATABASE`, `PGSERVICE`, ...)
6. `DJANGO_SETTINGS_MODULE`
7. nothing: None, and the caller takes the embedded server

Service files and `.pgpass` are libpq's business and work with each of them.
A `Dsn` never shows its password: not in `repr`, not in `public()`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from howdah.errors import UsageError

__all__ = ["Dsn", "choose", "django_entry", "from_django", "from_text"]

_LIBPQ_VARIABLES = ("PGSERVICE", "PGHOST", "PGHOSTADDR", "PGDATABASE", "PGPORT", "PGUSER")
_SECRET_KEYS = ("password", "sslpassword", "oauth_client_secret", "scram_client_key")
_URL_SCHEMES = ("postgresql", "postgres", "postgis", "pgsql")
_DJANGO_KEYS = {
    "NAME": "dbname",
    "USER": "user",
    "PASSWORD": "password",
    "HOST": "host",
    "PORT": "port",
}
_DJANGO_OWN_OPTIONS = {
    "assume_role",
    "cursor_factory",
    "isolation_level",
    "pool",
    "server_side_binding",
}


@dataclass(frozen=True, slots=True, repr=False)
class Dsn:
    """A database and why it was chosen.

    Attributes:
        conninfo: What libpq understands, keyword/value form; may hold a password.
        origin: Where it comes from, for a person: "--dsn", "the variable PGHOST".
    """

    conninfo: str
    origin: str

    def public(self) -> str:
        """Return the connection string without its secrets."""
        from psycopg.conninfo import conninfo_to_dict, make_conninfo

        parts: dict[str, Any] = conninfo_to_dict(self.conninfo)
        return make_conninfo(**{k: v for k, v in parts.items() if k not in _SECRET_KEYS})

    def __repr__(self) -> str:
        return f"Dsn({self.public()!r}, origin={self.origin!r})"


def choose(
    dsn: str | None = None,
    *,
    settings: str | None = None,
    alias: str | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Dsn | None:
    """Return the database that the user or the environment names.

    Args:
        dsn: A connection string or URL, from `--dsn`.
        settings: A Django settings module, from `--settings`.
        alias: A key of its DATABASES, from `--database`; default "default".
        environ: The environment.

    Returns:
        None where nothing is named: the embedded server.

    Raises:
        UsageError: `dsn` together with `settings` or `alias`, or one that cannot be read.
    """
    if dsn is not None:
        if settings or alias:
            raise UsageError(
                "--dsn and --settings/--database name two databases.", next_step="Give one of them."
            )
        return from_text(dsn, origin="--dsn")
    django_module = settings or environ.get("DJANGO_SETTINGS_MODULE")
    if settings or alias:
        if django_module is None:
            raise UsageError(
                f"--database {alias} needs Django's settings.",
                next_step="Add --settings MODULE or set DJANGO_SETTINGS_MODULE.",
            )
        return from_django(django_module, alias or "default")
    for variable in ("HOWDAH_DSN", "DATABASE_URL"):
        if value := environ.get(variable):
            return from_text(value, origin=f"the variable {variable}")
    for variable in _LIBPQ_VARIABLES:
        if environ.get(variable):
            # libpq reads its own variables; an empty string leaves all to them.
            return Dsn("", origin=f"libpq's variables ({variable} is set)")
    if django_module is not None:
        return from_django(django_module, "default")
    return None


def from_text(text: str, *, origin: str) -> Dsn:
    """Return the database of a connection string or URL.

    Raises:
        UsageError: libpq does not understand it, or it is not PostgreSQL's.
    """
    from psycopg import ProgrammingError
    from psycopg.conninfo import conninfo_to_dict, make_conninfo

    scheme, separator, rest = text.partition("://")
    if separator and " " not in scheme:
        # "postgresql+psycopg" is SQLAlchemy's, "postgis" is dj-database-url's.
        if scheme.partition("+")[0] not in _URL_SCHEMES:
            raise UsageError(
                f"{origin} names a database of the kind {scheme!r}, not PostgreSQL.",
                next_step="Give a postgresql:// URL.",
            )
        text = f"postgresql://{rest}"
    try:
        parts: dict[str, Any] = conninfo_to_dict(text)
    except ProgrammingError:
        parts = {}
    if not parts or (separator and _is_torn(parts)):
        # No echo, and no error of libpq's as the cause: both quote what was
        # stumbled over, which is the password when that holds an "@" or a "/".
        raise UsageError(
            f"libpq does not understand the connection string of {origin}.",
            next_step="Write it as postgresql://USER:PASSWORD@HOST:PORT/DATABASE, with special "
            "characters percent-encoded, or as 'host=... dbname=... user=...'.",
        )
    return Dsn(make_conninfo(**parts), origin=origin)


def _is_torn(parts: Mapping[str, Any]) -> bool:
    """Return whether a URL was split in the wrong places, by a password that is not encoded."""
    port = str(parts.get("port", ""))
    is_number = port.replace(",", "").isdecimal() or not port
    return not is_number or any("@" in str(parts.get(key, "")) for key in ("host", "dbname"))


def from_django(module: str, alias: str) -> Dsn:
    """Return the database of an alias in Django's settings.

    Raises:
        UsageError: The module or the alias is missing, or it is not PostgreSQL's.
    """
    from psycopg.conninfo import make_conninfo

    entry = django_entry(module, alias)
    engine = entry.get("ENGINE", "")
    if "postg" not in engine:
        raise UsageError(
            f"The alias {alias!r} in {module} has ENGINE {engine!r}, which is not PostgreSQL.",
            next_step="Choose another alias with --database.",
        )
    parts: dict[str, Any] = {
        key: entry[name] for name, key in _DJANGO_KEYS.items() if entry.get(name)
    }
    options = entry.get("OPTIONS") or {}
    parts |= {key: value for key, value in options.items() if key not in _DJANGO_OWN_OPTIONS}
    return Dsn(make_conninfo(**parts), origin=f"Django's settings {module}, alias {alias!r}")


def django_entry(module: str, alias: str) -> Mapping[str, Any]:
    """Return what Django's settings say of an alias.

    Raises:
        UsageError: The module or the alias is missing.
    """
    databases = _django_databases(module)
    if alias not in databases:
        raise UsageError(
            f"DATABASES in {module} has no alias {alias!r}.",
            next_step=f"Choose one of: {', '.join(sorted(databases))}.",
        )
    return databases[alias]


def _django_databases(module: str) -> Mapping[str, Mapping[str, Any]]:
    # Imported by name: only howdah.django may depend on Django.
    try:
        conf: Any = import_module("django.conf")
    except ImportError as exc:
        raise UsageError(
            f"Django, which the settings {module} need, is not installed here.",
            next_step="Run howdah in the project's environment: pip install 'howdah[django]'",
        ) from exc
    # A project's own modules lie in the folder that the command runs in.
    sys.path.insert(0, str(Path.cwd()))
    try:
        databases: Mapping[str, Mapping[str, Any]] = conf.Settings(module).DATABASES
    except ImportError as exc:
        raise UsageError(
            f"The settings module {module!r} cannot be imported: {exc}.",
            next_step="Run the command in the project's folder.",
        ) from exc
    else:
        return databases
    finally:
        sys.path.remove(str(Path.cwd()))
