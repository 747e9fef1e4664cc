"""A fleet of processes under one budget, of which some are killed: does it ever hold too much?

    python -m tests.connections.fleet [--seconds 60] [--processes 40] [--limit 60] [--seed N] [DSN]

Each process does jobs until the time is over: it reserves 10 to 20 slots, opens as many
connections, works on them, and notes the job as done. Now and then one is killed, wherever
it is, and another takes its place. All the while the server's connections are counted.
Without DSN it runs on a server of its own (`make fleet`).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field

import psycopg

import howdah
from howdah.connections.budgets import budgets

LAST_JOBS_S = 60
FEWEST_KILLED = 5
MOST, FEWEST = 20, 10

# All but the control connections and the counter itself.
COUNT = """
    SELECT count(*) FROM pg_stat_activity
     WHERE backend_type = 'client backend' AND application_name NOT LIKE 'howdah%'
"""


@dataclass
class Report:
    """What a fleet did.

    Attributes:
        seed: Of the random choices.
        done: Jobs that were finished.
        killed: Processes that were killed.
        failed: Exit codes of processes that ended otherwise than asked.
        samples: How often connections were counted.
        peak: The most that were ever seen.
        lost: Slots that nobody could have at the end.
    """

    seed: int
    done: int = 0
    killed: int = 0
    failed: list[int] = field(default_factory=list)
    samples: int = 0
    peak: int = 0
    lost: int = 0


def work(dsn: str, limit: int, seed: int, until: float) -> None:
    """Do jobs until the time is over."""
    chance = random.Random(seed)
    budget = howdah.Budget("fleet", limit, dsn=dsn)
    while time.monotonic() < until:
        slots = chance.randint(FEWEST, MOST)
        with budget.reserve(slots, timeout_s=LAST_JOBS_S, purpose="a job") as reservation:
            conns = [reservation.connect(application_name="job") for _ in range(slots)]
            for conn in conns[:3]:
                conn.execute("SELECT pg_sleep(0.01)")
            with conns[0] as conn:
                conn.execute("INSERT INTO jobs VALUES (%s)", [os.getpid()])


def fork_worker(dsn: str, limit: int, seed: int, until: float) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        work(dsn, limit, seed, until)
        code = 0
    except BaseException as exc:  # noqa: BLE001  the process ends here
        print(f"worker {os.getpid()}: {exc!r}", file=sys.stderr)
    finally:
        os._exit(code)


def run(dsn: str, *, seconds: float, processes: int, limit: int, seed: int) -> Report:
    chance = random.Random(seed)
    report = Report(seed)
    with psycopg.connect(dsn, autocommit=True, application_name="howdah fleet") as conn:
        conn.execute("CREATE TABLE IF NOT EXISTS jobs (process int)")
    until = time.monotonic() + seconds
    # Before any thread: a fork copies only the one that forks.
    workers = {fork_worker(dsn, limit, chance.getrandbits(32), until) for _ in range(processes)}
    counting = fork_counter(dsn)
    while time.monotonic() < until - 1 or report.killed < FEWEST_KILLED:
        time.sleep(chance.uniform(0.1, 0.7))
        victim = chance.choice(sorted(workers))
        os.kill(victim, signal.SIGKILL)
        os.waitpid(victim, 0)
        workers.discard(victim)
        report.killed += 1
        workers.add(fork_worker(dsn, limit, chance.getrandbits(32), until))
    for pid in workers:
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if code:
            report.failed.append(code)
    os.kill(counting, signal.SIGTERM)
    os.waitpid(counting, 0)
    sum_up(dsn, limit, report)
    return report


def fork_counter(dsn: str) -> int:
    """Count the server's connections in a process of its own, over and over, until SIGTERM."""
    pid = os.fork()
    if pid:
        return pid
    told: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: told.append(number))
    samples = peak = 0
    with psycopg.connect(dsn, autocommit=True, application_name="howdah count") as conn:
        while not told:
            peak = max(peak, conn.execute(COUNT).fetchall()[0][0])
            samples += 1
            time.sleep(0.005)
        conn.execute("CREATE TABLE counted (samples int, peak int)")
        conn.execute("INSERT INTO counted VALUES (%s, %s)", [samples, peak])
    os._exit(0)


def sum_up(dsn: str, limit: int, report: Report) -> None:
    with howdah.Budget("fleet", dsn=dsn).reserve(limit, timeout_s=10):  # all slots are to be had
        pass
    with psycopg.connect(dsn, autocommit=True, application_name="howdah fleet") as conn:
        report.done = conn.execute("SELECT count(*) FROM jobs").fetchall()[0][0]
        report.samples, report.peak = conn.execute("SELECT samples, peak FROM counted").fetchall()[
            0
        ]
        report.lost = budgets(conn, ["fleet"])[0].held


@contextmanager
def own_server():
    from howdah.server import init, start
    from tests.fixtures.server import add_settings, reachable_folder

    with reachable_folder() as base:
        init(base / "cluster")
        add_settings(base / "cluster", SETTINGS)
        yield start(base / "cluster", port=0).conninfo()


SETTINGS = "max_connections = 150\n"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("dsn", nargs="?")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--processes", type=int, default=40)
    parser.add_argument("--limit", type=int, default=60)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().getrandbits(32))
    options = vars(parser.parse_args())
    dsn = options.pop("dsn")
    if dsn:
        print(json.dumps(asdict(run(dsn, **options))))
        return
    with own_server() as conninfo:
        report = run(conninfo, **options)
        print(json.dumps(asdict(report)))
        sys.exit(report.peak > options["limit"] or bool(report.failed or report.lost))


if __name__ == "__main__":
    main()
