"""`manage.py rebuild`: what `howdah rebuild` is, by Django's own command line."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from howdah.django.rebuild.command import perform
from howdah.django.rebuild.events import Event
from howdah.django.rebuild.options import FLAGS
from howdah.errors import HowdahError


class Command(BaseCommand):
    """Re-create the project's databases beside the live ones, and swap them in."""

    help = "Re-create the project's databases; the running application does not notice."
    requires_system_checks: list[str] = []  # noqa: RUF012 - Django's own way

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the flags that both command lines share."""
        for flag in FLAGS:
            if flag.metavar:
                action = "append" if flag.many else "store"
                parser.add_argument(
                    flag.name, metavar=flag.metavar, type=flag.of, help=flag.help, action=action
                )
            else:
                parser.add_argument(flag.name, action="store_true", help=flag.help)

    def handle(self, *_: Any, **given: Any) -> None:
        """Do it; exit with the codes that `howdah` has."""
        try:
            perform(given, say=self.stdout.write, on_event=self._tell)
        except HowdahError as exc:
            self.stderr.write(f"rebuild: {exc.message}")
            if exc.next_step:
                self.stderr.write(f"         {exc.next_step}")
            sys.exit(exc.exit_code)

    def _tell(self, event: Event) -> None:
        if event.seconds is not None:
            self.stderr.write(f"{event.step} {event.seconds:.2f} s", self.style.SUCCESS)
