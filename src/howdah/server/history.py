"""The history of changed settings: in the database, and in the data directory where we reach it.

The table is what `howdah config history` and `undo` read. The file is for the
hour when no database answers: a line of JSON for each change, and the
configuration files as they were before the last one.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from psycopg import Connection, errors
from psycopg.types.json import Jsonb

from howdah import pg
from howdah.errors import UsageError
from howdah.server.runner import LocalServer

if TYPE_CHECKING:
    from howdah.server.changeplan import ChangePlan, Way

__all__ = ["Entry", "Recorded", "State", "entry", "history"]

State = Literal["begun", "done", "pending restart", "pending reload", "rolled back"]

JOURNAL = "howdah.changes.jsonl"
LAST_GOOD = "howdah.last-good"


@dataclass(frozen=True, slots=True)
class Recorded:
    """One setting of a change of the past.

    Attributes:
        name: The setting.
        before: Its value in force before, for people.
        after: The new value; None where the written one was taken back.
        written: What the file said before; None where nothing. Undo writes this.
    """

    name: str
    before: str
    after: str | None
    written: str | None


@dataclass(frozen=True, slots=True)
class Entry:
    """A change of the past.

    Attributes:
        number: What `howdah config undo N` takes.
        changed_at: When it began.
        changed_by: The role.
        reason: Why: a command, a tuning plan.
        way: How it was written.
        state: "begun" only where Howdah was killed in the middle.
        undoes: The number of the change that it takes back; None for a new one.
        steps: Its settings.
    """

    number: int
    changed_at: datetime
    changed_by: str
    reason: str
    way: Way
    state: State
    undoes: int | None
    steps: tuple[Recorded, ...]


_EXISTS = "SELECT to_regclass('howdah.setting_changes') IS NOT NULL"
_HISTORY = """
    SELECT number, changed_at, changed_by, reason, way, state, undoes, steps
      FROM howdah.setting_changes
     WHERE %(number)s::bigint IS NULL OR number = %(number)s
     ORDER BY number DESC
"""


def history(conn: Connection[Any], number: int | None = None) -> list[Entry]:
    """Return the changes that this database knows of, the newest first.

    Args:
        conn: To the database that the changes were made over.
        number: Only this one.
    """
    if not _exists(conn):
        return []
    with pg.explained("read howdah.setting_changes"):
        rows = conn.execute(_HISTORY, {"number": number}).fetchall()
    return [_entry(*row) for row in rows]


def _entry(*row: Any) -> Entry:
    number, changed_at, changed_by, reason, way, state, undoes, steps = row
    recorded = tuple(Recorded(**step) for step in steps)
    return Entry(number, changed_at, changed_by, reason, way, state, undoes, recorded)


def entry(conn: Connection[Any], number: int | None) -> Entry:
    """Return a change, or the newest one that can be undone.

    Raises:
        UsageError: There is none.
    """
    found = history(conn, number)
    if number is None:
        undone = {each.undoes for each in found if each.state != "rolled back"}
        found = [
            each
            for each in found
            if each.undoes is None and each.state != "rolled back" and each.number not in undone
        ]
    if not found:
        raise UsageError(
            f"This database knows of no change {'that can be undone' if number is None else number}"
            ".",
            next_step="See which there are: howdah config history (each database keeps those that "
            "were made over it).",
        )
    return found[0]


_RECORD = """
    INSERT INTO howdah.setting_changes (reason, way, state, undoes, steps)
    VALUES (%s, %s, 'begun', %s, %s)
    RETURNING number
"""


def record(conn: Connection[Any], plan: ChangePlan, undoes: int | None) -> int | None:
    """Write down what is about to be changed.

    Returns:
        Its number; None where the database takes no writes from the role (a
        standby, a role without CREATE): then only the data directory has it.
    """
    steps = _steps(plan)
    try:
        with conn.transaction():
            if not _exists(conn):
                pg.xact_lock(conn, "howdah: install the history of settings")
                ddl = files("howdah.server").joinpath("history.sql").read_text()
                conn.execute(ddl.encode())  # bytes: a file of ours, no literal of this module
            row = conn.execute(_RECORD, [plan.reason, plan.way, undoes, Jsonb(steps)]).fetchone()
    except (errors.InsufficientPrivilege, errors.ReadOnlySqlTransaction):
        return None
    return None if row is None else int(row[0])


_MARK = "UPDATE howdah.setting_changes SET state = %s WHERE number = %s"


def mark(conn: Connection[Any], number: int | None, state: State) -> None:
    """Write down how a change ended."""
    if number is not None:
        conn.execute(_MARK, [state, number])


def journal(server: LocalServer | None, plan: ChangePlan, number: int | None, state: State) -> None:
    """Add a line to the file in the data directory, where we may write there."""
    if server is None or not server.may_control:
        return
    line = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "number": number,
        "state": state,
        "reason": plan.reason,
        "way": plan.way,
        "steps": _steps(plan),
    }
    path = server.data / JOURNAL
    with suppress(OSError):  # a full disk must not stop a roll-back
        is_new = not path.exists()
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        if is_new:
            _give(path, server)


def keep_last_good(server: LocalServer, paths: Iterable[Path]) -> None:
    """Copy configuration files, as they are now, into the data directory.

    Raises:
        OSError: No room, or no right.
    """
    folder = server.data / LAST_GOOD
    folder.mkdir(mode=0o700, exist_ok=True)
    _give(folder, server)
    for path in paths:
        if path.exists():
            shutil.copy2(path, folder / path.name)
            _give(folder / path.name, server)


def _give(path: Path, server: LocalServer) -> None:
    """Let what root made belong to the server's OS user, as all of a data directory."""
    if os.geteuid() == 0:
        os.chown(path, server.owner, server.data.stat().st_gid, follow_symlinks=False)


def _steps(plan: ChangePlan) -> list[dict[str, str | None]]:
    return [
        {"name": s.name, "before": s.before, "after": s.after, "written": s.written}
        for s in plan.steps
    ]


def _exists(conn: Connection[Any]) -> bool:
    row = conn.execute(_EXISTS).fetchone()
    return row is not None and bool(row[0])
