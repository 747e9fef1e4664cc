"""What many connections cost: memory of each, and the speed of others' snapshots.

    python bench/connections.py [--rounds 5]

Of 10, 200 and 900 idle connections, in turn in each round: select-only transactions of 4 clients.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import psycopg

from howdah import pg
from howdah.connections.limit import facts
from howdah.server import init, restart, start, stop

IDLE = (10, 200, 900)
CLIENTS = 4
SECONDS = 2.0


def rate(conninfo: str) -> float:
    counts = [0] * CLIENTS

    def work(index: int) -> None:
        with psycopg.connect(conninfo, autocommit=True) as conn:
            end = time.monotonic() + SECONDS
            while time.monotonic() < end:
                conn.execute("SELECT abalance FROM accounts WHERE aid = 7")
                counts[index] += 1

    threads = [threading.Thread(target=work, args=[index]) for index in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / SECONDS


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    base = Path(tempfile.mkdtemp(prefix="howdah-bench-"))
    base.chmod(0o755)
    init(base / "cluster")
    running = start(base / "cluster")
    with psycopg.connect(running.conninfo(), autocommit=True) as conn:
        conn.execute("ALTER SYSTEM SET max_connections = 1000")
        conn.execute(
            "CREATE TABLE accounts AS SELECT aid, 0 abalance FROM generate_series(1,1000) aid"
        )
        conn.execute("CREATE INDEX ON accounts (aid)")
    running = restart(base / "cluster")
    rates: dict[int, list[float]] = {many: [] for many in IDLE}
    try:
        for _ in range(rounds):
            for many in IDLE:
                with ExitStack() as stack:
                    for _ in range(many):
                        stack.enter_context(psycopg.connect(running.conninfo()))
                    rates[many].append(rate(running.conninfo()))
                    if many == IDLE[-1]:
                        with pg.connect(running.conninfo()) as conn:
                            backend = facts(conn).backend
    finally:
        stop(base / "cluster")
        shutil.rmtree(base)
    base_rate = statistics.median(rates[IDLE[0]])
    for many in IDLE:
        median = statistics.median(rates[many])
        print(
            f"{many:4} idle connections: {median:8,.0f} tps, {median / base_rate:.2f} of the first"
        )
    print(f"one idle connection: {backend.private_bytes / 2**20:.2f} MiB ({backend.how})")


if __name__ == "__main__":
    main()
