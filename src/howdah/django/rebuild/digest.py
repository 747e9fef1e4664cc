"""A digest of all that decides what a rebuild builds.

Two rebuilds with one digest build the same: migration files, models, fixtures,
routers and hooks, the settings that reach the database, the versions of
everything. Apps that reach neither the database's tables nor their migrations
count only by the names of their models, where content types and permissions are
made of them. What a migration reads from elsewhere (the clock, the network, a
module outside its package) is not in it; `--fresh` builds anew.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Container, Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from django.apps import apps
from django.conf import settings
from django.db import connections
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.state import ModelState
from django.db.migrations.writer import MigrationWriter

import django
import howdah
from howdah.django.rebuild.databases import Database
from howdah.django.rebuild.fixtures import fixture_files
from howdah.django.rebuild.options import Options
from howdah.django.rebuild.reach import deciding_apps
from howdah.django.rebuild.rules import Rules

_SETTINGS = (
    "AUTH_USER_MODEL",
    "CACHES",
    "DEFAULT_AUTO_FIELD",
    "DEFAULT_INDEX_TABLESPACE",
    "DEFAULT_TABLESPACE",
    "HOWDAH",
    "INSTALLED_APPS",
    "LANGUAGE_CODE",
    "MIGRATION_MODULES",
    "SITE_ID",
    "TIME_ZONE",
    "USE_TZ",
)


def digest_of(
    database: Database,
    options: Options,
    rules: Rules,
    extensions: Iterable[tuple[str, ...]],
    loader: MigrationLoader,
) -> str:
    """Return the digest of what a rebuild of the database would build, as 64 hex digits."""
    digest = hashlib.sha256()
    facts = database.facts
    _add(
        digest,
        {
            "database": database.name,
            "versions": [howdah.__version__, django.get_version(), facts.server_version],
            "encoding": [facts.encoding, facts.datcollate, facts.datctype, facts.locale],
            "database settings": facts.settings,
            "extensions": sorted(extensions),
            "settings": {name: getattr(settings, name, None) for name in _SETTINGS},
            "aliases": [_alias(alias) for alias in database.aliases],
            "search_paths": database.search_paths,
            "role": facts.role,
            "from models": options.migrations == "from models",
            "rules": [rules.fixtures, rules.before_sql, rules.after_sql, rules.after],
        },
    )
    deciding = deciding_apps(database, loader)
    for files in (_migration_files(deciding), _routers(), _hook(rules), _fixtures(database, rules)):
        for path in files:
            digest.update(path.name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    for model in apps.get_models(include_auto_created=True):
        if options.migrations == "from models" or model._meta.app_label in deciding:
            _add(digest, _state(ModelState.from_model(model)))
        elif "contenttypes" in deciding:
            _add(digest, _names(model))
    return digest.hexdigest()


def migrations_folder(label: str) -> Path | None:
    """Return the folder of an app's migrations; None where it has none."""
    module, _ = MigrationLoader.migrations_module(label)
    try:
        spec = find_spec(module) if module else None
    except ModuleNotFoundError:
        return None
    locations = list(spec.submodule_search_locations or ()) if spec else []
    return Path(locations[0]) if locations else None


def _add(digest: Any, facts: object) -> None:
    digest.update(json.dumps(facts, sort_keys=True, default=str).encode())


def _alias(alias: str) -> dict[str, object]:
    entry = connections[alias].settings_dict
    options = {k: v for k, v in entry.get("OPTIONS", {}).items() if "password" not in k}
    return {"alias": alias, "engine": entry["ENGINE"], "options": options}


def _state(model: ModelState) -> list[object]:
    fields = [(name, _field(field)) for name, field in model.fields.items()]
    return [model.app_label, model.name, fields, str(model.options), str(model.bases)]


def _names(model: Any) -> list[object]:
    """Return what Django notes of a model in content types and permissions."""
    meta = model._meta
    return [meta.label, meta.verbose_name_raw, meta.default_permissions, meta.permissions]


def _field(field: Any) -> str:
    try:
        return str(MigrationWriter.serialize(field)[0])
    except ValueError:  # a default that a migration could not hold either
        return str(field.deconstruct()[1:3])


def _migration_files(labels: Container[str]) -> Iterable[Path]:
    for config in apps.get_app_configs():
        if config.label not in labels:
            continue
        folder = migrations_folder(config.label)
        if folder is not None:
            yield from sorted(
                path
                for path in folder.rglob("*")
                if path.is_file() and path.suffix not in {".pyc", ".pyo"}
            )


def _routers() -> Iterable[Path]:
    for router in settings.DATABASE_ROUTERS:
        module = router.rpartition(".")[0] if isinstance(router, str) else type(router).__module__
        yield from _source(module)


def _hook(rules: Rules) -> Iterable[Path]:
    return _source(rules.after.rpartition(".")[0])


def _source(module: str) -> Iterable[Path]:
    loaded = sys.modules.get(module)
    spec = loaded.__spec__ if loaded is not None else find_spec(module) if module else None
    if spec is not None and spec.origin:
        yield Path(spec.origin)


def _fixtures(database: Database, rules: Rules) -> Iterable[Path]:
    for alias in database.aliases:
        yield from map(Path, fixture_files(alias, rules.for_alias(rules.fixtures, alias)))
