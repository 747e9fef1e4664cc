"""`manage.py schemas`: each app, its alias, schema, tables and size, and what the database has."""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import groupby
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.template.defaultfilters import filesizeformat

from howdah.django.tables import Table, our_aliases, tables

_Line = tuple[str, str, str, int, int, str]

_HEAD = ("app", "alias", "schema", "tables", "size", "in the database")


class Command(BaseCommand):
    """Show where the tables are."""

    help = "Shows each app, its alias, schema, tables and size, and whether the database agrees."
    requires_system_checks: list[str] = []  # noqa: RUF012 - Django's attribute

    def add_arguments(self, parser: CommandParser) -> None:
        """Add --database and --json."""
        parser.add_argument(
            "--database", help="Only this alias; all with Howdah's ENGINE if left out."
        )
        parser.add_argument("--json", action="store_true", help="One JSON object a line.")

    def handle(self, **options: Any) -> None:
        """Show a line for each app, alias and schema."""
        lines = []
        for alias in our_aliases(options["database"]):
            ordered = sorted(tables(alias), key=_key)
            lines += [_line(list(group)) for _, group in groupby(ordered, key=_key)]
        if options["json"]:
            for line in lines:
                self.stdout.write(json.dumps(dict(zip(_HEAD, line, strict=True))))
            return
        shown = [_HEAD, *map(_cells, lines)]
        widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
        for row in shown:
            cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            self.stdout.write("  ".join(cells).rstrip())


def _key(table: Table) -> tuple[str, str]:
    return table.app_label, table.name.schema or ""


def _line(group: list[Table]) -> _Line:
    first = group[0]
    return (
        first.app_label,
        first.alias,
        first.name.schema or "(search_path)",
        len(group),
        sum(table.size_bytes or 0 for table in group),
        _agreement(group),
    )


def _agreement(group: Iterable[Table]) -> str:
    elsewhere = [t for t in group if not t.there and t.found]
    missing = [t for t in group if not t.there and not t.found]
    told = []
    if elsewhere:
        where = ", ".join(sorted({t.found[0] for t in elsewhere}))
        told.append(f"{len(elsewhere)} in {where}: run moveschemas")
    if missing:
        told.append(f"{len(missing)} missing: run migrate")
    return "; ".join(told) or "yes"


def _cells(line: _Line) -> tuple[str, ...]:
    app, alias, schema, count, size, agreement = line
    return app, alias, schema, str(count), filesizeformat(size).replace("\xa0", " "), agreement
