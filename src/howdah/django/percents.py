"""Names with a percent sign, in queries that have parameters: of tables, and of what they own.

There `%` begins a placeholder and `%%` means the sign, so a quoted name has to
be written twice over; in a query without parameters it stands as it is. Django
does not tell the two apart when it quotes a name: here it is done when the
query is sent. A query in which the sign is doubled already is left as it is.
"""

from __future__ import annotations

from collections.abc import Iterator
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


class Percents:
    """For a DatabaseWrapper, before Django's own."""

    def create_cursor(self, name: str | None = None) -> Any:
        """Return a cursor, which doubles the sign where some name holds it."""
        cursor = super().create_cursor(name)  # type: ignore[misc]
        return _Doubling(cursor) if _DOUBLED else cursor


class _Doubling:
    """A cursor of psycopg's, some of which take no attributes of ours."""

    def __init__(self, cursor: Any) -> None:
        self._cursor = cursor

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cursor, name)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._cursor)

    def execute(self, query: Any, params: Any = None, **kwargs: Any) -> Any:
        """Execute a query."""
        sent = query if params is None else doubled(query)
        return self._cursor.execute(sent, params, **kwargs)

    def executemany(self, query: Any, params: Any, **kwargs: Any) -> Any:
        """Execute a query with each of the parameters."""
        return self._cursor.executemany(doubled(query), params, **kwargs)
