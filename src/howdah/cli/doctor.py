"""`howdah doctor`."""

from __future__ import annotations

import json
from dataclasses import asdict

import click

from howdah.cli import options

__all__ = ["doctor"]

_FINDINGS = 3


@click.command()
@options.database
@options.as_json
def doctor(dsn: str | None, settings: str | None, alias: str | None, *, as_json: bool) -> None:
    """Look over connections, memory, configuration, WAL and migrations; exit with 3 on findings."""
    from howdah import pg
    from howdah.doctor import findings

    with pg.connect(options.chosen(dsn, settings, alias).conninfo) as conn:
        found = findings(conn)
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
