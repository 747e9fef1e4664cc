"""Connection slots as people and scripts see them: a bar, tables, sums, JSON."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from howdah.cli.changes import table

if TYPE_CHECKING:
    from howdah.connections.limit import LimitPlan
    from howdah.connections.refusal import Refusal
    from howdah.connections.usage import Holder, Session, Slots, Usage

__all__ = [
    "age",
    "bar",
    "session_rows",
    "show_limit",
    "show_refusal",
    "show_usage",
]

_WIDTH = 60
_MIB = 1 << 20
_MINUTE_S, _HOUR_S, _DAY_S = 60, 3600, 86400
_LONG_S = 60.0


def bar(slots: Slots, width: int = _WIDTH) -> str:
    """Return the slots as a bar: used, free, reserved."""
    reserved = slots.superuser_reserved + slots.reserved
    used = min(width, -(-slots.used * width // slots.limit))
    kept = min(width - used, -(-reserved * width // slots.limit))
    return f"[{'#' * used}{'.' * (width - used - kept)}{'r' * kept}]"


def show_usage(found: Usage, *, show_all: bool, as_json: bool) -> None:
    """Print who holds the slots."""
    if as_json:
        extra = {"free": found.slots.free, "left": found.slots.left}
        facts = asdict(found)
        click.echo(json.dumps(facts | {"slots": facts["slots"] | extra}))
        return
    for line in usage_lines(found, show_all=show_all):
        click.echo(line)


def usage_lines(found: Usage, *, show_all: bool) -> list[str]:
    """Return who holds the slots, as lines."""
    slots = found.slots
    lines = [
        f"{bar(slots)} {slots.used} of {slots.limit} slots used",
        *_reserve_lines(slots),
        f"left for the role {slots.role} in the database {slots.database}: {slots.left}"
        + _because(slots),
        "",
    ]
    if show_all:
        lines += table([_SESSION_HEAD, *session_rows(found.sessions)])
    else:
        lines += table([_HOLDER_HEAD, *map(_holder_row, found.holders)])
    lines += _stuck(found.sessions)
    if found.background:
        others = ", ".join(f"{each.processes} {each.kind}" for each in found.background)
        lines += ["", f"besides, without a slot: {others}"]
    if found.is_partial:
        lines += [
            "",
            (
                f"The role {slots.role} sees what its own sessions do, and of others only "
                "whose they are;"
            ),
            f"to see all, have an administrator run: {found.grant}",
        ]
    return lines


def _reserve_lines(slots: Slots) -> list[str]:
    lines = []
    if slots.superuser_reserved:
        lines.append(f"reserved for superusers: {slots.superuser_reserved}")
    if slots.reserved:
        lines.append(f"reserved for members of pg_use_reserved_connections: {slots.reserved}")
    if slots.used >= slots.ordinary:
        how = "reserved slots" if slots.is_superuser or slots.may_use_reserved else "last slot"
        lines.append(
            f"NO SLOT IS LEFT for ordinary roles; this answer came over the {how}. "
            "What to do: howdah connections limit, or end sessions: howdah connections --watch"
        )
    return lines


def _because(slots: Slots) -> str:
    if slots.is_superuser:
        return " (a superuser: the reserved ones too)"
    if slots.binding == "role":
        return f" (the role's CONNECTION LIMIT is {slots.role_limit}, {slots.role_used} used)"
    if slots.binding == "database":
        return (
            f" (the database's CONNECTION LIMIT is {slots.database_limit}, "
            f"{slots.database_used} used)"
        )
    return ""


_HOLDER_HEAD = (
    *("slots", "role", "database", "application", "host"),
    *("active", "idle", "idle in tx", "wait for lock", "oldest", "idle for"),
)
_SESSION_HEAD = (
    *("pid", "role", "database", "application", "host"),
    *("state", "for", "in tx", "age", "waits for", "query"),
)
_HIDDEN = "?"


def _holder_row(each: Holder) -> tuple[object, ...]:
    hidden = each.client is None
    return (
        each.sessions,
        each.role or _HIDDEN,
        each.database or "",
        each.application or "",
        each.client or _HIDDEN,
        *((_HIDDEN,) * 4 if hidden else _counts(each)),
        age(each.oldest_s),
        age(each.longest_idle_s),
    )


def _counts(each: Holder) -> tuple[int, ...]:
    return each.active, each.idle, each.idle_in_transaction, each.waiting


def session_rows(sessions: tuple[Session, ...]) -> list[tuple[object, ...]]:
    """Return sessions as rows of a table."""
    return [
        (
            each.pid,
            each.role or _HIDDEN,
            each.database or "",
            each.application or "",
            each.client or _HIDDEN,
            each.state or _HIDDEN,
            age(each.state_s),
            age(each.transaction_s),
            age(each.age_s),
            each.wait if each.state == "active" and each.wait else "",
            "(this command)" if each.is_ours else " ".join((each.query or "").split())[:50],
        )
        for each in sessions
    ]


def _stuck(sessions: tuple[Session, ...]) -> list[str]:
    stuck = [
        each
        for each in sessions
        if (each.state or "").startswith("idle in transaction") and (each.state_s or 0) > _LONG_S
    ]
    if not stuck:
        return []
    worst = max(stuck, key=lambda each: each.state_s or 0)
    return [
        "",
        (
            f"{len(stuck)} hold a transaction open and do nothing, one (pid {worst.pid}) for "
            f"{age(worst.state_s)}: end them with howdah connections --watch, and for good with: "
            "howdah config set idle_in_transaction_session_timeout 60s"
        ),
    ]


def age(seconds: float | None) -> str:
    """Return a time for people: "42s", "5m", "3h", "2d"."""
    if seconds is None:
        return ""
    for size, unit in ((_DAY_S, "d"), (_HOUR_S, "h"), (_MINUTE_S, "m")):
        if seconds >= size:
            return f"{seconds / size:.0f}{unit}"
    return f"{max(0.0, seconds):.0f}s"


def show_refusal(found: Refusal) -> None:
    """Print which limit let us in no more, and what to do."""
    click.echo(f"The server lets nobody in by this role: {found.text} (SQLSTATE {found.sqlstate})")
    click.echo(_REFUSED[found.limit])
    click.echo(
        "Who holds them, a superuser can ask over the reserved slots: "
        "howdah connections --dsn 'host=... user=postgres'"
    )


_REFUSED = {
    "role": "It is the role's own limit. Raise it as a superuser: "
    "ALTER ROLE name CONNECTION LIMIT n;  (-1 for none)",
    "database": "It is the database's own limit. Raise it as its owner: "
    "ALTER DATABASE name CONNECTION LIMIT n;  (-1 for none)",
    "reserved": "Only slots reserved for superusers (16+: and for members of "
    "pg_use_reserved_connections) are left. Raise the limit: howdah connections limit N --apply",
    "all": "All slots are taken, the reserved ones too. End sessions on the server's host, or "
    "raise the limit: howdah connections limit N --apply",
    "unknown": "Raise the limit as a superuser: howdah connections limit N --apply",
}


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
