"""Read a server's settings: what is in force, what the files say, and in which unit.

`pg_settings` holds what is in force, `pg_file_settings` what the configuration
files say now; between the two stands a reload or a restart. Of several places
that set one setting the last one wins, postgresql.auto.conf is read last, and
the server's command line wins over all files.
Source: https://www.postgresql.org/docs/current/config-setting.html
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from psycopg import Connection, errors

from howdah import pg
from howdah.errors import UsageError

__all__ = [
    "FilePlace",
    "Setting",
    "file_places",
    "in_bytes",
    "in_seconds",
    "is_in_force",
    "parse_number",
    "same_value",
    "setting",
    "settings",
]

AUTO_CONF = "postgresql.auto.conf"
"""What ALTER SYSTEM writes; read last, so it wins over the other files."""

INCLUDE_NAME = "howdah.settings.conf"
"""Our include file, for where ALTER SYSTEM is not allowed."""

_TRUE, _FALSE = ("on", "true", "yes", "1"), ("off", "false", "no", "0")
_BYTES = {"B": 1, "kB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30, "TB": 1 << 40}
_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_NUMBER = re.compile(r"\s*([-+]?(?:0[xX][0-9a-fA-F]+|\d+\.?\d*(?:[eE][-+]?\d+)?|\.\d+))\s*(\S*)\s*")
_UNIT = re.compile(r"(\d*)([A-Za-z]+)")


@dataclass(frozen=True, slots=True)
class Setting:
    """One row of pg_settings, as our session sees it.

    Attributes:
        name: As PostgreSQL spells it: "shared_buffers", "DateStyle".
        value: In force, in `unit`: "16384".
        shown: The same for people, as SHOW has it: "128MB".
        unit: "8kB", "ms", ...; None for a plain number or a text.
        vartype: "bool", "enum", "integer", "real" or "string".
        context: Who may change it when: "internal", "postmaster" (at a
            restart), "sighup" (at a reload), "backend" and
            "superuser-backend" (for new sessions), "superuser", "user".
        source: Where the value in force comes from: "default",
            "configuration file", "command line", "database", "user", ...
        sourcefile: None where none, or where the role may not see it
            (needs pg_read_all_settings).
        sourceline: Likewise.
        boot_value: What it is without any configuration, in `unit`.
        reset_value: What RESET in our session gives, in `unit`.
        min_value: The least number; None for what is none.
        max_value: The greatest number; None for what is none.
        enum_values: What an enum may be; None for others.
        pending_restart: The files say another value, which waits for a restart.
        description: One line, in the server's language.
    """

    name: str
    value: str
    shown: str
    unit: str | None
    vartype: str
    context: str
    source: str
    sourcefile: str | None
    sourceline: int | None
    boot_value: str | None
    reset_value: str | None
    min_value: str | None
    max_value: str | None
    enum_values: list[str] | None
    pending_restart: bool
    description: str

    @property
    def is_default(self) -> bool:
        """Whether the value in force is the one without any configuration."""
        return self.boot_value is not None and same_value(self, self.boot_value, self.value)


@dataclass(frozen=True, slots=True)
class FilePlace:
    """A line of a configuration file that sets something.

    Attributes:
        file: Its full path on the server.
        line: Its number, from 1.
        name: The setting; None for a line that is an error.
        value: The text of the value; None for a line that is an error.
        applied: A reload can apply it, and no later line sets the same.
        error: Why it cannot be applied; None where it can, and for a setting
            that only waits for a restart.
    """

    file: str
    line: int
    name: str | None
    value: str | None
    applied: bool
    error: str | None

    @property
    def is_auto_conf(self) -> bool:
        """Whether ALTER SYSTEM wrote it."""
        return PurePath(self.file).name == AUTO_CONF

    @property
    def is_ours(self) -> bool:
        """Whether it stands in our include file."""
        return PurePath(self.file).name == INCLUDE_NAME


_SETTINGS = """
    SELECT name, coalesce(setting, '') AS value,
           coalesce(current_setting(name, true), setting, '') AS shown,
           unit, vartype, context, source, sourcefile, sourceline,
           boot_val AS boot_value, reset_val AS reset_value,
           min_val AS min_value, max_val AS max_value, enumvals AS enum_values,
           pending_restart, coalesce(short_desc, '') AS description
      FROM pg_catalog.pg_settings
     WHERE %(names)s::text[] IS NULL OR lower(name) = ANY (%(names)s::text[])
     ORDER BY lower(name)
"""


def settings(conn: Connection[Any], *names: str) -> dict[str, Setting]:
    """Return settings by name.

    Args:
        conn: To the server.
        names: Only these, in any case; none at all for every setting that the
            role may see. Those that do not exist are left out.
    """
    wanted = [name.lower() for name in names] or None
    found = pg.fetch_all(conn, Setting, _SETTINGS, {"names": wanted})
    return {setting.name: setting for setting in found}


def setting(conn: Connection[Any], name: str) -> Setting:
    """Return one setting.

    Raises:
        UsageError: The server has none of that name, or hides it from the role.
    """
    found = settings(conn, name)
    if not found:
        raise UsageError(
            f"PostgreSQL {conn.info.server_version // 10000} has no setting {name!r}"
            f"{_alike(conn, name)}.",
            next_step="See all: howdah config show --all",
        )
    return next(iter(found.values()))


_FILES = """
    SELECT f.sourcefile AS file, f.sourceline AS line, f.name, f.setting AS value, applied,
           CASE WHEN s.context IN ('postmaster', 'internal') THEN NULL ELSE error END AS error
      FROM pg_catalog.pg_file_settings AS f
      LEFT JOIN pg_catalog.pg_settings AS s ON lower(s.name) = lower(f.name)
     ORDER BY seqno
"""


def file_places(conn: Connection[Any]) -> list[FilePlace] | None:
    """Return what the configuration files say now, in the order they are read.

    Errors come from PostgreSQL itself. A setting that can only change at a
    restart is told there as one that "could not be applied"; that is no error.

    Returns:
        None where the role may not see it (superusers may, and roles with
        EXECUTE on the function pg_show_all_file_settings).
    """
    try:
        with conn.transaction():
            return pg.fetch_all(conn, FilePlace, _FILES)
    except errors.InsufficientPrivilege:
        return None


def parse_number(text: str, unit: str | None) -> float | None:
    """Read a number as PostgreSQL does: "64MB" in the unit "kB" is 65536.

    Args:
        text: A number, perhaps with a unit of its own.
        unit: The setting's unit, which a bare number is in.

    Returns:
        The number in `unit`; None where the text is none, or of a wrong unit.

    Source: https://www.postgresql.org/docs/current/config-setting.html
    """
    match = _NUMBER.fullmatch(text)
    if match is None:
        return None
    digits, own = match.groups()
    number = float(int(digits, 16)) if "x" in digits.lower() else float(digits)
    if not own:
        return number
    for table in (_BYTES, _SECONDS):
        size = _unit_size(unit, table)
        if size is not None and own in table:
            return number * table[own] / size
    return None


def in_bytes(setting: Setting, text: str | None = None) -> int:
    """Return a memory setting's value in bytes; -1 stays -1.

    Args:
        setting: Whose unit is one of memory.
        text: Another value than the one in force.
    """
    return _in(setting, setting.value if text is None else text, _BYTES)


def in_seconds(setting: Setting) -> float:
    """Return the value of a setting of time in seconds; -1 stays -1."""
    number = float(setting.value)
    return number * (_unit_size(setting.unit, _SECONDS) or 1) if number >= 0 else number


def same_value(setting: Setting, one: str, other: str) -> bool:
    """Say whether two texts are the same value of a setting: "128MB" and "16384" in 8kB."""
    if setting.vartype in ("integer", "real"):
        numbers = [parse_number(text, setting.unit) for text in (one, other)]
        if None not in numbers:
            a, b = (float(number or 0) for number in numbers)
            slack = 0.5 if setting.vartype == "integer" else 0.0
            return math.isclose(a, b, rel_tol=1e-9, abs_tol=slack)
    if setting.vartype in ("bool", "enum"):
        return _truth(one) == _truth(other)
    if setting.name == "DateStyle":  # the only text that PostgreSQL shows in capitals of its own
        one, other = one.lower(), other.lower()
    return one == other or _as_list(one) == _as_list(other)


def is_in_force(now: Setting, wish: str, places: list[FilePlace] | None) -> bool:
    """Say whether a value that was written is in force, in whatever words PostgreSQL has it.

    It puts others in place of some: a number for wal_buffers = -1 or transaction_buffers = 0,
    "pglz" for wal_compression = on, "UTC" for TimeZone = utc. Then the line of the file tells.

    Args:
        now: The setting after the reload or restart.
        wish: What was written.
        places: All lines of the files; None where the role may not see them.
    """
    if same_value(now, now.value, wish):
        return True
    if places is None:
        return now.source == "override"  # what the server itself puts in place as it starts
    lines = [p for p in places if p.name and p.name.lower() == now.name.lower()]
    if not lines or not same_value(now, lines[-1].value or "", wish):
        return False
    if now.context == "postmaster":  # applied: it comes to what is in force, or it would wait
        return lines[-1].applied or now.source == "override"
    of_this_line = (now.sourcefile, now.sourceline) == (lines[-1].file, lines[-1].line)
    return lines[-1].applied and of_this_line


def _truth(text: str) -> str:
    folded = text.strip().lower()
    return "on" if folded in _TRUE else "off" if folded in _FALSE else folded


def _as_list(text: str) -> list[str]:
    return [part.strip().strip('"') for part in text.split(",")]


def _in(setting: Setting, text: str, table: dict[str, int]) -> int:
    number = parse_number(text, setting.unit)
    if number is None:
        raise UsageError(
            f"{setting.name} = {text!r} is no amount of memory.",
            next_step="Write a number with kB, MB, GB or TB.",
        )
    return int(number * (_unit_size(setting.unit, table) or 1)) if number >= 0 else int(number)


def _unit_size(unit: str | None, table: dict[str, Any]) -> float | None:
    """Return how much one of pg_settings.unit is: "8kB" is 8192 bytes."""
    match = _UNIT.fullmatch(unit or "")
    if match is None or match[2] not in table:
        return None
    return int(match[1] or 1) * float(table[match[2]])


_NAMES = "SELECT name FROM pg_catalog.pg_settings"


def _alike(conn: Connection[Any], name: str) -> str:
    from difflib import get_close_matches

    names = [str(row[0]) for row in conn.execute(_NAMES)]
    near = get_close_matches(name.lower(), names, n=2, cutoff=0.7)
    return f" (near it: {', '.join(near)})" if near else ""
