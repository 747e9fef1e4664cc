from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import psycopg
import pytest

from howdah.doctor import AREAS
from tests.loading.records import write_ndjson
from tests.loading.test_faults import wait_until

DOCS = Path(__file__).parents[2] / "docs"


def test_each_finding_that_can_be_has_its_place_in_the_docs():
    page = (DOCS / "reference" / "doctor.md").read_text()

    assert sorted(re.findall(r'<a id="([^"]+)"></a>', page)) == sorted(AREAS)
    source = (Path(__file__).parents[2] / "src/howdah/doctor.py").read_text()
    assert all(f'"{name}"' in source.split("_PAGE = ")[0] for name in AREAS)


def test_findings_name_what_mends_and_their_place_in_the_docs(howdah):
    done = howdah("doctor", "--json")
    found = {each["id"]: each for each in json.loads(done.stdout)}

    assert done.returncode == 3
    assert found["configuration.fsync"]["mend"] == "howdah config set fsync on"
    for each in found.values():
        page, _, anchor = each["page"].partition("#")
        assert f'<a id="{anchor}">' in (DOCS / page).read_text()
        assert each["area"].lower() == each["id"].partition(".")[0]


def test_invalid_index_is_found(howdah, ask, dsn):
    ask("CREATE TABLE t (x int)")
    ask("INSERT INTO t VALUES (1), (1)")
    with pytest.raises(psycopg.errors.UniqueViolation):
        ask("CREATE UNIQUE INDEX CONCURRENTLY broken ON t (x)")

    found = json.loads(howdah("doctor", "--json").stdout)

    mends = [each["mend"] for each in found if each["id"] == "migrations.invalid-index"]
    assert mends == ["REINDEX INDEX CONCURRENTLY public.broken;"]


def left_by_loads(howdah):
    found = json.loads(howdah("doctor", "--json").stdout)
    return [(each["id"], each["mend"]) for each in found if each["area"] == "loads"]


def test_table_aside_is_found_when_its_load_was_killed_and_not_before(howdah, ask, dsn, tmp_path):
    name = "Prices of a table whose name is longer than what is left of it"
    ask(f'CREATE TABLE "{name}" (n int, pad text, word text)')
    path = write_ndjson(tmp_path / "a.ndjson", 10)
    following = f'"{name[:57]}__next"'
    with psycopg.connect(dsn) as other:
        # It has made the table, and can put it in place only when this ends.
        other.execute(f'LOCK TABLE "{name}" IN ACCESS SHARE MODE')
        loading = howdah.start("load", path, "--table", f'"{name}"', "--replace")
        wait_until(lambda: ask("SELECT to_regclass(%s) IS NOT NULL", following)[0])
        assert left_by_loads(howdah) == []
        loading.kill()
        loading.communicate()
    wait_until(lambda: ask("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == [0])

    assert left_by_loads(howdah) == [("loads.table-aside", f"DROP TABLE public.{following};")]

    assert howdah("load", path, "--table", f'"{name}"', "--replace").returncode == 0
    assert left_by_loads(howdah) == []


def test_dropped_indexes_are_found_when_no_load_needs_them_dropped(howdah, ask, dsn, tmp_path):
    ask('CREATE SCHEMA "S"; CREATE TABLE "S".t (n int, pad text); CREATE INDEX i ON "S".t (pad)')
    path = write_ndjson(tmp_path / "a.ndjson", 10)
    assert howdah("load", path, "--table", '"S".t').returncode in (0, 3)
    ask("INSERT INTO howdah.indexes (target, schema, name, definition, tablespace, statistics) "
        "SELECT '\"S\".t', 'S', 'i', pg_get_indexdef('\"S\".i'::regclass), '', '{}'")  # fmt: skip
    ask('DROP INDEX "S".i')
    with psycopg.connect(dsn) as other:
        [oid] = ask("SELECT '\"S\".t'::regclass::oid")
        lock = "SELECT pg_advisory_lock(hashtextextended(%s, 0))"
        other.execute(lock, [f"howdah: indexes of {oid}"])
        assert left_by_loads(howdah) == []

    [(found, mend)] = left_by_loads(howdah)

    assert found == "loads.dropped-indexes"
    assert howdah(*shlex.split(mend)[1:]).stdout.startswith("built ")
    assert left_by_loads(howdah) == []


def of_project(project, *arguments):
    said = project.run("-m", "howdah", "doctor", "--json", *arguments, code=3)
    listed = json.loads(said[said.index("[") : said.rindex("]") + 1])
    return [each for each in listed if each["area"] == "migrations"]


def test_migrations_of_the_project_are_looked_at_where_it_is_named(project):
    named = ("--settings", "depot.settings.embedded")
    unapplied = of_project(project, *named)
    assert [each["id"] for each in unapplied] == ["migrations.unapplied"]
    assert "contenttypes.0001_initial" in unapplied[0]["text"]
    assert unapplied[0]["mend"] == "manage.py migrate --database=default"
    assert of_project(project) == []  # no project is named

    project.rebuild()
    assert of_project(project, *named) == []

    with (project.folder / "catalog" / "models.py").open("a") as models:
        models.write("\n\nclass Shelf(models.Model):\n    name = models.TextField()\n")
    ahead = of_project(project, *named)
    assert [each["id"] for each in ahead] == ["migrations.ahead"]
    assert "the models of catalog have what no migration makes" in ahead[0]["text"]


def test_migrations_that_end_in_two_places_are_found(small):
    one = (
        "from django.db import migrations\n\n\nclass Migration(migrations.Migration):\n"
        "    dependencies = [('shop', '0001_initial')]\n    operations = []\n"
    )
    for name in ("0002_one", "0002_other"):
        (small.folder / "shop" / "migrations" / f"{name}.py").write_text(one)

    found = of_project(small, "--settings", "settings")

    assert "migrations.conflict" in [each["id"] for each in found]


def test_only_apps_of_the_alias_are_told(project):
    found = of_project(project, "--settings", "depot.settings.embedded", "--database", "data")

    assert [each["id"] for each in found] == ["migrations.unapplied"]
    told = re.findall(r"\b(\w+)\.\d{4}_", found[0]["text"])
    assert set(told) <= {"catalog", "licensing"}, found[0]["text"]
    assert told
    with pytest.raises(AssertionError, match="has no alias 'nowhere'"):
        of_project(project, "--settings", "depot.settings.embedded", "--database", "nowhere")
