"""Each accepted risk, by killing the server during inserts: what may be lost, and no more."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from howdah.server import Binaries, Running, find, init, start
from howdah.server.change import Change, apply_change, plan_change
from howdah.server.postmaster import processes
from howdah.tuning.catalogue import Risk
from howdah.tuning.facts import read_facts
from howdah.tuning.plan import plan_inserts

CRASHES = 20
FEWER = 6  # of the newest major, in the same tests
THREADS = 4
DELAY_S = 0.05  # wal_writer_delay: what is older than three of them is on the disk


@pytest.mark.long
@pytest.mark.parametrize("risk", [Risk.SAFE, Risk.LOSE_LAST_MOMENTS, Risk.NO_REPLICATION], ids=str)
def test_a_crash_costs_what_the_accepted_risk_says_and_no_more(base, binaries, risk):
    init(base / "cluster", binaries=binaries)
    running = start(base / "cluster", binaries=binaries)
    _tune(running, risk)
    lost = 0
    for number in range(CRASHES if binaries == find() else FEWER):
        running = start(base / "cluster", binaries=binaries)
        old = _inserted(running, f"old {number}", 20)
        if risk is Risk.LOSE_LAST_MOMENTS:
            time.sleep(8 * DELAY_S)  # more than the documented three: the machine is busy
        new = _inserted_until_crash(running, f"new {number}", number)
        running = start(base / "cluster", binaries=binaries)
        _check_sound(running, binaries)
        with psycopg.connect(running.conninfo()) as conn:
            assert _missing(conn, old) == []
            missing = _missing(conn, new)
            lost += len(missing)
        for name in {name for name, _ in missing}:
            of_thread = [row for row in new if row[0] == name]
            gone = [row for row in missing if row[0] == name]
            assert of_thread[-len(gone) :] == gone, "a hole, and not a tail"

    assert risk is Risk.LOSE_LAST_MOMENTS or lost == 0


def _tune(running: Running, risk: Risk) -> None:
    with psycopg.connect(running.conninfo(), autocommit=True) as conn:
        conn.execute("CREATE TABLE events (thread text, n int, PRIMARY KEY (thread, n))")
        conn.execute("CREATE INDEX ON events (n)")
        values = plan_inserts(read_facts(conn), allowed=[risk]).values
        values |= {"wal_writer_delay": f"{int(DELAY_S * 1000)}ms"}
        values.pop("shared_buffers", None)  # it is made anew 40 times
        plan = plan_change(conn, [Change(name, value) for name, value in values.items()])
        assert apply_change(conn, plan, restart=True).state == "done"


def _inserted(running: Running, thread: str, rows: int) -> list[tuple[str, int]]:
    """Insert rows, each its own transaction, and return what was acknowledged."""
    acknowledged = []
    try:
        with psycopg.connect(running.conninfo(), autocommit=True) as conn:
            for n in range(rows):
                conn.execute("INSERT INTO events VALUES (%s, %s)", [thread, n])
                acknowledged.append((thread, n))
    except psycopg.OperationalError:
        pass  # the crash
    return acknowledged


def _inserted_until_crash(running: Running, name: str, number: int) -> list[tuple[str, int]]:
    acknowledged: list[list[tuple[str, int]]] = [[] for _ in range(THREADS)]

    def work(thread: int) -> None:
        acknowledged[thread] = _inserted(running, f"{name} {thread}", 1_000_000)

    threads = [threading.Thread(target=work, args=(thread,)) for thread in range(THREADS)]
    for thread in threads:
        thread.start()
    time.sleep(0.1 + 0.01 * number)  # at another moment each time
    if number % 2:
        os.kill(running.pid, signal.SIGQUIT)  # what an immediate shutdown is
    else:
        for pid in [running.pid, *processes(running.data_dir)]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
    for thread in threads:
        thread.join()
    deadline = time.monotonic() + 30
    while processes(running.data_dir):
        assert time.monotonic() < deadline, "the server outlives its crash"
        time.sleep(0.02)
    return [row for rows in acknowledged for row in rows]


def _missing(conn, rows: list[tuple[str, int]]) -> list[tuple[str, int]]:
    there = set(conn.execute("SELECT thread, n FROM events").fetchall())
    return [row for row in rows if row not in there]


VARIABLES = {"host": "PGHOST", "port": "PGPORT", "user": "PGUSER", "passfile": "PGPASSFILE"}


def _check_sound(running: Running, binaries: Binaries) -> None:
    """Check all heaps and indexes with pg_amcheck; with its SQL where the program is not there."""
    program = binaries.bindir / "pg_amcheck"
    words = conninfo_to_dict(running.conninfo())
    if program.exists():
        done = subprocess.run(
            [program, "--database=postgres", "--install-missing", "--heapallindexed"],
            env=os.environ | {VARIABLES[k]: str(v) for k, v in words.items() if k in VARIABLES},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr
        return
    with psycopg.connect(running.conninfo()) as conn:
        available = "SELECT count(*) FROM pg_available_extensions WHERE name = 'amcheck'"
        if conn.execute(available).fetchone() == (0,):
            pytest.skip("this PostgreSQL comes without amcheck")
        conn.execute("CREATE EXTENSION IF NOT EXISTS amcheck")
        assert conn.execute("SELECT * FROM verify_heapam('events')").fetchall() == []
        indexes = "SELECT bt_index_check(indexrelid, true) FROM pg_index"
        conn.execute(f"{indexes} WHERE indrelid = 'events'::regclass")
