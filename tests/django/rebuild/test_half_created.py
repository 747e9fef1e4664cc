"""A database that the server goes on to create when we are killed has a name and no mark."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from psycopg import sql

from tests.fixtures.django_project import Project

HALF_MADE = "SELECT datname FROM pg_database WHERE starts_with(datname, %s)"
WAITS = """
    SELECT count(*) FROM pg_stat_activity
     WHERE query LIKE 'CREATE DATABASE%' AND wait_event_type = 'Lock'
"""


@contextmanager
def locked(project: Project, database: str) -> Iterator[None]:
    """Let nobody copy a database."""
    with project.connect() as conn, conn.transaction(force_rollback=True):
        query = sql.SQL("COMMENT ON DATABASE {} IS 'locked'").format(sql.Identifier(database))
        conn.execute(query)
        yield


def until(is_so: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def killed_while_it_creates(project: Project, template: str, *command: str) -> None:
    with locked(project, template):
        process = project.start(*command)
        until(lambda: project.ask(WAITS) == [1])
        process.kill()
        process.communicate()


def test_database_to_build_in_is_listed_and_removed(small):
    killed_while_it_creates(small, "template0", "-m", "howdah", "rebuild")
    until(lambda: small.ask(HALF_MADE, "howdah_build_"))
    [name] = small.ask(HALF_MADE, "howdah_build_")

    assert name in small.rebuild("--clean", "--plan")
    small.rebuild("--clean")

    assert small.ask(HALF_MADE, "howdah_build_") == []


def test_database_to_build_in_is_removed_by_the_next_rebuild(small):
    killed_while_it_creates(small, "template0", "-m", "howdah", "rebuild")
    until(lambda: small.ask(HALF_MADE, "howdah_build_"))

    small.rebuild()

    assert small.ask(HALF_MADE, "howdah_build_") == []


@pytest.mark.parametrize(
    "by",
    [
        pytest.param(("-m", "howdah", "rebuild", "--clean"), marks=pytest.mark.long),
        ("manage.py", "test"),
    ],
)
def test_copy_for_tests_is_removed(small, by):
    with (small.folder / "settings.py").open("a") as settings:
        settings.write('TEST_RUNNER = "howdah.django.test.Runner"\n')
    (small.folder / "shop/tests.py").write_text(
        "from django.test import TestCase\n"
        "class Case(TestCase):\n    def test_nothing(self):\n        pass\n"
    )
    small.manage("test")
    [kept] = small.ask(HALF_MADE, "howdah_kept_")
    killed_while_it_creates(small, kept, "manage.py", "test")
    until(lambda: small.ask(HALF_MADE, "howdah_copy_"))
    [name] = small.ask(HALF_MADE, "howdah_copy_")

    assert name in small.rebuild("--clean", "--plan")
    small.run(*by)

    assert small.ask(HALF_MADE, "howdah_copy_") == []
