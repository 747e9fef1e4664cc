"""Django in a benchmark: one database, and models without a project."""

from __future__ import annotations

import psycopg

__all__ = ["close", "model", "set_up"]


def set_up(dsn: str) -> None:
    """Configure Django for a database; the second time nothing happens."""
    from django.conf import settings

    import django

    known = psycopg.conninfo.conninfo_to_dict(dsn)
    if not settings.configured:
        database = {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": known["dbname"],
            "USER": known["user"],
            "HOST": known["host"],
            "PORT": known["port"],
            "OPTIONS": {"passfile": known.get("passfile")},
        }
        settings.configure(DATABASES={"default": database}, INSTALLED_APPS=[], USE_TZ=True)
        django.setup()


def close() -> None:
    """Close Django's connection."""
    from django.db import connection

    connection.close()


_models: dict[str, type] = {}


def model(table: str, fields: dict[str, object]) -> type:
    """Return the model of a table that is there, the same one each time."""
    from django.db import models

    if table not in _models:
        meta = type("Meta", (), {"app_label": "bench", "db_table": table, "managed": False})
        body = {"__module__": __name__, "Meta": meta, **fields}
        _models[table] = type(table.title(), (models.Model,), body)
    return _models[table]
