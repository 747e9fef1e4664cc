"""`howdah connections`: who holds the slots, what limit the host affords, whether a fleet fits."""

from __future__ import annotations

import click

from howdah.cli import changes, options, slots
from howdah.cli import fleet as fleet_view

__all__ = ["connections"]

_FINDINGS = 3


@click.group(invoke_without_command=True)
@options.database
@click.option("--watch", is_flag=True, help="Live, like top; `h` shows the keys.")
@click.option("--all", "show_all", is_flag=True, help="Each session by itself.")
@options.as_json
@click.pass_context
def connections(
    ctx: click.Context,
    dsn: str | None,
    settings: str | None,
    alias: str | None,
    *,
    watch: bool,
    show_all: bool,
    as_json: bool,
) -> None:
    """Show who holds the connection slots, and how many are left for this role."""
    if ctx.invoked_subcommand:
        return
    database = options.chosen(dsn, settings, alias)
    from howdah.connections.usage import Usage, usage_or_refusal

    found = usage_or_refusal(database.conninfo)
    if not isinstance(found, Usage):
        slots.show_refusal(found, as_json=as_json)
        raise click.exceptions.Exit(_FINDINGS)
    if watch:
        _watch(database.conninfo)
    else:
        slots.show_usage(found, show_all=show_all, as_json=as_json)


def _watch(conninfo: str) -> None:
    from howdah import pg
    from howdah.cli.watch import run

    with pg.connect(conninfo, application_name="howdah connections") as conn:
        run(conn)


@connections.command()
@click.argument("wish", metavar="[N]", type=click.IntRange(min=1), required=False)
@options.database
@click.option("--apply", "do_apply", is_flag=True, help="Set max_connections to N.")
@click.option("--force", is_flag=True, help="Also where the host does not afford it.")
@click.option("--active", type=click.IntRange(min=1), metavar="N", help="Sessions at work at once.")
@click.option("--padding", metavar="SIZE", help="Memory to keep free.  [default: a tenth]")
@click.option("--ram", metavar="SIZE", help="The host's memory, where it is another host.")
@click.option("--cores", type=click.IntRange(min=1), metavar="N", help="Its CPUs.")
@changes.restarting
@options.as_json
def limit(
    wish: int | None,
    dsn: str | None,
    settings: str | None,
    alias: str | None,
    active: int | None,
    padding: str | None,
    ram: str | None,
    cores: int | None,
    drain_s: float,
    *,
    do_apply: bool,
    force: bool,
    restart: bool,
    only_plan: bool,
    as_json: bool,
) -> None:
    """Say how many connections this host affords, and whether it affords N; set it with --apply."""
    from howdah.connections.limit import facts, plan_limit
    from howdah.errors import Refused, UsageError
    from howdah.server.change import Change, plan_change

    if do_apply and wish is None:
        raise UsageError(
            "--apply needs the new limit.",
            next_step="Write it: howdah connections limit 300 --apply",
        )
    conninfo = options.chosen(dsn, settings, alias).conninfo
    with slots.connected(conninfo, as_json=as_json) as conn:
        found = facts(conn, ram_bytes=options.size(ram), cores=cores)
        if found is None:
            raise UsageError(
                "The server's host cannot be looked at from here.",
                next_step="Say what it has: --ram 16GB --cores 4. On the server's own host, "
                "connect as a superuser or a member of pg_monitor.",
            )
        plan = plan_limit(found, wish, active=active, padding_bytes=options.size(padding))
        if not (as_json and do_apply):
            slots.show_limit(plan, applies=do_apply, as_json=as_json)
        if not do_apply:
            if not plan.fits:
                raise click.exceptions.Exit(_FINDINGS)
            return
        if not plan.fits and not force:
            raise Refused(
                f"This host affords {plan.affordable} connections, not {wish}.",
                next_step="Change one of what is named above first, or insist with --force.",
            )
        wishes = [Change("max_connections", str(wish))]
        change = plan_change(conn, wishes, reason=f"howdah connections limit {wish} --apply")
        changes.carry_out(
            conn, change, restart=restart, drain_s=drain_s, only_plan=only_plan, as_json=as_json
        )


@connections.command()
@click.option("--nodes", type=click.IntRange(min=1), required=True, help="Hosts or containers.")
@click.option("--processes", type=click.IntRange(min=1), help="Of each node.")
@click.option("--threads", type=click.IntRange(min=1), help="Of each process.")
@click.option("--pool", metavar="MIN..MAX", help="The pool of each process: 10..20, or 20.")
@click.option(
    "--limit",
    "max_connections",
    type=click.IntRange(min=1),
    metavar="N",
    help="Slots to plan with.  [default: those of the server]",
)
@click.option(
    "--keep",
    type=click.IntRange(min=0),
    default=5,
    show_default=True,
    help="Slots to keep free for people and migrations.",
)
@options.database
@options.as_json
def plan(
    nodes: int,
    processes: int | None,
    threads: int | None,
    pool: str | None,
    max_connections: int | None,
    keep: int,
    dsn: str | None,
    settings: str | None,
    alias: str | None,
    *,
    as_json: bool,
) -> None:
    """Say whether a fleet fits the slots, which pools fit, and whether a pooler is due.

    With --settings, processes, threads and pool come from Django's settings, WEB_CONCURRENCY and
    GUNICORN_CMD_ARGS, where they are not given.
    """
    from howdah.connections.fleet import plan_fleet

    fleet = fleet_view.fleet_from(nodes, processes, threads, pool, settings, alias)
    host, port, database, available, reserved = fleet_view.target(
        max_connections, dsn, settings, alias, as_json=as_json
    )
    found = plan_fleet(fleet, available, kept=keep, reserved=reserved)
    fleet_view.show_fleet(found, host=host, port=port, database=database, as_json=as_json)
    if found.verdict != "fits":
        raise click.exceptions.Exit(_FINDINGS)
