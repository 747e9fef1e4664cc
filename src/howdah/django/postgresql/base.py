"""The connection: Django's own, with the roles below that know schemas."""

from __future__ import annotations

from typing import Any

from django.db.backends.postgresql import base

from howdah.django.percents import Percents
from howdah.django.placing import install
from howdah.django.pool import Pooled
from howdah.django.postgresql.introspection import DatabaseIntrospection
from howdah.django.postgresql.operations import DatabaseOperations
from howdah.django.postgresql.schema import DatabaseSchemaEditor
from howdah.django.postgresql.validation import DatabaseValidation

__all__ = ["DatabaseWrapper"]


class DatabaseWrapper(Pooled, Percents, base.DatabaseWrapper):
    """Django's PostgreSQL, in schemas."""

    SchemaEditorClass = DatabaseSchemaEditor
    introspection_class = DatabaseIntrospection
    ops_class = DatabaseOperations
    validation_class = DatabaseValidation

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Without "howdah.django" in INSTALLED_APPS this is the first that Django loads of us.
        install()
