"""`howdah connections --watch`: live, like top. Keys change a state; the state and facts are drawn.

`handle` and `lines` are pure, so the screen is tested as text.
"""

from __future__ import annotations

import os
import select
import shutil
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import click

from howdah.connections.text import bar, session_rows, table

if TYPE_CHECKING:
    from psycopg import Connection

    from howdah.connections.usage import Session, Usage

__all__ = ["Asked", "State", "handle", "lines", "run", "shown"]

_INTERVAL_S = 1.0
_SORTS = ("state", "age", "transaction", "role", "database", "application")
_STATES = ("active", "idle in transaction (aborted)", "idle in transaction", "idle")
_HELP = (
    "up/down or k/j select   s sort   / filter   c cancel the statement   t terminate the "
    "session   q quit"
)
_ESCAPES = {"\x1b[A": "up", "\x1b[B": "down", "\x1b": "escape", "\r": "enter", "\n": "enter"}
_BACKSPACE = ("\x7f", "\b")


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be done to a session once it is confirmed.

    Attributes:
        act: "cancel" its statement, or "terminate" it.
        pid: Which.
    """

    act: Literal["cancel", "terminate"]
    pid: int


@dataclass(frozen=True, slots=True)
class State:
    """What the keys have changed.

    Attributes:
        sort: One of "state", "age", "transaction", "role", "database", "application".
        filter: Only sessions with this text in them.
        typing: The filter is being typed.
        selected: Row number from 0.
        asked: Waits for a "y".
        confirmed: Was confirmed, and is to be done now.
        message: The last line.
        done: The user has had enough.
    """

    sort: str = "state"
    filter: str = ""
    typing: bool = False
    selected: int = 0
    asked: Asked | None = None
    confirmed: Asked | None = None
    message: str = _HELP
    done: bool = False


def handle(state: State, key: str, rows: tuple[Session, ...]) -> State:  # noqa: PLR0911 - a key each
    """Return the state after a key.

    Args:
        state: Before.
        key: A character, or "up", "down", "enter", "escape".
        rows: The sessions on the screen, in their order.
    """
    if state.asked is not None:
        if key == "y":
            return replace(state, asked=None, confirmed=state.asked, message="")
        return replace(state, asked=None, message="left alone")
    if state.typing:
        return _typed(state, key)
    if key in ("q", "escape"):
        return replace(state, done=True)
    if key in ("up", "k", "down", "j"):
        step = -1 if key in ("up", "k") else 1
        selected = min(max(0, state.selected + step), max(0, len(rows) - 1))
        return replace(state, selected=selected)
    if key == "s":
        sort = _SORTS[(_SORTS.index(state.sort) + 1) % len(_SORTS)]
        return replace(state, sort=sort, message=f"sorted by {sort}")
    if key == "/":
        return replace(state, typing=True, filter="", message="filter: ")
    if key in ("c", "t") and rows:
        return _ask(state, key, rows[min(state.selected, len(rows) - 1)])
    return replace(state, message=_HELP)


def _typed(state: State, key: str) -> State:
    if key in ("enter", "escape"):
        kept = state.filter if key == "enter" else ""
        return replace(state, typing=False, filter=kept, selected=0, message=_HELP)
    text = state.filter[:-1] if key in _BACKSPACE else state.filter + key * key.isprintable()
    return replace(state, filter=text, selected=0, message=f"filter: {text}")


def _ask(state: State, key: str, row: Session) -> State:
    if row.is_ours:
        return replace(state, message="that is this command itself")
    act: Literal["cancel", "terminate"] = "cancel" if key == "c" else "terminate"
    who = f"pid {row.pid} ({row.role or '?'}, {row.application or 'no application name'})"
    what = "cancel the statement of" if act == "cancel" else "terminate"
    return replace(state, asked=Asked(act, row.pid), message=f"{what} {who}? y/n")


def shown(state: State, sessions: tuple[Session, ...]) -> tuple[Session, ...]:
    """Return the sessions that the filter leaves, in their order."""
    text = state.filter.lower()
    kept = [each for each in sessions if text in _text(each)]
    return tuple(sorted(kept, key=lambda each: _sort_key(each, state.sort)))


def _text(each: Session) -> str:
    parts = (each.pid, each.role, each.database, each.application, each.client, each.state)
    return " ".join(str(part or "") for part in (*parts, each.query)).lower()


def _sort_key(each: Session, sort: str) -> tuple[Any, ...]:
    if sort == "state":
        rank = _STATES.index(each.state) if each.state in _STATES else len(_STATES)
        return rank, -(each.transaction_s or 0), -(each.state_s or 0), each.pid
    if sort == "age":
        return -(each.age_s or 0), each.pid
    if sort == "transaction":
        return -(each.transaction_s or 0), each.pid
    return getattr(each, sort) or "~", each.pid


def lines(found: Usage, state: State, width: int, height: int) -> list[str]:
    """Return the screen: at most `height` lines of at most `width` characters."""
    held = found.slots
    top = [
        f"{bar(held, min(60, width - 30))} {held.used} of {held.limit}, {held.left} left",
        f"sorted by {state.sort}" + (f", only {state.filter!r}" if state.filter else ""),
    ]
    rows = shown(state, found.sessions)
    head = ("pid", "role", "database", "application", "host", "state", "for", "in tx", "age")
    body = table([(*head, "waits for", "query"), *session_rows(rows)])
    room = max(1, height - len(top) - 2)
    selected = min(state.selected, max(0, len(rows) - 1))
    first = max(0, selected - room + 1)
    marked = [
        ("> " if first + index == selected else "  ") + line
        for index, line in enumerate(body[1:][first : first + room])
    ]
    screen = [*top, f"  {body[0]}", *marked, state.message]
    return [line[:width] for line in screen[:height]]


def run(conn: Connection[Any]) -> None:
    """Draw until the user has had enough.

    Raises:
        Refused: Standard input or output is no terminal.
    """
    from howdah.errors import Refused

    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise Refused(
            "--watch needs a terminal.", next_step="Without one: howdah connections --json"
        )
    with _screen():
        _loop(conn)


def _loop(conn: Connection[Any]) -> None:
    from howdah.connections.usage import usage

    state = State()
    found, read_at = usage(conn), time.monotonic()
    while not state.done:
        size = shutil.get_terminal_size()
        _draw(lines(found, state, size.columns, size.lines), size.lines)
        for key in _keys(max(0.0, read_at + _INTERVAL_S - time.monotonic())):
            state = handle(state, key, shown(state, found.sessions))
            if state.confirmed is not None:
                state = _do(conn, state, state.confirmed)
        if time.monotonic() >= read_at + _INTERVAL_S:
            found, read_at = usage(conn), time.monotonic()


def _do(conn: Connection[Any], state: State, wish: Asked) -> State:
    from howdah.connections import usage

    act = usage.cancel if wish.act == "cancel" else usage.terminate
    done = act(conn, wish.pid)
    past = "cancelled" if wish.act == "cancel" else "terminated"
    message = f"{past} {wish.pid}" if done else f"{wish.pid} is gone, or this role may not"
    return replace(state, confirmed=None, message=message)


def _draw(screen: list[str], height: int) -> None:
    padded = screen + [""] * (height - len(screen))
    text = "\r\n".join(f"{line}\x1b[K" for line in padded)
    click.echo(f"\x1b[H{text}", nl=False)
    sys.stdout.flush()


def _keys(timeout_s: float) -> list[str]:
    ready, _, _ = select.select([sys.stdin], [], [], timeout_s)
    if not ready:
        return []
    text = os.read(sys.stdin.fileno(), 64).decode(errors="replace")
    return [_ESCAPES[text]] if text in _ESCAPES else [_ESCAPES.get(key, key) for key in text]


@contextmanager
def _screen() -> Generator[None]:
    """Have keys one by one and a screen of our own, and all as before at the end."""
    import termios
    import tty

    before = termios.tcgetattr(sys.stdin)
    try:
        tty.setcbreak(sys.stdin)
        click.echo("\x1b[?1049h\x1b[?25l", nl=False)
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
        click.echo("\x1b[?25h\x1b[?1049l", nl=False)
        sys.stdout.flush()
