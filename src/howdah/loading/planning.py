"""plan(): what a load into typed columns would make, without a database."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from howdah import pg
from howdah.loading import typed
from howdah.loading.columns import Columns, column_name
from howdah.loading.readers.options import ReaderOptions
from howdah.loading.records import json_text
from howdah.loading.sampling import sample
from howdah.loading.sources import find

__all__ = ["TablePlan", "plan"]


@dataclass(frozen=True, slots=True)
class TablePlan:
    """A table that records would make.

    Attributes:
        table: Its name.
        create: The CREATE TABLE.
        columns: The names of its columns.
        rows: Some of the records, as the cells of these columns; None where there is none.
    """

    table: str
    create: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str | None, ...], ...]


def plan(
    paths: Iterable[str | os.PathLike[str]],
    *,
    table: str = "documents",
    columns: Columns | None = None,
    options: ReaderOptions | None = None,
) -> TablePlan:
    """Return the table that a load of files would make, and its first rows; touch no database.

    Args:
        paths: As in `load`.
        table: Its name.
        columns: As in `load`; None: without a key and a column for the rest.
        options: As in `load`.

    Raises:
        UsageError: A path or the table's name leads to nothing.
        Refused: The files hold no records, or none with such a key.
    """
    columns = columns or Columns()
    found = sample(find(paths, stream_name="stdin"), options or ReaderOptions())
    definitions = typed.planned(found, columns.key, columns.extra)
    name = pg.TableName.parse(table)
    return TablePlan(
        table=str(name),
        create=typed.statement(name.identifier, definitions, columns.key).as_string() + ";",
        columns=tuple(definitions),
        rows=tuple(_row(record, definitions) for record in found.records),
    )


def _row(record: Mapping[str, Any], columns: Iterable[str]) -> tuple[str | None, ...]:
    values = {column_name(attribute): value for attribute, value in record.items()}
    return tuple(_shown(values.get(column)) for column in columns)


def _shown(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json_text(value)
