"""The insert or update that costs the server most, as pg_stat_statements has it.

What it has is the statement with `$1`, `$2` in place of values. Values of the
table's own rows stand in for them, so that keys exist which are referred to;
a column whose values must differ gets new ones of its type.
"""

from __future__ import annotations

import datetime as dt
import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from psycopg import Connection, errors, sql

from howdah import pg
from howdah.errors import Refused
from howdah.tuning.statement import Statement, target_of

__all__ = ["Costly", "costly_statements", "replayed"]

_SAMPLE_ROWS = 1000


@dataclass(frozen=True, slots=True)
class Costly:
    """A statement that the server has done often.

    Attributes:
        query: With `$1`, `$2` for values.
        calls: How often.
        total_ms: How long in all, in milliseconds.
    """

    query: str
    calls: int
    total_ms: float


_COSTLY = r"""
    SELECT query, calls, total_exec_time AS total_ms
      FROM {}
     WHERE dbid = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
       AND query ~* '^\s*(insert\s+into|update)\s' AND query !~* 'howdah'
     ORDER BY total_exec_time DESC
     LIMIT 20
"""
_EXTENSION = """
    SELECT n.nspname FROM pg_catalog.pg_extension AS e
      JOIN pg_catalog.pg_namespace AS n ON n.oid = e.extnamespace
     WHERE e.extname = 'pg_stat_statements'
"""


def costly_statements(conn: Connection[Any]) -> list[Costly]:
    """Return the inserts and updates that cost most in this database; none where it is not told.

    It is told where pg_stat_statements is loaded, and created in this database.
    """
    found = conn.execute(_EXTENSION).fetchone()
    if found is None:
        return []
    view = sql.Identifier(found[0], "pg_stat_statements")
    try:
        return pg.fetch_all(conn, Costly, sql.SQL(_COSTLY).format(view))
    except errors.ObjectNotInPrerequisiteState:  # created, and not in shared_preload_libraries
        return []


def replayed(conn: Connection[Any]) -> Statement:
    """Return the costliest statement, with values made up for it.

    Raises:
        Refused: pg_stat_statements is not there, or knows none.
    """
    costly = costly_statements(conn)
    if not costly:
        raise Refused(
            "pg_stat_statements knows no INSERT or UPDATE in this database.",
            next_step="Add it to shared_preload_libraries, restart, CREATE EXTENSION "
            "pg_stat_statements, wait for some work; or give --statement FILE.",
        )
    query = costly[0].query
    makers = _makers(conn, query)
    text = re.sub(r"\$(\d+)", r"%(p\1)s", query.replace("%", "%%"))
    return Statement(
        text, lambda number: {f"p{place}": make(number) for place, make in makers.items()}
    )


Maker = Callable[[int], str | None]

_PREPARED = """
    SELECT parameter_types::text[] FROM pg_catalog.pg_prepared_statements
     WHERE name = 'howdah_replay'
"""
_UNIQUE = """
    SELECT DISTINCT a.attname
      FROM pg_catalog.pg_index AS i
      JOIN pg_catalog.pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)
     WHERE i.indrelid = to_regclass(%s) AND i.indisunique
"""


def _makers(conn: Connection[Any], query: str) -> Mapping[int, Maker]:
    types = _types(conn, query)
    table, *_ = target_of(query)
    columns = _columns(query)
    name = table.identifier.as_string(conn)
    inserts = query.lstrip()[:1] in "iI"
    unique = {row[0] for row in conn.execute(_UNIQUE, [name])} if inserts else set()
    makers: dict[int, Maker] = {}
    for place, type_name in enumerate(types, 1):
        column = columns.get(place)
        sample = _sample(conn, table, column) if column and column not in unique else []
        makers[place] = _of_sample(sample) if sample else _of_type(type_name)
    return makers


def _types(conn: Connection[Any], query: str) -> list[str]:
    conn.execute(f"PREPARE howdah_replay AS {query}".encode())
    try:
        row = conn.execute(_PREPARED).fetchone()
        return list(row[0]) if row else []
    finally:
        conn.execute("DEALLOCATE howdah_replay")


_LIST = re.compile(r"\(([^()]*)\)\s*values\s*\(([^()]*)\)", re.IGNORECASE)
_EQUALS = re.compile(r'("(?:[^"]|"")+"|\w+)\s*=\s*\$(\d+)')


def _columns(query: str) -> dict[int, str]:
    """Return which column each parameter is for, where the text says so plainly."""
    found = {int(place): _unquoted(name) for name, place in _EQUALS.findall(query)}
    if match := _LIST.search(query):
        names, values = (part.split(",") for part in match.groups())
        for name, value in zip(names, values, strict=False):
            if place := re.fullmatch(r"\s*\$(\d+)\s*", value):
                found[int(place[1])] = _unquoted(name.strip())
    return found


def _unquoted(name: str) -> str:
    return name[1:-1].replace('""', '"') if name.startswith('"') else name.lower()


def _sample(conn: Connection[Any], table: pg.TableName, column: str) -> list[str]:
    query = sql.SQL("SELECT {0}::text FROM {1} WHERE {0} IS NOT NULL LIMIT {2}").format(
        sql.Identifier(column), table.identifier, sql.Literal(_SAMPLE_ROWS)
    )
    try:
        return [row[0] for row in conn.execute(query).fetchall()]
    except errors.UndefinedColumn:
        return []


def _of_sample(sample: Sequence[str]) -> Maker:
    return lambda number: sample[number % len(sample)]


def _of_type(type_name: str) -> Maker:
    """Return what makes texts that PostgreSQL reads as values of a type, all different."""
    if type_name.endswith("[]"):
        return lambda _: "{}"
    return _BY_TYPE.get(type_name, lambda _: None)


_BY_TYPE: Mapping[str, Maker] = {
    "smallint": lambda number: str(number % 32_767),
    "integer": str,
    "bigint": str,
    "numeric": lambda number: f"{number % 100_000}.25",
    "real": lambda number: f"{number % 100_000}.25",
    "double precision": lambda number: f"{number % 100_000}.25",
    "text": lambda number: f"h{number}",
    "character varying": lambda number: f"h{number}",
    "boolean": lambda number: "true" if number % 2 else "false",
    "date": lambda _: dt.datetime.now(dt.UTC).date().isoformat(),
    "timestamp without time zone": lambda _: dt.datetime.now(dt.UTC).isoformat(),
    "timestamp with time zone": lambda _: dt.datetime.now(dt.UTC).isoformat(),
    "uuid": lambda _: str(uuid.uuid4()),
    "json": lambda number: f'{{"n": {number}}}',
    "jsonb": lambda number: f'{{"n": {number}}}',
    "bytea": lambda number: f"\\x{number:08x}",
    "inet": lambda _: "10.0.0.1",
    "interval": lambda _: "1s",
}
