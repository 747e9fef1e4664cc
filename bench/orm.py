"""What the ORM pays for schemas: the same queries with Django's ENGINE and with ours, in turn.

Each side is a process of its own that compiles and runs 1,000 simple queries
a round; the table has the median of the ratios (ours / Django's) of each round, in
the process's own CPU time: what other processes do does not count.

    python bench/orm.py [--rounds N]
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

from howdah.server import init, start, stop

QUERIES = 1_000
SIDES = {
    "Django's ENGINE": ("django.db.backends.postgresql", {}),
    "ours, no schema named": ("howdah.django.postgresql", {}),
    "ours, in schemas": ("howdah.django.postgresql", {"SCHEMAS": {"*": "{app_label}"}}),
}


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory(prefix="howdah-orm-") as folder:
        Path(folder).chmod(0o755)
        data = Path(folder) / "cluster"
        init(data)
        server = start(data, port=0)
        try:
            _compare(server, rounds)
        finally:
            stop(data)


def _compare(server, rounds):
    workers = {name: _worker(server, *side) for name, side in SIDES.items()}
    seconds = {name: [] for name in SIDES}
    for number in range(rounds + 1):
        for name, worker in workers.items():
            worker.stdin.write("\n")
            worker.stdin.flush()
            told = json.loads(worker.stdout.readline())
            if number:  # the first warms up
                seconds[name].append(told)
    for worker in workers.values():
        worker.stdin.close()
        worker.wait()
    first = next(iter(SIDES))
    print(f"{QUERIES} queries a round, {rounds} rounds in turn\n")
    print("| side | compile, ms | ratio | compile and execute, ms | ratio |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name in SIDES:
        cells = []
        for part in range(2):
            own = [told[part] for told in seconds[name]]
            pairs = zip(own, (told[part] for told in seconds[first]), strict=True)
            ratio = statistics.median(mine / theirs for mine, theirs in pairs)
            cells.append(f"{statistics.median(own) * 1000:.0f} | {ratio:.3f}")
        print(f"| {name} | {' | '.join(cells)} |")


def _worker(server, engine, howdah):
    given = json.dumps([engine, howdah, server.conninfo()])
    worker = subprocess.Popen(
        [sys.executable, __file__, "--worker"],
        env=os.environ | {"ORM_SIDE": given},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    worker.stdout.readline()  # its tables are made; two that make them at once would meet
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
