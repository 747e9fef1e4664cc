"""Mappings -> lines of COPY text.

A value becomes the text that psycopg gives it, and PostgreSQL reads that text
as the column's type: a string that holds a UUID or a date will do for a column
of that type, as it would in an INSERT. COPY's binary format would be strict
about Python's types, and saves the server little beside what a row costs here.

Source: https://www.postgresql.org/docs/current/sql-copy.html ("Text Format").
"""

from __future__ import annotations

import datetime as dt
import itertools
import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import Connection, sql
from psycopg.adapt import AdaptersMap, Dumper, PyFormat, Transformer

from howdah import pg
from howdah.errors import Refused
from howdah.loading import target as json_table
from howdah.loading.readers.encode import encode

__all__ = ["Columns", "JsonRecords", "Layout", "RowFormat", "format_for"]

_MOST_LAYOUTS = 1000
"""Layouts that are remembered, in every order of their keys."""

_COPY = "COPY {table} ({columns}) FROM STDIN (FORMAT text, ENCODING 'UTF8')"
_NULL = b"\\N"
_TEXT = PyFormat.TEXT
_SPECIAL = b"\\\n\t\r"
_ESCAPES = ((b"\\", rb"\\"), (b"\n", rb"\n"), (b"\t", rb"\t"), (b"\r", rb"\r"))
# What psycopg, the JSON encoder and Python's own types throw at a value.
_UNFIT = (psycopg.Error, ValueError, TypeError, ArithmeticError, AttributeError, RecursionError)


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """The columns of a line.

    Attributes:
        copy: The COPY command for such lines.
        columns: The columns in the order of the line, each with what makes its value
            one that psycopg adapts; None: it is that already.
    """

    copy: bytes
    columns: tuple[tuple[str, Callable[[Any], Any] | None], ...]


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the target.

    Attributes:
        name: As the catalog holds it.
        type: The oid of its type; of the type below, if that is a domain.
        generated: Whether it is computed by the server, so that no row may give it.
    """

    name: str
    type: int
    generated: bool


@dataclass(frozen=True, slots=True)
class _Table:
    schema: str
    name: str
    kind: str
    row_security: bool


_FIND = """
    SELECT nspname AS schema, relname AS name, relkind::text AS kind,
           row_security_active(pg_class.oid) AS row_security
      FROM pg_catalog.pg_class
      JOIN pg_catalog.pg_namespace ON pg_namespace.oid = relnamespace
     WHERE pg_class.oid = to_regclass(%s)
"""
_COLUMNS = """
    SELECT attname::text AS name,
           coalesce(nullif(typbasetype, 0), pg_type.oid)::bigint AS type,
           attgenerated <> '' AS generated
      FROM pg_catalog.pg_attribute
      JOIN pg_catalog.pg_type ON pg_type.oid = atttypid
     WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped
"""
_JSON_TABLE = {"source": 25, "record": 20, "attributes": 3802, "loaded_at": 1184}
_JSON_TYPES = {114, 3802}
_WITHOUT_ZONE = {1083, 1114}
_TAKES_COPY = {"r", "p", "f"}


def format_for(conn: Connection[Any], table: pg.TableName, source: str) -> RowFormat:
    """Return how mappings become rows of a table; the loader's own table is made when missing.

    Args:
        conn: A connection that is in no transaction.
        table: The table.
        source: The value of `source` in the loader's own table.

    Raises:
        Refused: It is no table that COPY can fill, or it is missing and the role may not make it.
    """
    name = table.identifier.as_string(conn)
    with pg.explained(f"look at the table {table}"):
        found = pg.fetch_one(conn, _Table, _FIND, [name])
        if found is None:
            made = json_table.prepare(conn, table)
            return JsonRecords(conn, made.identifier, source)
        columns = pg.fetch_all(conn, Column, _COLUMNS, [name])
    _check(table, found)
    identifier = sql.Identifier(found.schema, found.name)
    if {(c.name, c.type) for c in columns} >= _JSON_TABLE.items():
        return JsonRecords(conn, identifier, source)
    return Columns(conn, identifier, columns)


def _check(table: pg.TableName, found: _Table) -> None:
    if found.kind not in _TAKES_COPY:
        raise Refused(f"{table} is no table.", next_step="Name the table behind it.")
    if found.row_security:
        raise Refused(
            f"The table {table} has row-level security, and COPY cannot fill it as this role.",
            next_step="Connect as a role with BYPASSRLS, or insert the rows one by one.",
        )


class JsonRecords:
    """Mappings as `attributes` of the loader's own table, numbered as they are posted."""

    def __init__(self, conn: Connection[Any], table: sql.Identifier, source: str) -> None:
        columns = map(sql.Identifier, ("source", "record", "attributes"))
        copy = sql.SQL(_COPY).format(table=table, columns=sql.SQL(", ").join(columns))
        self._layout = Layout(copy.as_bytes(conn), ())
        self._source = source.encode()
        self._numbers = itertools.count(1)

    def line(self, row: Mapping[Any, Any]) -> tuple[Layout, bytes]:
        """Return a mapping as a line; see `Columns.line`."""
        try:
            text = _json(row)
        except _UNFIT as exc:
            raise _unfit("The row", exc) from exc
        return self._layout, _line([self._source, b"%d" % next(self._numbers), text])


class Columns:
    """Mappings whose keys are the columns of a table."""

    def __init__(
        self, conn: Connection[Any], table: sql.Identifier, columns: Collection[Column]
    ) -> None:
        # Quoted now: layouts are made later, where there is no connection.
        copy = sql.SQL(_COPY).format(table=table, columns=sql.SQL("\n"))
        self._head, self._tail = copy.as_bytes(conn).rsplit(b"\n", 1)
        self._quoted = {c.name: sql.Identifier(c.name).as_bytes(conn) for c in columns}
        self._columns = {column.name: column for column in columns}
        self._layouts: dict[tuple[Any, ...], Layout] = {}
        self._adaptation = _Adaptation()

    def line(self, row: Mapping[Any, Any]) -> tuple[Layout, bytes]:
        """Return a mapping as a line.

        Raises:
            Refused: A key is no column, or a value cannot be stored.
        """
        keys = tuple(row)
        layout = self._layouts.get(keys) or self._layout(keys)
        dumper = self._adaptation.dumper
        fields: list[Any] = []
        for name, prepared in layout.columns:
            value = row[name]
            if value is None:
                fields.append(None)
                continue
            try:
                if prepared is not None:
                    value = prepared(value)
                fields.append(value if type(value) is _Json else dumper(value, _TEXT).dump(value))
            except _UNFIT as exc:
                raise _unfit(f"The value for the column {name!r}", exc) from exc
        return layout, _line(fields)

    def _layout(self, keys: tuple[Any, ...]) -> Layout:
        self._check(keys)
        names = tuple(sorted(keys))
        # One layout for all orders of the keys: each is a COPY of its own.
        layout = self._layouts.get(names)
        if layout is None:
            copy = self._head + b", ".join(self._quoted[name] for name in names) + self._tail
            layout = Layout(copy, tuple((name, self._prepared(name)) for name in names))
        if len(self._layouts) >= _MOST_LAYOUTS:
            self._layouts.clear()
        self._layouts[names] = self._layouts[keys] = layout
        return layout

    def _check(self, keys: tuple[Any, ...]) -> None:
        if not keys:
            raise Refused("The row has no columns.", next_step="Give it one at least.")
        for key in keys:
            column = self._columns.get(key)
            if column is None:
                raise Refused(
                    f"The table has no column {key!r}.",
                    next_step=f"Its columns are: {', '.join(self._columns)}.",
                )
            if column.generated:
                raise Refused(
                    f"The column {key!r} is computed by the server.", next_step="Leave it out."
                )

    def _prepared(self, name: str) -> Callable[[Any], Any] | None:
        kind = self._columns[name].type
        if kind in _JSON_TYPES:
            return _json
        return _without_zone if kind in _WITHOUT_ZONE else None


RowFormat = JsonRecords | Columns


class _Json(bytes):
    """JSON text, which needs no adaptation."""

    __slots__ = ()


def _json(value: Any) -> Any:
    """Return dicts, lists and booleans as JSON text, all else (psycopg's `Jsonb`) unchanged."""
    if type(value) is dict or isinstance(value, Mapping):
        text, repaired = encode(value)
    elif isinstance(value, list | tuple | bool):
        text, repaired = encode({"": value})
        text = text[4:-1]  # without {"": and }
    else:
        return value
    if repaired:
        raise ValueError("jsonb has no NUL character, half of a surrogate pair, NaN or infinity")
    return _Json(text)


def _without_zone(value: object) -> object:
    # As text its offset would be dropped in silence.
    if isinstance(value, dt.datetime | dt.time) and value.tzinfo is not None:
        raise ValueError("it has a time zone, which a column without time zone would lose")
    return value


def _line(fields: list[Any]) -> bytes:
    """Return the texts of values, None for NULL, as a line of COPY's text format."""
    if None not in fields:
        line = b"\t".join(fields)
        # Most rows have nothing to escape: one look at all of them is quicker than one at each.
        if len(line) - len(line.translate(None, _SPECIAL)) == len(fields) - 1:
            return line + b"\n"
    return b"\t".join([_NULL if f is None else _escaped(bytes(f)) for f in fields]) + b"\n"


def _escaped(text: bytes) -> bytes:
    for raw, escape in _ESCAPES:
        text = text.replace(raw, escape)
    return text


def _unfit(what: str, exc: BaseException) -> Refused:
    return Refused(f"{what} cannot be stored: {exc}.", next_step="Mend it and post it again.")


class _BytesDumper(Dumper):
    """Writes bytea without libpq, whose escaping depends on a connection."""

    def dump(self, obj: Any) -> bytes:
        return b"\\x" + bytes(obj).hex().encode()


class _TimedeltaDumper(Dumper):
    """Writes an interval in ISO 8601, which every IntervalStyle reads alike."""

    def dump(self, obj: dt.timedelta) -> bytes:
        return f"P{obj.days}DT{obj.seconds}.{obj.microseconds:06}S".encode()


class _Context:
    """What a `Transformer` asks for: psycopg's adapters as they are now, and no connection."""

    connection = None

    def __init__(self) -> None:
        self.adapters = AdaptersMap(psycopg.adapters)
        for cls in (bytes, bytearray, memoryview):
            self.adapters.register_dumper(cls, _BytesDumper)
        self.adapters.register_dumper(dt.timedelta, _TimedeltaDumper)


class _Adaptation(threading.local):
    """psycopg's adaptation of values to text, one for each thread that posts."""

    def __init__(self) -> None:
        self.dumper = Transformer(_Context()).get_dumper
