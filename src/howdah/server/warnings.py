"""What a person should know before settings are changed: sentences, from facts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from psycopg import Connection

from howdah.server.settings import FilePlace

__all__ = ["warnings_of"]

# A standby refuses to start, or pauses, with less than its primary has.
# Source: https://www.postgresql.org/docs/current/hot-standby.html#HOT-STANDBY-ADMIN
_STANDBY_FIRST = (
    "max_connections",
    "max_locks_per_transaction",
    "max_prepared_transactions",
    "max_wal_senders",
    "max_worker_processes",
)


def warnings_of(
    conn: Connection[Any],
    names: Sequence[str],
    places: list[FilePlace] | None,
    *,
    restarts: bool,
) -> tuple[str, ...]:
    """Return sentences on a change of settings.

    Args:
        conn: To the server.
        names: The settings that are to change.
        places: What the files say.
        restarts: The change takes a restart.
    """
    found = [*_overrides(conn, names), *_file_errors(places)]
    if restarts:
        found += _others_waiting(conn, names) + _standbys(conn, names)
    return tuple(found)


_OVERRIDES = """
    SELECT split_part(entry, '=', 1) AS name, substr(entry, strpos(entry, '=') + 1) AS value,
           rolname, datname
      FROM pg_catalog.pg_db_role_setting AS s
     CROSS JOIN unnest(s.setconfig) AS entry
      LEFT JOIN pg_catalog.pg_roles AS r ON r.oid = s.setrole
      LEFT JOIN pg_catalog.pg_database AS d ON d.oid = s.setdatabase
     WHERE lower(split_part(entry, '=', 1)) = ANY (%s)
     ORDER BY 1, 3, 4
"""


def _overrides(conn: Connection[Any], names: Sequence[str]) -> list[str]:
    lower = [name.lower() for name in names]
    rows = conn.execute(_OVERRIDES, [lower]).fetchall()
    return [
        f"{' in '.join(filter(None, [role and f'the role {role}', base and f'database {base}']))} "
        f"keeps {name} = {value}: ALTER ROLE or ALTER DATABASE wins over the files."
        for name, value, role, base in rows
    ]


def _file_errors(places: list[FilePlace] | None) -> list[str]:
    return [
        f"{place.file}, line {place.line}, is wrong already ({place.error}): no reload or restart "
        "works before it is mended."
        for place in places or ()
        if place.error
    ]


_WAITING = """
    SELECT name, current_setting(name) FROM pg_catalog.pg_settings
     WHERE pending_restart AND NOT name = ANY (%s)
     ORDER BY name
"""


def _others_waiting(conn: Connection[Any], names: Sequence[str]) -> list[str]:
    return [
        f"The restart also brings a new {name} (now {value}), which has waited for one."
        for name, value in conn.execute(_WAITING, [list(names)])
    ]


_REPLICATION = """
    SELECT pg_catalog.pg_is_in_recovery(), count(*), string_agg(DISTINCT application_name, ', ')
      FROM pg_catalog.pg_stat_replication
"""


def _standbys(conn: Connection[Any], names: Sequence[str]) -> list[str]:
    bound = [name for name in names if name in _STANDBY_FIRST]
    row = conn.execute(_REPLICATION).fetchone()
    if not bound or row is None:
        return []
    if row[0]:
        return [f"This is a standby: {', '.join(bound)} must not be less than on its primary."]
    if row[1]:
        some = f"{row[1]} standby{'s' * (row[1] > 1)} ({row[2]})"
        told = f"It has {some}: raise {', '.join(bound)} there first, lower it here first; "
        return [told + "a standby with less than its primary stops."]
    return []
