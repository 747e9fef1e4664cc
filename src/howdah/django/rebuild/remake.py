"""Write the project's own migrations anew: one initial migration for each app."""

from __future__ import annotations

import ast
import io
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import invalidate_caches
from pathlib import Path
from sysconfig import get_paths

from django.apps import AppConfig, apps
from django.conf import settings
from django.core.management import call_command
from django.core.management.base import CommandError

from howdah.django.rebuild.digest import migrations_folder
from howdah.django.rebuild.options import Options
from howdah.errors import HowdahError, Refused

_HAND_WRITTEN = ("RunPython", "RunSQL")


@dataclass(frozen=True, slots=True)
class _App:
    label: str
    folder: Path
    files: tuple[Path, ...]


def remake(options: Options) -> list[str]:
    """Replace the migration files of the project's own apps; keep a copy of the old ones.

    Returns:
        What was done, in sentences.

    Raises:
        Refused: A migration holds what a person has written.
        HowdahError: `makemigrations` failed; the old files are back.
    """
    own = [app for app in _own_apps() if not options.apps or app.label in options.apps]
    _check(own, options)
    copy = _root() / ".howdah" / f"migrations-{datetime.now(UTC):%Y%m%dT%H%M%S}"
    for app in own:
        (copy / app.label).mkdir(parents=True)
        for path in app.files:
            shutil.copy2(path, copy / app.label)
            path.unlink()
    said = io.StringIO()
    try:
        for app in own:
            app.folder.mkdir(exist_ok=True)
            (app.folder / "__init__.py").touch()
        invalidate_caches()
        call_command("makemigrations", *[app.label for app in own], interactive=False, stdout=said)
    except (CommandError, SystemExit, Exception) as exc:
        _restore(own, copy)
        raise HowdahError(
            f"makemigrations failed, and the old files are back: {exc}",
            next_step="Run it yourself: manage.py makemigrations",
        ) from exc
    return [f"migrations of {app.label} written anew" for app in own] + [f"old ones are in {copy}"]


def _restore(own: Iterable[_App], copy: Path) -> None:
    for app in own:
        for path in _files(app.folder):
            path.unlink()
        for path in (copy / app.label).iterdir():
            shutil.copy2(path, app.folder)


def _check(own: Iterable[_App], options: Options) -> None:
    for app in own:
        if app.label in options.drop_migrations:
            continue
        for path in app.files:
            if found := _hand_written(path):
                raise Refused(
                    f"{path.name} of {app.label} holds {found}, which makemigrations cannot "
                    "write again.",
                    next_step="Leave --remake-migrations away, or say that it may go: "
                    f"--drop-migrations {app.label}",
                )


def _hand_written(path: Path) -> str | None:
    for node in ast.walk(ast.parse(path.read_text())):
        name = node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", None)
        if name in _HAND_WRITTEN:
            return str(name)
    return None


def _own_apps() -> Iterable[_App]:
    for config in apps.get_app_configs():
        if _is_own(config) and config.models_module is not None:
            folder = migrations_folder(config.label) or Path(config.path) / "migrations"
            yield _App(config.label, folder, tuple(_files(folder)))


def _is_own(config: AppConfig) -> bool:
    path = Path(config.path).resolve()
    installed = {Path(get_paths()[key]).resolve() for key in ("purelib", "platlib", "stdlib")}
    outside = any(folder in path.parents for folder in installed)
    return _root() in path.parents and not outside and "site-packages" not in path.parts


def _root() -> Path:
    """Return the project's root: BASE_DIR of the settings, else the working directory."""
    return Path(getattr(settings, "BASE_DIR", None) or Path.cwd()).resolve()


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*.py") if path.name != "__init__.py")
