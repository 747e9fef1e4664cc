"""Whole projects: new ones in schemas, and ones that move over."""

from __future__ import annotations

import pytest

from tests.django.backend.conftest import STOCK

DJANGO = ("django.contrib.contenttypes", "django.contrib.auth", "django.contrib.sessions")
THING = """
class Kind(models.Model):
    name = models.CharField(max_length=20, unique=True)
    class Meta:
        db_table = "kind"

class Thing(models.Model):
    name = models.CharField(max_length=20, unique=True)
    kind = models.ForeignKey(Kind, models.CASCADE)
    kinds = models.ManyToManyField(Kind, related_name="+")
    class Meta:
        db_table = "thing"
"""
TWO = {"SCHEMAS": {"one": "first", "two": "second"}}


@pytest.fixture
def two(project):
    """Two apps with the same models and the same table names, in two schemas."""
    project.settings(apps=["one", "two"], howdah=TWO)
    project.app("one", THING)
    related = (
        'related_name="things_of_one")\n    other = models.ForeignKey("one.Thing", models.CASCADE'
    )
    project.app("two", THING.replace('related_name="+"', related + ", null=True"))
    project.manage("makemigrations", "one", "two")
    return project


def test_equal_table_names_in_two_schemas_are_two_tables(two, ask):
    two.manage("migrate")
    two.python("""
        One, Two, Kind1, Kind2 = m("one.Thing"), m("two.Thing"), m("one.Kind"), m("two.Kind")
        k1, k2 = Kind1.objects.create(name="a"), Kind2.objects.create(name="b")
        one = One.objects.create(name="x", kind=k1); one.kinds.add(k1)
        two = Two.objects.create(name="y", kind=k2, other=one); two.kinds.add(k2)
        all_of_it = Two.objects.select_related("other", "kind", "other__kind")
        found = all_of_it.get(other__kind__name="a")
        assert (found.kind.name, found.other.kind.name, found.other.name) == ("b", "a", "x")
        assert [k.name for k in found.kinds.all()] == ["b"]
        with transaction.atomic():
            locked = all_of_it.select_for_update(of=("self", "kind"))
            assert len(locked) == 1
        assert "first" in Two.objects.filter(other__name="x").explain(verbose=True)
        assert Two.objects.filter(other__name="x").update(name="z") == 1
        assert One.objects.filter(pk__in=Two.objects.values("other")).count() == 1
    """)
    assert set(
        ask("SELECT table_schema FROM information_schema.tables WHERE table_name = 'thing'")
    ) == {
        "first",
        "second",
    }
    assert ask("SELECT count(*) FROM first.thing_kinds, second.thing_kinds") == [1]
    two.manage("migrate", "two", "zero")
    assert ask(
        "SELECT to_regclass('first.thing') IS NOT NULL, to_regclass('second.thing') IS NULL"
    ) == [(True, True)]


def test_locking_the_second_of_two_namesakes_locks_it(two):
    two.manage("migrate")
    two.python("""
        import threading
        One, Two, Kind1, Kind2 = m("one.Thing"), m("two.Thing"), m("one.Kind"), m("two.Kind")
        one = One.objects.create(name="x", kind=Kind1.objects.create(name="a"))
        Two.objects.create(name="y", kind=Kind2.objects.create(name="b"), other=one)
        two = Two.objects.filter(other__isnull=False).select_related("other")
        def free(model):
            got = []
            def look():
                with transaction.atomic():
                    got.append(len(model.objects.select_for_update(skip_locked=True)))
                connection.close()
            thread = threading.Thread(target=look); thread.start(); thread.join()
            return got == [1]
        with transaction.atomic():
            assert len(two.select_for_update(of=("self",))) == 1
            assert (free(One), free(Two)) == (True, False)
        with transaction.atomic():
            assert len(two.select_for_update(of=("other",))) == 1
            assert (free(One), free(Two)) == (False, True)
    """)


@pytest.mark.long
def test_dumpdata_flush_and_loaddata_keep_namesakes_apart(two, tmp_path, ask):
    two.manage("migrate")
    two.python("""
        for app in "one", "two":
            kind = m(app, "Kind").objects.create(name=app)
            m(app, "Thing").objects.create(name=app, kind=kind).kinds.add(kind)
    """)
    two.manage("dumpdata", "one", "two", "-o", str(tmp_path / "all.json"))
    two.manage("flush", "--noinput")
    assert ask("SELECT count(*) FROM first.thing UNION ALL SELECT count(*) FROM second.kind") == [
        0,
        0,
    ]
    two.manage("loaddata", str(tmp_path / "all.json"))
    assert ask("SELECT name FROM first.thing UNION ALL SELECT name FROM second.kind") == [
        "one",
        "two",
    ]
    sql = two.manage("sqlsequencereset", "two")
    assert """pg_get_serial_sequence('"second"."thing"','id')""" in sql
    assert ask("SELECT nextval('second.thing_id_seq')") == [2]


def test_inspectdb_writes_the_schema(two):
    two.manage("migrate")
    told = two.manage("inspectdb", "--schema", "second")
    assert 'db_table = "second.thing"' in told
    assert "first" not in told.replace("FirstThing", "")
    assert "no tables" in two.manage("inspectdb", "--schema", "nowhere", code=1)


NAMES = {
    "plain": "licensing.product",
    "capitals": "Sales.Product",
    "spaces": '"my schema"."my table"',
    "dots": '"a.b"."c.d"',
    "quotes": '"we""ird"."ta""ble"',
    "apostrophe": '''"it's"."a'b"''',
    "unicode": "Größe.Maßband",
    "reserved": "select.table",
    "long": "s" * 63 + "." + "t" * 63,
    "injection": '''"x; DROP TABLE p; --"."y\\'); DROP TABLE p; --"''',
}


def _beside(table):
    return table[:-1] + '_more"' if table.endswith('"') else table[:-5] + "_more"


@pytest.mark.long
def test_odd_names_live_through_everything(project):
    models = "".join(
        f"""
class {name.capitalize()}(models.Model):
    code = models.CharField(max_length=9, unique=True)
    more = models.ManyToManyField("self", db_table={_beside(table)!r})
    class Meta:
        db_table = {table!r}
"""
        for name, table in NAMES.items()
    )
    project.settings(apps=["odd"])
    project.app("odd", models)
    project.manage("makemigrations", "odd")
    project.manage("migrate")
    project.manage("makemigrations", "--check", "odd")
    project.python("""
        from django.core.management.color import no_style
        for model in apps.get_app_config("odd").get_models():
            one = model.objects.create(code="x")
            one.more.add(one)
            assert model.objects.filter(more__code="x").select_related().count() == 1
            with connection.cursor() as c:
                for statement in connection.ops.sequence_reset_sql(no_style(), [model]):
                    c.execute(statement)
                found = connection.introspection.get_constraints(c, model._meta.db_table)
                assert [x for x in found.values() if x["columns"] == ["code"]], found
                assert connection.introspection.get_sequences(c, model._meta.db_table)
                assert model._meta.db_table in connection.introspection.table_names(c)
            old = model._meta.get_field("code")
            new = models.CharField(max_length=9); new.set_attributes_from_name("code")
            with connection.schema_editor() as editor:
                editor.alter_field(model, old, new, strict=True)
    """)
    project.manage("flush", "--noinput")
    project.manage("migrate", "odd", "zero")


def test_automatic_tables_are_named_as_djangos_own_would_be(project, ask):
    project.app("one", THING + "    extra = 1\n")
    names = "SELECT relname FROM pg_class c WHERE relnamespace = %s::regnamespace ORDER BY 1"
    project.settings(apps=["one"], engine=STOCK)
    project.manage("makemigrations", "one")
    project.manage("migrate")
    stock = ask(names, "public")
    ask("DROP SCHEMA public CASCADE")
    ask("CREATE SCHEMA public")
    project.settings(apps=["one"], howdah={"SCHEMAS": {"*": "first"}})
    project.manage("migrate")
    assert ask(names, "first") == stock
    assert ask(names, "public") == []


def test_inheritance_proxies_unmanaged_and_swapped_models_go_with_their_app(project, ask):
    project.app(
        "people",
        """
        from django.contrib.auth.models import AbstractUser
        class Person(AbstractUser):
            pass
        class Boss(Person):
            title = models.CharField(max_length=9)
        class Everyone(Person):
            class Meta:
                proxy = True
        class Seen(models.Model):
            username = models.CharField(max_length=150)
            class Meta:
                managed = False
                db_table = "people_person"
        """,
    )
    project.settings(
        apps=[*DJANGO, "people"], howdah={"SCHEMAS": {"people": "hr", "*": "{app_label}"}}
    )
    with (project.folder / "settings.py").open("a") as settings:
        settings.write('AUTH_USER_MODEL = "people.Person"\n')
    project.manage("makemigrations", "people")
    project.manage("migrate")
    project.python("""
        m("people.Boss").objects.create(username="eve", title="Dr")
        assert m("people.Everyone").objects.get().username == "eve"
        assert m("people.Seen").objects.get().username == "eve"
        from django.contrib.auth.models import Group
        m("people.Person").objects.get().groups.add(Group.objects.create(name="g"))
    """)
    assert set(
        ask("SELECT DISTINCT schemaname::text FROM pg_tables WHERE tablename !~ '^(pg|sql)_'")
    ) == {
        "hr",
        "auth",
        "contenttypes",
        "sessions",
        "migrations",
    }
    project.manage("makemigrations", "--check")


def test_changing_db_table_moves_and_renames_and_goes_back(project, ask, relations):
    project.settings(apps=["one"])
    project.app("one", THING.replace('"thing"', '"a.t"').replace('"kind"', '"a.kind"'))
    project.manage("makemigrations", "one")
    project.manage("migrate")
    before = relations()
    project.app("one", THING.replace('"thing"', '"b.u"').replace('"kind"', '"a.kind"'))
    project.manage("makemigrations", "one")
    project.manage("migrate")
    after = relations()
    assert {"b.u", "b.u_kinds", "b.t_id_seq", "a.kind"} <= after.keys()
    assert not [name for name in after if name.startswith("a.t")]
    assert sorted(after.values()) != []
    assert set(before.values()) <= set(after.values()), "a table was rewritten"
    project.python(
        "m('one.Thing').objects.create(name='x', kind=m('one.Kind').objects.create(name='k'))"
    )
    project.manage("migrate", "one", "0001")
    assert relations() == before


def test_operations_make_move_and_drop_schemas(project, ask):
    project.settings(apps=["one"])
    project.app("one", THING)
    project.manage("makemigrations", "one")
    (project.folder / "one" / "migrations" / "0002_move.py").write_text("""
from django.db import migrations
from howdah.django.operations import CreateSchema, DropSchema, MoveToSchema

class Migration(migrations.Migration):
    dependencies = [("one", "0001_initial")]
    operations = [CreateSchema("gone"), MoveToSchema("Thing", "there"), DropSchema("gone")]
""")
    project.app("one", THING.replace('"thing"', '"there.thing"'))
    project.manage("makemigrations", "--check", "one")
    assert 'ALTER TABLE "thing" SET SCHEMA "there"' in project.manage("sqlmigrate", "one", "0002")
    project.manage("migrate")
    assert ask(
        "SELECT to_regclass('there.thing')::text, to_regclass('there.thing_kinds')::text"
    ) == [("there.thing", "there.thing_kinds")]
    project.manage("migrate", "one", "0001")
    assert ask("SELECT to_regclass('public.thing_kinds')::text") == ["thing_kinds"]


def test_a_failed_migration_leaves_no_schema_behind(project, ask):
    project.settings(apps=["one"], howdah={"SCHEMAS": {"one": "first"}})
    project.app("one", THING)
    project.manage("makemigrations", "one")
    with (project.folder / "one" / "migrations" / "0001_initial.py").open("a") as migration:
        migration.write("\n    operations.append(migrations.RunSQL('SELECT 1/0'))\n")
    project.manage("migrate", code=1)
    assert ask("SELECT count(*) FROM pg_namespace WHERE nspname = 'first'") == [0]


TRICK = THING.replace('"thing"', "'first\".\"thing'").replace('"kind"', "'first\".\"kind'")


def test_a_project_moves_over_from_the_trick_and_back(project, ask, relations):
    project.app("one", TRICK)
    project.settings(apps=["one"], engine=STOCK)
    project.manage("makemigrations", "one")
    ask("CREATE SCHEMA first")
    project.manage("migrate")
    before = relations()
    assert "first.thing" in before

    project.settings(apps=["one"])
    assert 'Write db_table = "first.thing"' in project.manage("check")
    project.manage("makemigrations", "--check")
    assert "No migrations to apply" in project.manage("migrate")
    project.app("one", THING.replace('"thing"', '"first.thing"').replace('"kind"', '"first.kind"'))
    project.manage("makemigrations", "one")  # the spelling changes, the table does not
    project.manage("migrate")
    project.manage("makemigrations", "--check")
    assert relations() == before
    assert "howdah.W" not in project.manage("check", "--database", "default")

    project.manage("migrate", "one", "0001")
    project.app("one", TRICK)
    project.settings(apps=["one"], engine=STOCK)
    project.python("assert m('one.Thing').objects.count() == 0")
    assert relations() == before


@pytest.mark.long
def test_a_project_moves_over_from_search_path_aliases(project, ask, relations):
    project.app("one", THING)
    databases = {"default": {}, "data": {}}
    project.settings(apps=[*DJANGO, "one"], engine=STOCK, databases=databases)
    project.manage("makemigrations", "one")
    path = {"options": "-c search_path=core,public"}
    project.settings(apps=[*DJANGO, "one"], engine=STOCK, options=path)
    ask("CREATE SCHEMA core")
    project.manage("migrate")
    before = relations()
    assert "core.thing" in before

    project.settings(
        apps=[*DJANGO, "one"],
        databases=databases,
        routers=["howdah.django.Router"],
        howdah={"SCHEMAS": {"*": "core"}, "DATABASES": {"one": "data"}},
    )
    for alias in databases:
        assert "No migrations to apply" in project.manage("migrate", "--database", alias)
    project.manage("makemigrations", "--check")
    project.python("m('one.Kind').objects.create(name='x')")
    assert relations() == before


def test_moveschemas_moves_what_is_in_the_wrong_place_and_back(project, relations):
    project.settings(apps=[*DJANGO, "one"])
    project.app("one", THING)
    project.manage("makemigrations", "one")
    project.manage("migrate")
    before = relations()
    project.settings(apps=[*DJANGO, "one"], howdah={"SCHEMAS": {"one": "first", "*": "core"}})
    assert "public.thing -> first.thing" in project.manage("moveschemas", "--plan")
    assert relations() == before
    assert "howdah.W012" in project.manage("check", "--database", "default")
    project.manage("moveschemas")
    after = relations()
    assert {
        "first.thing",
        "first.thing_id_seq",
        "core.auth_user",
        "core.django_migrations",
    } <= after.keys()
    assert sorted(after.values()) == sorted(before.values()), "a table was rewritten"
    assert "Each table is where it is to be" in project.manage("moveschemas")
    assert "No migrations to apply" in project.manage("migrate")
    project.settings(apps=[*DJANGO, "one"], howdah={"SCHEMAS": {"*": "public"}})
    project.manage("moveschemas")
    assert relations() == before


def test_one_alias_makes_the_tables_of_its_twin(project, ask):
    project.app("one", THING)
    project.settings(
        apps=[*DJANGO, "one"],
        databases={"default": {}, "data": {}},
        routers=["howdah.django.Router"],
        howdah={"SCHEMAS": {"*": "core", "one": "first"}, "DATABASES": {"one": "data"}},
    )
    project.manage("makemigrations", "one")
    (project.folder / "one" / "migrations" / "0002_fill.py").write_text("""
from django.db import migrations

def fill(apps, schema_editor):
    apps.get_model("one", "Kind").objects.create(name="made by a migration")

class Migration(migrations.Migration):
    dependencies = [("one", "0001_initial")]
    operations = [migrations.RunPython(fill)]
""")
    project.manage("migrate")
    assert "No migrations to apply" in project.manage("migrate", "--database", "data")
    assert ask("SELECT name FROM first.kind") == ["made by a migration"]
    project.python("""
        from django.contrib.contenttypes.models import ContentType
        kind = m("one.Kind").objects.get()
        assert kind._state.db == "data"
        assert ContentType.objects.get_for_model(kind)._state.db == "default"
    """)


def test_an_alias_may_have_schemas_of_its_own(project, ask):
    project.app("one", THING)
    project.settings(
        apps=["one"],
        databases={"default": {}, "archive": {}},
        howdah={"SCHEMAS": {"one": "first", "archive": {"*": "past"}}},
    )
    # Two names of one host: for the settings these are two databases.
    text = (project.folder / "settings.py").read_text()
    (project.folder / "settings.py").write_text(text + _OTHER_DATABASE)
    project.manage("makemigrations", "one")
    project.manage("migrate")
    project.manage("migrate", "--database", "archive")
    project.python("""
        Kind, Thing = m("one.Kind"), m("one.Thing")
        kind = Kind.objects.using("archive").create(name="old")
        Thing.objects.using("archive").create(name="t", kind=kind).kinds.add(kind)
        assert Kind.objects.count() == 0
        field = models.ForeignKey(Kind, models.CASCADE, null=True)
        field.set_attributes_from_name("second"); field.model = Thing
        with connections["archive"].schema_editor() as editor:
            editor.add_field(Thing, field)
        assert Thing._meta.db_table in connections["archive"].introspection.table_names()
    """)
    assert ask("SELECT name FROM past.kind") == ["old"]
    project.manage("flush", "--noinput", "--database", "archive")
    assert ask("SELECT count(*) FROM past.kind") == [0]


_OTHER_DATABASE = """
DATABASES["archive"]["PORT"] = "0" + DATABASES["archive"]["PORT"]
"""
