"""`howdah where`."""

from __future__ import annotations

import click

from howdah.cli import options, render

__all__ = ["where"]


@click.command()
@options.database
@options.as_json
def where(dsn: str | None, settings: str | None, alias: str | None, *, as_json: bool) -> None:
    """Say which database is used, why, and what it is; never its password."""
    from howdah import pg

    database = options.chosen(dsn, settings, alias)
    with pg.connect(database.conninfo) as conn:
        render.where(pg.whereabouts(conn), database, as_json=as_json)
