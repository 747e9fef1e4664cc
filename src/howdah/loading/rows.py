r"""Records -> rows of a table's columns, in COPY's text format.

An empty text is NULL in a column that holds no text, since CSV can say it in no
other way. A column that no attribute belongs to is NULL, or has its default.

Source: https://www.postgresql.org/docs/current/sql-copy.html ("Text Format").
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from howdah.loading.columns import Column, matched
from howdah.loading.records import Number, json_text, parse

__all__ = ["Encoder", "Unfit", "Unknown"]

_NULL = "\\N"
_MOST_PLANS = 1_000
_ESCAPES = str.maketrans({"\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"})


class Unfit(ValueError):
    """Raised for a record that has no place in the table; the message is a sentence."""


class Unknown(Unfit):
    """Raised for a record with attributes that the table has no columns for."""

    def __init__(self, names: Iterable[str]) -> None:
        self.names = list(names)
        quoted = ", ".join(f'"{name}"' for name in self.names[:5])
        more = " and others" if len(self.names) > 5 else ""  # noqa: PLR2004
        super().__init__(f"The table has no column {quoted}{more}, and no column for the rest.")


@dataclass(frozen=True, slots=True)
class _Plan:
    """How records with the same attributes become rows.

    Attributes:
        columns: The columns that are written.
        cells: For each of them the attribute; None: the rest, or nothing.
        rest: The attributes that go to the column for the rest.
    """

    columns: tuple[str, ...]
    cells: list[tuple[str | None, Column]]
    rest: tuple[str, ...]


@dataclass(slots=True)
class Encoder:
    """Turns records into rows of one table.

    Args:
        columns: The table's, by name.
        extra: The json or jsonb column that takes the attributes without a column.
    """

    columns: Mapping[str, Column]
    extra: str | None = None
    _plans: dict[tuple[str, ...], _Plan] = field(default_factory=dict)

    def row(self, text: bytes) -> tuple[tuple[str, ...], bytes]:
        """Return the columns that a record's row has, and the row.

        Args:
            text: The record: a JSON object, in UTF-8.

        Raises:
            Unfit: It cannot be a row.
        """
        try:
            record = parse(text)
        except ValueError as exc:
            raise Unfit(f"The record cannot be a row: {exc}.") from exc
        names = tuple(record)
        plan = self._plans.get(names)
        if plan is None:
            if len(self._plans) == _MOST_PLANS:
                self._plans.clear()
            plan = self._plans[names] = self._plan(names)
        cells = []
        for attribute, column in plan.cells:
            if attribute is not None:
                cells.append(_cell(record[attribute], column))
            elif column.name == self.extra and plan.rest:
                cells.append(_cell({name: record[name] for name in plan.rest}, column))
            else:
                cells.append(_NULL)
        line = "\t".join(cells) + "\n"
        if "\0" in line:
            raise Unfit("The record holds a NUL, which PostgreSQL cannot store.")
        try:
            return plan.columns, line.encode()
        except UnicodeEncodeError as exc:
            raise Unfit("The record holds a lone surrogate, which is no character.") from exc

    def _plan(self, names: tuple[str, ...]) -> _Plan:
        found = matched(names, [name for name in self.columns if name != self.extra])
        rest = tuple(name for name in names if name not in found)
        if rest and self.extra is None:
            raise Unknown(rest)
        attribute_of = {column: name for name, column in found.items()}
        cells: list[tuple[str | None, Column]] = []
        for name, column in self.columns.items():
            attribute = attribute_of.get(name)
            takes_rest = name == self.extra and bool(rest)
            if attribute is not None or takes_rest or not column.has_default:
                cells.append((attribute, column))
        if not cells:
            raise Unfit("The record has no attribute that the table has a column for.")
        return _Plan(tuple(column.name for _, column in cells), cells, rest)


def _cell(value: Any, column: Column) -> str:  # noqa: PLR0911 - a table of types
    if value is None:
        return _NULL
    if column.is_json:
        return json_text(value).translate(_ESCAPES)
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            if not value and not column.is_text:
                return _NULL
            return value if value.isalnum() else value.translate(_ESCAPES)
        case list() if column.type.endswith("[]"):
            return _array(value).translate(_ESCAPES)
        case list() | dict():
            return json_text(value).translate(_ESCAPES)
        case _:
            return str(value)


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
