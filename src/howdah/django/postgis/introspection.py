"""GeoDjango's introspection, in schemas."""

from __future__ import annotations

from typing import Any

from django.contrib.gis.db.backends.postgis import introspection
from django.contrib.gis.gdal import OGRGeomType

from howdah.django.postgresql.introspection import SchemaIntrospection

__all__ = ["PostGISIntrospection"]

_GEOMETRY = """
    SELECT t.coord_dimension, t.srid, t.type, t.geography
      FROM (SELECT f_table_schema, f_table_name, f_geometry_column,
                   coord_dimension, srid, type, false AS geography
              FROM geometry_columns
             UNION ALL
            SELECT f_table_schema, f_table_name, f_geography_column,
                   coord_dimension, srid, type, true
              FROM geography_columns) AS t
     WHERE t.f_table_schema = %s AND t.f_table_name = %s AND t.f_geometry_column = %s
"""
_WGS84 = 4326
_PLANE = 2


class PostGISIntrospection(SchemaIntrospection, introspection.PostGISIntrospection):
    """GeoDjango's introspection, in schemas."""

    def get_geometry_type(self, table_name: str, description: Any) -> tuple[str, dict[str, Any]]:
        """Return the field of a spatial column, and the arguments that are not its defaults."""
        name = self.connection.ops.place(table_name)
        if name.schema is None:
            return super().get_geometry_type(name.table, description)  # type: ignore[no-any-return]
        with self.connection.cursor() as cursor:
            cursor.execute(_GEOMETRY, [name.schema, name.table, description.name])
            row = cursor.fetchone()
        if row is None:
            raise LookupError(f"PostGIS knows no spatial column {description.name!r} of {name}")
        dim, srid, kind, geography = row
        arguments = {"geography": geography, "srid": srid, "dim": dim}
        defaults = {"geography": False, "srid": _WGS84, "dim": _PLANE}
        return (
            OGRGeomType(kind).django,
            {key: value for key, value in arguments.items() if value != defaults[key]},
        )
