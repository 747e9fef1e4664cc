"""Connection slots as people and scripts see them: who holds them, and sums of memory."""

from __future__ import annotations

import json
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from howdah.connections.text import refusal_lines, table, usage_lines, usage_object

if TYPE_CHECKING:
    from psycopg import Connection

    from howdah.connections.limit import Check, LimitPlan
    from howdah.connections.refusal import Refusal
    from howdah.connections.usage import Usage

__all__ = ["connected", "show_limit", "show_refusal", "show_usage"]

_FINDINGS = 3
_MIB = 1 << 20


def show_usage(found: Usage, *, show_all: bool, as_json: bool) -> None:
    """Print who holds the slots."""
    if as_json:
        click.echo(json.dumps(usage_object(found)))
        return
    for line in usage_lines(found, show_all=show_all):
        click.echo(line)


def show_refusal(found: Refusal, *, as_json: bool) -> None:
    """Print which limit let us in no more, and what to do."""
    if as_json:
        click.echo(json.dumps({"refused": asdict(found)}))
        return
    for line in refusal_lines(found):
        click.echo(line)


@contextmanager
def connected(conninfo: str, *, as_json: bool) -> Generator[Connection[Any]]:
    """Connect; where no slot is left for the role, say which limit it was and exit with 3."""
    from howdah import pg
    from howdah.connections.refusal import NO_SLOT, refusal
    from howdah.errors import NoDatabase

    try:
        conn = pg.open_connection(conninfo, application_name="howdah connections")
    except NoDatabase:
        refused = refusal(conninfo)
        if refused is None or refused.sqlstate != NO_SLOT:
            raise
        show_refusal(refused, as_json=as_json)
        raise click.exceptions.Exit(_FINDINGS) from None
    with conn:
        yield conn


def show_limit(plan: LimitPlan, *, applies: bool = False, as_json: bool) -> None:
    """Print the sum and the answer."""
    if as_json:
        click.echo(json.dumps(asdict(plan) | {"fits": plan.fits}))
        return
    for line in limit_lines(plan, applies=applies):
        click.echo(line)


def limit_lines(plan: LimitPlan, *, applies: bool = False) -> list[str]:
    """Return the sum and the answer, as lines."""
    target = plan.wish or plan.now
    room = sum(term.bytes for term in plan.have)
    backend = plan.facts.backend
    rows = [(term.name, _mib(term.bytes), term.how) for term in plan.have]
    rows.append(("= room for connections", _mib(room), ""))
    one = f"{plan.one_bytes / _MIB:.2f} MiB"
    rows.append((f"{target} connections", _mib(target * plan.one_bytes), f"x {one} each"))
    sign = ">=" if room >= target * plan.one_bytes else "<"
    lines = [
        *table([(name, size.rjust(12), how) for name, size, how in rows]),
        f"{_mib(room)} {sign} {_mib(target * plan.one_bytes)}",
        "",
        *table([_check_row(check) for check in plan.checks]),
        "",
        (
            f"one connection: {backend.private_bytes / _MIB:.2f} MiB of its own ({backend.how}) "
            "and 0.05 MiB of shared memory"
        ),
        f"this host affords {plan.affordable:,} connections"
        + (f" (bound by its {plan.bound})" if plan.bound != "memory" else ""),
    ]
    lines += _verdict(plan, target, applies=applies)
    lines += _articles(plan)
    return lines


def _check_row(check: Check) -> tuple[str, ...]:
    if check.limit is None:
        return (check.name, "no limit", "", f"{check.needed:,}", check.how)
    sign = ">=" if check.limit >= check.needed else "<"
    return (check.name, f"{check.limit:,}", sign, f"{check.needed:,}", check.how)


def _verdict(plan: LimitPlan, target: int, *, applies: bool) -> list[str]:
    if plan.wish is None:
        state = "fits" if plan.fits else "DOES NOT FIT"
        return [f"max_connections = {plan.now}, as it is now, {state}"]
    if plan.fits:
        lines = [f"max_connections = {target} fits"]
        if target > plan.now:
            set_it = f"set it: howdah connections limit {target} --apply --restart"
            lines += [*([] if applies else [set_it]), *_SIDE_EFFECTS]
        return lines
    lines = [f"max_connections = {target} DOES NOT FIT; each of these alone would make room:"]
    return lines + [f"    {remedy.what} = {remedy.value}" for remedy in plan.remedies]


_SIDE_EFFECTS = (
    (
        "it costs: a restart; standbys need at least as much, and first; the lock table and shared "
        "memory grow;"
    ),
    ("each snapshot looks at all connections (docs: how many connections can I afford)"),
)


def _articles(plan: LimitPlan) -> list[str]:
    backend = plan.facts.backend
    rss = "RSS" if backend.measured else "RSS, as they have it"
    return [
        "",
        (
            f"articles would say {plan.articles:,}: (memory - shared_buffers) / "
            f"{backend.rss_bytes / _MIB:.0f} MiB of {rss};"
        ),
        (
            "RSS counts the shared buffers that a backend has touched again in each backend, and "
            "forgets work_mem."
        ),
    ]


def _mib(size: int) -> str:
    return f"{size / _MIB:,.0f} MiB"
