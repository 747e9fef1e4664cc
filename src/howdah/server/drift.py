"""Where the configuration files and what is in force part, and what differs from the defaults."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from psycopg import Connection, errors

from howdah.server.includefile import conf_line
from howdah.server.settings import FilePlace, Setting, file_places, same_value, settings

__all__ = ["Drift", "changed_settings", "drifts", "export"]

_NOT_EXPORTED = ("override", "session", "client", "interactive")
# Where this one server lies, not how it is set up.
_OF_THIS_PLACE = ("config_file", "data_directory", "external_pid_file", "hba_file", "ident_file")


@dataclass(frozen=True, slots=True)
class Drift:
    """A line of the files that is not in force.

    Attributes:
        name: The setting; None for a line that cannot be read.
        in_force: Its value now; None where there is no such setting.
        in_files: What the files say; None where the role may not see them.
        file: The line that would win; None where the role may not see it.
        line: Its number.
        waits_for: "reload", "restart", or "mending" for an error.
        error: PostgreSQL's words on it.
    """

    name: str | None
    in_force: str | None
    in_files: str | None
    file: str | None
    line: int | None
    waits_for: str
    error: str | None = None


def drifts(conn: Connection[Any]) -> list[Drift]:
    """Return what the files say and the server does not have; of errors, all."""
    known = {name.lower(): found for name, found in settings(conn).items()}
    places = file_places(conn)
    if places is None:
        return [
            Drift(s.name, s.shown, None, s.sourcefile, s.sourceline, "restart")
            for s in known.values()
            if s.pending_restart
        ]
    last = {place.name.lower(): place for place in places if place.name}
    wrong = [place for place in places if place.error]
    found = [_wrong(place, known) for place in wrong]
    found += [
        _waiting(known[name], place)
        for name, place in last.items()
        if not place.error and name in known and _waits(conn, known[name], place)
    ]
    return found


def changed_settings(conn: Connection[Any]) -> list[Setting]:
    """Return the settings in force that are not as PostgreSQL would have them by itself."""
    return [
        found
        for found in settings(conn).values()
        if not found.is_default
        and found.source not in ("default", *_NOT_EXPORTED)
        and found.context != "internal"
    ]


def export(conn: Connection[Any]) -> str:
    """Return the text of a configuration file that sets another server up as this one is."""
    lines = [
        conf_line(found.name, found.shown)
        for found in changed_settings(conn)
        if found.name not in _OF_THIS_PLACE
    ]
    version = conn.info.parameter_status("server_version")
    return f"# Settings of a PostgreSQL {version} that are not its defaults.\n{''.join(lines)}"


def _wrong(place: FilePlace, known: dict[str, Setting]) -> Drift:
    found = known.get((place.name or "").lower())
    in_force = found.shown if found else None
    return Drift(
        place.name, in_force, place.value, place.file, place.line, "mending", error=place.error
    )


def _waits(conn: Connection[Any], found: Setting, place: FilePlace) -> bool:
    if found.pending_restart:
        return True
    if found.source not in ("configuration file", "default"):
        return False
    text = place.value or ""
    return not (
        same_value(found, found.value, text)
        or same_value(found, found.value, _in_servers_words(conn, found, text))
    )


_IN_SERVERS_WORDS = "SELECT pg_catalog.set_config(%s, %s, true)"


def _in_servers_words(conn: Connection[Any], found: Setting, text: str) -> str:
    """Return a value as PostgreSQL shows it, where a session may ask: "pglz" for "on"."""
    if found.context not in ("user", "superuser"):
        return text
    try:
        with conn.transaction(force_rollback=True):
            row = conn.execute(_IN_SERVERS_WORDS, [found.name, text]).fetchone()
    except (errors.DataError, errors.InsufficientPrivilege):
        return text
    return str(row[0]) if row else text


def _waiting(found: Setting, place: FilePlace) -> Drift:
    waits_for = "restart" if found.context == "postmaster" else "reload"
    return Drift(found.name, found.shown, place.value, place.file, place.line, waits_for)
