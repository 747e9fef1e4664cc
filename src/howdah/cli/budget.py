"""`howdah budget`: how many connections a fleet may hold together, and who holds them."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from howdah.cli import options

if TYPE_CHECKING:
    from howdah.connections.budgets import BudgetUse, Holder

__all__ = ["budget"]

_CELLS = 30


@click.group()
def budget() -> None:
    """Share connections: a number that all processes of all hosts never exceed together."""


@budget.command("list")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@options.database
@options.as_json
def list_(
    names: tuple[str, ...],
    dsn: str | None,
    settings: str | None,
    alias: str | None,
    *,
    as_json: bool,
) -> None:
    """Show budgets: their slots, who holds some, and who waits in line."""
    from howdah import pg
    from howdah.connections.budgets import budgets

    with pg.connect(options.chosen(dsn, settings, alias).conninfo) as conn:
        _show(budgets(conn, names or None), as_json=as_json)


@budget.command("set")
@click.argument("name")
@click.argument("limit", type=int, metavar="N")
@click.option("--grant", multiple=True, metavar="ROLE", help="A role that may use it from now on.")
@options.database
@options.as_json
def set_(
    name: str,
    limit: int,
    grant: tuple[str, ...],
    dsn: str | None,
    settings: str | None,
    alias: str | None,
    *,
    as_json: bool,
) -> None:
    """Make a budget of N connections, or change its limit while others use it.

    A lower limit takes nothing away: who holds slots keeps them, and nobody gets any
    before they fit.
    """
    from howdah import pg
    from howdah.connections.budgets import budgets, set_limit

    with pg.connect(options.chosen(dsn, settings, alias).conninfo) as conn:
        set_limit(conn, name, limit, grant)
        _show(budgets(conn, [name]), as_json=as_json)


@budget.command()
@click.argument("name")
@options.database
def drop(name: str, dsn: str | None, settings: str | None, alias: str | None) -> None:
    """Forget a budget that nobody uses."""
    from howdah import pg
    from howdah.connections.budgets import drop as drop_budget

    with pg.connect(options.chosen(dsn, settings, alias).conninfo) as conn:
        drop_budget(conn, name)
    click.echo(f"dropped the budget {name}")


@budget.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--every", type=float, default=1.0, show_default=True, metavar="SECONDS")
@click.option("--times", type=int, metavar="N", help="Stop after so many times.")
@options.database
@options.as_json
def watch(
    names: tuple[str, ...],
    every: float,
    times: int | None,
    dsn: str | None,
    settings: str | None,
    alias: str | None,
    *,
    as_json: bool,
) -> None:
    """Show budgets again and again, until Ctrl-C."""
    from howdah import pg
    from howdah.connections.budgets import budgets

    with pg.connect(options.chosen(dsn, settings, alias).conninfo) as conn:
        shown = 0
        while True:
            found = budgets(conn, names or None)
            if not as_json:
                click.clear()  # does nothing where the output is no terminal
            _show(found, as_json=as_json)
            shown += 1
            if shown == times:
                return
            time.sleep(every)


def _show(found: list[BudgetUse], *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps([asdict(one) for one in found]))
        return
    for line in budget_lines(found):
        click.echo(line)


def budget_lines(found: list[BudgetUse]) -> list[str]:
    """Return budgets as lines: a bar, who holds slots, who waits."""
    if not found:
        return ["no budgets; make one with: howdah budget set NAME N"]
    lines = []
    for use in found:
        full = min(_CELLS, round(_CELLS * use.held / use.limit))
        bar = "#" * full + "." * (_CELLS - full)
        waiting = f", {sum(one.slots for one in use.line)} waited for" if use.line else ""
        on_top = f"; {use.controls} control connections on top" if use.controls else ""
        lines.append(f"{use.name}  [{bar}] {use.held} of {use.limit} held{waiting}{on_top}")
        lines += [_holder_line("holds", one) for one in use.holders]
        lines += [_holder_line("waits", one) for one in use.line]
    return lines


def _holder_line(verb: str, one: Holder) -> str:
    facts = [f"{one.since_s:,.0f} s", f"process {one.process} on {one.host}"]
    facts += [f"{one.backends} open"] if one.granted else []
    facts += [f"priority {one.priority}"] if one.priority else []
    facts += ["lost: freed when its last backend ends"] if one.lost else []
    purpose = f"  {one.purpose}" if one.purpose else ""
    return f"  {verb} {one.slots:>4}  {', '.join(facts)}{purpose}"
