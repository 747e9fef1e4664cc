"""Each check, where it has something to say and where it has not."""

from __future__ import annotations

import pytest

from tests.django.backend.conftest import POSTGIS, STOCK

pytestmark = pytest.mark.long

PLAIN = """
class Thing(models.Model):
    name = models.CharField(max_length=20)
    class Meta:
        db_table = {table!r}
"""
NEEDY = """
from django.contrib.postgres.fields import HStoreField
from django.contrib.postgres.indexes import GinIndex

class Thing(models.Model):
    name = models.CharField(max_length=20)
    more = HStoreField(null=True)
    class Meta:
        db_table = "thing"
        indexes = [GinIndex(fields=["name"], name="like_it", opclasses=["gin_trgm_ops"])]
"""
ONE = {"SCHEMAS": {"one": "first"}}


def checked(project, code=0):
    return project.manage("check", "--database", "default", code=code)


def test_a_project_that_is_as_it_should_be_is_told_nothing(project):
    project.settings(apps=["one"], howdah=ONE)
    project.app("one", PLAIN.format(table="thing"))
    assert "howdah.I010" in checked(project)  # the schema is not there yet
    project.manage("makemigrations", "one")
    project.manage("migrate")
    assert "no issues" in checked(project)


def test_w001_the_old_spelling(project):
    project.settings(apps=["one"])
    project.app("one", PLAIN.format(table='first"."thing'))
    told = project.manage("check")
    assert "howdah.W001" in told
    assert 'db_table = "first.thing"' in told
    project.app("one", PLAIN.format(table="first.thing"))
    assert "no issues" in project.manage("check")


def test_e002_a_name_that_is_too_long(project):
    project.settings(apps=["one"])
    for table, code in (("s" * 63 + "." + "ж" * 32, 1), ("s" * 63 + "." + "ж" * 31, 0)):
        project.app("one", PLAIN.format(table=table))
        told = project.manage("check", code=code)
        assert ("howdah.E002" in told, "ж" * 32 in told) == (bool(code), bool(code))
    through = "    others = models.ManyToManyField('self', db_table='t' * 64)\n    class Meta"
    project.app("one", PLAIN.format(table="thing").replace("    class Meta", through))
    assert "howdah.E002" in project.manage("check", code=1)


def test_w003_a_schema_that_another_alias_cannot_have(project):
    databases = {"default": {}, "old": {"ENGINE": STOCK}}
    project.app("one", PLAIN.format(table="thing"))
    project.settings(apps=["one"], howdah=ONE, databases=databases)
    told = project.manage("check")
    assert "howdah.W003" in told
    assert "'old'" in told
    homes = {"DATABASES": {"one": "default"}}
    routers = ["howdah.django.Router"]
    project.settings(apps=["one"], howdah=ONE | homes, databases=databases, routers=routers)
    assert "no issues" in project.manage("check")
    project.settings(apps=["one"], databases=databases)  # nothing is said of schemas
    assert "no issues" in project.manage("check")


def test_w004_geodjangos_command_in_the_place_of_ours(project):
    project.app("one", "")
    for apps, told in (
        (["django.contrib.gis", "howdah.django", "one"], True),
        (["howdah.django", "django.contrib.gis", "one"], False),
    ):
        project.settings(apps=apps, engine=POSTGIS)
        text = (project.folder / "settings.py").read_text()
        (project.folder / "settings.py").write_text(text + f"INSTALLED_APPS = {apps}\n")
        assert ("howdah.W004" in project.manage("check")) == told


def test_e010_and_w011_what_the_role_may_not(project, ask):
    project.app("one", PLAIN.format(table="thing"))
    project.settings(apps=["one"], howdah=ONE, options={"assume_role": "nobody_much"})
    ask("CREATE ROLE nobody_much")
    try:
        told = checked(project, code=1)
        assert "howdah.E010" in told
        assert 'CREATE SCHEMA "first" AUTHORIZATION "nobody_much"' in told
        ask("CREATE SCHEMA first")
        told = checked(project)
        assert "howdah.E010" not in told
        assert "howdah.W011" in told
        ask(told[told.index("GRANT") : told.index(";") + 1])
        assert "howdah." not in checked(project)
    finally:
        ask("DROP SCHEMA IF EXISTS first; DROP ROLE nobody_much")


def test_w012_and_w013_a_table_in_another_schema(project, ask):
    project.app("one", PLAIN.format(table="thing"))
    ask("CREATE SCHEMA elsewhere; CREATE TABLE elsewhere.thing (id int); CREATE SCHEMA first")
    project.settings(apps=["one"], howdah=ONE)
    told = checked(project)
    assert "howdah.W012" in told
    assert "moveschemas" in told
    project.settings(apps=["one"])
    told = checked(project)
    assert "howdah.W013" in told
    assert '{"one": "elsewhere"}' in told
    project.settings(apps=["one"], howdah={"SCHEMAS": {"one": "elsewhere"}})
    assert "no issues" in checked(project)
    project.settings(apps=["one"], options={"options": "-c search_path=elsewhere"})
    assert "no issues" in checked(project)


def test_w014_an_extension_that_is_missing(project, ask):
    project.app("one", NEEDY)
    project.settings(apps=["django.contrib.postgres", "one"])
    told = checked(project)
    assert told.count("howdah.W014") == 2
    for statement in ('CREATE EXTENSION "hstore";', 'CREATE EXTENSION "pg_trgm";'):
        assert statement in told
        ask(statement)
    assert "howdah.W014" not in checked(project)


def test_a_mapping_that_makes_no_sense_is_refused(project):
    project.app("one", PLAIN.format(table="thing"))
    project.settings(apps=["one"], howdah={"SCHEMAS": {"one": {"x": "y"}}})
    assert "is to be an alias of DATABASES" in project.manage("check", code=1)
    project.settings(apps=["one"], howdah={"DATABASES": {"one": "nowhere"}})
    assert "names the alias 'nowhere'" in project.manage("check", code=1)


def test_two_models_on_one_table_however_each_spells_it(project):
    project.settings(apps=["one", "two"], howdah=ONE)
    project.app("one", PLAIN.format(table="thing"))
    project.app("two", PLAIN.format(table='"first"."thing"'))
    assert "models.E028" in project.manage("check", code=1)
    project.app("two", PLAIN.format(table="second.thing"))
    assert "no issues" in project.manage("check")
