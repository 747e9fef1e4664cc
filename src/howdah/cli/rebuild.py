"""`howdah rebuild`."""

from __future__ import annotations

from typing import Any

import click

from howdah.cli import render
from howdah.django.rebuild.options import FLAGS

__all__ = ["rebuild"]


def _flags(command: Any) -> Any:
    for flag in reversed(FLAGS):
        if flag.metavar:
            option = click.option(
                flag.name, metavar=flag.metavar, type=flag.of, multiple=flag.many, help=flag.help
            )
        else:
            option = click.option(flag.name, is_flag=True, help=flag.help)
        command = option(command)
    return command


@click.command()
@click.option("--settings", metavar="MODULE", help="Django's settings; else as manage.py has it.")
@click.option("--pythonpath", metavar="DIR", help="The project's folder; else the working one.")
@_flags
def rebuild(settings: str | None, pythonpath: str | None, **given: Any) -> None:
    """Re-create a Django project's databases; the running application does not notice.

    Builds them aside, from migrations and fixtures, and swaps them in by
    renaming schemas. Only databases that HOWDAH["REBUILD"]["allow"] or
    --allow names; if anything fails, the live ones are as before.
    """
    from howdah.django.project import set_up

    set_up(settings, pythonpath)
    from howdah.django.rebuild.command import perform

    with render.rebuild_progress(quiet=bool(given["json"])) as on_event:
        perform(given, say=click.echo, on_event=on_event)
