"""The user's own insert or update as a workload, on a scratch copy of its table.

Before anything is measured, the statement is done once and rolled back: one
that fails, or that writes to any other table than the copy (through a trigger
that keeps an audit, say), is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import Connection, errors, sql

from howdah import pg
from howdah.errors import Refused, UsageError
from howdah.tuning.scratch import Scratch, copy_table
from howdah.tuning.workloads import NUMBERS, Workload

__all__ = ["Statement", "statement_workload", "target_of", "without_comments"]

_PART = r'(?:"(?:[^"]|"")+"|[^\W\d][\w$]*)'
_TARGET = re.compile(
    rf"\b(?:INSERT\s+INTO|UPDATE(?:\s+ONLY)?)\s+(?P<table>{_PART}(?:\s*\.\s*{_PART})?)",
    re.IGNORECASE,
)
Parameters = Callable[[int], Mapping[str, Any] | None]

NUMBER = "%(n)s"
"""What stands in a statement for a number that is never used twice."""


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement of the user's.

    Attributes:
        text: One INSERT or UPDATE, perhaps with `%(n)s`.
        values: Given the copy of its table, returns what makes the parameters of one
            execution from its number; None where there is at most `%(n)s`.
    """

    text: str
    values: Callable[[Scratch], Parameters] | None = None


def target_of(text: str) -> tuple[pg.TableName, int, int]:
    """Return the table that a statement writes to, and where in the text it is named.

    Raises:
        UsageError: It is no INSERT or UPDATE.
    """
    match = _TARGET.search(without_comments(text))
    if match is None:
        raise UsageError(
            "The statement is neither an INSERT nor an UPDATE.",
            next_step="Put one such statement in the file, with %(n)s where each execution "
            "needs a number of its own.",
        )
    name = re.sub(r"\s*\.\s*", ".", match["table"])
    return pg.TableName.parse(name), *match.span("table")


def without_comments(text: str) -> str:
    """Blank out comments and texts, so that places stay the same."""
    quiet = re.compile(r"--[^\n]*|/\*.*?\*/|'(?:[^']|'')*'", re.DOTALL)
    return quiet.sub(lambda match: " " * len(match[0]), text)


def statement_workload(
    conn: Connection[Any],
    schema: str,
    statement: Statement,
    *,
    rows: int = 100_000,
    triggers: bool = True,
    connections: int = 1,
) -> tuple[Workload, Scratch]:
    """Copy the statement's table, and return the statement as a workload on the copy.

    Args:
        conn: In autocommit.
        schema: Of `scratch_schema`.
        statement: What to measure.
        rows: How many of the table's rows are copied at most.
        triggers: Whether the table's triggers are.
        connections: How many do it at once.

    Raises:
        UsageError: It fails on the copy.
        Refused: It writes to another table as well.
    """
    text = statement.text.strip().rstrip(";")
    origin, *_ = target_of(text)
    scratch = copy_table(conn, schema, origin, rows=rows, triggers=triggers)
    query = _redirected(text, scratch.identifier.as_string(conn)).encode()
    path = _path(conn, scratch)
    parameters = _parameters(statement, scratch)

    def transaction(session: Connection[Any], number: int) -> int:
        return max(session.execute(query, parameters(number)).rowcount, 0)

    _try(conn, scratch, query, parameters, path)
    name = f"statement on {origin}"
    return Workload(name, connections, transaction, path=path), scratch


_QUALIFIER = re.compile(rf"(?P<table>{_PART}\s*\.\s*{_PART})(?=\s*\.\s*{_PART})")


def _redirected(text: str, copy: str) -> str:
    """Name the copy for the table: as the target, and where it qualifies a column."""
    origin, *target = target_of(text)
    qualifiers = (
        match.span("table")
        for match in _QUALIFIER.finditer(without_comments(text))
        if pg.TableName.parse(re.sub(r"\s*\.\s*", ".", match["table"])) == origin
    )
    for start, end in sorted([tuple(target), *qualifiers], reverse=True):
        text = text[:start] + copy + text[end:]
    return text


def _parameters(statement: Statement, scratch: Scratch) -> Parameters:
    if statement.values is not None:
        return statement.values(scratch)
    # Without parameters psycopg leaves each % alone.
    has_number = NUMBER in statement.text
    return lambda number: {"n": number} if has_number else None


def _path(conn: Connection[Any], scratch: Scratch) -> str:
    row = conn.execute("SHOW search_path").fetchone()
    assert row is not None  # noqa: S101 - SHOW has one row
    return f"{sql.Identifier(scratch.schema).as_string(conn)}, {row[0]}"


_PATH = "SELECT pg_catalog.set_config('search_path', %s, true)"
_WRITTEN = """
    SELECT format('%%I.%%I', schemaname, relname), n_tup_ins + n_tup_upd + n_tup_del
      FROM pg_catalog.pg_stat_xact_user_tables
     WHERE schemaname <> %s AND schemaname NOT LIKE 'pg\\_%%'
"""


def _try(
    conn: Connection[Any], scratch: Scratch, query: bytes, parameters: Parameters, path: str
) -> None:
    """Do it twice, see what was written, and roll back."""
    try:
        with conn.transaction(force_rollback=True):
            conn.execute(_PATH, [path])
            # What the session's former transactions wrote may still be in it.
            before = dict(conn.execute(_WRITTEN, [scratch.schema]).fetchall())
            for _ in range(2):
                conn.execute(query, parameters(next(NUMBERS)))
            after = conn.execute(_WRITTEN, [scratch.schema]).fetchall()
    except errors.UniqueViolation as exc:
        raise UsageError(
            f"The statement cannot be done twice: {_first_line(exc)}.",
            next_step="Write %(n)s where each execution needs a number of its own.",
        ) from exc
    except psycopg.Error as exc:
        raise UsageError(
            f"The statement fails on a copy of {scratch.origin}: {_first_line(exc)}.",
            next_step="Try it in psql first; values go in as literals or SQL, a number as %(n)s.",
        ) from exc
    written = [name for name, rows in after if rows > before.get(name, 0)]
    if written:
        raise Refused(
            f"The statement writes to {', '.join(sorted(written))} as well, "
            "and a measurement writes to nothing but its copy.",
            next_step=f"Leave the triggers out with --without-triggers "
            f"({', '.join(scratch.triggers) or 'none was copied'}), or measure another statement.",
        )


def _first_line(exc: psycopg.Error) -> str:
    return str(exc).splitlines()[0].rstrip(".") if str(exc) else type(exc).__name__
