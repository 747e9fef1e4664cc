"""Plans and results of changed settings, as people and scripts see them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from psycopg import Connection

    from howdah.server.change import ChangePlan, ChangeResult, Event, Step

__all__ = ["carry_out", "restarting", "show_plan"]

NEEDS_PERSON = 4

F = TypeVar("F", bound=Callable[..., Any])


def restarting(command: F) -> F:
    """Add `--restart`, `--drain` and `--plan`."""
    for option in (
        click.option("--plan", "only_plan", is_flag=True, help="Say what would be done, and stop."),
        click.option(
            "--drain",
            "drain_s",
            type=click.FloatRange(min=0),
            default=0.0,
            metavar="SECONDS",
            help="Before a restart, wait that long for running transactions.",
        ),
        click.option("--restart", is_flag=True, help="Restart the server if it takes one."),
    ):
        command = option(command)
    return command


def carry_out(
    conn: Connection[Any],
    plan: ChangePlan,
    *,
    restart: bool,
    drain_s: float,
    only_plan: bool,
    as_json: bool,
    undoes: int | None = None,
) -> None:
    """Show a plan, do it, and show what came of it; exit with 4 where a person has to go on."""
    from howdah.server.change import apply_change

    if not as_json:
        show_plan(plan)
    if only_plan:
        if as_json:
            click.echo(json.dumps(asdict(plan), default=str))
        return
    result = apply_change(
        conn, plan, restart=restart, drain_s=drain_s, undoes=undoes, on_event=_tell
    )
    if as_json:
        click.echo(json.dumps(asdict(result), default=str))
    else:
        _show_result(result, plan, undoes)
    if result.next_step:
        raise click.exceptions.Exit(NEEDS_PERSON)


def show_plan(plan: ChangePlan) -> None:
    """Print what a plan will do."""
    for step in plan.steps:
        click.echo(f"{step.name}: {step.before} -> {_wish(step)} ({_takes(step)})")
        for place in step.places:
            click.echo(f"    now set in {place.file}, line {place.line}: {place.value}")
    if plan.steps:
        wins = " and wins over the lines above" if any(s.places for s in plan.steps) else ""
        click.echo(f"written by {plan.way}{wins}; the server is run by {plan.runner.label}")
    for note in plan.notes:
        click.echo(f"note: {note}")


def _wish(step: Step) -> str:
    return "what the other files say, or the default" if step.after is None else step.after


def _takes(step: Step) -> str:
    return "for new sessions" if step.effect == "new sessions" else f"takes a {step.effect}"


def _tell(event: Event) -> None:
    click.echo(f"{event.step}: {event.text}", err=True)


def _show_result(result: ChangeResult, plan: ChangePlan, undoes: int | None) -> None:
    if result.state == "nothing":
        click.echo("nothing to do: it is so already")
        return
    if result.next_step:
        missing = "restart" if result.state == "pending restart" else "reload"
        click.echo(f"written and not in force yet: it takes a {missing}.")
        if missing == "restart" and plan.runner.can_restart:
            # Without its number a second undo would take back the change before.
            again = (
                f"howdah config undo {undoes} --restart" if undoes else "it again with --restart"
            )
            click.echo(f"Run {again}, or restart the server yourself.")
        click.echo(result.next_step)
    else:
        click.echo("done: in force")
    if result.restarted:
        done = result.restarted
        click.echo(
            f"restarted in {done.seconds:.1f} s; {done.sessions_before} sessions before, "
            f"{done.sessions_after} back; {done.ended_transactions} running transactions ended"
        )
    if result.number is not None:
        click.echo(f"take it back: howdah config undo {result.number}")
    else:
        click.echo("the database took no record of it, so `howdah config undo` does not know it")
