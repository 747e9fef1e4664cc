"""Which Django project: what the user names, the environment, or the manage.py of the folder."""

from __future__ import annotations

import os
import re
import sys
import traceback
from pathlib import Path

from howdah.errors import MissingExtra, UsageError

_SETTINGS = re.compile(r"""DJANGO_SETTINGS_MODULE["']\s*,\s*["']([\w.]+)["']""")


def set_up(settings: str | None = None, pythonpath: str | None = None) -> str:
    """Make Django ready for the project; return the name of its settings module.

    Args:
        settings: The module; None: DJANGO_SETTINGS_MODULE, else what manage.py says.
        pythonpath: A folder to import from, before the working directory.

    Raises:
        UsageError: There is no project here, or its settings cannot be imported.
        MissingExtra: Django is not installed.
    """
    try:
        import django
    except ImportError as exc:
        raise MissingExtra("howdah rebuild", "django") from exc
    for folder in (str(Path.cwd()), pythonpath):
        if folder and folder not in sys.path:
            sys.path.insert(0, folder)
    module = settings or os.environ.get("DJANGO_SETTINGS_MODULE") or _of_manage_py(pythonpath)
    if module is None:
        raise UsageError(
            "There is no Django project here: no manage.py, and no settings module is named.",
            next_step="Run the command in the project's folder, or add --settings MODULE.",
        )
    os.environ["DJANGO_SETTINGS_MODULE"] = module
    try:
        django.setup()
    except ModuleNotFoundError as exc:
        raise UsageError(
            f"The project with the settings {module} cannot be imported: {exc}.",
            next_step="Run the command in the project's folder and in its Python environment, "
            "or add --pythonpath DIR.",
        ) from exc
    except Exception as exc:  # it is the project's own code, and may raise anything
        raise UsageError(
            f"The project with the settings {module} cannot be loaded: {_where(exc)}.",
            next_step="Mend that; 'manage.py check' shows more.",
        ) from exc
    return module


def _where(exc: Exception) -> str:
    if isinstance(exc, SyntaxError):
        return f"{exc.filename}, line {exc.lineno}: {exc.msg}"
    last = traceback.extract_tb(exc.__traceback__)[-1]
    text = " ".join(str(exc).split())
    return f"{last.filename}, line {last.lineno}: {type(exc).__name__}: {text.rstrip('.')}"


def _of_manage_py(pythonpath: str | None) -> str | None:
    for folder in filter(None, (pythonpath, ".")):
        script = Path(folder) / "manage.py"
        if script.is_file() and (found := _SETTINGS.search(script.read_text(errors="replace"))):
            return found[1]
    return None
