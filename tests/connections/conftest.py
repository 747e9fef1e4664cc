"""Fixtures of this part: a budget in a database of its own, and processes that use it."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator

import psycopg
import pytest

import howdah
from howdah.connections.control import close_all


@pytest.fixture
def budget(dsn: str) -> Iterator[howdah.Budget]:
    yield howdah.Budget("etl", 60, dsn=dsn, lost_after_s=4)
    close_all()  # before the database goes


@pytest.fixture(autouse=True)
def no_controls_left() -> Iterator[None]:
    yield
    close_all()


@pytest.fixture
def python() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start Python with some lines of code; it is killed at the end."""
    started = []

    def start(code: str, *arguments: str, **options) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(code), *arguments],
            stdout=subprocess.PIPE,
            stdin=subprocess.PIPE,
            text=True,
            **options,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def backends(dsn: str) -> Callable[[], int]:
    """Count the database's connections that are not Howdah's own."""

    def count() -> int:
        with psycopg.connect(dsn, application_name="howdah test") as conn:
            return conn.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
                "AND backend_type = 'client backend' AND application_name NOT LIKE 'howdah%'"
            ).fetchall()[0][0]

    return count


def until(condition: Callable[[], object], *, within_s: float = 20) -> float:
    """Wait for something to be so; return how long it took."""
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < within_s, "it never came to be so"
        time.sleep(0.02)
    return time.monotonic() - started
