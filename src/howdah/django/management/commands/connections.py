"""`manage.py connections`: what `howdah connections` shows, of the project's aliases."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.db import connections

from howdah.connections.text import refusal_lines, usage_lines, usage_object
from howdah.connections.usage import Usage, usage_or_refusal
from howdah.django.rebuild.databases import chosen_aliases, conninfo_of
from howdah.errors import HowdahError

_NO_SLOT = 3


class Command(BaseCommand):
    """Show who holds the connection slots."""

    help = "Shows who holds the connection slots, and how many are left for each alias's role."
    requires_system_checks: list[str] = []  # noqa: RUF012 - Django's attribute

    def add_arguments(self, parser: CommandParser) -> None:
        """Add --database, --all and --json."""
        parser.add_argument("--database", help="Only this alias; all of PostgreSQL if left out.")
        parser.add_argument("--all", action="store_true", help="Each session by itself.")
        parser.add_argument("--json", action="store_true", help="One JSON object a line.")

    def handle(self, **given: Any) -> None:
        """Show a report for each database and role; exit with 3 where one has no slot."""
        try:
            refused = [self._show(names, given) for names in _aliases(given["database"])]
        except HowdahError as exc:
            self.stderr.write(f"connections: {exc.message}")
            if exc.next_step:
                self.stderr.write(f"             {exc.next_step}")
            sys.exit(exc.exit_code)
        if any(refused):
            sys.exit(_NO_SLOT)

    def _show(self, names: list[str], given: dict[str, Any]) -> bool:
        """Show a report; return whether no slot is left."""
        # Not Django's own connection, which may come from a pool that is exhausted.
        found = usage_or_refusal(conninfo_of(names[0]))
        if isinstance(found, Usage):
            facts, lines = usage_object(found), usage_lines(found, show_all=given["all"])
        else:
            facts, lines = {"refused": asdict(found)}, refusal_lines(found)
        if given["json"]:
            self.stdout.write(json.dumps({"aliases": names} | facts))
        else:
            self.stdout.write("\n".join([f"alias {', '.join(names)}", *lines, ""]))
        return not isinstance(found, Usage)


def _aliases(asked: str | None) -> list[list[str]]:
    """Return PostgreSQL's aliases; those of one database and role together."""
    if asked is not None:
        return [chosen_aliases([asked])]
    found: dict[tuple[Any, ...], list[str]] = {}
    for alias in chosen_aliases():
        entry = connections[alias].settings_dict
        key = tuple(entry[name] for name in ("HOST", "PORT", "NAME", "USER"))
        found.setdefault(key, []).append(alias)
    return list(found.values())
