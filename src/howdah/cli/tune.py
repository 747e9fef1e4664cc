"""`howdah tune`: faster inserts, with a plan, a proof and a way back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from howdah.cli import changes, options

__all__ = ["tune"]

WORKLOADS = ("mixed", "single", "many", "bulk", "batch-update", "index-heavy", "partitioned")
RISKS = ("safe", "lose-last-moments", "no-replication", "may-corrupt")

_allow = click.option(
    "--allow",
    multiple=True,
    type=click.Choice(RISKS),
    help="A risk that you accept; may be given several times.  [default: safe]",
)
_workload = click.option(
    "--workload",
    type=click.Choice(WORKLOADS),
    default="mixed",
    show_default=True,
    help="What is to be fast.",
)


def _measuring(command: Any) -> Any:
    for option in (
        click.option("--without-triggers", is_flag=True, help="Leave the table's triggers out."),
        click.option(
            "--connections",
            type=click.IntRange(1, 64),
            default=1,
            show_default=True,
            help="How many do the statement at once.",
        ),
        click.option(
            "--replay",
            is_flag=True,
            help="Measure the costliest INSERT or UPDATE of pg_stat_statements; values of other "
            "rows stand in for its own.",
        ),
        click.option(
            "--statement",
            type=click.Path(path_type=Path, exists=True, dir_okay=False),
            metavar="FILE",
            help="Measure this INSERT or UPDATE, on a copy of its table; %(n)s in it is a new "
            "number each time.",
        ),
    ):
        command = option(command)
    return command


@click.group()
def tune() -> None:
    """Make inserts and updates fast: a plan, a proof by measurement, a way back."""


@tune.command()
@options.database
@_workload
@_allow
@click.option("--plan", "only_plan", is_flag=True, help="Show the plan alone; the default.")
@click.option("--measure", is_flag=True, help="Measure the part that a session can set.")
@click.option("--apply", is_flag=True, help="Apply it all, measure, keep it or roll it back.")
@click.option("--restart", is_flag=True, help="With --apply: the server may be restarted.")
@_measuring
@click.option("--rounds", type=click.IntRange(5, 100), default=6, show_default=True)
@click.option("--seconds", type=click.FloatRange(0.1), default=1.0, show_default=True)
@click.option("--chart", type=click.Path(path_type=Path), metavar="FILE", help="Write an SVG.")
@click.option("--sql", "form", flag_value="sql", help="Print the plan as SQL.")
@click.option("--conf", "form", flag_value="conf", help="Print it as a configuration file.")
@options.as_json
def inserts(
    dsn: str | None,
    settings: str | None,
    alias: str | None,
    *,
    workload: str,
    allow: tuple[str, ...],
    only_plan: bool,
    measure: bool,
    apply: bool,
    restart: bool,
    chart: Path | None,
    form: str | None,
    as_json: bool,
    **measuring: Any,
) -> None:
    """Plan what makes inserts and updates faster on this server.

    Each line of the plan says why, what to expect, and what it may cost.
    Nothing is changed without --apply, and `howdah tune undo` takes it back.
    """
    from howdah.cli import tuned

    if (only_plan or form) and (measure or apply):
        raise click.UsageError("--plan, --sql and --conf change and measure nothing.")
    if restart and not apply:
        raise click.UsageError("--restart goes with --apply.")
    conninfo = options.chosen(dsn, settings, alias).conninfo
    plan = tuned.planned(conninfo, workload, allow)
    if not (measure or apply):
        tuned.show_plan(plan, form=form, as_json=as_json)
        return
    subject = tuned.subject(workload, **measuring)
    if apply:
        tuned.apply(conninfo, plan, subject, restart=restart, chart=chart, as_json=as_json)
    else:
        tuned.measure(conninfo, plan, subject, chart=chart, as_json=as_json)


@tune.command()
@click.argument("name", required=False)
@options.as_json
def explain(name: str | None, *, as_json: bool) -> None:
    """Say what a setting does for inserts, what it may cost and what forbids it."""
    from howdah.cli import tuned

    tuned.explain(name, as_json=as_json)


@tune.command()
@options.database
@changes.restarting
@options.as_json
def undo(
    dsn: str | None,
    settings: str | None,
    alias: str | None,
    drain_s: float,
    *,
    restart: bool,
    only_plan: bool,
    as_json: bool,
) -> None:
    """Take the newest tuning back: the settings are exactly what they were before it."""
    from howdah import pg
    from howdah.server.change import plan_undo
    from howdah.tuning.proof import last_tuning

    with pg.connect(options.chosen(dsn, settings, alias).conninfo) as conn:
        entry = last_tuning(conn)
        plan, _ = plan_undo(conn, entry.number)
        changes.carry_out(
            conn,
            plan,
            restart=restart,
            drain_s=drain_s,
            only_plan=only_plan,
            as_json=as_json,
            undoes=entry.number,
        )


@tune.command()
@options.database
@_workload
@_allow
@_measuring
@click.option("--minutes", type=click.FloatRange(0.1), default=5.0, show_default=True)
@click.option("--seconds", type=click.FloatRange(0.1), default=1.0, show_default=True)
@click.option("--restart", is_flag=True, help="The server may be restarted, several times.")
@options.as_json
def search(
    dsn: str | None,
    settings: str | None,
    alias: str | None,
    *,
    workload: str,
    allow: tuple[str, ...],
    minutes: float,
    restart: bool,
    as_json: bool,
    **measuring: Any,
) -> None:
    """Look for better values than the rules', by trying them on this server.

    The server's settings change while it searches, and are as before at the end.
    What the host has not the memory for is not tried.
    Exits with 3 where nothing better was found.
    """
    from howdah.cli import tuned

    conninfo = options.chosen(dsn, settings, alias).conninfo
    subject = tuned.subject(workload, **measuring)
    tuned.search(conninfo, subject, allow, minutes=minutes, restart=restart, as_json=as_json)
