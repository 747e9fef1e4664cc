"""The walk over migrations makes what Django's own `migrate` makes, of each kind of operation."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.fixtures.winding_project import write_winding


@pytest.fixture
def winding(make_project):
    project = make_project("small", count=2)
    write_winding(project.folder)
    project.configure(fixtures=[])
    return project


def test_tables_and_rows_are_those_of_migrate(winding):
    other = winding.databases[1]
    winding.ask("CREATE SCHEMA shop", database=other)
    winding.run("manage.py", "migrate", "--run-syncdb", "--verbosity", "0", DEPOT_DATABASE=other)

    winding.rebuild()

    options = ("--inserts", "--schema=shop", "--exclude-table-data=*.django_migrations")
    made, expected = (
        Counter(winding.described(*options, database=database))
        for database in (winding.main, other)
    )
    assert "CREATE TABLE shop.walk_article (" in expected
    wrong = [*(f"- {one}" for one in expected - made), *(f"+ {one}" for one in made - expected)]
    assert not wrong, "\n".join(wrong)
