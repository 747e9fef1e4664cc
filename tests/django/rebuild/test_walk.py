"""The walk over migrations makes what Django's own `migrate` makes, of each kind of operation."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

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


OTHER = """
DATABASES["other"] = DATABASES["default"] | {"NAME": os.environ["DEPOT_GEO_DATABASE"]}
"""
COUNTS = """
from django.db.models.signals import class_prepared


def count(sender, **_):
    with open("rendered.txt", "a") as file:
        file.write("x")


class_prepared.connect(count)
"""
CHAIN = """
from django.db import migrations, models

KEY = ("id", models.BigAutoField(primary_key=True))


def link(number):
    return models.ForeignKey(f"shop.Link{number}", models.CASCADE, null=True, related_name="+")


class Migration(migrations.Migration):
    dependencies = [("shop", "0001_initial")]
    operations = [migrations.CreateModel("Link0", [KEY])]
    for number in range(1, 40):
        operations.append(migrations.CreateModel(f"Link{number}", [KEY, ("to", link(number - 1))]))
    for number in range(30):
        operations.append(migrations.AddField("Link20", f"more{number}", link(number)))
"""


def test_operation_costs_the_same_however_many_models_hang_together(small):
    (small.folder / "shop/__init__.py").write_text(COUNTS)
    (small.folder / "shop/migrations/0002_chain.py").write_text(CHAIN)

    small.rebuild()

    # For each AddField the model, and what it points at: 2 models at first, 32 in the end. Django
    # renders all 40 each time, before and after; and for each CreateModel all that are there.
    rendered = len((small.folder / "rendered.txt").read_text())
    assert rendered < 30 * (2 + 32)
    assert small.ask("SELECT count(*) FROM shop.shop_link20") == [0]


@pytest.mark.long
@pytest.mark.parametrize("seed", range(6))
def test_random_operations_make_what_django_makes(make_project, seed):
    project = make_project("small", count=2)
    with (project.folder / "settings.py").open("a") as settings:
        settings.write(OTHER)
    for database in project.databases:
        project.ask("CREATE SCHEMA shop", database=database)

    script = Path(__file__).with_name("both_ways.py")
    # Which columns Django finds where keys change may hang on the order of its sets.
    done = project.run(script, seed, 60, PYTHONHASHSEED="0")

    assert done == "60\n"
    made, expected = (project.described("--schema=shop", database=one) for one in project.databases)
    assert made == expected
