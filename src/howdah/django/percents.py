"""Names with a percent sign, in queries that have parameters: of tables, and of what they own.

There `%` begins a placeholder and `%%` means the sign, so a quoted name has to
be written twice over; in a query without parameters it stands as it is. Django
does not tell the two apart when it quotes a name: here it is done when the
query is sent. A query in which the sign is doubled already is left as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from howdah.django.names import Name, quote_part

__all__ = ["Percents", "doubled", "note", "note_quoted", "there_are"]

# A name in quotes -> the same with its signs doubled. Nearly always empty.
_DOUBLED: dict[str, str] = {}


def note(name: Name) -> None:
    """Remember what of a table's name holds the sign."""
    for part in (name.schema, name.table):
        if part is not None and "%" in part:
            note_quoted(quote_part(part))


def note_quoted(quoted: str) -> None:
    """Remember a name in quotes that holds the sign."""
    _DOUBLED[quoted] = quoted.replace("%", "%%")


def there_are() -> bool:
    """Whether any name holds the sign."""
    return bool(_DOUBLED)


def doubled(query: Any) -> Any:
    """Return a query with parameters as it is to be sent."""
    if isinstance(query, str):
        for quoted, twice in _DOUBLED.items():
            query = query.replace(quoted, twice)
    return query


def _wrapper(
    execute: Callable[..., Any], query: Any, params: Any, many: bool, context: dict[str, Any]
) -> Any:
    return execute(query if params is None else doubled(query), params, many, context)


class Percents:
    """For a DatabaseWrapper, before Django's own."""

    execute_wrappers: list[Any]

    def create_cursor(self, name: str | None = None) -> Any:
        """Return a cursor; where a name holds the sign, its queries go through us."""
        if _DOUBLED and _wrapper not in self.execute_wrappers:
            self.execute_wrappers.append(_wrapper)
        return super().create_cursor(name)  # type: ignore[misc]
