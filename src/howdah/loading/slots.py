"""Connection slots that the role and the database leave to a load."""

from __future__ import annotations

from typing import Any

from psycopg import Connection

from howdah.errors import Refused

__all__ = ["most_workers"]


# Superusers are exempt; what another role's backend is, we may not see. Slots of
# the whole server are another matter: others come and go there, and a worker that
# finds none tries again.
_LIMITS = """
    SELECT format('role %s', rolname) AS whose, rolconnlimit AS slots,
           (SELECT count(*) FROM pg_catalog.pg_stat_activity
             WHERE usesysid = pg_roles.oid
               AND coalesce(backend_type, 'client backend') = 'client backend') AS used
      FROM pg_catalog.pg_roles
     WHERE rolname = session_user AND rolconnlimit >= 0 AND NOT rolsuper
     UNION ALL
    SELECT format('database %s', datname), datconnlimit,
           (SELECT count(*) FROM pg_catalog.pg_stat_activity
             WHERE datid = pg_database.oid
               AND coalesce(backend_type, 'client backend') = 'client backend')
      FROM pg_catalog.pg_database
     WHERE datname = current_database() AND datconnlimit >= 0
       AND NOT (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = session_user)
"""


def most_workers(conn: Connection[Any], wanted: int) -> int:
    """Return how many workers may connect: as many as wanted, or what connection limits leave.

    Raises:
        Refused: They leave none.
    """
    for whose, slots, used in conn.execute(_LIMITS):
        free = slots - used
        if free < 1:
            raise Refused(
                f"The {whose} may hold {slots} connections and holds {used}; "
                "a load needs one more.",
                next_step="Raise its CONNECTION LIMIT (ALTER ROLE, ALTER DATABASE), or close "
                "other connections.",
            )
        wanted = min(wanted, free)
    return wanted
