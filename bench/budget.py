"""A budget without a rush: how many reservations a second one process makes and gives back.

    python bench/budget.py [--pairs 2000] [--rounds 5]
    python bench/budget.py --cut [--rounds 5]

A server of its own is started for the run. One side is `Budget.reserve(20)` and
`release`; the other is a round trip for `SELECT 1`, to tell the machine's pace.
With --cut, as root: another host (a network namespace) holds all slots, its cable is cut, and
the time is taken until they are granted again, for `lost_after_s` of 2, 4 and 10 seconds.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

import psycopg

import howdah
from howdah import server
from howdah.connections.control import close_all

HOLD = """
import sys, howdah
budget = howdah.Budget("cut", 60, dsn=sys.argv[1], lost_after_s={lost_after_s})
reservation = budget.reserve(60)
conns = [reservation.connect() for _ in range(5)]
print("holds", flush=True)
sys.stdin.read()
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cut", action="store_true")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="howdah-bench-"))
    folder.chmod(0o755)  # the server may run as another user
    try:
        running = server.start(folder / "server" / "cluster")
        try:
            if options.cut:
                measure_cuts(running, options.rounds)
                return
            measure(running.conninfo(), options.pairs, options.rounds)
        finally:
            close_all()
            server.stop(running.data_dir)
    finally:
        shutil.rmtree(folder)


def measure(dsn: str, pairs: int, rounds: int) -> None:
    budget = howdah.Budget("bench", 60, dsn=dsn)
    seconds: dict[str, list[float]] = {"reserve and release": [], "SELECT 1": []}
    with psycopg.connect(dsn, autocommit=True) as conn:
        for _ in range(rounds):
            started = time.perf_counter()
            for _ in range(pairs):
                budget.reserve(20).release()
            seconds["reserve and release"].append(time.perf_counter() - started)
            started = time.perf_counter()
            for _ in range(pairs):
                conn.execute("SELECT 1")
            seconds["SELECT 1"].append(time.perf_counter() - started)
    print("| | a second, median of rounds | all |\n| --- | ---: | --- |")
    for side, taken in seconds.items():
        every = " ".join(f"{pairs / one:,.0f}" for one in taken)
        print(f"| {side} | {pairs / statistics.median(taken):,.0f} | {every} |")


def measure_cuts(running: server.Running, rounds: int) -> None:
    """Print how long after the cut of its cable a host's slots are granted to another."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from tests.fixtures.network import other_host

    print("| lost_after_s | slots free after, s, median | all |\n| --- | ---: | --- |")
    for lost_after_s in (2, 4, 10):
        taken = []
        for _ in range(rounds):
            with other_host(running) as host:
                code = HOLD.format(lost_after_s=lost_after_s)
                away = host.python(code)
                assert away.stdout.readline() == "holds\n"
                budget = howdah.Budget("cut", 60, dsn=running.conninfo(), lost_after_s=2)
                host.cut()
                started = time.monotonic()
                budget.reserve(60, timeout_s=60).release()
                taken.append(time.monotonic() - started)
        every = " ".join(f"{one:.1f}" for one in taken)
        print(f"| {lost_after_s} | {statistics.median(taken):.1f} | {every} |")


if __name__ == "__main__":
    main()
