"""GeoDjango's schema editor, in schemas."""

from __future__ import annotations

from django.contrib.gis.db.backends.postgis import schema

from howdah.django.postgresql.schema import SchemaEditor

__all__ = ["PostGISSchemaEditor"]


class PostGISSchemaEditor(SchemaEditor, schema.PostGISSchemaEditor):
    """GeoDjango's schema editor, in schemas."""
