"""GeoDjango's operations, in schemas."""

from __future__ import annotations

from django.contrib.gis.db.backends.postgis import operations

from howdah.django.postgresql.operations import SchemaOperations

__all__ = ["PostGISOperations"]


class PostGISOperations(SchemaOperations, operations.PostGISOperations):
    """GeoDjango's operations, in schemas."""
