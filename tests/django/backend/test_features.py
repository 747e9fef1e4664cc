"""What PostgreSQL has beyond tables, each in two schemas that hold tables of the same names."""

from __future__ import annotations

import psycopg
import pytest

from tests.django.backend.conftest import STOCK

pytestmark = pytest.mark.long

RICH = """
from django.contrib.postgres.constraints import ExclusionConstraint
from django.contrib.postgres.fields import ArrayField, DateTimeRangeField, RangeOperators
from django.contrib.postgres.indexes import (
    BrinIndex, BTreeIndex, GinIndex, GistIndex, HashIndex, OpClass, SpGistIndex)
from django.contrib.postgres.search import SearchVector, SearchVectorField
from django.db.models.functions import Lower

class Booking(models.Model):
    room = models.IntegerField(db_comment="It's the room")
    title = models.CharField(max_length=40)
    span = DateTimeRangeField()
    tags = ArrayField(models.CharField(max_length=9), default=list)
    text = SearchVectorField(null=True)

    class Meta:
        db_table = "booking"
        db_table_comment = "Who has a room, and when"
        indexes = [
            GinIndex(fields=["tags"], name="tags_gin", fastupdate=False),
            GinIndex(fields=["text"], name="text_gin"),
            GinIndex(SearchVector("title", config="english"), name="words_gin"),
            GinIndex(OpClass(Lower("title"), name="gin_trgm_ops"), name="trigram_gin"),
            BrinIndex(fields=["room"], name="room_brin", pages_per_range=4),
            GistIndex(fields=["span"], name="span_gist", fillfactor=70),
            SpGistIndex(fields=["title"], name="title_spgist"),
            HashIndex(fields=["title"], name="title_hash"),
            BTreeIndex(fields=["room"], name="room_btree", include=["title"]),
            models.Index(fields=["title"], name="some", condition=models.Q(room__gt=3)),
        ]
        constraints = [
            ExclusionConstraint(name="one_at_a_time", expressions=[
                ("span", RangeOperators.OVERLAPS), ("room", RangeOperators.EQUAL)]),
            models.UniqueConstraint(fields=["room", "title"], name="later",
                                    deferrable=models.Deferrable.DEFERRED),
            models.UniqueConstraint(Lower("title"), "room", name="lowered"),
        ]
"""
TWO = {"SCHEMAS": {"one": "first", "two": "second"}}
# Django wants such names to be unique in a project, PostgreSQL in a schema.
SAME_NAMES = 'SILENCED_SYSTEM_CHECKS = ["models.E030", "models.E032"]\n'
POSTGRES = "django.contrib.postgres"
OF_INDEXES = """
    SELECT c.relname || ' ' || replace(pg_get_indexdef(c.oid), n.nspname || '.', '')
           || coalesce(c.reloptions::text, '')
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE n.nspname = %s AND c.relkind IN ('i', 'I')
     ORDER BY 1
"""
OF_CONSTRAINTS = """
    SELECT conname || ' ' || replace(pg_get_constraintdef(oid), %s || '.', '')
      FROM pg_constraint
     WHERE connamespace = to_regnamespace(%s)
     ORDER BY 1
"""


@pytest.fixture
def rich(project, ask):
    """Two apps whose models are the same to the letter, in the schemas first and second."""
    ask("CREATE EXTENSION btree_gist; CREATE EXTENSION pg_trgm")
    project.settings(apps=[POSTGRES, "one", "two"], howdah=TWO)
    with (project.folder / "settings.py").open("a") as settings:
        settings.write(SAME_NAMES)
    for label in ("one", "two"):
        project.app(label, RICH)
    project.manage("makemigrations", "one", "two")
    return project


def test_indexes_and_constraints_are_made_as_djangos_own_engine_makes_them(rich, ask):
    rich.manage("migrate")
    indexes = {schema: ask(OF_INDEXES, schema) for schema in ("first", "second")}
    constraints = {schema: ask(OF_CONSTRAINTS, schema, schema) for schema in ("first", "second")}
    assert indexes["first"] == indexes["second"]
    assert constraints["first"] == constraints["second"]
    assert any("EXCLUDE USING gist" in each for each in constraints["first"])
    assert any("to_tsvector('english'" in each for each in indexes["first"])

    ask("DELETE FROM django_migrations")
    rich.settings(apps=[POSTGRES, "one"], engine=STOCK)
    rich.manage("migrate", "one")
    mine = [each for each in ask(OF_INDEXES, "public") if "django_migrations" not in each]
    assert mine == indexes["first"]


def test_each_index_and_constraint_goes_comes_and_is_found_in_both_schemas(rich, ask):
    rich.manage("migrate")
    indexes = {schema: ask(OF_INDEXES, schema) for schema in ("first", "second")}
    constraints = {schema: ask(OF_CONSTRAINTS, schema, schema) for schema in ("first", "second")}
    rich.python("""
        from django.contrib.postgres.indexes import GinIndex
        def there(model):
            schema = model._meta.db_table.split('"')[1]
            with connection.cursor() as c:
                found = connection.introspection.get_constraints(c, model._meta.db_table)
            for each in found.values():  # the only place where a schema may stand
                each["definition"] = (each["definition"] or "").replace(schema + ".", "")
            return found
        One, Two = m("one.Booking"), m("two.Booking")
        before = there(One)
        assert before == there(Two)
        assert before["tags_gin"]["type"] == "gin" and before["tags_gin"]["columns"] == ["tags"]
        assert before["room_brin"]["options"] == ["pages_per_range=4"]
        assert before["trigram_gin"]["definition"].startswith("CREATE INDEX trigram_gin")
        for model, other in (One, Two), (Two, One):
            for index in model._meta.indexes:
                with connection.schema_editor() as editor:
                    editor.remove_index(model, index)
                    assert index.name not in there(model) and index.name in there(other)
                    editor.add_index(model, index)
                    renamed = index.clone(); renamed.name = "renamed"
                    editor.rename_index(model, index, renamed)
                    assert "renamed" in there(model) and "renamed" not in there(other)
                    editor.rename_index(model, renamed, index)
            for constraint in model._meta.constraints:
                with connection.schema_editor() as editor:
                    editor.remove_constraint(model, constraint)
                    assert constraint.name not in there(model) and constraint.name in there(other)
                    editor.add_constraint(model, constraint)
            with connection.schema_editor(atomic=False) as editor:
                index = GinIndex(fields=["tags"], name="beside")
                editor.add_index(model, index, concurrently=True)
                assert "beside" in there(model)
                editor.remove_index(model, index, concurrently=True)
                assert "beside" not in there(model)
        assert there(One) == there(Two) == before
    """)
    assert {schema: ask(OF_INDEXES, schema) for schema in indexes} == indexes
    assert {schema: ask(OF_CONSTRAINTS, schema, schema) for schema in constraints} == constraints


def test_constraints_hold_for_their_own_table_alone(rich):
    rich.manage("migrate")
    rich.python("""
        from datetime import timedelta
        from django.contrib.postgres.search import SearchVector
        from django.core.exceptions import ValidationError
        from django.db import IntegrityError
        from django.utils.timezone import now
        One, Two = m("one.Booking"), m("two.Booking")
        hour = (now(), now() + timedelta(hours=1))
        for model in One, Two:  # the same in both: neither table minds the other's rows
            model.objects.create(room=1, title="Elephants ride", span=hour, tags=["a"])
            model.objects.update(text=SearchVector("title", config="english"))
            clash = model(room=1, title="x", span=hour)
            try:
                clash.validate_constraints()
            except ValidationError as exc:
                assert "one_at_a_time" in str(exc), exc
            else:
                raise AssertionError("the model did not see the clash")
            try:
                with transaction.atomic():
                    clash.save()
            except IntegrityError as exc:
                assert exc.__cause__.diag.constraint_name == "one_at_a_time"
            else:
                raise AssertionError("the database did not see the clash")
            found = model.objects.annotate(words=SearchVector("title", config="english"))
            assert found.filter(words="elephant").count() == 1
            assert model.objects.filter(text="riding", tags__contains=["a"]).count() == 1
            assert model.objects.filter(title__trigram_similar="Elephant ride").count() == 1
    """)


def test_comments_are_written_changed_and_read_in_each_schema(rich, ask):
    rich.manage("migrate")
    rich.python("""
        Two = m("two.Booking")
        old = Two._meta.get_field("room")
        new = old.clone(); new.db_comment = "another"
        new.set_attributes_from_name("room"); new.model = Two
        with connection.schema_editor() as editor:
            editor.alter_field(Two, old, new)
            editor.alter_db_table_comment(Two, "Who has a room, and when", "theirs")
        with connection.cursor() as c:
            look = connection.introspection
            comments = {t.name: t.comment for t in look.get_table_list(c)}
            columns = {
                table: {f.name: f.comment for f in look.get_table_description(c, table)}["room"]
                for table in comments if table.endswith('"booking"')
            }
        assert columns == {'"first"."booking"': "It's the room",
                           '"second"."booking"': "another"}, columns
        assert comments['"second"."booking"'] == "theirs"
    """)
    query = "SELECT obj_description('first.booking'::regclass)"
    assert ask(query) == ["Who has a room, and when"]
    told = rich.manage("inspectdb", "--schema", "first")
    assert 'db_comment="It\'s the room"' in told
    assert "db_table_comment = 'Who has a room, and when'" in told


PARTITIONED = """
class Entry(models.Model):
    day = models.DateField()
    note = models.CharField(max_length=20)
    class Meta:
        db_table = "entry"
"""
BY_HAND = """
from django.db import migrations, models

class Migration(migrations.Migration):
    dependencies = [("{app}", "0001_initial")]
    operations = [
        migrations.RunSQL("DROP TABLE {schema}.entry"),
        migrations.RunSQL('''
            CREATE TABLE {schema}.entry (
                id bigint GENERATED BY DEFAULT AS IDENTITY, day date NOT NULL,
                note varchar(20) NOT NULL, PRIMARY KEY (id, day)) PARTITION BY RANGE (day)
        '''),
        migrations.RunSQL('''
            CREATE TABLE {schema}.entry_old PARTITION OF {schema}.entry
               FOR VALUES FROM (MINVALUE) TO ('2020-01-01');
            CREATE TABLE {schema}.entry_new PARTITION OF {schema}.entry DEFAULT
        '''),
        migrations.AddIndex("entry", models.Index(fields=["note"], name="{app}_noted")),
    ]
"""


def test_partitions_that_run_sql_made(project, ask, relations):
    project.settings(apps=["one", "two"], howdah=TWO)
    project.app("two", "")
    for app, schema in (("one", "first"), ("two", "second")):
        project.app(app, PARTITIONED)
        project.manage("makemigrations", app)
        migration = project.folder / app / "migrations" / "0002_partitions.py"
        migration.write_text(BY_HAND.format(app=app, schema=schema))
    project.manage("migrate")
    project.python("""
        from datetime import date
        for app in "one", "two":
            Entry = m(app, "Entry")
            Entry.objects.bulk_create(Entry(day=date(y, 1, 1), note=app) for y in (2019, 2024))
            more = models.IntegerField(default=3, db_index=True)
            more.set_attributes_from_name("more"); more.model = Entry
            old = Entry._meta.get_field("note")
            new = models.CharField(max_length=40); new.set_attributes_from_name("note")
            new.model = Entry
            with connection.schema_editor() as editor:
                editor.add_field(Entry, more)
                editor.alter_field(Entry, old, new, strict=True)
            with connection.cursor() as c:
                look = connection.introspection
                found = look.get_constraints(c, Entry._meta.db_table)
                assert {app + "_noted"} <= set(found), found
                assert [f.name for f in look.get_table_description(c, Entry._meta.db_table)] == [
                    "id", "day", "note", "more"]
                kinds = {t.name: t.type for t in look.get_table_list(c)}
            schema = Entry._meta.db_table.split(".")[0]
            assert kinds[schema + '."entry_old"'] == "p", kinds
            assert kinds[schema + '."entry"'] == "t", kinds
            assert Entry.objects.filter(day__lt=date(2020, 1, 1)).explain().count("entry_old") == 1
    """)
    assert ask("SELECT note, more FROM second.entry_old") == [("two", 3)]
    assert "class EntryOld" not in project.manage("inspectdb", "--schema", "second")
    told = project.manage("inspectdb", "--schema", "second", "--include-partitions")
    assert 'db_table = "second.entry_old"' in told

    before = relations()
    there = {"SCHEMAS": {"one": "first", "two": "third"}}
    project.settings(apps=["one", "two"], howdah=there)
    project.manage("moveschemas")
    moved = {name.removeprefix("third.") for name in relations() if name.startswith("third.")}
    assert moved == {name.removeprefix("second.") for name in before if name.startswith("second.")}
    assert sorted(relations().values()) == sorted(before.values()), "a table was rewritten"
    assert ask("SELECT count(*) FROM third.entry_new, first.entry_new") == [1]


SPACED = """
class Room(models.Model):
    name = models.CharField(max_length=9, unique=True, db_tablespace="large")
    size = models.IntegerField()
    class Meta:
        db_table = "room"
        db_tablespace = "swift"
        indexes = [models.Index(fields=["size"], name="{label}_by_size", db_tablespace="large")]
"""


def test_tables_and_indexes_go_to_their_tablespaces(project, ask, dsn, server):
    if int(server.version.split(".")[0]) < 15:
        pytest.skip("a tablespace in the data directory needs PostgreSQL 15")
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute("SET allow_in_place_tablespaces = on")
        conn.execute("CREATE TABLESPACE swift LOCATION ''")
        conn.execute("CREATE TABLESPACE large LOCATION ''")
    project.settings(apps=["one", "two"], howdah=TWO)
    for label in ("one", "two"):
        project.app(label, SPACED.format(label=label))
    project.manage("makemigrations", "one", "two")
    try:
        project.manage("migrate")
        query = """
            SELECT relname, spcname FROM pg_class c JOIN pg_tablespace t ON t.oid = reltablespace
             WHERE relnamespace = %s::regnamespace AND relkind IN ('r', 'i') ORDER BY 1
        """
        for label, schema in (("one", "first"), ("two", "second")):
            spaces = dict(ask(query, schema))
            assert spaces.pop(f"{label}_by_size") == "large"
            assert spaces.pop("room") == spaces.pop("room_pkey") == "swift"
            assert set(spaces.values()) == {"large"}  # of the unique column, and its fellow
    finally:
        ask("DROP SCHEMA IF EXISTS first, second CASCADE")
        ask("DROP TABLESPACE swift")
        ask("DROP TABLESPACE large")
