"""The insert or update that costs the server most, as pg_stat_statements has it.

What it has is the statement with `$1`, `$2` in place of values; the values are
gone. `standins` makes others of the rows of the table's copy. A statement that
cannot be done on a copy is passed over for the next, and the report says so.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import psycopg
from psycopg import Connection, sql

from howdah.errors import HowdahError, Refused
from howdah.tuning.costly import Costly, costly_statements, shortened
from howdah.tuning.placeholders import Place, named, places, with_arrays
from howdah.tuning.scratch import Scratch
from howdah.tuning.standins import columns, stand_ins
from howdah.tuning.statement import (
    Statement,
    statement_workload,
    target_of,
    without_comments,
)
from howdah.tuning.workloads import Workload

__all__ = ["replayed"]

_SHOWN = 300


def replayed(
    conn: Connection[Any], schema: str, *, triggers: bool = True, connections: int = 1
) -> Workload:
    """Return the costliest statement that can be done on a copy of its table, as a workload.

    Args:
        conn: In autocommit.
        schema: Of `scratch_schema`.
        triggers: Whether the table's triggers are copied.
        connections: How many do it at once.

    Raises:
        Refused: pg_stat_statements is not there or knows none, or none can be done.
    """
    costly = costly_statements(conn)
    if not costly:
        raise Refused(
            "pg_stat_statements knows no INSERT or UPDATE in this database.",
            next_step="Add it to shared_preload_libraries, restart, CREATE EXTENSION "
            "pg_stat_statements, wait for some work; or give --statement FILE.",
        )
    passed_over: list[str] = []
    for one in costly:
        try:
            statement = _statement(conn, one)
            workload, _ = statement_workload(
                conn, schema, statement, triggers=triggers, connections=connections
            )
        except (HowdahError, psycopg.Error) as exc:
            why = exc.message if isinstance(exc, HowdahError) else str(exc).splitlines()[0]
            passed_over.append(f"{shortened(one.query, 80)}: {why}")
            _emptied(conn, schema)
            continue
        return replace(workload, about=_about(one, passed_over))
    raise Refused(
        f"None of the {len(costly)} costliest statements can be done on a copy of its table: "
        f"{'; '.join(passed_over)}",
        next_step="Give one of them with values of your own: --statement FILE.",
    )


def _about(costly: Costly, passed_over: list[str]) -> str:
    each = costly.total_ms / costly.calls
    return "\n".join(
        [
            f"replayed: {shortened(costly.query, _SHOWN)}",
            f"  {costly.calls:,} calls so far, {each:.2f} ms each",
            "  values of other rows stand in for its own",
            *(f"  passed over: {why}" for why in passed_over),
        ]
    )


_TABLES = """
    SELECT relname FROM pg_catalog.pg_class
     WHERE relnamespace = to_regnamespace(%s)::oid AND relkind IN ('r', 'p')
"""


def _emptied(conn: Connection[Any], schema: str) -> None:
    """Drop what a statement that was passed over has left, for the next one's copy."""
    drop = sql.SQL("DROP TABLE IF EXISTS {} CASCADE")
    for (name,) in conn.execute(_TABLES, [schema]).fetchall():
        conn.execute(drop.format(sql.Identifier(schema, name)))


def _statement(conn: Connection[Any], costly: Costly) -> Statement:
    query = with_arrays(costly.query)
    target, *_ = target_of(query)
    found = places(query, [column.name for column in columns(conn, target.identifier)])
    text = named(query)
    types = _types(conn, text)
    rows = _rows(costly, found)
    words = without_comments(query).upper().split()

    def values(table: Scratch) -> Callable[[int], Mapping[str, Any]]:
        return stand_ins(
            conn,
            table.identifier,
            found,
            types,
            inserts=words[0] == "INSERT",
            rows=rows,
            conflicts="CONFLICT" in words,
        )

    return Statement(text, values)


def _rows(costly: Costly, found: Mapping[int, Place]) -> int:
    """Return for how many rows the statement is: those of its text, or of its arrays."""
    if any(place.many for place in found.values()):
        return max(round(costly.rows / max(costly.calls, 1)), 1)
    return 1 + max((place.row for place in found.values()), default=0)


_PREPARED = """
    SELECT parameter_types::text[] FROM pg_catalog.pg_prepared_statements
     WHERE name = 'howdah_replay'
"""


def _types(conn: Connection[Any], text: str) -> list[str]:
    """Return the types that the server infers for the placeholders, the first one's first."""
    query = re.sub(r"%\(p(\d+)\)s", r"$\1", text).replace("%%", "%")
    conn.execute(f"PREPARE howdah_replay AS {query}".encode())
    try:
        row = conn.execute(_PREPARED).fetchone()
        return list(row[0]) if row else []
    finally:
        conn.execute("DEALLOCATE howdah_replay")
