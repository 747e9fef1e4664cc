"""What the ORM pays for schemas: the same queries with Django's ENGINE and with ours, in turn.

Each side is a process of its own that compiles and runs simple queries, 100 in each turn;
sides take turns so often because a machine's pace changes within a second, and begin anew
in each round because two processes of the same code differ for good, by where their memory
lies. The table has the medians, for 1,000 queries, and of the ratios (ours / Django's) of
each turn, in the process's own CPU time.

    python bench/orm.py [--rounds 6] [--turns 60]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import psycopg

from howdah.server import init, start, stop

QUERIES = 100
"""In one turn."""

WARM_UP = 5
"""Turns of each round that do not count."""

SIDES = {
    "Django's ENGINE": ("django.db.backends.postgresql", {}),
    "ours, no schema named": ("howdah.django.postgresql", {}),
    "ours, in schemas": ("howdah.django.postgresql", {"SCHEMAS": {"*": "{app_label}"}}),
}


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--turns", type=int, default=60)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="howdah-orm-") as folder:
        Path(folder).chmod(0o755)
        data = Path(folder) / "cluster"
        init(data)
        server = start(data, port=0)
        try:
            _compare(server, arguments.rounds, arguments.turns)
        finally:
            stop(data)


def _compare(server, rounds, turns):
    seconds = {name: [] for name in SIDES}
    for _ in range(rounds):
        _round(server, turns, seconds)
    first = next(iter(SIDES))
    print(f"1,000 queries, medians of {rounds} rounds of {turns} turns of {QUERIES}\n")
    print("| side | compile, ms | ratio | compile and execute, ms | ratio |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name in SIDES:
        cells = []
        for part in range(2):
            own = [told[part] for told in seconds[name]]
            pairs = zip(own, (told[part] for told in seconds[first]), strict=True)
            ratio = statistics.median(mine / theirs for mine, theirs in pairs)
            milliseconds = statistics.median(own) * 1_000 / QUERIES * 1_000
            cells.append(f"{milliseconds:.0f} | {ratio:.3f}")
        print(f"| {name} | {' | '.join(cells)} |")


def _round(server, turns, seconds):
    workers = {}
    for number, (name, side) in enumerate(SIDES.items()):
        with psycopg.connect(server.conninfo(), autocommit=True) as conn:
            conn.execute(f"DROP DATABASE IF EXISTS side{number}")
            conn.execute(f"CREATE DATABASE side{number}")
        workers[name] = _worker(server.conninfo(dbname=f"side{number}"), *side)
    names = list(workers)
    for number in range(WARM_UP + turns):
        for name in names:
            worker = workers[name]
            worker.stdin.write("\n")
            worker.stdin.flush()
            told = json.loads(worker.stdout.readline())
            if number >= WARM_UP:
                seconds[name].append(told)
        names.append(names.pop(0))  # each is the first as often as the others
    for worker in workers.values():
        worker.stdin.close()
        worker.wait()


def _worker(conninfo, engine, howdah):
    given = json.dumps([engine, howdah, conninfo])
    worker = subprocess.Popen(
        [sys.executable, __file__, "--worker"],
        env=os.environ | {"ORM_SIDE": given},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    worker.stdout.readline()  # its tables are made
    return worker


def _work() -> None:
    import gc
    from time import process_time

    from django.conf import settings
    from psycopg.conninfo import conninfo_to_dict

    import django

    engine, howdah, conninfo = json.loads(os.environ["ORM_SIDE"])
    given = conninfo_to_dict(conninfo)
    entry = {"ENGINE": engine, "NAME": given.pop("dbname"), "OPTIONS": given}
    settings.configure(
        DATABASES={"default": entry},
        HOWDAH=howdah,
        INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth"],
        DEFAULT_AUTO_FIELD="django.db.models.AutoField",
    )
    django.setup()
    from django.contrib.auth.models import Permission, User
    from django.core.management import call_command

    call_command("migrate", verbosity=0)

    def queries(number):
        yield User.objects.filter(username=f"user{number}")
        yield Permission.objects.filter(content_type__app_label="auth", codename=f"c{number}")

    print("ready", flush=True)
    for _ in sys.stdin:
        gc.collect()
        started = process_time()
        for number in range(QUERIES // 2):
            for query in queries(number):
                str(query.query.get_compiler("default").as_sql())
        compiled = process_time()
        for number in range(QUERIES // 2):
            for query in queries(number):
                list(query)
        print(json.dumps([compiled - started, process_time() - compiled]), flush=True)


if __name__ == "__main__":
    _work() if "--worker" in sys.argv else main()
