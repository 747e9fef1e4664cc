"""`howdah rejects`: what could not be loaded, shown, mended and tried again."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from howdah.cli import options, render

if TYPE_CHECKING:
    from howdah.loading import Chosen, KeptReject, RejectGroup, RetryReport

__all__ = ["rejects"]

F = TypeVar("F", bound=Callable[..., Any])

STILL_REJECTS = 3


def _filters(command: F) -> F:
    for option in (
        click.option("--source", metavar="NAME", help="Only those of this source or archive."),
        click.option("--table", metavar="TABLE", help="Only those of this table."),
    ):
        command = option(command)
    return command


_ids = click.argument("ids", nargs=-1, type=int, metavar="[ID]...")


@click.group()
def rejects() -> None:
    """Show, mend and retry what could not be loaded."""


@rejects.command("list")
@_filters
@options.database
@options.as_json
def list_(
    table: str | None,
    source: str | None,
    dsn: str | None,
    settings: str | None,
    alias: str | None,
    *,
    as_json: bool,
) -> None:
    """Count rejects by table, source and reason, newest first."""
    from howdah.loading import reject_groups

    database = options.chosen(dsn, settings, alias)
    groups = reject_groups(database.conninfo, _chosen((), table, source))
    if as_json:
        click.echo(json.dumps([asdict(group) for group in groups]))
        return
    for line in group_lines(groups):
        click.echo(line)


@rejects.command()
@click.argument("number", type=int, metavar="ID")
@options.database
@options.as_json
def show(
    number: int, dsn: str | None, settings: str | None, alias: str | None, *, as_json: bool
) -> None:
    """Show one reject: where it stands, why it is one, and its bytes."""
    from howdah.loading import kept_reject
    from howdah.loading.report import one_line

    reject = kept_reject(options.chosen(dsn, settings, alias).conninfo, number)
    if as_json:
        click.echo(json.dumps(_as_dict(reject)))
        return
    for name in ("id", "table", "source", "place", "reason", "loaded_at"):
        click.echo(f"{name:<10} " + one_line(f"{getattr(reject, name)}"))
    if reject.content is not None:
        for line in content_lines(reject.content):
            click.echo(line)


@rejects.command()
@_ids
@_filters
@click.option(
    "--out", default="rejects", show_default=True, metavar="DIR", help="A folder, or - for NDJSON."
)
@options.database
@options.as_json
def export(
    ids: tuple[int, ...],
    table: str | None,
    source: str | None,
    out: str,
    dsn: str | None,
    settings: str | None,
    alias: str | None,
    *,
    as_json: bool,
) -> None:
    """Write rejects to files that an editor can mend: all, or those with the IDs.

    Records go to records.ndjson, or to a CSV file with its header, as their
    bytes are; the paths of whole sources go to sources.txt. Which reject is
    which stands in a file beside it, with the suffix .ids.
    """
    from howdah.loading import export_rejects, reject_content

    conninfo = options.chosen(dsn, settings, alias).conninfo
    chosen = _chosen(ids, table, source)
    if out == "-":
        for line in reject_content(conninfo, chosen):
            sys.stdout.buffer.write(line + b"\n")
        sys.stdout.buffer.flush()
        return
    done = export_rejects(conninfo, Path(out), chosen)
    if as_json:
        click.echo(json.dumps(asdict(done)))
        return
    click.echo(f"{_count(done.records, 'record')}, {_count(done.sources, 'whole source')}")
    for file in done.files:
        click.echo(f"  {file}")


@rejects.command()
@_ids
@_filters
@click.option(
    "--from",
    "mended",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="A file of 'export' that was mended: its records take the place of the kept ones.",
)
@options.database
@options.as_json
def retry(
    ids: tuple[int, ...],
    table: str | None,
    source: str | None,
    mended: Path | None,
    dsn: str | None,
    settings: str | None,
    alias: str | None,
    *,
    as_json: bool,
) -> None:
    """Try rejects again, in place: all, or those with the IDs.

    A record gets its source's name and its own number, and its reject is gone
    with the same commit; a whole source is loaded again from its path. What is
    refused again stays (exit code 3).
    """
    from howdah.loading import retry_rejects

    conninfo = options.chosen(dsn, settings, alias).conninfo
    with render.load_progress(quiet=as_json) as progress:
        report = retry_rejects(
            conninfo, _chosen(ids, table, source), mended=mended, on_event=progress
        )
    if as_json:
        click.echo(json.dumps(asdict(report)))
    else:
        for line in retry_lines(report):
            click.echo(line)
    click.get_current_context().exit(STILL_REJECTS if report.refused or report.rejects else 0)


def group_lines(groups: list[RejectGroup]) -> list[str]:
    """Return groups of rejects as lines, the newest first."""
    if not groups:
        return ["no rejects"]
    from howdah.loading.report import one_line

    return [
        f"{g.rejects:>7,}  {g.loaded_at}  {g.table}  "
        + one_line(f"{g.source}: {g.reason} (last id {g.latest_id})")
        for g in groups
    ]


def retry_lines(report: RetryReport) -> list[str]:
    """Return what a retry has done as lines."""
    from howdah.loading.report import one_line

    lines = [f"loaded {_count(report.records, 'rejected record')}"]
    if report.gone:
        lines.append(
            f"{_count(report.gone, 'record')} without a reject: loaded before, or its source anew"
        )
    if report.sources:
        found = _count(report.rejects, "reject")
        lines.append(f"loaded {_count(report.sources, 'file')} again as a whole: {found}")
    if report.refused:
        lines.append(f"{_count(len(report.refused), 'reject')} left as before:")
        lines += [one_line(f"  {refusal.id}: {refusal.reason}") for refusal in report.refused]
    return lines


def content_lines(content: bytes) -> list[str]:
    """Return bytes as text, or in hexadecimal where they are none that can be shown."""
    try:
        text = content.decode()
    except UnicodeDecodeError:
        text = ""
    if text and all(char.isprintable() or char in "\t\n\r" for char in text):
        return ["", text]
    return ["", *(_hex_line(at, content[at : at + 16]) for at in range(0, len(content), 16))]


def _hex_line(at: int, row: bytes) -> str:
    shown = "".join(chr(b) if chr(b).isascii() and chr(b).isprintable() else "." for b in row)
    return f"{at:08x}  {row.hex(' '):<47}  {shown}"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def _chosen(ids: tuple[int, ...], table: str | None, source: str | None) -> Chosen:
    from howdah.loading import Chosen

    return Chosen(ids=ids or None, table=table, source=source)


def _as_dict(reject: KeptReject) -> dict[str, Any]:
    facts = asdict(reject) | {"loaded_at": reject.loaded_at.isoformat()}
    del facts["content"]
    if reject.content is None:
        return facts
    try:
        return facts | {"text": reject.content.decode()}
    except UnicodeDecodeError:
        return facts | {"hex": reject.content.hex()}
