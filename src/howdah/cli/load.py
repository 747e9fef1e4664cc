"""`howdah load`."""

from __future__ import annotations

from typing import Literal

import click

from howdah.cli import options, render

__all__ = ["load"]

DONE_WITH_REJECTS = 3
SHOWN_REJECTS = 10


def _print_ddl(ctx: click.Context, _: click.Parameter, role: str | None) -> None:
    if role is not None and not ctx.resilient_parsing:
        from howdah.loading import ddl

        click.echo(ddl(role), nl=False)
        ctx.exit()


@click.command()
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option("--table", default="documents", show_default=True, help="NAME or SCHEMA.NAME.")
@click.option("--again", is_flag=True, help="Load sources again though they are unchanged.")
@click.option("--workers", type=click.IntRange(1, 64), help="Processes, a connection each.")
@click.option("--name", help="What standard input is called in the table.")
@click.option(
    "--max-rejects",
    type=click.IntRange(0),
    metavar="N",
    help="Stop when there are more rejects (exit code 1); what is committed stays.",
)
@click.option(
    "--on-reject",
    type=click.Choice(["keep", "stop"]),
    default="keep",
    show_default=True,
    help="stop: the same as --max-rejects 0.",
)
@click.option(
    "--retry-for",
    type=click.FloatRange(0),
    metavar="SECONDS",
    default=120,
    show_default=True,
    help="How long to try again while the server is away, or a lock is held.",
)
@click.option(
    "--lock-timeout",
    type=click.FloatRange(0, min_open=True),
    metavar="SECONDS",
    help="How long to wait for a lock before saying who holds it and trying again.  "
    "[default: the role's lock_timeout, else 30]",
)
@click.option(
    "--print-ddl",
    metavar="ROLE",
    is_eager=True,
    expose_value=False,
    callback=_print_ddl,
    help="Print what an administrator runs so that ROLE may load, and exit.",
)
@click.option("--quiet", "-q", is_flag=True, help="Print nothing but errors.")
@options.database
@options.as_json
@click.pass_context
def load(
    ctx: click.Context,
    paths: tuple[str, ...],
    table: str,
    again: bool,
    workers: int | None,
    name: str | None,
    max_rejects: int | None,
    on_reject: Literal["keep", "stop"],
    retry_for: float,
    lock_timeout: float | None,
    quiet: bool,
    dsn: str | None,
    settings: str | None,
    alias: str | None,
    *,
    as_json: bool,
) -> None:
    """Load files of any kind into a table, each record once.

    PATH: files, folders, glob patterns, or - for standard input. Record files
    (NDJSON, JSON, CSV, spreadsheets) give a row per record, documents (PDF,
    office, HTML, mail, text, ...) a row each, archives what is in them.
    A source that is loaded and unchanged is skipped; a changed one takes the
    place of its old rows. A load that was stopped is gone on with by the same
    command. What cannot be read goes to howdah.rejects (exit code 3).
    """
    from howdah.loading import Limits, latest_rejects
    from howdah.loading import load as run

    database = options.chosen(dsn, settings, alias)
    with render.load_progress(quiet=quiet or as_json) as progress:
        report = run(
            paths,
            dsn=database.conninfo,
            table=table,
            workers=workers,
            again=again,
            stream_name=name,
            limits=Limits(retry_for_s=retry_for, lock_timeout_s=lock_timeout),
            max_rejects=max_rejects,
            on_reject=on_reject,
            on_event=progress,
        )
    if as_json or not quiet:
        shown = latest_rejects(database.conninfo, SHOWN_REJECTS) if report.rejects else []
        render.load_report(report, shown, as_json=as_json)
    ctx.exit(DONE_WITH_REJECTS if report.rejects else 0)
