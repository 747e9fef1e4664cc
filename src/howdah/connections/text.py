"""Who holds the connection slots, as people and scripts see it: a bar, tables, JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from howdah.connections.refusal import Refusal
    from howdah.connections.usage import Holder, Session, Slots, Usage

__all__ = [
    "age",
    "bar",
    "refusal_lines",
    "session_rows",
    "table",
    "usage_lines",
    "usage_object",
]

_WIDTH = 60
_MINUTE_S, _HOUR_S, _DAY_S = 60, 3600, 86400
_LONG_S = 60.0


def table(rows: Sequence[Sequence[object]], *, gap: str = "  ") -> list[str]:
    """Return rows as lines, in columns as wide as they need."""
    cells = [["" if cell is None else str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        gap.join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in cells
    ]


def usage_object(found: Usage) -> dict[str, Any]:
    """Return who holds the slots, for JSON."""
    facts = asdict(found)
    extra = {"free": found.slots.free, "left": found.slots.left}
    return facts | {"slots": facts["slots"] | extra}


def bar(slots: Slots, width: int = _WIDTH) -> str:
    """Return the slots as a bar: used, free, reserved."""
    reserved = slots.superuser_reserved + slots.reserved
    used = min(width, -(-slots.used * width // slots.limit))
    kept = min(width - used, -(-reserved * width // slots.limit))
    return f"[{'#' * used}{'.' * (width - used - kept)}{'r' * kept}]"


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


def refusal_lines(found: Refusal) -> list[str]:
    """Return which limit let us in no more, and what to do, as lines."""
    return [
        f"The server lets nobody in by this role: {found.text} (SQLSTATE {found.sqlstate})",
        _REFUSED[found.limit],
        (
            "Who holds them, a superuser can ask over the reserved slots: "
            "howdah connections --dsn 'host=... user=postgres'"
        ),
    ]


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
