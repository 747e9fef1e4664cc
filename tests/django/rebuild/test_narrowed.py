"""Where one app has changed, only the databases that it reaches are built anew."""

from __future__ import annotations

import json

import pytest

from tests.fixtures.django_project import Project

pytestmark = pytest.mark.long

MIGRATION = """
from django.db import migrations, models

class Migration(migrations.Migration):
    dependencies = [("catalog", "0001_initial")]
    operations = [migrations.AddField("vendor", "city", models.CharField(max_length=9, default=""))]
"""
NOTED = "SELECT app || '.' || name FROM auth.django_migrations WHERE app = 'catalog' ORDER BY 1"


@pytest.fixture
def rebuilt(make_project) -> Project:
    project = make_project("schemas")
    project.rebuild()
    project.rebuild()  # now that PostGIS is there: it is an input
    return project


def kept(project: Project, *arguments: str) -> dict[str, bool]:
    plan = json.loads(project.rebuild("--plan", "--json", *arguments))
    return {one["name"]: one["kept"] is not None for one in plan["databases"]}


def test_new_migration_is_built_where_its_app_is_and_noted_everywhere(rebuilt):
    main, geo = rebuilt.databases
    (rebuilt.folder / "catalog/migrations/0002_city.py").write_text(MIGRATION)
    line = "    country = models.CharField(max_length=2, db_index=True)"
    city = '    city = models.CharField(max_length=9, default="")'
    rebuilt.write("catalog/models.py", line, f"{line}\n{city}")

    assert kept(rebuilt) == {main: False, geo: True}
    rebuilt.rebuild()

    assert rebuilt.ask("SELECT DISTINCT city FROM catalog.vendor") == [""]
    assert rebuilt.ask(NOTED, database=geo) == ["catalog.0001_initial", "catalog.0002_city"]
    for alias in ("default", "data", "geo"):
        rebuilt.manage("migrate", "--check", "--database", alias)
    (rebuilt.folder / "catalog/migrations/0002_city.py").unlink()
    rebuilt.write("catalog/models.py", f"{line}\n{city}", line)
    rebuilt.rebuild()
    assert rebuilt.ask(NOTED, database=geo) == ["catalog.0001_initial"]


def test_app_of_the_other_database_is_built_there_alone(rebuilt):
    main, geo = rebuilt.databases
    rebuilt.ask("DELETE FROM survey.visit WHERE id = 1", database=geo)
    for path in ("places/models.py", "places/migrations/0001_initial.py"):
        rebuilt.write(path, "max_length=100", "max_length=101")
    before = rebuilt.digest()

    assert kept(rebuilt) == {main: True, geo: False}
    assert kept(rebuilt, "--app", "places") == {geo: False}
    rebuilt.rebuild("--app", "places")

    assert rebuilt.digest() == before
    assert rebuilt.ask("SELECT count(*) FROM survey.visit", database=geo) == [50]
    assert "The project has no app 'place'" in rebuilt.rebuild("--app", "place", code=2)


def test_name_of_a_model_elsewhere_counts_where_content_types_are(rebuilt):
    main, geo = rebuilt.databases
    rebuilt.write(
        "places/models.py", "class Meta:", 'class Meta:\n        permissions = [("a", "b")]'
    )

    assert kept(rebuilt) == {main: False, geo: False}


def test_migration_that_looks_into_another_database_finds_what_is_kept_and_writes_nothing(rebuilt):
    _, geo = rebuilt.databases
    rebuilt.ask("DELETE FROM survey.visit", database=geo)  # in the live one, which nobody asks
    look = """
from django.db import connections, migrations

def look(apps, editor):
    with connections["geo"].cursor() as cursor:
        cursor.execute("SELECT count(*) FROM survey.visit")
        assert cursor.fetchone() == (50,)
        {write}

class Migration(migrations.Migration):
    dependencies = [("catalog", "0001_initial")]
    operations = [migrations.RunPython(look)]
"""
    file = rebuilt.folder / "catalog/migrations/0002_look.py"
    file.write_text(look.format(write='cursor.execute("DELETE FROM survey.visit")'))

    assert "read-only transaction" in rebuilt.rebuild(code=1)
    file.write_text(look.format(write=""))
    rebuilt.rebuild()

    assert rebuilt.ask("SELECT count(*) FROM survey.visit", database=geo) == [50]
