"""Django's compilers; the one for SELECT tells tables of one name apart where it locks some."""

from __future__ import annotations

from collections import Counter
from typing import Any

from django.db.backends.postgresql import compiler
from django.db.backends.postgresql.compiler import (
    SQLAggregateCompiler,
    SQLDeleteCompiler,
    SQLInsertCompiler,
    SQLUpdateCompiler,
)

from howdah.django.names import parse
from howdah.django.percents import doubled, there_are
from howdah.django.placing import KNOWN

__all__ = [
    "SQLAggregateCompiler",
    "SQLCompiler",
    "SQLDeleteCompiler",
    "SQLInsertCompiler",
    "SQLUpdateCompiler",
]

# The method's name since Django 6.1, and before.
_QUOTE = "quote_name" if hasattr(compiler.SQLCompiler, "quote_name") else "quote_name_unless_alias"


class SQLCompiler(compiler.SQLCompiler):
    """FOR UPDATE OF takes names without a schema, so of namesakes it would lock the first."""

    def pre_sql_setup(self, *args: Any, **kwargs: Any) -> Any:
        """Give namesakes aliases before the joins of select_related are made."""
        if self.query.select_for_update_of:
            self._tell_namesakes_apart()
        if there_are():
            # Django puts parameters into the conditions of joins itself: "..." % params.
            quote = getattr(super(), _QUOTE)
            setattr(self, _QUOTE, lambda name: doubled(quote(name)))
        return super().pre_sql_setup(*args, **kwargs)

    def _tell_namesakes_apart(self) -> None:
        query = self.query
        seen: set[str] = set()
        change: dict[str, str] = {}
        for alias, join in query.alias_map.items():
            if alias != join.table_name:
                continue
            table = parse(alias).table
            if table in seen:
                change[alias] = f"{query.alias_prefix}{len(query.alias_map) + len(change) + 1}"
            seen.add(table)
        if change:
            query.change_aliases(change)
        names = Counter(placed.name.table for placed in KNOWN.values())
        for db_table, placed in KNOWN.items():
            if names[placed.name.table] > 1 and db_table not in query.table_map:
                # As if it were joined already: Django then makes an alias for it.
                query.table_map[db_table] = [db_table]
