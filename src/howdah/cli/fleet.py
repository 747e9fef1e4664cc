"""A fleet of nodes against the connection slots, as people and scripts see it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from howdah.connections.text import table

if TYPE_CHECKING:
    from howdah.connections.fleet import Fleet, FleetPlan

__all__ = ["fleet_from", "show_fleet", "target"]

_USUALLY_RESERVED = 3
_VERSION = re.compile(r"PgBouncer (\d+)\.(\d+)")


def fleet_from(
    nodes: int,
    processes: int | None,
    threads: int | None,
    pool: str | None,
    settings: str | None,
    alias: str | None,
) -> Fleet:
    """Return the fleet of the options; what they leave out, Django's settings say, or 1."""
    from howdah.connections.fleet import Fleet, fleet_of_django, parse_pool

    known = Fleet(nodes, 1, 1, 0, 1)
    if settings is not None:
        from howdah.dsn import django_entry

        known = fleet_of_django(django_entry(settings, alias or "default"), nodes)
    threads = threads or known.threads
    if pool is not None:
        low, high = parse_pool(pool)
        threads = threads if threads > 1 else high
    else:
        low, high = known.pool_min, known.pool_max if known.pool_min else threads
    return Fleet(nodes, processes or known.processes, threads, low, high)


def target(
    max_connections: int | None,
    dsn: str | None,
    settings: str | None,
    alias: str | None,
    *,
    as_json: bool,
) -> tuple[str, int, str, int, int]:
    """Return host, port, database, the slots of the role to plan with, and those of others."""
    if max_connections is not None:
        return "127.0.0.1", 5432, "app", max_connections, _USUALLY_RESERVED
    from howdah.cli import options, slots
    from howdah.connections.usage import usage

    conninfo = options.chosen(dsn, settings, alias).conninfo
    with slots.connected(conninfo, as_json=as_json) as conn:
        found = usage(conn).slots
        reserved = found.limit - found.ordinary
        return conn.info.host, conn.info.port, found.database, found.plannable, reserved


def show_fleet(plan: FleetPlan, *, host: str, port: int, database: str, as_json: bool) -> None:
    """Print whether a fleet fits; where a pooler is due, a pgbouncer.ini."""
    from howdah.connections.fleet import pgbouncer_ini

    ini = None
    if plan.verdict == "pooler" and plan.available:
        version = _pgbouncer()
        ini = pgbouncer_ini(plan, host=host, port=port, database=database, version=version)
    if as_json:
        click.echo(json.dumps(asdict(plan) | {"pgbouncer_ini": ini}))
        return
    for line in fleet_lines(plan):
        click.echo(line)
    if ini:
        click.echo(f"\n{ini}", nl=False)


def _pgbouncer() -> tuple[int, int] | None:
    """Return the version of the PgBouncer on this machine; None without one."""
    program = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        return None
    try:
        said = subprocess.run(
            [program, "--version"], capture_output=True, text=True, timeout=10, check=False
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    found = _VERSION.search(said)
    return (int(found[1]), int(found[2])) if found else None


def fleet_lines(plan: FleetPlan) -> list[str]:
    """Return whether a fleet fits, as lines."""
    fleet = plan.fleet
    shape = f"{fleet.nodes} nodes x {fleet.processes} processes"
    rows = [
        ("slots for the role", plan.slots, "less what is reserved; its own limit where it has one"),
        ("kept free", -plan.kept, "for people, migrations, monitoring"),
        ("= for the fleet", plan.available, ""),
        ("the fleet at rest", plan.at_rest, f"{shape} x {fleet.pool_min}"),
        ("the fleet at its peak", plan.at_peak, f"{shape} x {fleet.pool_max}"),
        ("of which can be used", plan.useful, f"{shape} x {fleet.useful_max} threads at most"),
    ]
    lines = table([(name, f"{number:>7,}", how) for name, number, how in rows])
    if fleet.pool_max > fleet.threads:
        lines.append(
            f"a pool of {fleet.pool_max} in a process of {fleet.threads} threads holds "
            f"{fleet.pool_max - fleet.threads} connections that nobody can use"
        )
    return [*lines, *_FLEET_VERDICTS[plan.verdict](plan)]


def _fits(plan: FleetPlan) -> list[str]:
    return [f"it fits: {plan.at_peak:,} of {plan.available:,}"]


def _smaller(plan: FleetPlan) -> list[str]:
    return [
        f"it does not fit as it is; pools of at most {plan.fitting_pool} a process do",
        (
            "howdah.Pool takes a size that fits by itself where the environment has "
            f"HOWDAH_NODES={plan.fleet.nodes} HOWDAH_PROCESSES={plan.fleet.processes} "
            f"HOWDAH_THREADS={plan.fleet.threads}"
        ),
        (
            "or share the slots between the nodes with a Budget: howdah.Budget(name, "
            f"limit={plan.available})"
        ),
    ]


def _pooler(plan: FleetPlan) -> list[str]:
    first = "it does not fit, not even with pools of 1 a process;"
    if plan.fitting_pool:
        first = (
            f"it does not fit, and pools of {plan.fitting_pool} a process would leave threads "
            "without a connection;"
        )
    return [
        first,
        (
            f"a pooler is due (below), or a Budget of {plan.available} in which nodes wait their "
            f"turn, or more slots: howdah connections limit {plan.needed_limit}"
        ),
    ]


_FLEET_VERDICTS = {"fits": _fits, "smaller pools fit": _smaller, "pooler": _pooler}
