"""What people and scripts see: plain data -> text, tables, JSON, progress."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from howdah.django.rebuild.events import Event as RebuildEvent
    from howdah.dsn import Dsn
    from howdah.loading.planning import TablePlan
    from howdah.loading.rejects import Reject
    from howdah.loading.report import Event, LoadReport, Planned
    from howdah.pg import Whereabouts

__all__ = ["load_progress", "load_report", "rebuild_progress", "restored", "table_plan", "where"]

INTERRUPTED = 130
"""Exit code after Ctrl-C: 128 + SIGINT, as shells have it."""

PLAIN_INTERVAL_S = 5.0
"""How often progress is told where no terminal can be redrawn."""

WAITING_INTERVAL_S = 1.0
"""How often it is told that the server is away."""

_KIB = 1024


def where(found: Whereabouts, database: Dsn, *, as_json: bool) -> None:
    """Print which database is used, why, and what it is."""
    from howdah.server import psql

    connect = f'{psql()} "{database.public()}"'
    if as_json:
        facts = {"chosen": database.origin, "dsn": database.public(), "connect": connect}
        click.echo(json.dumps(facts | asdict(found)))
        return
    role = found.role + (" (superuser)" if found.superuser else "")
    rows = [
        ("chosen by", database.origin),
        ("server", f"PostgreSQL {found.version} at {found.host}, port {found.port}"),
        ("database", found.database),
        ("role", role),
        ("connect", connect),
    ]
    for name, value in rows:
        click.echo(f"{name:<10} {value}")


def load_report(report: LoadReport, rejects: list[Reject], *, as_json: bool) -> None:
    """Print what a load has done, and some of its rejects."""
    if as_json:
        click.echo(json.dumps(asdict(report)))
        return
    for line in report_lines(report, rejects):
        click.echo(line)


def report_lines(report: LoadReport, rejects: list[Reject]) -> list[str]:
    """Return a load's report as lines.

    Args:
        report: What the load has done.
        rejects: Some of its rejects, to be shown.
    """
    from howdah.loading.report import one_line

    what = f"{_count(report.records, 'record')} from {_count(report.sources, 'source')}"
    rate = f"{report.records_per_second:,.0f} records/s, {_size(report.bytes)} read"
    lines = [f"{what} into {report.table} in {report.seconds:,.1f} s ({rate})"]
    if not report.sources and not report.rejects:
        lines = [f"nothing to load into {report.table}"]
    if report.skipped:
        lines.append(f"skipped {_count(report.skipped, 'source')}: loaded before and unchanged")
    if report.rows != report.records:
        lines.append(f"{_count(report.rows, 'row')} added or changed; the others changed nothing")
    if report.repaired:
        lines.append(
            f"repaired {_count(report.repaired, 'record')}: jsonb cannot hold a NUL, a lone "
            "surrogate or a NaN"
        )
    if report.rejects:
        lines.append(f"{_count(report.rejects, 'reject')}, kept in howdah.rejects:")
        lines += [one_line(f"  {_tail(r.source)}, {r.place}: {r.reason}") for r in rejects]
        if report.rejects > len(rejects):
            lines.append(f"  and {report.rejects - len(rejects):,} more")
    return lines


@contextmanager
def load_progress(*, quiet: bool, replaces: bool = False) -> Generator[Callable[[Event], None]]:
    """Show a load's progress on standard error: a bar on a terminal, else a line now and then.

    After Ctrl-C, says how to go on and exits with 130.

    Yields:
        What `load` is to be given as `on_event`.
    """
    bar = _bar() if sys.stderr.isatty() and not quiet else None
    totals = _Totals() if quiet else _PlainProgress() if bar is None else _BarProgress(bar)
    try:
        with bar or nullcontext():
            yield totals
    except KeyboardInterrupt:
        click.echo(f"Stopped. {totals.next_step(replaces=replaces)}", err=True)
        raise click.exceptions.Exit(INTERRUPTED) from None


@contextmanager
def rebuild_progress(*, quiet: bool) -> Generator[Callable[[RebuildEvent], None]]:
    """Show a rebuild's steps on standard error: live on a terminal, else a line at each end."""
    if quiet:
        yield lambda _: None
    elif not sys.stderr.isatty():
        yield _tell_step
    else:
        from rich.console import Console

        console = Console(stderr=True)
        status = console.status("")

        def show(event: RebuildEvent) -> None:
            if event.seconds is None:
                status.update(f"{event.step}: {event.detail}" if event.detail else event.step)
                status.start()
            else:
                status.stop()  # between steps nothing turns: what is printed then stands alone
                console.print(f"{event.step:<18} {event.seconds:6.2f} s", highlight=False)

        try:
            yield show
        finally:
            status.stop()


def _tell_step(event: RebuildEvent) -> None:
    if event.seconds is not None:
        click.echo(f"{event.step:<18} {event.seconds:6.2f} s", err=True)


def restored(table: str, indexes: list[str], *, as_json: bool) -> None:
    """Print which indexes were built again."""
    if as_json:
        click.echo(json.dumps({"table": table, "indexes": indexes}))
    elif indexes:
        click.echo(f"built {', '.join(indexes)} of {table}")
    else:
        click.echo(f"no load has left indexes of {table} dropped")


_WIDEST_CELL = 40


def table_plan(plan: TablePlan) -> None:
    """Print the table that a load would make, and its first rows."""
    click.echo(plan.create + "\n")
    lines = [plan.columns, *plan.rows]
    cells = [[_shortened(cell or "") for cell in line] for line in lines]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for line in cells:
        padded = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        click.echo("  ".join(padded).rstrip())


def _shortened(cell: str) -> str:
    line = " ".join(cell.split())
    return line if len(line) <= _WIDEST_CELL else f"{line[: _WIDEST_CELL - 3]}..."


def _bar() -> Progress:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[counts]}"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        refresh_per_second=8,
    )


class _Totals:
    """The sum of a load's events, which come from two threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.started = time.monotonic()
        self.table = ""
        self.files = 0
        self.total_bytes = self.streams = 0
        self.sources = self.records = self.rejects = self.bytes = 0

    def __call__(self, event: Event) -> None:
        from howdah.loading.report import BuildingIndexes, Planned, Waiting

        with self._lock:
            if isinstance(event, Waiting):
                self.show_waiting(f"{event.reason}; trying again in {event.wait_s:.1f} s")
                return
            if isinstance(event, Planned):
                self.table, self.files, self.total_bytes = event.table, event.sources, event.bytes
                self.streams = event.streams
                if event.slowing:
                    self.tell(slowing(event))
            elif isinstance(event, BuildingIndexes):
                self.tell(
                    f"building {_count(len(event.names), 'index', 'indexes')} of {self.table}"
                )
            else:
                self.sources += event.sources
                self.records += event.records
                self.rejects += event.rejects
                self.bytes += event.bytes
            self.show()

    def tell(self, line: str) -> None:
        """Tell a line, or not."""

    def show(self) -> None:
        """Tell them, or not."""

    def show_waiting(self, text: str) -> None:
        """Tell why nothing goes on, or not."""

    def next_step(self, *, replaces: bool) -> str:
        """Return what an interrupted load has left, and what to do then."""
        if replaces:
            return "The table has its old rows; run the same command again to begin anew."
        if self.streams:
            return (
                "A stream is loaded as a whole or not at all; run the same command again, with all "
                "that writes it."
            )
        are = "is" if self.records == 1 else "are"
        return (
            f"{_count(self.records, 'record')} of this run {are} committed; "
            "run the same command again to go on."
        )

    def counts(self) -> str:
        rate = self.records / max(time.monotonic() - self.started, 0.001)
        of = f" of {self.files:,}" if self.sources <= self.files else ""
        text = f"{self.sources:,}{of} files, {self.records:,} records, {rate:,.0f}/s"
        return text + (f", {_count(self.rejects, 'reject')}" if self.rejects else "")


def slowing(event: Planned) -> str:
    """Return a line on the indexes that slow a load down."""
    many = len(event.slowing)
    return (
        f"{event.table} has {_count(many, 'index', 'indexes')} ({', '.join(event.slowing)}), and "
        f"to keep {'it' if many == 1 else 'them'} up to date takes longer than the load itself; "
        f"--defer-indexes drops {'it' if many == 1 else 'them'} for the time of the load"
    )


class _BarProgress(_Totals):
    def __init__(self, bar: Progress) -> None:
        super().__init__()
        self._bar = bar
        self._task: TaskID = bar.add_task("Looking", total=None, counts="")

    def tell(self, line: str) -> None:
        self._bar.console.print(line, markup=False, highlight=False)

    def show(self) -> None:
        self._bar.update(
            self._task,
            description=f"Loading into {self.table}",
            total=self.total_bytes or None,
            completed=self.bytes,
            counts=self.counts(),
        )

    def show_waiting(self, text: str) -> None:
        self._bar.update(self._task, description=text)


class _PlainProgress(_Totals):
    def __init__(self) -> None:
        super().__init__()
        self._told = time.monotonic()
        self._told_waiting = float("-inf")

    def show_waiting(self, text: str) -> None:
        now = time.monotonic()
        if now - self._told_waiting >= WAITING_INTERVAL_S:  # each worker says it
            self._told_waiting = now
            click.echo(text, err=True)

    def tell(self, line: str) -> None:
        click.echo(line, err=True)

    def show(self) -> None:
        now = time.monotonic()
        if now - self._told >= PLAIN_INTERVAL_S:
            self._told = now
            click.echo(f"loading into {self.table}: {self.counts()}", err=True)


def _count(number: int, noun: str, plural: str | None = None) -> str:
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def _size(count: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < _KIB or unit == "GB":
            return f"{count:,.0f} {unit}" if unit == "bytes" else f"{count:,.1f} {unit}"
        count /= _KIB
    raise AssertionError


def _tail(name: str, length: int = 60) -> str:
    """Return the end of a long name, which tells more than its beginning."""
    return name if len(name) <= length else f"...{name[3 - length :]}"
