"""A budget without a rush: how many reservations a second one process makes and gives back.

    python bench/budget.py [--pairs 2000] [--rounds 5]

A server of its own is started for the run. One side is `Budget.reserve(20)` and
`release`; the other is a round trip for `SELECT 1`, to tell the machine's pace.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import psycopg

import howdah
from howdah import server
from howdah.connections.control import close_all


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="howdah-bench-"))
    folder.chmod(0o755)  # the server may run as another user
    try:
        running = server.start(folder / "server" / "cluster")
        try:
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


if __name__ == "__main__":
    main()
