"""Rebuild whenever what goes into a rebuild changes: for a developer's machine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core.serializers import get_public_serializer_formats

from howdah.django.rebuild.digest import migrations_folder
from howdah.django.rebuild.options import FLAGS
from howdah.errors import MissingExtra

# A burst of changes (git, an editor, a formatter) is over when so long nothing changes, in ms.
_QUIET_MS = 400
_LONGEST_BURST_MS = 10_000
_TURN_MS = 500

Say = Callable[[str], None]
Digests = Mapping[str, str]


def watch(given: Mapping[str, Any], *, say: Say) -> None:
    """Rebuild at once and after each change that matters, until Ctrl-C.

    In a process of its own each time: Python does not load changed models again. What
    changes and is no input of a rebuild (a view, a comment in a model) starts none.

    Raises:
        MissingExtra: watchfiles is not installed.
    """
    try:
        from watchfiles import watch as changes
    except ImportError as exc:
        raise MissingExtra("howdah rebuild --watch", "django") from exc
    command = [sys.executable, "-m", "howdah", "rebuild", *_arguments(given)]
    done = None
    is_first = True
    try:
        for changed in changes(
            *_folders(),
            watch_filter=_Inputs(),
            step=_QUIET_MS,
            debounce=_LONGEST_BURST_MS,
            rust_timeout=_TURN_MS,
            yield_on_timeout=True,
        ):
            if is_first:  # nothing that changes from now on is missed
                done = _first(command)
                say("watching models, migrations and fixtures; Ctrl-C ends it")
                is_first = False
            elif changed:
                done = _again(command, done, say)
    except KeyboardInterrupt:
        say("watching no more")


def _first(command: list[str]) -> Digests | None:
    """Rebuild; return the inputs, None after a failure."""
    inputs = _digests(command, stderr=subprocess.DEVNULL)  # the rebuild says what is wrong
    code, _ = _run(command)
    if code:
        return None
    # A first rebuild may make the databases, or migrations: there were no inputs before.
    is_new = inputs is None or "--remake-migrations" in command
    return _digests(command) if is_new else inputs


def _again(command: list[str], done: Digests | None, say: Say) -> Digests | None:
    """Rebuild unless the inputs are those of the last time; return them, None after a failure."""
    inputs = _digests(command)
    if inputs is None:
        return done  # it said why: the project cannot be loaded as it is
    if inputs == done:
        say("changed, but nothing that a rebuild is made of")
        return done
    code, _ = _run(command)
    if code:
        return None
    return _digests(command) if "--remake-migrations" in command else inputs


def _digests(command: list[str], *, stderr: int | None = None) -> Digests | None:
    """Return the digest of each database's inputs; None where it is not to be had."""
    plan = [word for word in command if word != "--json"]
    code, said = _run([*plan, "--plan", "--json"], stdout=subprocess.PIPE, stderr=stderr)
    if code:
        return None
    return {one["name"]: one["digest"] for one in json.loads(said)["databases"]}


def _run(
    command: list[str], *, stdout: int | None = None, stderr: int | None = None
) -> tuple[int, str]:
    """Run a command to its end, and let it put everything back where Ctrl-C ends it."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    process = subprocess.Popen(
        command,
        env=environment,
        stdout=stdout,
        stderr=stderr,
        text=True,
        process_group=0,  # a terminal's Ctrl-C would reach it twice, the second time tidying up
    )
    try:
        said, _ = process.communicate()
    except KeyboardInterrupt:
        process.send_signal(signal.SIGINT)
        process.communicate()
        raise
    return process.returncode, said or ""


class _Inputs:
    """Says which changes may be one of a rebuild's inputs: Python files and fixtures."""

    def __init__(self) -> None:
        self.suffixes = {".py", *(f".{one}" for one in get_public_serializer_formats())}

    def __call__(self, _: object, path: str) -> bool:
        file = Path(path)
        if file.name.startswith((".", "#")) or "__pycache__" in file.parts:
            return False
        # Fixtures may be compressed: rows.json.gz
        return bool(self.suffixes & set(file.suffixes))


def _folders() -> list[Path]:
    """Return the project's own folders that inputs lie in, each once, whole trees."""
    found = set()
    for folder in map(Path.resolve, _candidates()):
        if folder.is_dir() and "site-packages" not in folder.parts:
            found.add(folder)
    return [one for one in sorted(found) if not found & set(one.parents)]


def _candidates() -> Iterator[Path]:
    for config in apps.get_app_configs():
        yield Path(config.path)
        if (migrations := migrations_folder(config.label)) is not None:
            yield migrations
    yield from map(Path, settings.FIXTURE_DIRS)
    routers = [one.rpartition(".")[0] for one in settings.DATABASE_ROUTERS if isinstance(one, str)]
    for module in (os.environ["DJANGO_SETTINGS_MODULE"], *routers):
        spec = find_spec(module)
        if spec is not None and spec.origin:
            yield Path(spec.origin).parent


def _arguments(given: Mapping[str, Any]) -> Iterator[str]:
    for flag in FLAGS:
        value = given.get(flag.name.removeprefix("--").replace("-", "_"))
        if flag.name == "--watch" or not value:
            continue
        for one in value if flag.many else [value]:
            yield from (flag.name, str(one)) if flag.metavar else (flag.name,)
