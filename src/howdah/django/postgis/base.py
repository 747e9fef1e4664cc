"""The connection: GeoDjango's own, with the roles that know schemas."""

from __future__ import annotations

from typing import Any

from django.contrib.gis.db.backends.postgis import base
from django.db.backends.base.base import NO_DB_ALIAS

from howdah.django.percents import Percents
from howdah.django.placing import install
from howdah.django.pool import Pooled
from howdah.django.postgis.introspection import PostGISIntrospection
from howdah.django.postgis.operations import PostGISOperations
from howdah.django.postgis.schema import PostGISSchemaEditor
from howdah.django.postgresql.introspection import DatabaseIntrospection
from howdah.django.postgresql.operations import DatabaseOperations
from howdah.django.postgresql.validation import DatabaseValidation

__all__ = ["DatabaseWrapper"]


class DatabaseWrapper(Pooled, Percents, base.DatabaseWrapper):
    """GeoDjango's PostGIS, in schemas."""

    SchemaEditorClass = PostGISSchemaEditor
    introspection_class = PostGISIntrospection
    ops_class = PostGISOperations
    validation_class = DatabaseValidation

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if kwargs.get("alias", "") == NO_DB_ALIAS:  # it has no PostGIS, as in Django's own
            self.introspection = DatabaseIntrospection(self)
            self.ops = DatabaseOperations(self)
        install()
