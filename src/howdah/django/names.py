"""How a table's name is written: with a schema, with quotes, with dots; and how it is quoted.

| written | schema | table |
| --- | --- | --- |
| `product` | none: search_path decides | `product` |
| `licensing.product` | `licensing` | `product` |
| `licensing"."product`, `"licensing"."product"` (the old spellings) | `licensing` | `product` |
| `"price.list"` | none | `price.list` |
| `licensing."price.list"` | `licensing` | `price.list` |

A part without quotes is of letters, digits, `_`, `$` and `-`, and keeps its
case; quotes inside a quoted part are doubled, as in SQL. Whatever else is
written is one name and is quoted whole: no name can break out of its quotes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["MAX_BYTES", "Name", "cut", "parse", "quote", "quote_part"]

MAX_BYTES = 63  # NAMEDATALEN - 1; PostgreSQL cuts longer names off

_PART = r'("(?:[^"\x00]|"")+"|[\w$-]+)'
_NAME = re.compile(rf"(?:{_PART}\.)?{_PART}")
_BETWEEN = '"."'


@dataclass(frozen=True, slots=True)
class Name:
    """A table, index or sequence.

    Attributes:
        schema: None where search_path decides.
        table: The name as the catalog holds it.
    """

    schema: str | None
    table: str

    @property
    def db_table(self) -> str:
        """The one spelling that a model carries.

        With a schema it is SQL as it stands: raw SQL may hold it as it is, and
        Django's own code (`split_identifier`, `strip_quotes`) reads it, since
        Oracle's names are written so.
        """
        if self.schema is None:
            # Quotes only where another name would be read without them: what Django's
            # introspection finds is then spelled as Django spells it.
            return self.table if parse(self.table) == self else quote_part(self.table)
        return f"{quote_part(self.schema)}.{quote_part(self.table)}"

    @property
    def quoted(self) -> str:
        """The name for SQL."""
        table = quote_part(self.table)
        return table if self.schema is None else f"{quote_part(self.schema)}.{table}"

    def __str__(self) -> str:
        return self.table if self.schema is None else f"{self.schema}.{self.table}"


def quote_part(part: str) -> str:
    """Return one identifier in quotes."""
    return '"' + part.replace('"', '""') + '"'


def cut(name: str, bytes_: int = MAX_BYTES) -> str:
    """Return as much of a name as fits, whole characters: what PostgreSQL makes of a longer one.

    Source: https://www.postgresql.org/docs/current/sql-syntax-lexical.html
    """
    return name.encode()[:bytes_].decode(errors="ignore")


def parse(written: str) -> Name:
    """Return the name that `written` means; see the table above."""
    match = _NAME.fullmatch(written)
    if match is None and _BETWEEN in written:  # the trick: quote_name() adds the outer quotes
        match = _NAME.fullmatch(f'"{written}"')
    if match is None:
        return Name(None, written)
    schema, table = match.groups()
    return Name(_unquoted(schema) if schema else None, _unquoted(table))


def quote(written: str) -> str:
    """Return what Django's `quote_name` is to return: `written` may hold quotes already.

    A dot without quotes is part of the name here, since columns are quoted
    too; `parse` reads the names of tables.
    """
    return parse(written).quoted if '"' in written else f'"{written}"'


def _unquoted(part: str) -> str:
    return part[1:-1].replace('""', '"') if part.startswith('"') else part
