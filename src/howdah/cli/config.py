"""`howdah config`: settings of any server, shown and changed in one safe way."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from howdah.cli import changes, options
from howdah.connections.text import table

if TYPE_CHECKING:
    from howdah.server.drift import Drift
    from howdah.server.history import Entry
    from howdah.server.settings import FilePlace, Setting

__all__ = ["config"]

_FINDINGS = 3


@click.group()
def config() -> None:
    """Show and change the server's settings, with a history and an undo."""


@config.command()
@click.argument("name", required=False)
@click.option("--all", "show_all", is_flag=True, help="Also those at their defaults.")
@options.database
@options.as_json
def show(
    name: str | None,
    dsn: str | None,
    settings: str | None,
    alias: str | None,
    *,
    show_all: bool,
    as_json: bool,
) -> None:
    """Show one setting and where it stands, or all that are not at their defaults."""
    from howdah import pg
    from howdah.server import drift
    from howdah.server import settings as reading

    with pg.connect(options.chosen(dsn, settings, alias).conninfo) as conn:
        if name is not None:
            _show_one(reading.setting(conn, name), reading.file_places(conn), as_json=as_json)
            return
        found = [*reading.settings(conn).values()] if show_all else drift.changed_settings(conn)
    if as_json:
        click.echo(json.dumps([asdict(each) for each in found]))
        return
    rows = [(each.name, each.shown, each.source, _place(each)) for each in found]
    for line in table([("setting", "value", "from", "where"), *rows]):
        click.echo(line)


@config.command("set")
@click.argument("name")
@click.argument("value")
@options.database
@changes.restarting
@options.as_json
def set_(
    name: str,
    value: str,
    dsn: str | None,
    settings: str | None,
    alias: str | None,
    drain_s: float,
    *,
    restart: bool,
    only_plan: bool,
    as_json: bool,
) -> None:
    """Set NAME to VALUE in the files, and have it in force; DEFAULT takes a former one back."""
    from howdah import pg
    from howdah.server.change import Change, plan_change

    wish = None if value == "DEFAULT" else value
    with pg.connect(options.chosen(dsn, settings, alias).conninfo) as conn:
        plan = plan_change(conn, [Change(name, wish)], reason=f"howdah config set {name} {value}")
        changes.carry_out(
            conn, plan, restart=restart, drain_s=drain_s, only_plan=only_plan, as_json=as_json
        )


@config.command()
@options.database
@options.as_json
def diff(dsn: str | None, settings: str | None, alias: str | None, *, as_json: bool) -> None:
    """Show what the files say and the server does not have; exit with 3 if there is any."""
    from howdah import pg
    from howdah.server.drift import drifts

    with pg.connect(options.chosen(dsn, settings, alias).conninfo) as conn:
        found = drifts(conn)
    if as_json:
        click.echo(json.dumps([asdict(each) for each in found]))
    else:
        for line in _drift_lines(found):
            click.echo(line)
    if found:
        raise click.exceptions.Exit(_FINDINGS)


@config.command()
@options.database
@options.as_json
def history(dsn: str | None, settings: str | None, alias: str | None, *, as_json: bool) -> None:
    """Show the changes that were made over this database, the newest first."""
    from howdah import pg
    from howdah.server.change import history as entries

    with pg.connect(options.chosen(dsn, settings, alias).conninfo) as conn:
        found = entries(conn)
    if as_json:
        click.echo(json.dumps([asdict(each) for each in found], default=str))
        return
    head = ("", "when", "who", "state", "what", "why")
    rows = [row for each in found for row in _history_rows(each)]
    for line in table([head, *rows]) if rows else ["no changes yet"]:
        click.echo(line)


@config.command()
@click.argument("number", type=int, required=False)
@options.database
@changes.restarting
@options.as_json
def undo(
    number: int | None,
    dsn: str | None,
    settings: str | None,
    alias: str | None,
    drain_s: float,
    *,
    restart: bool,
    only_plan: bool,
    as_json: bool,
) -> None:
    """Take change NUMBER back, or the newest one: the files say again what they said before."""
    from howdah import pg
    from howdah.server.change import plan_undo

    with pg.connect(options.chosen(dsn, settings, alias).conninfo) as conn:
        plan, entry = plan_undo(conn, number)
        if not as_json:
            click.echo(f"taking back change {entry.number} ({entry.reason})")
        changes.carry_out(
            conn,
            plan,
            restart=restart,
            drain_s=drain_s,
            only_plan=only_plan,
            as_json=as_json,
            undoes=entry.number,
        )


@config.command()
@options.database
@options.as_json
def export(dsn: str | None, settings: str | None, alias: str | None, *, as_json: bool) -> None:
    """Print the settings that are not defaults as a configuration file."""
    from howdah import pg
    from howdah.server import drift

    with pg.connect(options.chosen(dsn, settings, alias).conninfo) as conn:
        if as_json:
            found = {each.name: each.shown for each in drift.changed_settings(conn)}
            click.echo(json.dumps(found))
        else:
            click.echo(drift.export(conn), nl=False)


def _show_one(found: Setting, places: list[FilePlace] | None, *, as_json: bool) -> None:
    lines = [p for p in places or () if p.name and p.name.lower() == found.name.lower()]
    if as_json:
        click.echo(json.dumps(asdict(found) | {"places": [asdict(place) for place in lines]}))
        return
    units = f", in units of {found.unit}" if found.unit else ""
    allowed = ", ".join(found.enum_values or ())
    if found.min_value is not None:
        allowed = f"{found.min_value} to {found.max_value}{units}"
    rows = [
        ("value", found.shown),
        ("default", found.shown if found.is_default else f"{found.boot_value}{units}"),
        ("allowed", allowed or found.vartype),
        ("changed", _CONTEXTS.get(found.context, found.context)),
        ("from", found.source),
        ("waits", "for a restart" if found.pending_restart else "for nothing"),
    ]
    click.echo(f"{found.name}: {found.description}")
    for line in table(rows):
        click.echo(f"  {line}")
    for index, place in enumerate(lines):
        wins = "wins" if index == len(lines) - 1 else "is overridden"
        error = f": {place.error}" if place.error else ""
        click.echo(f"  {place.file}, line {place.line}: {place.value} ({wins}{error})")
    if places is None:
        click.echo("  The files that set it are shown to superusers only.")


_CONTEXTS = {
    "internal": "never: it was fixed when the server was built or made",
    "postmaster": "at a restart",
    "sighup": "at a reload",
    "superuser-backend": "for new sessions",
    "backend": "for new sessions",
    "superuser": "at a reload; in a session by superusers",
    "user": "at a reload; in a session by anyone",
}


def _place(found: Setting) -> str:
    return f"{found.sourcefile}:{found.sourceline}" if found.sourcefile else ""


def _drift_lines(found: list[Drift]) -> list[str]:
    if not found:
        return ["the server has what its files say"]
    head = ("setting", "in force", "in the files", "waits for", "where")
    rows = [
        (
            each.name or "(unreadable)",
            each.in_force,
            each.in_files,
            each.waits_for + (f" ({each.error})" if each.error else ""),
            f"{each.file}:{each.line}" if each.file else "",
        )
        for each in found
    ]
    return table([head, *rows])


def _history_rows(entry: Entry) -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = []
    for step in entry.steps:
        what = f"{step.name}: {step.before} -> {step.after or 'taken back'}"
        if rows:
            rows.append(("", "", "", "", what, ""))
        else:
            when = f"{entry.changed_at:%Y-%m-%d %H:%M:%S}"
            rows.append((entry.number, when, entry.changed_by, entry.state, what, entry.reason))
    return rows
