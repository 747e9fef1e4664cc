"""What `HOWDAH` in the settings says: which app is in which schema and in which database.

```python
HOWDAH = {
    "SCHEMAS": {
        "auth": "auth",                      # app label -> schema
        "oauth2_provider": "auth",
        "*": "{app_label}",                  # every other app
        "archive": {"auth": "auth_2019"},    # and in the database of this alias
    },
    "DATABASES": {"licensing": "data"},      # app label -> alias
}
```
"""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from django.db import DEFAULT_DB_ALIAS
from django.utils.module_loading import import_string

__all__ = ["ANY", "MIGRATING", "Places", "cache_tables", "is_ours", "places", "same_database"]

ANY = "*"
_OURS = ("howdah.django.postgresql", "howdah.django.postgis")

# The alias whose schema editor is open: what a migration reads and writes goes through it.
MIGRATING: ContextVar[str | None] = ContextVar("migrating", default=None)

# Its models describe tables that PostGIS owns and puts where its extension is.
_NEVER = frozenset({"gis"})


@dataclass(frozen=True, slots=True)
class Places:
    """Schema and alias of each app.

    Attributes:
        schemas: App label (or "*") -> schema, for every alias.
        by_alias: The same for one alias, where it differs.
        databases: App label (or "*") -> alias.
        twins: Alias -> the aliases of the same physical database, itself included.
    """

    schemas: Mapping[str, str] = field(default_factory=dict)
    by_alias: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    databases: Mapping[str, str] = field(default_factory=dict)
    twins: Mapping[str, frozenset[str]] = field(default_factory=dict)

    @property
    def any(self) -> bool:
        """Whether any schema is named."""
        return bool(self.schemas or self.by_alias)

    def home(self, app_label: str) -> str | None:
        """The alias that `DATABASES` gives an app; None where it says nothing."""
        return self.databases.get(app_label, self.databases.get(ANY))

    def schema(self, app_label: str, alias: str) -> str | None:
        """The schema of an app's tables in the database of an alias; None: search_path decides.

        Twins see one database, in which a table is in one place: that of its app's own alias.
        """
        home = self.home(app_label)
        if home is not None and alias in self.twins.get(home, ()):
            alias = home
        return self._lookup(app_label, self.by_alias.get(alias, {}), self.schemas)

    def usual_schema(self, app_label: str) -> str | None:
        """The schema that the models of an app carry; other aliases translate it.

        It is that of the app's own alias, else that of any alias that has one.
        """
        home = self.home(app_label) or DEFAULT_DB_ALIAS
        return self.schema(app_label, home) or self._lookup(app_label, *self.by_alias.values())

    def named(self) -> frozenset[str]:
        """Every schema that is named outright."""
        maps = (self.schemas, *self.by_alias.values())
        return frozenset(s for m in maps for s in m.values() if "{" not in s)

    @staticmethod
    def _lookup(app_label: str, *maps: Mapping[str, str]) -> str | None:
        if app_label in _NEVER:
            return None
        for schemas in maps:
            for key in (app_label, ANY):
                if key in schemas:
                    return schemas[key].replace("{app_label}", app_label) or None
        return None


@cache
def places() -> Places:
    """Return what the settings say.

    Raises:
        ImproperlyConfigured: They say it wrongly.
    """
    said = getattr(settings, "HOWDAH", {})
    schemas = said.get("SCHEMAS", {})
    databases = said.get("DATABASES", {})
    _check(schemas, databases)
    return Places(
        schemas={app: s for app, s in schemas.items() if isinstance(s, str)},
        by_alias={alias: dict(s) for alias, s in schemas.items() if not isinstance(s, str)},
        databases=dict(databases),
        twins={
            alias: frozenset(other for other in settings.DATABASES if same_database(alias, other))
            for alias in settings.DATABASES
        },
    )


def same_database(one: str, other: str) -> bool:
    """Whether two aliases are one physical database, as the settings have it."""
    return one == other or _address(one) == _address(other)


@cache
def cache_tables() -> frozenset[str]:
    """Return the tables of Django's database cache, as LOCATION in the settings has them."""
    from django.core.cache.backends.db import BaseDatabaseCache

    return frozenset(
        said.get("LOCATION", "")
        for said in settings.CACHES.values()
        if issubclass(import_string(said["BACKEND"]), BaseDatabaseCache)
    )


def is_ours(alias: str) -> bool:
    """Whether an alias has one of our ENGINEs."""
    engine = settings.DATABASES.get(alias, {}).get("ENGINE", "")
    return engine in _OURS


def _check(schemas: Any, databases: Any) -> None:
    for name, said in (("SCHEMAS", schemas), ("DATABASES", databases)):
        if not isinstance(said, Mapping):
            raise ImproperlyConfigured(f'HOWDAH["{name}"] is to be a dictionary, not {said!r}.')
    for key, value in schemas.items():
        if isinstance(value, Mapping) and key not in settings.DATABASES:
            raise ImproperlyConfigured(
                f'HOWDAH["SCHEMAS"]["{key}"] is a dictionary, so {key!r} is to be an alias '
                f"of DATABASES; those are {', '.join(settings.DATABASES)}."
            )
        if not isinstance(value, str | Mapping):
            raise ImproperlyConfigured(
                f'HOWDAH["SCHEMAS"]["{key}"] is to be a schema, or a dictionary for an alias, '
                f"not {value!r}."
            )
    for app, alias in databases.items():
        if alias not in settings.DATABASES:
            raise ImproperlyConfigured(
                f'HOWDAH["DATABASES"]["{app}"] names the alias {alias!r}, which DATABASES '
                f"does not have; it has {', '.join(settings.DATABASES)}."
            )


def _address(alias: str) -> tuple[Any, ...]:
    entry = settings.DATABASES.get(alias, {})
    options = entry.get("OPTIONS") or {}
    host = entry.get("HOST") or options.get("host") or ""
    port = entry.get("PORT") or options.get("port") or ""
    name = entry.get("NAME") or options.get("dbname") or ""
    kind = "postgresql" if "postg" in entry.get("ENGINE", "") else entry.get("ENGINE")
    return kind, str(host), str(port), options.get("service"), str(name)


def _forget(*, setting: str, **_kwargs: Any) -> None:
    if setting in {"HOWDAH", "DATABASES"}:
        places.cache_clear()
    if setting == "CACHES":
        cache_tables.cache_clear()


setting_changed.connect(_forget)
