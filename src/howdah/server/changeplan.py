"""What a change of settings will do, worked out before anything is done.

A plan is made of facts only: what is in force, where each setting stands, when
its new value takes effect, what runs the server. Nothing here changes anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, LiteralString

from psycopg import Connection, sql

from howdah import pg
from howdah.errors import NeedsPerson, Refused, UsageError
from howdah.server.includefile import INCLUDE_NAME, written_values
from howdah.server.runner import Runner, runner_of
from howdah.server.settings import FilePlace, Setting, file_places, parse_number, same_value
from howdah.server.settings import setting as read_setting
from howdah.server.warnings import warnings_of

__all__ = ["Change", "ChangePlan", "Effect", "Step", "Way", "plan_change"]

Effect = Literal["reload", "new sessions", "restart"]
Way = Literal["ALTER SYSTEM", "include file"]

_EFFECTS: tuple[Effect, ...] = ("reload", "new sessions", "restart")
_AT_NEW_SESSION = ("backend", "superuser-backend")
# ALTER SYSTEM refuses them (GUC_DISALLOW_IN_AUTO_FILE).
# Source: https://www.postgresql.org/docs/current/sql-altersystem.html
_NOT_IN_AUTO_CONF = ("data_directory", "config_file", "allow_alter_system")


@dataclass(frozen=True, slots=True)
class Change:
    """A wish: this setting is to have this value.

    Attributes:
        name: The setting, in any case.
        value: As in postgresql.conf, without its quotes: "300", "64MB", "off".
            None takes back what Howdah or ALTER SYSTEM wrote: what the other
            files say, or else the default, comes into force.
    """

    name: str
    value: str | None


@dataclass(frozen=True, slots=True)
class Step:
    """One setting of a plan.

    Attributes:
        name: As PostgreSQL spells it.
        before: The value in force, for people: "128MB".
        after: The new value; None to take the written one back.
        written: What the file that will be written says of it now; None where nothing.
        effect: What it takes for the new value to be in force.
        places: All lines that set it now, in the order they are read; empty
            too where the role may not see the files.
    """

    name: str
    before: str
    after: str | None
    written: str | None
    effect: Effect
    places: tuple[FilePlace, ...] = ()


@dataclass(frozen=True, slots=True)
class ChangePlan:
    """What a change will do; `howdah.server.change.apply_change` does it.

    Attributes:
        steps: One for each setting that is not yet as wished.
        way: How the values are written.
        effect: The most that any step takes: "restart" over "new sessions"
            over "reload"; None where there is no step.
        runner: What runs the server, and whether we may restart it.
        notes: What a person should know first, a sentence each.
        reason: Why, for the history: "howdah connections limit 300".
    """

    steps: tuple[Step, ...]
    way: Way
    effect: Effect | None
    runner: Runner
    notes: tuple[str, ...] = ()
    reason: str = ""


def plan_change(
    conn: Connection[Any], changes: Sequence[Change], *, reason: str = ""
) -> ChangePlan:
    """Work out what changing settings would do; change nothing.

    Args:
        conn: To the server, in autocommit mode.
        changes: Wishes; those that are fulfilled already make no step.
        reason: For the history: the command, or the tuning plan.

    Raises:
        UsageError: No such setting, no such value; the message has the range.
        Refused: The role may not change it, or it can never be changed.
        NeedsPerson: Only someone with access to the host or to the provider's
            console can change it; the next step says what to type there.
    """
    runner = runner_of(conn)
    places = file_places(conn)
    found = [(change, read_setting(conn, change.name)) for change in changes]
    for change, setting in found:
        check_value(setting, change.value)
        _check_changeable(setting, runner)
    way = _way(conn, [setting.name for _, setting in found], runner)
    ours = written_values(runner.local) if way == "include file" and runner.local else None
    made = [_step(setting, change.value, places, ours) for change, setting in found]
    steps = tuple(step for step in made if step is not None)
    for step in steps:
        _check_wins(step, way)
    effect = max((step.effect for step in steps), key=_EFFECTS.index, default=None)
    names = [step.name for step in steps]
    notes = warnings_of(conn, names, places, restarts=effect == "restart")
    return ChangePlan(steps, way, effect, runner, notes, reason)


def check_value(setting: Setting, value: str | None) -> None:
    """Refuse a value outside of what pg_settings says of it.

    PostgreSQL checks it again as it is written, but does not tell the range of
    every kind of value.

    Raises:
        UsageError: It is out of range, no number, or none of the enum's.
    """
    if value is None:
        return
    if any(character in value for character in "\n\r\0"):
        raise UsageError(f"A value of {setting.name} is one line of text.")
    if setting.vartype in ("integer", "real"):
        _check_number(setting, value)
    allowed = ["on", "off"] if setting.vartype == "bool" else setting.enum_values
    if allowed and not any(same_value(setting, value, each) for each in allowed):
        raise UsageError(
            f"{setting.name} cannot be {value!r}.", next_step=f"It is one of: {', '.join(allowed)}."
        )


def _check_number(setting: Setting, value: str) -> None:
    number = parse_number(value, setting.unit)
    low, high = float(setting.min_value or "-inf"), float(setting.max_value or "inf")
    if number is not None and low <= number <= high:
        return
    unit = f", in units of {setting.unit}" if setting.unit else ""
    raise UsageError(
        f"{setting.name} cannot be {value!r}.",
        next_step=f"It is a number from {setting.min_value} to {setting.max_value}{unit}.",
    )


def _check_changeable(setting: Setting, runner: Runner) -> None:
    if setting.context == "internal" or setting.name in _NOT_IN_AUTO_CONF:
        raise Refused(
            f"{setting.name} ({setting.shown}) is no setting that can be changed this way.",
            next_step="It was fixed when the server was built, made or started.",
        )
    if setting.source == "command line":
        raise NeedsPerson(
            f"{setting.name} = {setting.shown} stands on the server's command line, which wins "
            "over all files.",
            next_step=f"Change it where the server is started. {runner.words}",
        )


_IS_SUPERUSER = "SELECT current_setting('is_superuser') = 'on'"
_MAY_ALL = """
    SELECT coalesce(bool_and(has_parameter_privilege(name, 'ALTER SYSTEM')), true)
      FROM unnest(%s::text[]) AS name
"""
_ALLOWED = "SELECT coalesce(current_setting('allow_alter_system', true), 'on') = 'on'"
_HAS_PARAMETER_PRIVILEGES = 150000


def _way(conn: Connection[Any], names: list[str], runner: Runner) -> Way:
    allowed = _answer(conn, _ALLOWED)
    if allowed and may_alter_system(conn, names):
        return "ALTER SYSTEM"
    if runner.local is not None and runner.local.may_control:
        return "include file"
    wishes = ", ".join(names)
    if runner.kind == "managed" or not allowed:
        raise NeedsPerson(
            f"{wishes} cannot be changed over a connection to this server.",
            next_step=runner.words,
        )
    grant = ""
    if conn.info.server_version >= _HAS_PARAMETER_PRIVILEGES:
        role = sql.Identifier(conn.info.user).as_string(conn)
        grant = f", or have one run: GRANT ALTER SYSTEM ON PARAMETER {wishes} TO {role}"
    raise Refused(
        f"The role {conn.info.user} may not change {wishes}.",
        next_step=f"Connect as a superuser{grant}.",
    )


def may_alter_system(conn: Connection[Any], names: list[str]) -> bool:
    """Say whether the session's role may ALTER SYSTEM SET these settings."""
    if conn.info.server_version < _HAS_PARAMETER_PRIVILEGES:
        return _answer(conn, _IS_SUPERUSER)
    return _answer(conn, _MAY_ALL, [names])


def _answer(conn: Connection[Any], query: LiteralString, params: pg.Params = None) -> bool:
    row = conn.execute(query, params).fetchone()
    return row is not None and bool(row[0])


def _step(
    setting: Setting,
    wish: str | None,
    all_places: list[FilePlace] | None,
    ours: dict[str, str] | None,
) -> Step | None:
    """Return what is to be done for a setting; None where it is as wished."""
    name = setting.name.lower()
    places = tuple(p for p in all_places or () if p.name and p.name.lower() == name)
    if ours is not None:
        written, others = ours.get(name), [p for p in places if not p.is_ours]
    else:
        auto = [p.value for p in places if p.is_auto_conf]
        written, others = auto[-1] if auto else None, [p for p in places if not p.is_auto_conf]
        if all_places is None and setting.source == "configuration file":
            written = setting.value  # the role may not see the files: what it would be
    fallback = others[-1].value if others else setting.boot_value
    in_files = places[-1].value if places else written or setting.boot_value
    target = fallback if wish is None else wish
    if _is_fulfilled(setting, wish, target, written, in_files):
        return None
    effect: Effect = "reload"
    if setting.context == "postmaster" and not _same(setting, setting.value, target):
        effect = "restart"
    elif setting.context in _AT_NEW_SESSION:
        effect = "new sessions"
    return Step(setting.name, setting.shown, wish, written, effect, places)


def _is_fulfilled(
    setting: Setting,
    wish: str | None,
    target: str | None,
    written: str | None,
    in_files: str | None,
) -> bool:
    if wish is None:
        return written is None
    # In force may be what our own session or role has; so the files are asked too.
    return _same(setting, in_files, target) and (
        setting.source != "configuration file" or _same(setting, setting.value, target)
    )


def _same(setting: Setting, one: str | None, other: str | None) -> bool:
    return one is not None and other is not None and same_value(setting, one, other)


def _check_wins(step: Step, way: Way) -> None:
    """Refuse to write where another line would win."""
    auto = [place for place in step.places if place.is_auto_conf]
    if way == "include file" and auto and step.after is not None:
        raise Refused(
            f"{auto[-1].file}, line {auto[-1].line}, sets {step.name} = {auto[-1].value} and wins "
            f"over {INCLUDE_NAME}, and ALTER SYSTEM is not allowed here.",
            next_step="Remove that line as a person with access to the host, and try again.",
        )
