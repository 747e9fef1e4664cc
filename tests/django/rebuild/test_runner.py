"""`manage.py test` with TEST_RUNNER: test databases as copies of what is kept."""

from __future__ import annotations

import sys

import pytest
from psycopg import sql

pytestmark = pytest.mark.long

TESTS = """
from django.test import TestCase
from shop.models import Shelf


class One(TestCase):
    def test_tables_are_there_and_empty(self):
        Shelf.objects.create(name="x")
        self.assertEqual(Shelf.objects.count(), 1)


class Two(TestCase):
    def test_other_process(self):
        self.assertEqual(Shelf.objects.count(), 0)
"""
ALIASES = """
from django.core.cache import cache
from django.db import connections
from django.test import TestCase, TransactionTestCase
from shop.models import Note, Shelf

def name(alias):
    return str(connections[alias].settings_dict["NAME"]).replace("MAIN", "main")


class Aliases(TestCase):
    databases = {"default", "data", "new", "lite"}

    def test_table_of_the_cache_is_there(self):
        cache.set("key", "value")
        self.assertEqual(cache.get("key"), "value")

    def test_where_they_lead(self):
        self.assertEqual(name("default"), "test_main")
        self.assertEqual(name("data"), "test_main")  # one physical database
        self.assertEqual(name("replica"), "test_main")  # a mirror
        self.assertEqual(name("new"), "test_main_new")  # not there, so Django makes it
        self.assertIn("mode=memory", name("lite"))
        self.assertEqual(connections["lite"].introspection.table_names(), ["django_migrations"])
        with connections["data"].cursor() as cursor:
            cursor.execute("SHOW search_path")
            self.assertEqual(cursor.fetchone()[0], "store,public")
            cursor.execute("SHOW work_mem")
            self.assertEqual(cursor.fetchone()[0], "5MB")  # set by ALTER DATABASE


class Rows(TransactionTestCase):
    serialized_rollback = True

    def test_row_of_the_migration_is_there(self):
        self.assertEqual([one.text for one in Note.objects.all()], ["by a migration"])

    test_and_again = test_row_of_the_migration_is_there
"""
ROW = """
from django.db import migrations


def add(apps, editor):
    if editor.connection.alias == "default":
        apps.get_model("shop", "note").objects.create(text="by a migration")


class Migration(migrations.Migration):
    dependencies = [("shop", "0001_initial")]
    operations = [migrations.RunPython(add, lambda *_: None)]
"""
SETTINGS = """
TEST_RUNNER = "howdah.django.test.Runner"
CACHES = {"default": {"BACKEND": "django.core.cache.backends.db.DatabaseCache", "LOCATION": "kept"}}
MAIN = DATABASES["default"]
DATABASES["data"] = MAIN | {"OPTIONS": {"options": "-c search_path=store,public"}}
DATABASES["replica"] = MAIN | {"HOST": "127.0.0.1", "PORT": 1, "TEST": {"MIRROR": "default"}}
DATABASES["new"] = MAIN | {"NAME": MAIN["NAME"] + "_new", "OPTIONS": {}}
DATABASES["lite"] = {"ENGINE": "django.db.backends.sqlite3", "NAME": "live.sqlite3"}
DATABASE_ROUTERS = ["routers.Main"]
"""
ROUTERS = """
class Main:
    def allow_migrate(self, db, app_label, **hints):
        return db == "default"
"""


@pytest.fixture
def tested(small):
    (small.folder / "shop/tests.py").write_text(TESTS)
    with (small.folder / "settings.py").open("a") as settings:
        settings.write('TEST_RUNNER = "howdah.django.test.Runner"\n')
    return small


def named(project, start):
    return project.ask("SELECT datname FROM pg_database WHERE starts_with(datname, %s)", start)


def test_runner_copies_what_is_kept_and_drops_it(tested):
    before = tested.digest()
    tested.manage("test", "--parallel", "2")
    kept = named(tested, "howdah_kept")

    tested.manage("test", "--parallel", "2")

    assert named(tested, "howdah_kept") == kept
    assert named(tested, f"test_{tested.main}") == []
    assert tested.digest() == before


def test_aliases_of_all_kinds_lead_to_test_databases(small):
    (small.folder / "shop/tests.py").write_text(ALIASES.replace("MAIN", small.main))
    (small.folder / "shop/migrations/0002_row.py").write_text(ROW)
    (small.folder / "routers.py").write_text(ROUTERS)
    with (small.folder / "settings.py").open("a") as settings:
        settings.write(SETTINGS)
    with small.connect() as conn:
        name = sql.Identifier(small.main)
        conn.execute(sql.SQL("ALTER DATABASE {} SET work_mem TO '5MB'").format(name))

    small.manage("test")

    assert named(small, f"test_{small.main}") == []
    assert not (small.folder / "live.sqlite3").exists()


def test_keepdb_goes_on_with_the_copy(tested):
    tested.manage("test", "--keepdb")
    oid = "SELECT oid FROM pg_database WHERE datname = %s"
    first = tested.ask(oid, f"test_{tested.main}")

    tested.manage("test", "--keepdb")
    assert tested.ask(oid, f"test_{tested.main}") == first

    with (tested.folder / "shop/migrations/0001_initial.py").open("a") as migration:
        migration.write("# changed\n")
    tested.manage("test", "--keepdb")
    assert tested.ask(oid, f"test_{tested.main}") != first
    tested.manage("test")
    assert named(tested, f"test_{tested.main}") == []


def test_database_that_is_not_ours_goes_only_when_told(tested):
    name = f"test_{tested.main}"
    with tested.connect() as conn:
        conn.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    process = tested.start("manage.py", "test")
    said, error = process.communicate("no\n", timeout=60)

    assert process.returncode == 1
    assert f"There is a database {name!r}" in said + error
    assert "Traceback" not in error
    assert named(tested, name) == [name]
    tested.manage("test", "--noinput")
    assert named(tested, name) == []


def test_every_database_and_alias_of_the_example_has_a_copy(make_project):
    project = make_project("stock")
    with project.connect(project.databases[1]) as conn:
        conn.execute("CREATE EXTENSION postgis")
    (project.folder / "test_all.py").write_text(
        "import pytest\nfrom catalog.models import Tag\nfrom django.db import connections\n"
        "from places.models import Region\n\n"
        "@pytest.mark.django_db(databases=['default', 'data', 'geo'])\n"
        "@pytest.mark.parametrize('number', range(4))\n"
        "def test_all(number):\n"
        "    Tag.objects.create(word='one')\n    assert Region.objects.count() == 0\n"
        "    names = {one.settings_dict['NAME'] for one in connections.all()}\n"
        "    assert len(names) == 2 and all(one.startswith('test_depot') for one in names)\n"
    )
    with (project.folder / "depot/settings/base.py").open("a") as settings:
        settings.write('TEST_RUNNER = "howdah.django.test.Runner"\n')

    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-n", "4"]
    assert "4 passed" in project.run(*command[1:])

    assert named(project, "test_depot") == []


def test_role_that_may_not_create_databases_is_told_so(tested):
    with tested.connect() as conn:
        conn.execute("DROP ROLE IF EXISTS tester")
        conn.execute("CREATE ROLE tester")
        conn.execute(
            sql.SQL("GRANT CREATE ON DATABASE {} TO tester").format(sql.Identifier(tested.main))
        )
    try:
        tested.write("settings.py", '"OPTIONS": {', '"OPTIONS": {"assume_role": "tester", ')
        said = tested.manage("test", "--noinput", code=2)
    finally:
        with tested.connect() as conn:
            conn.execute("DROP OWNED BY tester")
            conn.execute("DROP ROLE tester")

    assert "migrated, not copied: the role tester may not create databases" in said
