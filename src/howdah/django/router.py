"""The database router that HOWDAH["DATABASES"] makes needless to write."""

from __future__ import annotations

from typing import Any

from howdah.django.mapping import places, same_database

__all__ = ["Router"]


class Router:
    """Send each app to its alias.

    An app that `HOWDAH["DATABASES"]` does not name is left to the next router
    and to Django (the alias `default`), and is kept out of the databases that
    are given to others.
    """

    def db_for_read(self, model: Any, **_hints: Any) -> str | None:
        """Return the alias of the model's app."""
        return places().home(model._meta.app_label)

    db_for_write = db_for_read

    def allow_relation(self, obj1: Any, obj2: Any, **_hints: Any) -> bool | None:
        """Allow relations inside one physical database, whatever its aliases are called."""
        one, other = (
            obj._state.db or places().home(obj._meta.app_label) or "default" for obj in (obj1, obj2)
        )
        return True if same_database(one, other) else None

    def allow_migrate(self, db: str, app_label: str, **_hints: Any) -> bool | None:
        """Say whether an app's tables may be made through an alias.

        Aliases of one database (as one role) share `django_migrations`, so that
        whichever migrates first makes the tables of them all.
        """
        said = places()
        home = said.home(app_label)
        if home is None:
            given = set(said.databases.values()) - {"default"}
            return False if db in given else None
        if db == home:
            return True
        is_twin = db in said.twins.get(home, ())
        return is_twin and said.schema(app_label, home) is not None
