"""Rebuild whenever what goes into a rebuild changes: for a developer's machine."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from django.apps import apps

from howdah.django.rebuild.databases import find_databases
from howdah.django.rebuild.digest import migrations_folder
from howdah.django.rebuild.fixtures import fixture_files
from howdah.django.rebuild.options import FLAGS
from howdah.django.rebuild.plan import project_rules

_POLL_S = 0.3
_QUIET_S = 0.5


def watch(given: Mapping[str, Any], *, say: Callable[[str], None]) -> None:
    """Rebuild at once and after each change, in a process of its own, until Ctrl-C.

    A new process each time: Python does not load changed models again.
    """
    command = [sys.executable, "-m", "howdah", "rebuild", *_arguments(given)]
    while True:
        before = _state()
        subprocess.run(command, check=False)
        say("watching models, migrations and fixtures; Ctrl-C ends it")
        while _state() == before:
            time.sleep(_POLL_S)
        _settle()


def _settle() -> None:
    """Wait until nothing changes any more: an editor or git writes several files."""
    before = _state()
    quiet_since = time.monotonic()
    while time.monotonic() - quiet_since < _QUIET_S:
        time.sleep(_QUIET_S / 5)
        if (now := _state()) != before:
            before, quiet_since = now, time.monotonic()


def _state() -> dict[Path, int]:
    found = {}
    for path in _paths():
        try:
            found[path] = path.stat().st_mtime_ns
        except FileNotFoundError:
            continue
    return found


def _paths() -> Iterator[Path]:
    for config in apps.get_app_configs():
        folder = Path(config.path)
        if "site-packages" in folder.parts:
            continue
        yield from (path for path in folder.rglob("*.py"))
        if (migrations := migrations_folder(config.label)) is not None:
            yield from migrations.glob("*.py")
    rules = project_rules()
    for database in find_databases():
        for alias in database.aliases:
            labels = rules.for_alias(rules.fixtures, alias)
            yield from map(Path, fixture_files(alias, labels))


def _arguments(given: Mapping[str, Any]) -> Iterator[str]:
    for flag in FLAGS:
        value = given.get(flag.name.removeprefix("--").replace("-", "_"))
        if flag.name == "--watch" or not value:
            continue
        for one in value if flag.many else [value]:
            yield from (flag.name, str(one)) if flag.metavar else (flag.name,)
