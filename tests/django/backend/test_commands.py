"""Commands that name tables, where two schemas hold tables of the same names."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest

from tests.django.backend.conftest import environment

pytestmark = pytest.mark.long

PART = """
class Kind(models.Model):
    name = models.CharField(max_length=20)
    class Meta:
        db_table = "kind"

class Thing(models.Model):
    name = models.CharField(max_length=20)
    kind = models.ForeignKey(Kind, models.CASCADE, null=True)
    class Meta:
        db_table = "thing"
"""
TWO = {"SCHEMAS": {"one": "first", "two": "second"}}


@pytest.fixture
def two(project):
    project.settings(apps=["one", "two"], howdah=TWO)
    for label in ("one", "two"):
        project.app(label, PART)
    project.manage("makemigrations", "one", "two")
    project.manage("migrate")
    return project


def test_dbshell_is_a_psql_that_reaches_every_schema(two):
    two.python("m('two.Kind').objects.create(name='seen')")
    assert "seen" in two.manage("dbshell", "--", "-At", "-c", "SELECT name FROM second.kind")
    done = subprocess.run(
        [sys.executable, "-m", "django", "dbshell"],
        cwd=two.folder,
        env=environment(two.folder),
        input="\\dt second.*\nSELECT count(*) AS rows_of_first FROM first.kind;\n",
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "second | thing" in done.stdout
    assert "rows_of_first" in done.stdout


def test_flush_empties_both_and_starts_their_sequences_again(two, ask):
    two.python("""
        for app in "one", "two":
            kind = m(app, "Kind").objects.create(name="x")
            m(app, "Thing").objects.create(name="x", kind=kind)
        from django.core.management.color import no_style
        tables = ['"second"."kind"']
        try:
            with transaction.atomic(), connection.cursor() as c:
                c.execute(connection.ops.sql_flush(no_style(), tables)[0])
        except Exception as exc:
            assert "thing" in str(exc), exc  # a foreign key refers to it
        else:
            raise AssertionError("TRUNCATE without CASCADE")
        (statement,) = connection.ops.sql_flush(no_style(), tables, allow_cascade=True)
        assert statement == 'TRUNCATE "second"."kind" CASCADE;', statement
        connection.ops.execute_sql_flush([statement])
        assert [m(x).objects.count() for x in ("two.Kind", "two.Thing")] == [0, 0]
        assert [m(x).objects.count() for x in ("one.Kind", "one.Thing")] == [1, 1]
        connection.ops.execute_sql_flush(connection.ops.sql_flush(
            no_style(), tables, reset_sequences=True, allow_cascade=True))
        assert m("two.Kind").objects.create(name="y").pk == 1
    """)
    assert "TRUNCATE" in two.manage("sqlflush")
    two.manage("flush", "--noinput")
    assert ask("SELECT count(*) FROM first.thing, second.thing") == [0]
    assert ask("SELECT nextval('first.kind_id_seq'), nextval('second.kind_id_seq')") == [(1, 1)]


def test_sqlsequencereset_sets_each_sequence_after_its_own_rows(two, ask):
    ask("INSERT INTO first.kind (id, name) VALUES (5, 'x'), (41, 'y')")
    ask("INSERT INTO second.kind (id, name) VALUES (7, 'x')")
    for label in ("one", "two"):
        ask(two.manage("sqlsequencereset", label))
    assert ask("SELECT nextval('first.kind_id_seq'), nextval('second.kind_id_seq')") == [(42, 8)]
    assert ask("SELECT nextval('second.thing_id_seq')") == [1]


def test_explain_shows_the_schema_and_every_option(two):
    two.python("""
        things = m("two.Thing").objects.filter(kind__name="x").select_related("kind")
        told = things.explain(verbose=True, analyze=True, buffers=True, format="json")
        assert '"Schema": "second"' in told and '"Schema": "first"' not in told, told
        assert "Planning Time" in told
        assert "second" in m("two.Thing").objects.all().explain(verbose=True)
    """)


def test_schemas_shows_what_is_there_what_is_missing_and_what_is_elsewhere(two, ask):
    lines = [json.loads(line) for line in two.manage("schemas", "--json").splitlines()]
    size = ask(
        "SELECT pg_total_relation_size('first.kind') + pg_total_relation_size('first.thing')"
    )
    assert lines[1] == {
        "app": "one",
        "alias": "default",
        "schema": "first",
        "tables": 2,
        "size": size[0],
        "in the database": "yes",
    }
    assert [(line["app"], line["schema"]) for line in lines] == [
        ("migrations", "(search_path)"),
        ("one", "first"),
        ("two", "second"),
    ]

    ask("DROP TABLE first.thing; ALTER TABLE second.kind SET SCHEMA public")
    told = two.manage("schemas").splitlines()
    assert re.split("  +", told[0]) == [*lines[0]]
    assert told[2].split()[:4] == ["one", "default", "first", "2"]
    assert told[2].endswith("1 missing: run migrate")
    assert told[3].endswith("1 in public: run moveschemas")


def test_a_missing_table_is_not_taken_from_the_app_that_has_one_of_that_name(two, ask, relations):
    ask("DROP TABLE first.thing")
    before = relations()
    assert "Each table is where it is to be" in two.manage("moveschemas")
    assert relations() == before
    two.settings(apps=["one", "two"], howdah={"SCHEMAS": {"one": "first"}})
    ask("DROP TABLE first.kind CASCADE")
    ask("ALTER TABLE second.kind SET SCHEMA public; ALTER TABLE second.thing SET SCHEMA public")
    told = two.manage("moveschemas", "--plan")
    assert "Each table is where it is to be" in told  # public.kind is that of two


def test_inspectdb_writes_models_that_read_the_tables_of_one_schema(two, ask):
    ask("INSERT INTO second.kind (name) VALUES ('of second')")
    ask("CREATE VIEW second.seen AS SELECT * FROM second.thing")
    assert "seen" not in two.manage("inspectdb", "--schema", "second")
    assert "class Seen" in two.manage("inspectdb", "--schema", "second", "--include-views")
    assert two.manage("inspectdb", "--schema", "second", "kind").count("(models.Model)") == 1
    (two.folder / "read").mkdir()
    (two.folder / "read" / "__init__.py").touch()
    (two.folder / "read" / "models.py").write_text(two.manage("inspectdb", "--schema", "second"))
    two.settings(apps=["read"])
    two.python("""
        kind = m("read.Kind").objects.get(name="of second")
        thing = m("read.Thing").objects.create(name="x", kind=kind)
        assert m("read.Thing").objects.get(kind__name="of second") == thing
    """)
    assert ask("SELECT count(*) FROM second.thing") == [1]
