"""Values that stand in for those of a statement whose values are not known.

Rows of the table's copy are drawn at random, and their values stand in, a whole
row at a time, so that foreign keys and checks hold and an UPDATE finds its rows.
Where a unique index forbids a value twice, one column of it gets new values.
With ON CONFLICT every second execution meets a row that is there.
"""

from __future__ import annotations

import datetime as dt
import itertools
import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from psycopg import Connection, sql

from howdah import pg
from howdah.tuning.placeholders import Place

__all__ = ["Column", "columns", "stand_ins"]

_SAMPLE_ROWS = 10_000
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
_FIRST_TEXT = 36**4
_FAR = dt.datetime(2100, 1, 1, tzinfo=dt.UTC)

Maker = Callable[[int], str | None]
Row = Mapping[str, str | None]


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the table.

    Attributes:
        name: Its name.
        type: As format_type has it: "character varying(8)".
        labels: Of an enum; none for others.
        counts: Whether its default differs each time: a sequence, or a UUID.
        refers: Whether a foreign key is on it.
    """

    name: str
    type: str
    labels: list[str]
    counts: bool
    refers: bool


_COLUMNS = """
    SELECT a.attname::text AS name, format_type(a.atttypid, a.atttypmod) AS type,
           ARRAY(SELECT enumlabel::text FROM pg_catalog.pg_enum
                  WHERE enumtypid = a.atttypid ORDER BY enumsortorder) AS labels,
           a.attidentity <> ''
             OR coalesce(pg_get_expr(d.adbin, d.adrelid) ~ 'nextval|uuid', false) AS counts,
           EXISTS (SELECT FROM pg_catalog.pg_constraint
                    WHERE conrelid = a.attrelid AND contype = 'f'
                      AND a.attnum = ANY (conkey)) AS refers
      FROM pg_catalog.pg_attribute AS a
      LEFT JOIN pg_catalog.pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
     WHERE a.attrelid = to_regclass(%s) AND a.attnum > 0 AND NOT a.attisdropped
     ORDER BY a.attnum
"""
_UNIQUE = """
    SELECT ARRAY(SELECT a.attname::text FROM pg_catalog.pg_attribute AS a
                  WHERE a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey))
      FROM pg_catalog.pg_index AS i
     WHERE i.indrelid = to_regclass(%s) AND i.indisunique
"""
_REFERRED = """
    SELECT a.attname::text, n.nspname, p.relname, r.attname::text
      FROM pg_catalog.pg_constraint AS f
      JOIN pg_catalog.pg_class AS p ON p.oid = f.confrelid
      JOIN pg_catalog.pg_namespace AS n ON n.oid = p.relnamespace
      JOIN pg_catalog.pg_attribute AS a ON a.attrelid = f.conrelid AND a.attnum = f.conkey[1]
      JOIN pg_catalog.pg_attribute AS r ON r.attrelid = f.confrelid AND r.attnum = f.confkey[1]
     WHERE f.conrelid = to_regclass(%s) AND f.contype = 'f' AND f.conparentid = 0
       AND cardinality(f.conkey) = 1
"""


def columns(conn: Connection[Any], table: sql.Identifier) -> list[Column]:
    """Return a table's columns, in order; none where there is no such table."""
    return pg.fetch_all(conn, Column, _COLUMNS, [table.as_string(conn)])


def stand_ins(
    conn: Connection[Any],
    table: sql.Identifier,
    places: Mapping[int, Place],
    types: Sequence[str],
    *,
    inserts: bool,
    rows: int,
    conflicts: bool = False,
) -> Callable[[int], Mapping[str, str | None]]:
    """Return what makes the parameters `p1`, `p2` of each execution.

    Args:
        conn: In autocommit.
        table: The copy that the statement will run on.
        places: What its placeholders are for.
        types: Of the placeholders, the first one's first.
        inserts: Whether it is an INSERT.
        rows: How many rows it is for.
        conflicts: Whether it has ON CONFLICT.
    """
    source = _source(conn, table, {p.column for p in places.values() if not p.sought}, inserts)
    executions = itertools.count()

    def values(_: int) -> Mapping[str, str | None]:
        execution = next(executions)
        meets, first = conflicts and execution % 2 == 1, execution * rows
        made: dict[str, str | None] = {}
        for at, type_name in enumerate(types, 1):
            place = places.get(at)
            if place is None:
                made[f"p{at}"] = _of_type(type_name, ())(first)
            elif place.many:
                numbers = range(first, first + rows)
                made[f"p{at}"] = _array([source.value(place, n, meets) for n in numbers])
            else:
                made[f"p{at}"] = source.value(place, first + place.row, meets)
        return made

    return values


@dataclass(frozen=True, slots=True)
class _Source:
    """Where the values of columns come from: rows of the table, its keys, or its types."""

    known: Mapping[str, Column]
    starts: Mapping[str, int]
    sample: Sequence[Row]
    referred: Mapping[str, Sequence[str]]
    inserts: bool

    def value(self, place: Place, number: int, meets: bool) -> str | None:
        column = self.known.get(place.column)
        if column is None:
            return None
        new = _of_type(column.type, column.labels)
        if place.column in self.starts and not place.sought and not (meets and self.sample):
            return new(self.starts[place.column] + number)
        if self.sample:
            # Another row's values are set than those that are looked for.
            at = number if place.sought or self.inserts else number * 7 + 3
            return self.sample[at % len(self.sample)][place.column]
        others = self.referred.get(place.column)
        return others[number % len(others)] if others else new(number + 1)


def _source(
    conn: Connection[Any], table: sql.Identifier, given: set[str], inserts: bool
) -> _Source:
    known = {column.name: column for column in columns(conn, table)}
    sample = _sample(conn, table, list(known))
    fresh = _fresh(conn, table, known, given) if inserts else set()
    starts = {name: _start(conn, table, known[name]) for name in fresh}
    return _Source(known, starts, sample, {} if sample else _referred(conn, table), inserts)


def _sample(conn: Connection[Any], table: sql.Identifier, names: Sequence[str]) -> list[Row]:
    texts = sql.SQL(", ").join(sql.SQL("{}::text").format(sql.Identifier(name)) for name in names)
    query = sql.SQL("SELECT {} FROM {} ORDER BY random() LIMIT {}")
    found = conn.execute(query.format(texts, table, sql.Literal(_SAMPLE_ROWS)))
    return [dict(zip(names, row, strict=True)) for row in found.fetchall()]


def _fresh(
    conn: Connection[Any], table: sql.Identifier, known: Mapping[str, Column], given: set[str]
) -> set[str]:
    """Return one column of each unique index, unless a default already differs each time."""
    chosen: set[str] = set()
    for (names,) in conn.execute(_UNIQUE, [table.as_string(conn)]).fetchall():
        if any(known[name].counts for name in names if name not in given):
            continue
        of_index = sorted((known[n] for n in names if n in given), key=_differs_badly)
        if of_index and not chosen.intersection(names):
            chosen.add(of_index[0].name)
    return chosen


def _differs_badly(column: Column) -> tuple[bool, bool]:
    kind = re.sub(r"\(.*", "", column.type)
    return column.refers, kind not in (*_COUNTING, "uuid", "text", "character varying")


_COUNTING = ("smallint", "integer", "bigint", "numeric")


def _start(conn: Connection[Any], table: sql.Identifier, column: Column) -> int:
    """Return the first number that a new value may be made of."""
    if re.sub(r"\(.*", "", column.type) not in _COUNTING:
        return _FIRST_TEXT
    query = sql.SQL("SELECT coalesce(max({}), 0)::bigint + 1 FROM {}")
    row = conn.execute(query.format(sql.Identifier(column.name), table)).fetchone()
    assert row is not None  # noqa: S101 - an aggregate has one row
    return int(row[0])


def _referred(conn: Connection[Any], table: sql.Identifier) -> dict[str, list[str]]:
    """Return keys that foreign keys refer to, for a table that has no rows of its own."""
    found = {}
    query = sql.SQL("SELECT {0}::text FROM {1} WHERE {0} IS NOT NULL LIMIT {2}")
    for name, schema, other, key in conn.execute(_REFERRED, [table.as_string(conn)]).fetchall():
        parts = sql.Identifier(key), sql.Identifier(schema, other), sql.Literal(_SAMPLE_ROWS)
        found[name] = [row[0] for row in conn.execute(query.format(*parts)).fetchall()]
    return found


def _array(values: Sequence[str | None]) -> str:
    quoted = (
        "NULL" if one is None else '"' + one.replace("\\", "\\\\").replace('"', '\\"') + '"'
        for one in values
    )
    return "{" + ",".join(quoted) + "}"


def _of_type(type_name: str, labels: Sequence[str]) -> Maker:
    """Return what makes texts that PostgreSQL reads as values of a type, all different."""
    if labels:
        return lambda number: labels[number % len(labels)]
    if type_name.endswith("[]"):
        return lambda _: "{}"
    name, _, rest = type_name.partition("(")
    length = re.match(r"\d+", rest)
    if name in ("character varying", "character") and length:
        return lambda number: _base36(number)[-int(length[0]) :]
    if rest and name != "numeric":  # "timestamp(0) with time zone"
        name += rest.partition(")")[2]
    return _BY_TYPE.get(name, lambda _: None)


def _base36(number: int) -> str:
    digits = ""
    while number or not digits:
        number, digit = divmod(number, 36)
        digits = _DIGITS[digit] + digits
    return digits


def _moment(number: int) -> str:
    return (_FAR + dt.timedelta(seconds=number % 10**9)).isoformat()


_BY_TYPE: Mapping[str, Maker] = {
    "smallint": str,
    "integer": str,
    "bigint": str,
    "numeric": str,
    "real": str,
    "double precision": str,
    "text": _base36,
    "character varying": _base36,
    "character": lambda _: "h",
    "boolean": lambda number: "true" if number % 2 else "false",
    "date": lambda number: (_FAR.date() + dt.timedelta(days=number % 10**6)).isoformat(),
    "timestamp without time zone": _moment,
    "timestamp with time zone": _moment,
    "uuid": lambda _: str(uuid.uuid4()),
    "json": lambda number: f'{{"n": {number}}}',
    "jsonb": lambda number: f'{{"n": {number}}}',
    "bytea": lambda number: f"\\x{number:08x}",
    "inet": lambda _: "10.0.0.1",
    "interval": lambda _: "1s",
}
