"""The one way to change settings: check, record, apply, reload or restart, verify, or roll back.

    plan = plan_change(conn, [Change("max_connections", "300")], reason="why")
    result = apply_change(conn, plan, restart=True, drain_s=30)
    ...
    plan, entry = plan_undo(conn)                       # the newest change, taken back
    apply_change(conn, plan, restart=True, undoes=entry.number)

Whatever fails, the settings in the files and in force are as before, and the
server is up: that is the contract. Where it cannot be kept, because the old
configuration does not start either, the error says so first.
After a restart `conn` is closed for good; connect again.
"""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

import psycopg
from psycopg import Connection, errors, sql

from howdah.errors import HowdahError, UsageError
from howdah.server import history as past
from howdah.server import includefile, rehearsal, restarting
from howdah.server.changeplan import Change, ChangePlan, Step, plan_change
from howdah.server.history import Entry, State, history
from howdah.server.restarting import Event, Restarted
from howdah.server.settings import file_places, is_in_force, setting

__all__ = [
    "Change",
    "ChangePlan",
    "ChangeResult",
    "Entry",
    "Event",
    "Step",
    "apply_change",
    "history",
    "plan_change",
    "plan_undo",
]

logger = logging.getLogger(__name__)

_RELOAD_TIMEOUT_S = 5.0
_POLL_S = 0.02
# Values that are lists of quoted names; pg_settings does not tell which.
# Source: src/bin/pg_dump/dumputils.c, variable_is_guc_list_quote
_LISTS = (
    "local_preload_libraries",
    "search_path",
    "session_preload_libraries",
    "shared_preload_libraries",
    "temp_tablespaces",
    "unix_socket_directories",
)
# What stands over the files in our own session says nothing of them.
_OVER_FILES = ("client", "database", "database user", "interactive", "override", "session", "user")


@dataclass(frozen=True, slots=True)
class ChangeResult:
    """What a change has done.

    Attributes:
        state: "done": in force. "pending restart" and "pending reload":
            written, and a person has to do the rest. "nothing": was so already.
        number: For `howdah config undo`; None where the database took no record.
        steps: What was changed.
        next_step: What a person has to type; None when done.
        restarted: What the restart did; None where none was.
    """

    state: State | Literal["nothing"]
    number: int | None
    steps: tuple[Step, ...]
    next_step: str | None = None
    restarted: Restarted | None = None


def apply_change(
    conn: Connection[Any],
    plan: ChangePlan,
    *,
    restart: bool = False,
    drain_s: float = 0.0,
    undoes: int | None = None,
    on_event: Callable[[Event], None] = lambda _: None,
) -> ChangeResult:
    """Do what a plan says, whole or not at all.

    Args:
        conn: To the server, in autocommit mode; closed after a restart.
        plan: From `plan_change` or `plan_undo`.
        restart: Restart the server where the plan takes it and we can.
        drain_s: Before a restart, wait up to that many seconds for running
            transactions; those that are left are ended.
        undoes: The number of the change that this one takes back.
        on_event: Is told of each step as it begins.

    Returns:
        The state "pending restart" where one is needed and was not asked for,
        or cannot be done from here.

    Raises:
        UsageError: PostgreSQL refuses a value; nothing was changed.
        Refused: The server would not start with it; nothing was changed.
        ServerFailed: It did not start; the former configuration runs again,
            or the message says that it does not.
        HowdahError: The value did not come into force; it was taken back.
    """
    if not plan.steps:
        return ChangeResult("nothing", None, ())
    local = plan.runner.local
    if local is not None and local.may_control:
        on_event(Event("check", "the configuration with the new values, on a copy"))
        rehearsal.rehearse(conn, local, plan)
        past.keep_last_good(local, restarting.files_of(local))
    address = restarting.address_of(conn)
    number = past.record(conn, plan, undoes)
    past.journal(local, plan, number, "begun")
    state: State = "rolled back"
    try:
        state, restarted = _carried_out(conn, plan, restart, drain_s, on_event)
    finally:
        past.journal(local, plan, number, state)
        if number is not None:
            _mark(conn, address, number, state)
    return ChangeResult(state, number, plan.steps, _next_step(plan, state), restarted)


def plan_undo(conn: Connection[Any], number: int | None = None) -> tuple[ChangePlan, Entry]:
    """Plan to take a change back: the files will say what they said before it.

    Args:
        conn: To the database that the change was made over.
        number: From `history`; None for the newest that was not undone.

    Returns:
        The plan, and the change that it undoes; hand its number to
        `apply_change` as `undoes`.

    Raises:
        UsageError: There is no such change.
        HowdahError: As `plan_change`.
    """
    entry = past.entry(conn, number)
    changes = [Change(step.name, step.written) for step in entry.steps]
    return plan_change(conn, changes, reason=f"howdah config undo {entry.number}"), entry


def _carried_out(
    conn: Connection[Any],
    plan: ChangePlan,
    restart: bool,
    drain_s: float,
    on_event: Callable[[Event], None],
) -> tuple[State, Restarted | None]:
    local = plan.runner.local
    kept = restarting.keep(local) if local is not None and local.may_control else None
    on_event(Event("apply", f"{', '.join(s.name for s in plan.steps)} by {plan.way}"))
    written: list[Step] = []
    try:
        _write(conn, plan, written)
        on_event(Event("reload", "the server reads its files"))
        if not _reload(conn, plan):
            return "pending reload", None
        _verify(conn, plan)
    except BaseException:
        _take_back(conn, plan, written)
        raise
    if not _waits(conn, plan):
        return "done", None
    if not restart or not plan.runner.can_restart or kept is None:
        return "pending restart", None
    wishes = {s.name: s.after for s in plan.steps if s.after is not None}
    try:
        return "done", restarting.restart(conn, plan.runner, kept, wishes, drain_s, on_event)
    except BaseException:
        if not conn.closed:  # it was interrupted before the server was stopped
            _take_back(conn, plan, written)
        raise


def _next_step(plan: ChangePlan, state: State) -> str | None:
    if state == "pending reload":
        return "Have a superuser run: SELECT pg_reload_conf();"
    if state == "pending restart":
        return plan.runner.words
    return None


def _mark(conn: Connection[Any], address: str, number: int, state: State) -> None:
    # The change itself stands or fell already: a lost mark must not hide that.
    with suppress(psycopg.Error, HowdahError), restarting.living(conn, address) as living:
        past.mark(living, number, state)


def _write(conn: Connection[Any], plan: ChangePlan, written: list[Step]) -> None:
    if plan.way == "include file":
        assert plan.runner.local is not None  # noqa: S101 - or there is no such way
        written.extend(plan.steps)
        includefile.set_values(plan.runner.local, {s.name: s.after for s in plan.steps})
        return
    for step in plan.steps:
        try:
            _alter_system(conn, step.name, step.after)
        except (errors.DataError, errors.SyntaxErrorOrAccessRuleViolation) as exc:
            raise UsageError(
                f"PostgreSQL does not take {step.name} = {step.after!r}: "
                f"{exc.diag.message_primary}.",
                next_step=exc.diag.message_hint or f"See: howdah config show {step.name}",
            ) from exc
        written.append(step)


def _alter_system(conn: Connection[Any], name: str, value: str | None) -> None:
    identifier = sql.Identifier(*name.split("."))
    if value is None or (not value and name in _LISTS):
        # An empty list cannot be written as one: PostgreSQL would store the list of "".
        conn.execute(sql.SQL("ALTER SYSTEM RESET {}").format(identifier))
        return
    parts = [p.strip().strip('"') for p in value.split(",")] if name in _LISTS else [value]
    literals = sql.SQL(", ").join(map(sql.Literal, parts))
    conn.execute(sql.SQL("ALTER SYSTEM SET {} = {}").format(identifier, literals))


def _take_back(conn: Connection[Any], plan: ChangePlan, written: list[Step]) -> None:
    """Write what the file said before, and have the server read it."""
    if plan.way == "include file" and plan.runner.local is not None:
        includefile.set_values(plan.runner.local, {s.name: s.written for s in written})
    elif written:
        for step in written:
            _alter_system(conn, step.name, step.written)
    _reload(conn, plan)


_LOADED_AT = "SELECT pg_catalog.pg_conf_load_time()"
_RELOAD = "SELECT pg_catalog.pg_reload_conf()"


def _reload(conn: Connection[Any], plan: ChangePlan) -> bool:
    """Have the server read its files; return False where we may not.

    Waits until our own backend has read them. A file with a syntax error is
    read and not taken: then the wait ends by its time.
    """
    before = conn.execute(_LOADED_AT).fetchone()
    try:
        conn.execute(_RELOAD)
    except errors.InsufficientPrivilege:
        local = plan.runner.local
        if local is None or not local.may_control:
            return False
        os.kill(local.pid, signal.SIGHUP)
    deadline = time.monotonic() + _RELOAD_TIMEOUT_S
    while conn.execute(_LOADED_AT).fetchone() == before and time.monotonic() < deadline:
        time.sleep(_POLL_S)
    return True


def _verify(conn: Connection[Any], plan: ChangePlan) -> None:
    """Make sure that each value is in force, or waits for the restart that the plan tells."""
    for step in plan.steps:
        if step.after is None:
            continue
        now = setting(conn, step.name)
        if step.effect == "new sessions" or (step.effect == "reload" and now.source in _OVER_FILES):
            is_so = _in_files(conn, step)
        else:
            waits = step.effect == "restart" and now.pending_restart
            is_so = waits or is_in_force(now, step.after, file_places(conn))
        if not is_so:
            raise HowdahError(
                f"{step.name} is {now.shown} (from: {now.source}) and not {step.after!r} after the "
                f"reload, so it was taken back.{_why(conn)}",
                next_step=f"See where it stands: howdah config show {step.name}",
            )
    logger.info("settings %s: written and read", [step.name for step in plan.steps])


def _waits(conn: Connection[Any], plan: ChangePlan) -> bool:
    """Say whether a restart is missing: wal_buffers = -1 may come to what is in force already."""
    return any(
        step.after is None or setting(conn, step.name).pending_restart
        for step in plan.steps
        if step.effect == "restart"
    )


def _in_files(conn: Connection[Any], step: Step) -> bool:
    places = file_places(conn)
    if places is None or step.after is None:
        return True
    lines = [p for p in places if p.name and p.name.lower() == step.name.lower()]
    return bool(lines) and lines[-1].error is None


def _why(conn: Connection[Any]) -> str:
    wrong = [p for p in file_places(conn) or () if p.error]
    return f" {wrong[0].file}, line {wrong[0].line}: {wrong[0].error}." if wrong else ""
