"""Options that commands share: which database, how sources are read, and `--json`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from howdah.dsn import Dsn, choose
from howdah.errors import UsageError

__all__ = ["as_json", "chosen", "database", "reading", "size"]

F = TypeVar("F", bound=Callable[..., Any])


def database(command: F) -> F:
    """Add `--dsn`, `--settings` and `--database`; `chosen` takes their values."""
    for option in (
        click.option("--database", "alias", metavar="ALIAS", help="Which alias of DATABASES."),
        click.option("--settings", metavar="MODULE", help="Django's settings, to take DATABASES."),
        click.option(
            "--dsn",
            metavar="DSN",
            help="The database: a postgresql:// URL or 'host=... dbname=...'. Without it: "
            "HOWDAH_DSN, DATABASE_URL, PG* variables, DJANGO_SETTINGS_MODULE, "
            "else a server of our own.",
        ),
    ):
        command = option(command)
    return command


_READING = (
    ("format", "NAME", "The reader of all sources: csv, yaml, ..."),
    ("delimiter", "CHAR", "Between cells; also tab, \\x01."),
    ("quote", "CHAR", "What cells stand in; '' for nothing."),
    ("escape", "CHAR", "What takes the meaning from the next character."),
    (
        "header",
        "yes|no|A,B,C",
        "Whether the first line names the columns (it does, unless told), or their names.",
    ),
    ("encoding", "NAME", "The encoding of texts: cp1252, ..."),
    ("null", "TEXT", "Cells with this text are null."),
    ("at", "PATH", "The values of JSON that are records: '$.items[*]'."),
    ("element", "NAME", "The elements of XML that are records."),
    ("widths", "auto|N,N,N", "Columns of fixed widths, in characters."),
)


def reading(command: F) -> F:
    """Add the options of `howdah.loading.ReaderOptions.of_texts`, under the same names."""
    for name, metavar, help_text in reversed(_READING):
        command = click.option(f"--{name}", metavar=metavar, help=help_text)(command)
    return command


def as_json(command: F) -> F:
    """Add `--json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")(command)


def chosen(dsn: str | None, settings: str | None, alias: str | None) -> Dsn:
    """Return the database that is named; none: start a server of our own."""
    found = choose(dsn, settings=settings, alias=alias)
    if found is not None:
        return found
    from howdah.server import ensure_running

    return Dsn(ensure_running().conninfo(), origin="none is named, so a server of our own")


def size(text: str | None) -> int | None:
    """Read an amount of memory, as PostgreSQL does: "16GB"."""
    if text is None:
        return None
    from howdah.server.settings import parse_number

    number = parse_number(text, "B")
    if number is None or number <= 0:
        raise UsageError(f"{text!r} is no amount of memory.", next_step="Write 512MB, or 16GB.")
    return int(number)
