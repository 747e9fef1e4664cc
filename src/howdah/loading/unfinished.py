"""Which of the files that are named are still to be loaded."""

from __future__ import annotations

from typing import Any

from psycopg import Connection

from howdah.errors import Refused
from howdah.loading import ledger
from howdah.loading.sources import SourceFile
from howdah.loading.target import Load

__all__ = ["without_finished"]


def without_finished(
    conn: Connection[Any], load: Load, files: list[SourceFile]
) -> tuple[list[SourceFile], int]:
    """Return the files to load, and how many sources need no loading.

    Raises:
        Refused: A table of other columns has an earlier content of one of them.
    """
    known = ledger.finished(conn, load, [file.name for file in files])
    todo, skipped = [], 0
    for file in files:
        before = known.get(file.name)
        if before is not None and (before.ours or before.fingerprint == file.fingerprint):
            skipped += before.sources
        else:
            todo.append(file)
    if load.target.columns is not None and not load.target.columns.merges:
        _refuse_second_content(conn, load, todo)
    return todo, skipped


def _refuse_second_content(conn: Connection[Any], load: Load, files: list[SourceFile]) -> None:
    """Refuse sources that a table of others' columns has an earlier content of.

    Raises:
        Refused: No column tells which of the table's rows are a source's old ones.
    """
    names = ledger.other_contents(conn, load, [(file.name, file.fingerprint) for file in files])
    if names:
        raise Refused(
            f"{names[0]} is in {load.target} already, with other content or as a whole, and no "
            "column tells which rows are its old ones.",
            next_step="Load with --replace or --truncate, or with --key and --on-conflict update.",
        )
