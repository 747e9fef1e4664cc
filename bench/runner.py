"""Test databases: howdah.django.test.Runner and the pytest plugin, beside what they replace.

    python bench/runner.py [--rounds N]

Each side is a test run in which nothing has changed since the one before, in a
process of its own, on a copy of examples/project (howdah's ENGINEs: Django's
own runner makes no schemas) whose tests use all aliases. All sides run in turn.
Needs PostGIS, pytest-django and pytest-xdist.
"""

from __future__ import annotations

import argparse
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
from common import environment, own_server

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "project"
RUNNER = 'TEST_RUNNER = "howdah.django.test.Runner"\n'
TESTS = """
from catalog.models import Tag
from django.test import TestCase
from places.models import Region


class Case(TestCase):
    databases = "__all__"

    def check(self):
        Tag.objects.create(word="one")
        self.assertEqual((Tag.objects.count(), Region.objects.count()), (1, 0))
"""
SETUP = re.compile(r"Total database setup took ([\d.]+)s")
MANAGE = ("manage.py", "test", "--noinput", "--timing", "--testrunner")
PYTEST = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", "4", "catalog/tests.py")


@dataclass
class Side:
    """One way to test: its command, the one that it is held against, and what was measured."""

    name: str
    command: tuple[str, ...]
    base: str
    setup: list[float] = field(default_factory=list)
    whole: list[float] = field(default_factory=list)


SIDES = (
    Side("manage.py test, Django's runner", (*MANAGE, "django.test.runner.DiscoverRunner"), "test"),
    Side("manage.py test, howdah's runner", (*MANAGE, "howdah.django.test.Runner"), "test"),
    Side("pytest -n 4, without the plugin", (*PYTEST, "-p", "no:howdah"), "pytest"),
    Side("pytest -n 4, with howdah's plugin", PYTEST, "pytest"),
)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    with own_server() as (running, folder):
        words = environment(running, DJANGO_SETTINGS_MODULE="depot.settings.schemas")
        with psycopg.connect(running.conninfo(), autocommit=True) as conn:
            conn.execute("CREATE DATABASE depot")
            conn.execute("CREATE DATABASE depot_geo")
        with psycopg.connect(running.conninfo("depot_geo"), autocommit=True) as conn:
            conn.execute("CREATE EXTENSION postgis")
        project = prepared(Path(tempfile.mkdtemp(dir=folder)) / "project")
        run(SIDES[1], project, words)  # what is kept is built here
        SIDES[1].setup, SIDES[1].whole = [], []
        for _ in range(rounds):
            for side in SIDES:
                run(side, project, words)
    print(table())


def prepared(project: Path) -> Path:
    shutil.copytree(EXAMPLE, project, ignore=shutil.ignore_patterns("__pycache__"))
    tests = "".join(
        f"    def test_{number}(self):\n        self.check()\n\n" for number in range(8)
    )
    (project / "catalog" / "tests.py").write_text(f"{TESTS}\n{tests}")
    with (project / "depot" / "settings" / "schemas.py").open("a") as settings:
        settings.write(RUNNER)
    return project


def run(side: Side, project: Path, words: dict[str, str]) -> None:
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, *side.command],
        check=False,
        cwd=project,
        env=words,
        capture_output=True,
        text=True,
    )
    side.whole.append(time.perf_counter() - started)
    said = done.stdout + done.stderr
    if done.returncode or not re.search("Ran 8 tests|8 passed", said):
        raise SystemExit(f"{side.name}: {said}")
    print(f"{side.whole[-1]:6.1f} s {side.name}", file=sys.stderr)
    side.setup += [float(seconds) for seconds in SETUP.findall(said)]


def table() -> str:
    lines = [
        "| a run with nothing changed | databases, s | whole run, s (each round) | times faster |",
        "| --- | ---: | --- | ---: |",
    ]
    for side in SIDES:
        base = next(one for one in SIDES if one.base == side.base)
        seconds = f"{statistics.median(side.setup):.2f}" if side.setup else ""
        shown = " ".join(f"{one:.1f}" for one in side.whole)
        ratio = f"{statistics.median(base.whole) / statistics.median(side.whole):.1f}"
        if side.setup:
            databases = statistics.median(base.setup) / statistics.median(side.setup)
            ratio = f"{databases:.1f}, the whole run {ratio}"
        lines.append(f"| {side.name} | {seconds} | {shown} | {ratio} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
