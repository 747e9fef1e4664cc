"""Names that need care: percent signs, more than 63 bytes, and the table of a cache."""

from __future__ import annotations

import pytest

from tests.django.backend.conftest import STOCK

pytestmark = pytest.mark.long

PERCENT = """
class Rate(models.Model):
    name = models.CharField(max_length=9, unique=True)
    others = models.ManyToManyField("self")
    class Meta:
        db_table = {table!r}
        constraints = [models.CheckConstraint(condition=~models.Q(name="%s"), name="named")]

class Use(models.Model):
    rate = models.ForeignKey(Rate, models.CASCADE)
"""


@pytest.mark.parametrize("table", ["100%", '"%s"."in %(a)s %d"', "tax%.b%%"])
def test_a_percent_sign_lives_through_everything(project, table):
    project.settings(apps=["one"])
    project.app("one", PERCENT.format(table=table))
    project.manage("makemigrations", "one")
    project.python("""
        from django.core.management import call_command
        call_command("migrate", verbosity=0)
        Rate, Use = m("one.Rate"), m("one.Use")
        rate = Rate.objects.create(name="a")
        rate.others.add(Rate.objects.create(name="b"))
        use = Use.objects.create(rate=rate)
        Use.objects.bulk_create([Use(rate=rate)])
        assert Rate.objects.filter(others__name="b", use=use).count() == 1
        assert Rate.objects.filter(use__in=Use.objects.filter(rate__name="a")).distinct().get()
        assert Use.objects.filter(rate__name__startswith="a").select_related("rate").count() == 2
        assert Rate.objects.filter(name="b").update(name="c") == 1
        assert [r.name for r in Rate.objects.order_by("name").iterator()] == ["a", "c"]
        with transaction.atomic():
            assert Rate.objects.select_for_update(of=("self",)).filter(name="a").get() == rate
        name = connection.ops.quote_name(Rate._meta.db_table)
        for query, params in (("SELECT count(*) FROM " + name, None),
                              ("SELECT count(*) FROM " + name + " WHERE name = %s", ["a"]),
                              ("SELECT count(*) FROM " + name.replace("%", "%%"), [])):
            with connection.cursor() as c:
                c.execute(query, params)
        with connection.cursor() as c:
            found = connection.introspection.get_constraints(c, Rate._meta.db_table)
            assert "named" in found
        old = Rate._meta.get_field("name")
        new = models.CharField(max_length=12, default="x%"); new.set_attributes_from_name("name")
        more = models.CharField(max_length=9, default="5%"); more.set_attributes_from_name("more")
        more.model = new.model = Rate
        with connection.schema_editor() as editor:
            editor.alter_field(Rate, old, new, strict=True)
            editor.add_field(Rate, more)
            editor.alter_db_table(Rate, Rate._meta.db_table, '"a%"."b"')
            editor.alter_db_table(Rate, '"a%"."b"', Rate._meta.db_table)
        from django.db import reset_queries
        from django.test.utils import CaptureQueriesContext
        with CaptureQueriesContext(connection) as seen:
            Rate.objects.filter(name="a").delete()
        assert any("DELETE FROM" in q["sql"] for q in seen.captured_queries)
        assert Use.objects.count() == 0
        call_command("flush", interactive=False, verbosity=0)
        call_command("migrate", "one", "zero", verbosity=0)
    """)


LONG = "Ж" * 25  # 50 bytes
WIDE = f"""
class {LONG}(models.Model):
    {"к" * 12} = models.CharField(max_length=9, db_index=True)
    {"к" * 11}и = models.ForeignKey("self", models.CASCADE, null=True)
    категория = models.ManyToManyField("self")

class {LONG}{LONG}(models.Model):
    один = models.ManyToManyField({LONG}, related_name="+")
    два = models.ManyToManyField({LONG}, related_name="+")
"""
NAMES = """
    SELECT relname FROM pg_class
     WHERE relnamespace = %s::regnamespace AND relkind IN ('r', 'i') AND relname !~ '^django'
     ORDER BY 1
"""


def test_a_name_of_more_than_63_bytes_keeps_what_tells_it_from_others(project, ask):
    project.settings(apps=["one"], howdah={"SCHEMAS": {"*": "first"}})
    project.app("one", WIDE)
    project.manage("makemigrations", "one")
    project.manage("migrate")
    project.manage("makemigrations", "--check", "one")
    names = ask(NAMES, "first")
    assert max(len(name.encode()) for name in names) <= 63
    assert len([name for name in names if name.endswith("_like")]) == 1
    project.python(f"""
        A, B = m("one", {LONG!r}), m("one", {LONG + LONG!r})
        a, b = A.objects.create(), B.objects.create()
        b.один.add(a); b.два.add(a); a.категория.add(a)
        assert A.objects.filter(категория=a).count() == B.objects.filter(один=a, два=a).count() == 1
        tables = connection.introspection.table_names()
        for model in apps.get_app_config("one").get_models(include_auto_created=True):
            assert model._meta.db_table in tables, model
            with connection.cursor() as c:
                assert connection.introspection.get_constraints(c, model._meta.db_table)
        old = A._meta.get_field({"к" * 12!r})
        new = models.CharField(max_length=9); new.set_attributes_from_name(old.name); new.model = A
        with connection.schema_editor() as editor:
            editor.alter_field(A, old, new, strict=True)
    """)
    gone = set(names) - set(ask(NAMES, "first"))
    assert len(gone) == 2, gone  # the index of the column and its fellow for LIKE
    project.manage("migrate", "one", "zero")


CUT = f"""
class {"Д" * 40}(models.Model):
    pass

class {"Ж" * 20}(models.Model):
    name = models.CharField(max_length=9, unique=True)
    категория = models.ManyToManyField({"Д" * 40})
    class Meta:
        constraints = [models.UniqueConstraint(fields=["name"], name="{"ж" * 31}")]
"""


def test_where_djangos_own_name_is_cut_off_and_works_it_is_kept(project, ask, relations):
    project.settings(apps=["one"], engine=STOCK)
    project.app("one", CUT)
    project.manage("makemigrations", "one")
    project.manage("migrate")
    before = relations()
    project.settings(apps=["one"])
    assert "No migrations to apply" in project.manage("migrate")
    project.manage("makemigrations", "--check")
    told = project.manage("schemas")
    assert "missing" not in told
    project.python("""
        first, second = apps.get_app_config("one").get_models()
        second.objects.create(name="x").категория.add(first.objects.create())
    """)
    assert relations() == before


CACHE = """
CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.db.DatabaseCache",
        "LOCATION": "licensing.cache",
        "OPTIONS": {"MAX_ENTRIES": 3},
    },
    "plain": {
        "BACKEND": "django.core.cache.backends.db.DatabaseCache",
        "LOCATION": "plain_cache",
    },
    "other": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "LOCATION": "a.b"},
}
"""


def test_the_database_cache_is_in_the_schema_that_its_location_names(project, ask):
    project.settings(apps=["one"])
    project.app("one", "")
    with (project.folder / "settings.py").open("a") as settings:
        settings.write(CACHE)
    told = project.manage("createcachetable", "--dry-run")
    assert 'CREATE TABLE "licensing"."cache" (' in told
    assert ask("SELECT to_regnamespace('licensing') IS NULL") == [True]
    assert "created" in project.manage("createcachetable", "-v2")
    assert "'licensing.cache' already exists" in project.manage("createcachetable")
    project.python("""
        from django.core.cache import caches
        cache = caches["default"]
        cache.set("a", {"b": 1}); cache.set("gone", 1, timeout=-1)
        assert cache.get("a") == {"b": 1} and cache.get("gone") is None
        assert cache.add("a", 2) is False and cache.touch("a") and cache.has_key("a")
        assert cache.incr("n", 2) if cache.add("n", 1) else False
        cache.set_many({str(n): n for n in range(9)})  # more than MAX_ENTRIES: some are culled
        with connection.cursor() as c:
            c.execute("SELECT count(*) FROM licensing.cache")
            assert 0 < c.fetchone()[0] <= 5
        caches["plain"].set("p", 1)
        assert connection.ops.quote_name("a.b") == '"a.b"'
        assert cache.delete("8"); cache.clear()
    """)
    assert ask("SELECT count(*) FROM licensing.cache") == [0]
    assert ask("SELECT count(*) FROM public.plain_cache") == [1]
    index = "SELECT indexdef FROM pg_indexes WHERE indexname = %s"
    assert ask(index, "cache_expires") == [
        "CREATE INDEX cache_expires ON licensing.cache USING btree (expires)"
    ]
