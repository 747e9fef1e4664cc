"""The database router that HOWDAH["DATABASES"] makes needless to write."""

from __future__ import annotations

from typing import Any

from django.apps import apps
from django.db import DEFAULT_DB_ALIAS

from howdah.django.mapping import MIGRATING, places, same_database

__all__ = ["Router"]


class Router:
    """Send each app to its alias.

    An app that `HOWDAH["DATABASES"]` does not name is left to the next router
    and to Django (the alias `default`), and is kept out of the databases that
    are given to others.
    """

    def db_for_read(self, model: Any, **_hints: Any) -> str | None:
        """Return the alias of the model's app."""
        said = places()
        home = said.home(model._meta.app_label)
        # Through another connection a migration would wait for its own locks for ever.
        migrating = MIGRATING.get()
        return migrating if home and migrating in said.twins[home] else home

    db_for_write = db_for_read

    def allow_relation(self, obj1: Any, obj2: Any, **_hints: Any) -> bool | None:
        """Allow relations inside one physical database, whatever its aliases are called."""
        one, other = (
            obj._state.db or places().home(obj._meta.app_label) or DEFAULT_DB_ALIAS
            for obj in (obj1, obj2)
        )
        return True if same_database(one, other) else None

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool | None:
        """Say whether an app's tables are made and filled through an alias.

        Aliases of one database share `django_migrations`, so whichever
        migrates first makes the tables of them all. Data (loaddata, flush, the
        tests' serialized database) goes through the app's own alias.
        """
        said = places()
        home = said.home(app_label)
        if home is None:
            given = set(said.databases.values()) - {DEFAULT_DB_ALIAS}
            return False if db in given else None
        if db == home:
            return True
        model = hints.get("model")
        if model is not None and model._meta.apps is apps:  # not a migration's historical model
            return False
        return db in said.twins[home] and said.schema(app_label, home) is not None
