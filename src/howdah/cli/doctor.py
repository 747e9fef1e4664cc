"""`howdah doctor`."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from howdah.cli import options

if TYPE_CHECKING:
    from howdah.doctor import Finding

__all__ = ["doctor"]

_FINDINGS = 3


@click.command()
@options.database
@options.as_json
def doctor(dsn: str | None, settings: str | None, alias: str | None, *, as_json: bool) -> None:
    """Look over connections, memory, configuration, WAL and migrations; exit with 3 on findings.

    With --settings (or --database) also the Django project's migrations.
    """
    from howdah import pg
    from howdah.doctor import findings

    project = _project(settings, alias) if settings or alias else []
    with pg.connect(options.chosen(dsn, settings, alias).conninfo) as conn:
        found = [*findings(conn), *project]
    if as_json:
        click.echo(json.dumps([asdict(each) for each in found]))
    elif not found:
        click.echo("nothing found")
    else:
        for each in found:
            click.echo(
                f"{each.area}: {each.text}\n    mend: {each.mend}\n    [{each.id}] docs/{each.page}"
            )
    if found:
        raise click.exceptions.Exit(_FINDINGS)


def _project(settings: str | None, alias: str | None) -> list[Finding]:
    """Return what there is to find in the migrations of the project."""
    from howdah.django.project import set_up
    from howdah.doctor import migration_findings

    set_up(settings)
    from howdah.django.migrations import migration_state

    state = migration_state(alias or "default")
    return migration_findings(state.alias, state.unapplied, state.conflicts, state.ahead)
