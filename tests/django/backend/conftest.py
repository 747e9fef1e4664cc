"""A Django project of a few lines on a database of its own; code runs in its process."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

_SETTINGS = """
SECRET_KEY = "x"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = {apps!r}
DATABASES = {databases!r}
DATABASE_ROUTERS = {routers!r}
HOWDAH = {howdah!r}
"""
STOCK = "django.db.backends.postgresql"
OURS = "howdah.django.postgresql"
POSTGIS = "howdah.django.postgis"


@dataclass
class Project:
    """A folder with settings and apps.

    Attributes:
        folder: Where it is.
        entry: The entry of DATABASES for the test's database, but for the ENGINE.
    """

    folder: Path
    entry: dict[str, Any]

    def settings(
        self, *, apps=(), howdah=None, engine=OURS, databases=None, routers=(), options=None
    ) -> None:
        options = self.entry.get("OPTIONS", {}) | (options or {})
        entry = self.entry | {"ENGINE": engine, "OPTIONS": options}
        databases = {alias: entry | more for alias, more in (databases or {"default": {}}).items()}
        ours = ["howdah.django"] if engine in {OURS, POSTGIS} else []
        text = _SETTINGS.format(
            apps=[*ours, *apps], databases=databases, routers=list(routers), howdah=howdah or {}
        )
        (self.folder / "settings.py").write_text(text)

    def app(self, label: str, models: str) -> None:
        folder = self.folder / label
        (folder / "migrations").mkdir(parents=True, exist_ok=True)
        (folder / "__init__.py").touch()
        (folder / "migrations" / "__init__.py").touch()
        text = "from django.db import models\n" + textwrap.dedent(models)
        (folder / "models.py").write_text(text)

    def manage(self, *arguments: str, code: int = 0) -> str:
        return self._run(["-m", "django", *arguments], code)

    def python(self, text: str) -> str:
        """Run statements after django.setup(); an assertion that fails fails the test."""
        head = (
            "import django; django.setup()\n"
            "from django.apps import apps\n"
            "from django.db import connection, connections, models, transaction\n"
            "m = apps.get_model\n"
        )
        return self._run(["-c", head + textwrap.dedent(text)], 0)

    def _run(self, arguments: list[str], code: int) -> str:
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=self.folder,
            env=environment(self.folder),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr


def environment(folder: Path) -> dict[str, str]:
    """The variables with which a project's commands run."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PG", "HOWDAH", "DJANGO"))}
    return kept | {
        "DJANGO_SETTINGS_MODULE": "settings",
        "PYTHONPATH": str(folder),
        "PYTHONDONTWRITEBYTECODE": "1",  # sources change within a second
    }


@pytest.fixture
def project(dsn: str, tmp_path: Path) -> Project:
    given = conninfo_to_dict(dsn)
    entry = {
        "NAME": given["dbname"],
        "USER": given["user"],
        "HOST": given["host"],
        "PORT": str(given["port"]),
        "PASSWORD": given.get("password", ""),
    }
    if "passfile" in given:
        entry["OPTIONS"] = {"passfile": given["passfile"]}
    return Project(tmp_path, entry)


@pytest.fixture
def relations(dsn: str) -> Callable[[], dict[str, int]]:
    """Return every table, index and sequence outside the system, and the file of each."""

    def relations() -> dict[str, int]:
        query = """
            SELECT n.nspname || '.' || c.relname, c.relfilenode
              FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
             WHERE n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
        """
        with psycopg.connect(dsn) as conn:
            return dict(conn.execute(query).fetchall())  # type: ignore[arg-type]

    return relations
