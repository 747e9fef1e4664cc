"""`OPTIONS["pool"]` as a howdah.Pool, perhaps in a budget that all processes share.

    "OPTIONS": {"pool": {"size": 5, "budget": "web", "limit": 60}}

Keys of our own: size; nodes, processes and threads, of which the size is worked out where it
is not given (see `howdah.connections.share`); budget (a name, or a `howdah.Budget`), limit (of
a budget that is not there yet), arbiter (the budget's database, where it is another one),
priority. The others are psycopg_pool's, as in Django's own option (Django 5.1 and newer).
Without a key of our own, the pool is Django's own.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from psycopg.conninfo import make_conninfo

from howdah.connections.budget import Budget
from howdah.connections.pool import Pool
from howdah.connections.share import Share

__all__ = ["Pooled", "pool_of"]

_SHARE = ("nodes", "processes", "threads")
_OURS = {"arbiter", "budget", "limit", "priority", "size", *_SHARE}
_NOT_LIBPQS = {"autocommit", "context", "cursor_factory", "prepare_threshold", "row_factory"}


class Pooled:
    """For a DatabaseWrapper, before Django's own: its pool is a `howdah.Pool`, where asked for."""

    alias: str
    settings_dict: dict[str, Any]
    _connection_pools: dict[str, Any]

    @property
    def pool(self) -> Any:
        """The process's pool of this alias; None where there is no such option."""
        options = self.settings_dict["OPTIONS"].get("pool")
        if not isinstance(options, dict) or not _OURS & options.keys():
            return super().pool  # type: ignore[misc]
        if self.alias == "__no_db__":
            return None
        if self.alias not in self._connection_pools:
            if self.settings_dict.get("CONN_MAX_AGE", 0) != 0:
                raise ImproperlyConfigured("Pooling doesn't support persistent connections.")
            made = pool_of(self, dict(options))
            # Threads may come here together; the first one's is taken, and none is open yet.
            self._connection_pools.setdefault(self.alias, made)
        return self._connection_pools[self.alias]


def pool_of(wrapper: Any, options: dict[str, Any]) -> Pool:
    """Return a pool for a connection wrapper, not open yet.

    Args:
        wrapper: Django's DatabaseWrapper.
        options: The option `pool`.
    """
    kwargs = {**wrapper.get_connection_params(), "autocommit": True}  # Django sets it later on
    share = {key: options.pop(key) for key in _SHARE if key in options}
    size = options.pop("size", options.pop("max_size", None))
    if size is None and share:
        size = replace(Share.of_environment(), **share)
    limit, arbiter = options.pop("limit", None), options.pop("arbiter", None)
    budget = options.pop("budget", None)
    if isinstance(budget, str):
        budget = Budget(budget, limit, dsn=arbiter or _conninfo(kwargs))
    name = options.pop("name", f"Django's {wrapper.alias}")
    return Pool(
        size=size,
        name=name,
        budget=budget,
        kwargs=kwargs,
        configure=wrapper._configure_connection,
        **options,
    )


def _conninfo(kwargs: dict[str, Any]) -> str:
    return make_conninfo(**{k: v for k, v in kwargs.items() if k not in _NOT_LIBPQS and v})
