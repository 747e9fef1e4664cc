r"""Records -> rows of a table's columns, in COPY's text format.

An empty text is NULL in a column that holds no text, since CSV can say it in no
other way; in a json column a text of CSV is the JSON that it says, if it says
any. So a file has the same rows whether its records are read here or its lines
are passed on (passing.py).

Source: https://www.postgresql.org/docs/current/sql-copy.html ("Text Format").
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from howdah.loading.columns import Column, Columns, matched, writable
from howdah.loading.inference import Kind, fits, kind_of_type
from howdah.loading.records import Number, Unfit, json_text, parse

__all__ = ["Encoder", "Row", "Unknown"]

_NULL = "\\N"
_MOST_PLANS = 1_000
_ESCAPES = str.maketrans({"\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"})


class Unknown(Unfit):
    """Raised for a record with attributes that the table has no columns for."""

    def __init__(self, names: Collection[str]) -> None:
        quoted = ", ".join(f'"{name}"' for name in list(names)[:5])
        more = " and others" if len(names) > 5 else ""  # noqa: PLR2004
        super().__init__(f"The table has no column {quoted}{more}, and no column for the rest.")


class Row(NamedTuple):
    """A row on its way to COPY.

    Attributes:
        brought: The columns that the record has values for.
        written: The columns that the row has cells for.
        line: The cells, without the line break.
    """

    brought: tuple[str, ...]
    written: tuple[str, ...]
    line: bytes


@dataclass(frozen=True, slots=True)
class _Plan:
    """How records with the same attributes become rows.

    Attributes:
        brought: That of `Row`.
        written: That of `Row`.
        cells: For each column that is written the attribute, None: the rest, or nothing; and, in a
            table that grows, the kind of value that it holds.
        rest: The attributes that go to the column for the rest.
    """

    brought: tuple[str, ...]
    written: tuple[str, ...]
    cells: list[tuple[str | None, Column, Kind | None]]
    rest: tuple[str, ...]


@dataclass(slots=True)
class Encoder:
    """Turns records into rows of one table.

    Args:
        columns: The table's, by name.
        into: Which column takes the rest, and whether the table grows: then a value
            that a column would take, but change (007, a time in a date), is unfit.
        whole: Whether a row has all columns, NULL where the record has no value. Else
            those with a default are left out where the record has no such attribute.
    """

    columns: Mapping[str, Column]
    into: Columns
    whole: bool = False
    _plans: dict[tuple[str, ...], _Plan] = field(default_factory=dict)

    def row(self, text: bytes, *, texts: bool) -> Row:
        """Return a record's row.

        Args:
            text: The record: a JSON object, in UTF-8.
            texts: Whether a text may stand for a value of another type, as in CSV.

        Raises:
            Unfit: It cannot be a row.
        """
        try:
            record = parse(text)
        except ValueError as exc:
            raise Unfit(f"The record cannot be a row: {exc}.") from exc
        plan = self._plan(tuple(record))
        cells = []
        for attribute, column, kind in plan.cells:
            if attribute is not None:
                value = record[attribute]
                if kind is not None and not fits(value, kind, texts=texts):
                    raise Unfit(f"The column {column.name} would change the value.")
                cells.append(_cell(value, column, texts=texts))
            elif column.name == self.into.extra and plan.rest:
                rest = {name: record[name] for name in plan.rest}
                cells.append(_cell(rest, column, texts=texts))
            else:
                cells.append(_NULL)
        line = "\t".join(cells)
        if "\0" in line:
            raise Unfit("The record holds a NUL, which PostgreSQL cannot store.")
        try:
            return Row(plan.brought, plan.written, line.encode())
        except UnicodeEncodeError as exc:
            raise Unfit("The record holds a lone surrogate, which is no character.") from exc

    def _plan(self, names: tuple[str, ...]) -> _Plan:
        plan = self._plans.get(names)
        if plan is None:
            if len(self._plans) == _MOST_PLANS:
                self._plans.clear()
            plan = self._plans[names] = self._made(names)
        return plan

    def _made(self, names: tuple[str, ...]) -> _Plan:
        extra = self.into.extra
        found = matched(names, [name for name in self.columns if name != extra])
        rest = tuple(name for name in names if name not in found)
        if rest and extra is None:
            raise Unknown(rest)
        attribute_of = {column: name for name, column in found.items()}
        brought, cells = [], []
        for name, column in writable(self.columns).items():
            attribute = attribute_of.get(name)
            brings = attribute is not None or (name == extra and bool(rest))
            if brings:
                brought.append(name)
            if brings or self.whole or not column.has_default:
                cells.append((attribute, column, self._kind(column)))
        if not brought:
            raise Unfit("The record has no attribute that the table has a column for.")
        if self.into.updates_only and (missing := set(self.into.key) - set(brought)):
            raise Unfit(f"The record has no {', '.join(sorted(missing))} to find its row by.")
        written = tuple(column.name for _, column, _ in cells)
        return _Plan(tuple(brought), written, cells, rest)

    def _kind(self, column: Column) -> Kind | None:
        return kind_of_type(column.type) if self.into.grows else None


def _cell(value: Any, column: Column, *, texts: bool) -> str:  # noqa: PLR0911 - a table of types
    if value is None:
        return _NULL
    if (
        isinstance(value, str)
        and not value
        and not column.is_text
        and (texts or not column.is_json)
    ):
        return _NULL
    if column.is_json:
        return _json(value, texts=texts).translate(_ESCAPES)
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return value if value.isalnum() else value.translate(_ESCAPES)
        case list() if column.type in ("json[]", "jsonb[]"):
            elements = [None if each is None else json_text(each) for each in value]
            return _array(elements).translate(_ESCAPES)
        case list() if column.type.endswith("[]"):
            return _array(value).translate(_ESCAPES)
        case list() | dict():
            return json_text(value).translate(_ESCAPES)
        case _:
            return str(value)


def _json(value: Any, *, texts: bool) -> str:
    if texts and type(value) is str and _is_json(value):
        return value
    return json_text(value)


def _is_json(text: str) -> bool:
    try:
        json.loads(text, parse_int=str, parse_float=str, parse_constant=_refused)
    except (ValueError, RecursionError):
        return False
    return True


def _refused(name: str) -> Any:
    raise ValueError(name)


def _array(values: list[Any]) -> str:
    """Return an array literal. Source: the manual, "Array Input and Output Syntax"."""
    return f"{{{','.join(map(_element, values))}}}"


def _element(value: Any) -> str:
    match value:
        case None:
            return "NULL"
        case list():
            return _array(value)
        case bool():
            return "true" if value else "false"
        case int() | Number():
            return str(value)
    text = json_text(value) if isinstance(value, dict) else str(value)
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
