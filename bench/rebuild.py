"""`howdah rebuild` against the script that does it by hand, on the example project.

    python bench/rebuild.py [--rounds N]

Both sides run in turn in one run, as processes of their own, on copies of
examples/project with databases of their own on one server. Needs PostGIS.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psycopg
from common import environment, own_server

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "project"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    with (
        own_server() as (running, folder),
        psycopg.connect(running.conninfo(), autocommit=True) as conn,
    ):
        sides = measure(conn, environment(running), Path(tempfile.mkdtemp(dir=folder)), rounds)
    print(table(sides))


def measure(
    conn: psycopg.Connection[tuple[object, ...]], base: dict[str, str], folder: Path, rounds: int
) -> dict[str, list[float]]:
    hand, ours = (copy(conn, base, folder / name, name) for name in ("hand", "ours"))
    steps: dict[str, Callable[[], subprocess.CompletedProcess[str]]] = {
        "by hand (by-hand.sh)": lambda: hand("./by-hand.sh"),
        "howdah rebuild, nothing kept": lambda: ours(*HOWDAH, "--fresh"),
        "howdah rebuild --in-place": lambda: ours(*HOWDAH, "--in-place"),
        "howdah rebuild, a model of catalog changed": lambda: ours(*HOWDAH),
        "howdah rebuild, a model of places changed": lambda: ours(*HOWDAH),
        "howdah rebuild --app places, and again": lambda: ours(*HOWDAH, "--app", "places"),
        UNCHANGED: lambda: ours(*HOWDAH, "--json"),
        "python -c 'django.setup()'": lambda: ours(sys.executable, "-c", SETUP),
    }
    sides: dict[str, list[float]] = {name: [] for name in (*steps, PARTS)}
    hand("./by-hand.sh")
    ours(*HOWDAH)
    changes = 0
    for _ in range(rounds):
        for name, run in steps.items():
            if app := next((one for one in APPS if one in name), None):
                changes += 1
                change(folder / "ours", app, changes)
            started = time.perf_counter()
            done = run()
            sides[name].append(time.perf_counter() - started)
            if name == UNCHANGED:
                taken = json.loads(done.stdout)["steps"]
                sides[PARTS].append(taken["carry over"] + taken["swap"])
    return sides


UNCHANGED = "howdah rebuild, inputs unchanged"
PARTS = "of that, carrying over and swapping"
APPS = ("catalog", "places")
HOWDAH = (sys.executable, "-m", "howdah", "rebuild")
SETUP = "import django; django.setup()"


def copy(
    conn: psycopg.Connection[tuple[object, ...]], base: dict[str, str], folder: Path, name: str
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Copy the project, make its databases; return what runs a command in it."""
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("__pycache__"))
    databases = {"DEPOT_DATABASE": name, "DEPOT_GEO_DATABASE": f"{name}_geo"}
    for database in databases.values():
        conn.execute(f"CREATE DATABASE {database}")
    with psycopg.connect(
        host=base["PGHOST"],
        port=base["PGPORT"],
        user=base["PGUSER"],
        passfile=base["PGPASSFILE"],
        dbname=f"{name}_geo",
        autocommit=True,
    ) as geo:
        geo.execute("CREATE EXTENSION postgis")
    words = base | databases | {"DJANGO_SETTINGS_MODULE": "depot.settings.stock"}
    words |= {"PYTHON": sys.executable}

    def run(*command: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            command, check=False, cwd=folder, env=words, capture_output=True, text=True
        )
        if done.returncode:
            raise SystemExit(f"{command}: {done.stdout}{done.stderr}")
        return done

    return run


def change(folder: Path, app: str, number: int) -> None:
    """Change one line of a model, and the migration that says so, to what was not there before."""
    for path in (f"{app}/models.py", f"{app}/migrations/0001_initial.py"):
        file = folder / path
        text, count = re.subn(r"max_length=1\d\d\b", f"max_length={101 + number}", file.read_text())
        if not count:
            raise SystemExit(f"{file} has no line to change")
        file.write_text(text)


def table(sides: dict[str, list[float]]) -> str:
    hand = statistics.median(next(iter(sides.values())))
    lines = ["| way | seconds (each round) | median | by hand = 1 |", "| --- | --- | ---: | ---: |"]
    for name, seconds in sides.items():
        shown = " ".join(f"{one:.2f}" for one in seconds)
        median = statistics.median(seconds)
        lines.append(f"| {name} | {shown} | {median:.2f} | {hand / median:.1f} times faster |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
