"""Spatial columns, indexes and rasters in schemas, with the same table in two of them."""

from __future__ import annotations

import pytest

from tests.django.backend.conftest import POSTGIS
from tests.fixtures.django_project import has_postgis

pytestmark = pytest.mark.long

PLACES = """
from django.contrib.gis.db import models as gis

class Area(models.Model):
    name = models.CharField(max_length=9)
    shape = gis.PolygonField()
    class Meta:
        db_table = "area"

class Spot(models.Model):
    name = models.CharField(max_length=9)
    flat = gis.PointField(srid=3857)
    round = gis.PointField(geography=True, null=True)
    deep = gis.LineStringField(dim=3, null=True)
    loose = gis.PointField(spatial_index=False, null=True)
    area = models.ForeignKey(Area, models.CASCADE, null=True)
    class Meta:
        db_table = "spot"
"""
RASTER = """
class Sheet(models.Model):
    rast = gis.RasterField()
    class Meta:
        db_table = "sheet"
"""
TWO = {"SCHEMAS": {"one": "first", "two": "second"}}
SPATIAL = """
    SELECT indexname, replace(indexdef, schemaname || '.', '') FROM pg_indexes
     WHERE schemaname = %s AND indexdef LIKE '%%USING gist%%' ORDER BY 1
"""
GIS = "django.contrib.gis"
BOX = "Polygon(((0, 0), (0, 10), (10, 10), (10, 0), (0, 0)))"


@pytest.fixture
def empty(project, server, ask):
    """A project of no apps on a database with PostGIS."""
    if not has_postgis(server):
        pytest.skip("this PostgreSQL has no PostGIS, or GDAL is not installed")
    ask("CREATE EXTENSION postgis")
    return project


@pytest.fixture
def two(empty, ask):
    """Two apps with the same tables, in the schemas first and second."""
    ask("CREATE EXTENSION postgis_raster")
    empty.settings(apps=[GIS, "one", "two"], howdah=TWO, engine=POSTGIS)
    for label in ("one", "two"):
        empty.app(label, PLACES + RASTER)
    empty.manage("makemigrations", "one", "two")
    empty.manage("migrate")
    return empty


def test_spatial_indexes_are_named_and_made_as_geodjangos_own_are(two, ask):
    found = {schema: ask(SPATIAL, schema) for schema in ("first", "second")}
    assert found["first"] == found["second"]
    assert [name.rsplit("_", 2)[0] for name, _ in found["first"]] == [
        "area_shape",
        "sheet_rast",
        "spot_deep",
        "spot_flat",
        "spot_round",
    ]
    assert "gist_geometry_ops_nd" in dict(found["first"])[found["first"][2][0]]
    assert "st_convexhull(rast)" in found["first"][1][1].lower()
    ask("DELETE FROM django_migrations")
    two.settings(apps=[GIS, "one"], engine="django.contrib.gis.db.backends.postgis")
    two.manage("migrate", "one")
    assert ask(SPATIAL, "public") == found["first"]


def test_lookups_measure_the_tables_of_their_own_schema(two):
    two.python(f"""
        from django.contrib.gis.db.models import Collect, Extent, Union
        from django.contrib.gis.db.models.functions import Area, Distance, Transform
        from django.contrib.gis.gdal import GDALRaster
        from django.contrib.gis.geos import LineString, Point, Polygon
        from django.contrib.gis.measure import D
        box = {BOX}
        for app, at in ("one", 1), ("two", 50):
            area = m(app, "Area").objects.create(name=app, shape=box)
            m(app, "Spot").objects.create(
                name=app, area=area, flat=Point(at, at, srid=3857), round=Point(at, at),
                deep=LineString((0, 0, 0), (at, at, at)))
            m(app, "Sheet").objects.create(rast=GDALRaster(
                {{"srid": 4326, "width": 2, "height": 2, "datatype": 1, "origin": (at, at),
                 "scale": (1, -1), "bands": [{{"data": range(4)}}]}}))
        One, Two = m("one.Spot"), m("two.Spot")
        near = dict(round__distance_lt=(Point(1, 1, srid=4326), D(km=100)))
        assert (One.objects.filter(**near).count(), Two.objects.filter(**near).count()) == (1, 0)
        inside = dict(round__coveredby=box)
        assert One.objects.filter(**inside).exists() and not Two.objects.filter(**inside).exists()
        assert One.objects.filter(area__shape__contains=Point(5, 5)).get().name == "one"
        spot = Two.objects.annotate(
            far=Distance("flat", Point(50, 54, srid=3857)), on=Transform("flat", 4326),
            size=Area("area__shape")).select_related("area").get()
        assert spot.far.m == 4 and spot.on.srid == 4326 and spot.size.sq_m == 100
        assert Two.objects.aggregate(Extent("flat"))["flat__extent"] == (50, 50, 50, 50)
        assert One.objects.aggregate(both=Union("flat"))["both"].coords == (1, 1)
        assert One.objects.filter(flat__dwithin=(models.OuterRef("flat"), 1)) is not None
        sub = Two.objects.filter(round__dwithin=(models.OuterRef("round"), D(m=5)))
        assert One.objects.filter(models.Exists(sub)).count() == 0
        sheet = dict(rast__bboverlaps=Point(50.5, 49.5, srid=4326))
        sheets = [m(app, "Sheet").objects.filter(**sheet).count() for app in ("one", "two")]
        assert sheets == [0, 1], sheets
        assert m("two.Sheet").objects.get().rast.bands[0].data().sum() == 6
    """)


def test_fields_are_altered_with_their_indexes_in_one_schema_alone(two, ask):
    first = ask(SPATIAL, "first")
    two.python("""
        from django.contrib.gis.db import models as gis
        Spot = m("two.Spot")
        def change(name, new):
            old = Spot._meta.get_field(name)
            new.set_attributes_from_name(name); new.model = Spot
            with connection.schema_editor() as editor:
                editor.alter_field(Spot, old, new, strict=True)
            back = old.clone(); back.set_attributes_from_name(name); back.model = Spot
            return new, back
        def indexes():
            with connection.cursor() as c:
                found = connection.introspection.get_constraints(c, Spot._meta.db_table)
            return {n for n, x in found.items() if x.get("type") == "gist"}
        before = indexes()
        assert len(before) == 3
        new, old = change("flat", gis.PointField(srid=3857, spatial_index=False))
        assert len(indexes()) == 2
        with connection.schema_editor() as editor:
            editor.alter_field(Spot, new, old, strict=True)
        assert indexes() == before
        new, old = change("loose", gis.PointField(null=True))
        assert len(indexes()) == 4
        with connection.schema_editor() as editor:
            editor.alter_field(Spot, new, old, strict=True)
        assert indexes() == before
        new, old = change("deep", gis.LineStringField(null=True))
        new, old = change("loose", gis.PointField(dim=3, null=True, spatial_index=False))
        more = gis.MultiPolygonField(null=True)
        more.set_attributes_from_name("more"); more.model = Spot
        with connection.schema_editor() as editor:
            editor.add_field(Spot, more)
        assert len(indexes()) == 4
        with connection.schema_editor() as editor:
            editor.remove_field(Spot, more)
        assert len(indexes()) == 3
    """)
    assert ask(SPATIAL, "first") == first
    assert ask(
        "SELECT coord_dimension FROM geometry_columns WHERE f_table_schema = 'second'"
        " AND f_geometry_column IN ('deep', 'loose') ORDER BY f_geometry_column"
    ) == [2, 3]


def test_inspectdb_reads_spatial_columns_of_the_schema_that_is_asked_for(two, ask):
    ask("ALTER TABLE first.spot ALTER flat TYPE geometry(POINT, 4326) USING ST_SetSRID(flat, 4326)")
    first = two.manage("inspectdb", "--schema", "first")
    second = two.manage("inspectdb", "--schema", "second")
    for told in (first, second):
        assert "shape = models.PolygonField()" in told
        assert "round = models.PointField(geography=True, blank=True, null=True)" in told
        assert "deep = models.LineStringField(dim=3, blank=True, null=True)" in told
    assert "flat = models.PointField()" in first
    assert "flat = models.PointField(srid=3857)" in second


def test_a_table_moves_with_its_spatial_index(empty, ask, relations):
    empty.settings(apps=[GIS, "one"], engine=POSTGIS)
    empty.app("one", PLACES)
    empty.manage("makemigrations", "one")
    empty.manage("migrate")
    before = relations()
    spatial = ask(SPATIAL, "public")
    (empty.folder / "one" / "migrations" / "0002_move.py").write_text("""
from django.db import migrations
from howdah.django.operations import MoveToSchema

class Migration(migrations.Migration):
    dependencies = [("one", "0001_initial")]
    operations = [MoveToSchema("Spot", "there"), MoveToSchema("Area", "there")]
""")
    there = PLACES.replace('"spot"', '"there.spot"').replace('"area"', '"there.area"')
    empty.app("one", there)
    empty.manage("makemigrations", "--check", "one")
    empty.manage("migrate")
    assert ask(SPATIAL, "there") == spatial
    empty.app("one", there.replace('"there.spot"', '"far.away"'))
    empty.manage("makemigrations", "one")
    empty.manage("migrate")
    moved = {name for name in relations() if name.startswith("far.")}
    assert len([name for name in moved if name.startswith("far.spot_")]) >= 4
    assert sorted(relations().values()) == sorted(before.values()), "a table was rewritten"
    empty.python("""
        from django.contrib.gis.db import models as gis
        from django.contrib.gis.geos import Point
        Spot = m("one.Spot")
        Spot.objects.create(name="x", flat=Point(1, 1, srid=3857))
        assert Spot.objects.filter(flat__equals=Point(1, 1, srid=3857)).count() == 1
    """)
    empty.manage("migrate", "one", "0001")
    assert relations() == before


def test_a_spatial_index_can_be_removed_after_a_move(empty, ask):
    """Its name is made of the bare table's, so a move does not hide it."""
    empty.settings(apps=[GIS, "one"], engine=POSTGIS)
    empty.app("one", PLACES)
    empty.manage("makemigrations", "one")
    empty.app("one", PLACES.replace('"spot"', '"far.spot"'))
    empty.manage("makemigrations", "one")
    empty.app(
        "one", PLACES.replace('"spot"', '"far.spot"').replace("3857)", "3857, spatial_index=False)")
    )
    empty.manage("makemigrations", "one")
    empty.manage("migrate")
    assert [name for name, _ in ask(SPATIAL, "far") if name.startswith("spot_flat")] == []
