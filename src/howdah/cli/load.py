"""`howdah load`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import click

from howdah.cli import options, render

if TYPE_CHECKING:
    from howdah.loading import Columns

__all__ = ["load"]

DONE_WITH_REJECTS = 3
SHOWN_REJECTS = 10


def _print_ddl(ctx: click.Context, _: click.Parameter, role: str | None) -> None:
    if role is not None and not ctx.resilient_parsing:
        from howdah.loading import ddl

        click.echo(ddl(role), nl=False)
        ctx.exit()


@click.command()
@click.argument("paths", nargs=-1, metavar="PATH...")
@click.option("--table", default="documents", show_default=True, help="NAME or SCHEMA.NAME.")
@click.option(
    "--as",
    "shape",
    type=click.Choice(["json", "columns"]),
    help="A jsonb column for all attributes (default), or a column for each.",
)
@click.option("--key", help="A,B: the columns by which rows are the same; with --on-conflict.")
@click.option(
    "--on-conflict",
    type=click.Choice(["error", "skip", "update"]),
    default="error",
    show_default=True,
    help="What to do with a row whose key is in the table: reject it, skip it, write it over.",
)
@click.option("--update-on", metavar="A,B", help="Only update rows, found by these columns.")
@click.option("--extra", metavar="COLUMN", help="A jsonb column for attributes without a column.")
@click.option("--truncate", is_flag=True, help="Empty the table first.")
@click.option("--replace", is_flag=True, help="Load aside, then take the table's place at once.")
@click.option(
    "--defer-indexes",
    is_flag=True,
    help="Drop indexes that are not unique for the time of the load, and build them again.",
)
@click.option(
    "--restore-indexes",
    is_flag=True,
    help="Build the indexes that a killed load has dropped, and stop; without PATH.",
)
@click.option("--dry-run", is_flag=True, help="Print the CREATE TABLE and ten rows, and stop.")
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
@options.reading
@click.option("--quiet", "-q", is_flag=True, help="Print nothing but errors.")
@options.database
@options.as_json
@click.pass_context
def load(
    ctx: click.Context,
    /,
    paths: tuple[str, ...],
    table: str,
    shape: str | None,
    key: str | None,
    on_conflict: Literal["error", "skip", "update"],
    update_on: str | None,
    extra: str | None,
    truncate: bool,
    replace: bool,
    defer_indexes: bool,
    restore_indexes: bool,
    dry_run: bool,
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
    **reading: str | None,
) -> None:
    """Load files of any kind into a table, each record once.

    PATH: files, folders, glob patterns, URLs (https://, s3://, ...), or - for
    standard input. Record files (NDJSON, JSON, CSV, spreadsheets, Parquet, ...)
    give a row per record, documents (PDF,
    office, HTML, mail, text, ...) a row each, archives what is in them.
    A source that is loaded and unchanged is skipped; a changed one takes the
    place of its old rows. A load that was stopped is gone on with by the same
    command. What cannot be read goes to howdah.rejects (exit code 3). How a
    source is to be read is found out, unless an option says it.
    """
    from howdah import loading

    if restore_indexes:
        database = options.chosen(dsn, settings, alias)
        _restore(paths, table, database.conninfo, as_json=as_json)
        return
    if not paths:
        raise click.MissingParameter(ctx=ctx, param=ctx.command.params[0])
    how = loading.ReaderOptions.of_texts(**reading)
    columns = _columns(shape, key, on_conflict, update_on, extra)
    if truncate and replace:
        raise click.UsageError("--truncate and --replace are two ways to the same; choose one.")
    if replace and columns is not None and columns.merges:
        raise click.UsageError("--replace leaves no rows to merge with; choose one.")
    if replace and defer_indexes:
        raise click.UsageError("--replace builds indexes last anyway; leave --defer-indexes out.")
    if dry_run:
        render.table_plan(loading.plan(paths, table=table, columns=columns, options=how))
        return
    database = options.chosen(dsn, settings, alias)
    with render.load_progress(quiet=quiet or as_json, replaces=replace) as progress:
        report = loading.load(
            paths,
            dsn=database.conninfo,
            table=table,
            workers=workers,
            again=again,
            columns=columns,
            truncate=truncate,
            replace=replace,
            defer_indexes=defer_indexes,
            stream_name=name,
            limits=loading.Limits(retry_for_s=retry_for, lock_timeout_s=lock_timeout),
            max_rejects=max_rejects,
            on_reject=on_reject,
            options=how,
            on_event=progress,
        )
    if as_json or not quiet:
        most = min(report.rejects, SHOWN_REJECTS)
        shown = loading.latest_rejects(database.conninfo, most) if most else []
        render.load_report(report, shown, as_json=as_json)
    ctx.exit(DONE_WITH_REJECTS if report.rejects else 0)


def _restore(paths: tuple[str, ...], table: str, conninfo: str, *, as_json: bool) -> None:
    from howdah.loading import restore_indexes

    if paths:
        raise click.UsageError("--restore-indexes loads nothing: name no PATH.")
    render.restored(table, restore_indexes(table, dsn=conninfo), as_json=as_json)


def _columns(
    shape: str | None,
    key: str | None,
    on_conflict: Literal["error", "skip", "update"],
    update_on: str | None,
    extra: str | None,
) -> Columns | None:
    """Return how records become rows; raises UsageError for options that exclude each other."""
    from howdah.loading import Columns

    needing = {"--key": key, "--update-on": update_on, "--extra": extra}
    if on_conflict != "error":
        needing["--on-conflict"] = on_conflict
    given = [option for option, value in needing.items() if value is not None]
    if shape == "json" and given:
        raise click.UsageError(f"{given[0]} is for --as columns.")
    if update_on is not None and (key is not None or on_conflict != "error"):
        raise click.UsageError("--update-on adds no rows, so --key and --on-conflict do not apply.")
    if on_conflict == "update" and key is None:
        raise click.UsageError("--on-conflict update needs --key A,B.")
    if shape is None and not given:
        return None
    names = update_on if update_on is not None else key
    parts = tuple(part.strip() for part in names.split(",")) if names is not None else ()
    if not all(parts):
        raise click.UsageError(f"{names!r} names no columns: write A,B.")
    return Columns(
        extra=extra,
        key=parts,
        on_conflict=on_conflict,
        updates_only=update_on is not None,
    )
