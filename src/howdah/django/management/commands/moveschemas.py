"""`manage.py moveschemas`: move tables to the schemas that the settings and the models say."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from howdah.django.tables import move, our_aliases, plan_moves
from howdah.errors import HowdahError


class Command(BaseCommand):
    """Move what is in the wrong schema."""

    help = "Moves each table that is in another schema than the settings or its model say."
    requires_system_checks: list[str] = []  # noqa: RUF012 - Django's attribute

    def add_arguments(self, parser: CommandParser) -> None:
        """Add --database and --plan."""
        parser.add_argument(
            "--database", help="Only this alias; all with Howdah's ENGINE if left out."
        )
        parser.add_argument(
            "--plan", action="store_true", help="Say what would be moved, and stop."
        )

    def handle(self, **options: Any) -> None:
        """Plan, and move."""
        moved = 0
        try:
            for alias in our_aliases(options["database"]):
                moves = plan_moves(alias)
                for each in moves:
                    self.stdout.write(f"{alias}: {each.old} -> {each.new}")
                if not options["plan"]:
                    move(alias, moves)
                moved += len(moves)
        except HowdahError as exc:
            raise CommandError(str(exc), returncode=exc.exit_code) from exc
        if not moved:
            self.stdout.write("Each table is where it is to be.")
        elif options["plan"]:
            self.stdout.write(f"{moved} to move; run the command without --plan.")
        else:
            self.stdout.write(f"Moved {moved}. No row was rewritten.")
