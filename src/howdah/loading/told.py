"""What a load was told, as the ledger keeps it, so that a retry is told the same."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

from howdah.loading.columns import Columns
from howdah.loading.readers.options import ReaderOptions
from howdah.loading.target import Load

__all__ = ["retold", "told"]

_FOUND = {"grows", "staged"}  # what `prepare` finds out itself


def told(load: Load) -> str | None:
    """Return the options of a load as JSON text; None where it was told nothing."""
    said: dict[str, Any] = {}
    if text := str(load.options):
        said["reader"] = json.loads(text)
    if (columns := load.target.columns) is not None:
        given = {key: value for key, value in asdict(columns).items() if key not in _FOUND}
        defaults = {field.name: field.default for field in fields(Columns)}
        if more := {key: value for key, value in given.items() if value != defaults[key]}:
            said["columns"] = more
    return json.dumps(said) if said else None


def retold(said: Mapping[str, Any] | None) -> tuple[ReaderOptions, Columns | None]:
    """Return what `told` has kept; the columns are None where the table says all about them."""
    reader = _as_given((said or {}).get("reader", {}))
    columns = _as_given((said or {}).get("columns", {}))
    return ReaderOptions(**reader), Columns(**columns) if columns else None


def _as_given(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values as they were before they were JSON, which has no tuples."""
    return {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
