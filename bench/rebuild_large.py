"""What a rebuild costs where a project grows: from 30 models and 200 migrations to ten times that.

    python bench/rebuild_large.py [--sizes 30:200 100:667 300:2000] [--django]

Each project is written here: apps of ten models, each with an initial migration and then ones that
add a field, alter it, or add an index, in turn. The sizes run in turn in one run.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psycopg
from common import environment, own_server

MODELS_OF_AN_APP = 10
AUTO = 'auto_created=True, primary_key=True, serialize=False, verbose_name="ID"'
REBUILD = ("-m", "howdah", "rebuild", "--json")

SETTINGS = """
import os
SECRET_KEY = "x"
USE_TZ = True
INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth", {apps}]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATABASES = {{"default": {{"ENGINE": "django.db.backends.postgresql",
    "NAME": os.environ["DATABASE"], "OPTIONS": {{"options": "-c search_path=main"}}}}}}
HOWDAH = {{"REBUILD": {{"allow": [os.environ["DATABASE"]]}}}}
"""
MIGRATION = """
import django.db.models.deletion
from django.db import migrations, models

class Migration(migrations.Migration):
    initial = {initial}
    dependencies = {dependencies}
    operations = [
{operations}
    ]
"""
MANAGE = """
import sys
from django.core.management import execute_from_command_line
execute_from_command_line(sys.argv)
"""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--sizes", nargs="+", default=["30:200", "100:667", "300:2000"])
    parser.add_argument("--django", action="store_true", help="time Django's own migrate too")
    given = parser.parse_args()
    rows = []
    with own_server() as (running, folder):
        base = environment(running, DJANGO_SETTINGS_MODULE="settings")
        for size in given.sizes:
            models, migrations = map(int, size.split(":"))
            project = Path(tempfile.mkdtemp(dir=folder))
            write(project, models // MODELS_OF_AN_APP, migrations)
            words = base | {"DATABASE": f"large_{models}"}
            with psycopg.connect(running.conninfo(), autocommit=True) as conn:
                conn.execute(f"CREATE DATABASE large_{models}")
                conn.execute(f"CREATE DATABASE django_{models}")
            rows.append((models, migrations, times(project, words, with_django=given.django)))
    print(table(rows))


def times(project: Path, words: dict[str, str], *, with_django: bool) -> list[float]:
    run(project, words, *REBUILD)  # compiles the files
    found = [
        run(project, words, "-c", "import django; django.setup()"),
        run(project, words, *REBUILD, "--fresh"),
        run(project, words, *REBUILD),
    ]
    if with_django:
        other = words | {"DATABASE": words["DATABASE"].replace("large", "django")}
        with psycopg.connect(
            host=other["PGHOST"],
            port=other["PGPORT"],
            user=other["PGUSER"],
            passfile=other["PGPASSFILE"],
            dbname=other["DATABASE"],
            autocommit=True,
        ) as conn:
            conn.execute("CREATE SCHEMA main")
        found.append(run(project, other, "manage.py", "migrate", "--verbosity", "0"))
    return found


def run(project: Path, words: dict[str, str], *arguments: str) -> float:
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, *arguments],
        check=False,
        cwd=project,
        env=words,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise SystemExit(f"{arguments}: {done.stdout}{done.stderr}")
    return time.perf_counter() - started


def write(project: Path, apps: int, migrations: int) -> None:
    """Write a project of `apps` apps with `migrations` migrations between them."""
    names = [f"app{number}" for number in range(apps)]
    listed = ", ".join(f'"{name}"' for name in names)
    (project / "settings.py").write_text(SETTINGS.format(apps=listed))
    (project / "manage.py").write_text(MANAGE)
    for number, name in enumerate(names):
        count = migrations // apps + (number < migrations % apps)
        write_app(project / name, name, names[number - 1] if number else None, count)


def write_app(folder: Path, name: str, before: str | None, migrations: int) -> None:
    (folder / "migrations").mkdir(parents=True)
    for path in ("__init__.py", "migrations/__init__.py"):
        (folder / path).write_text("")
    fields: dict[int, list[str]] = {}
    operations = []
    for model in range(MODELS_OF_AN_APP):
        target = f"{name}.Model{model - 1}" if model else before and f"{before}.Model0"
        fields[model] = ["name = models.CharField(max_length=100)"]
        if target:
            field = f'models.ForeignKey("{target}", models.CASCADE)'
            fields[model].append(f"parent = {field}")
        listed = [one.split(" = ") for one in fields[model]]
        columns = ", ".join(f'("{column}", {value})' for column, value in listed)
        key = f'("id", models.BigAutoField({AUTO}))'
        operations.append(f'        migrations.CreateModel("Model{model}", [{key}, {columns}]),')
    needs = [(before, "0001_initial")] if before else []
    write_migration(folder, "0001_initial", needs, operations, initial=True)
    previous = "0001_initial"
    for number in range(2, migrations + 1):
        operation = later(number, fields)
        current = f"{number:04}_more"
        write_migration(folder, current, [(name, previous)], [operation], initial=False)
        previous = current
    lines = ["from django.db import models"]
    for model, columns in fields.items():
        lines += ["", f"class Model{model}(models.Model):", *(f"    {one}" for one in columns)]
    (folder / "models.py").write_text("\n".join(lines) + "\n")


def later(number: int, fields: dict[int, list[str]]) -> str:
    """Return one more operation, and note in `fields` what the model is then."""
    model = (number // 3) % MODELS_OF_AN_APP
    kind, column = number % 3, f"extra{number // 3}"
    if kind == 0:
        value = "models.IntegerField(default=0)"
        fields[model].append(f"{column} = {value}")
        return f'        migrations.AddField("Model{model}", "{column}", {value}),'
    if kind == 1:
        old = f"{column} = models.IntegerField(default=0)"
        if old not in fields[model]:
            return "        migrations.RunSQL(migrations.RunSQL.noop),"
        value = "models.BigIntegerField(default=0)"
        fields[model][fields[model].index(old)] = f"{column} = {value}"
        return f'        migrations.AlterField("Model{model}", "{column}", {value}),'
    value = f"models.CharField(max_length={100 + number})"
    fields[model][0] = f"name = {value}"
    return f'        migrations.AlterField("Model{model}", "name", {value}),'


def write_migration(
    folder: Path, name: str, needs: list[tuple[str, str]], operations: list[str], *, initial: bool
) -> None:
    text = MIGRATION.format(initial=initial, dependencies=needs, operations="\n".join(operations))
    (folder / "migrations" / f"{name}.py").write_text(text)


def table(rows: list[tuple[int, int, list[float]]]) -> str:
    heads = ["setup", "nothing kept", "unchanged", "Django's migrate"]
    shown = len(rows[0][2])
    lines = [
        f"| models, migrations | {' | '.join(heads[:shown])} |",
        f"| --- {'| ---: ' * shown}|",
    ]
    for models, migrations, seconds in rows:
        cells = " | ".join(f"{one:.2f} s" for one in seconds)
        lines.append(f"| {models}, {migrations} | {cells} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
