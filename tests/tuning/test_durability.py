"""Each accepted risk, by killing the server during inserts: what may be lost, and no more."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import threading
import time
from contextlib import suppress

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from howdah.server import Binaries, Running, init, start
from howdah.server.change import Change, apply_change, plan_change
from howdah.server.postmaster import processes
from howdah.tuning.catalogue import Risk
from howdah.tuning.facts import read_facts
from howdah.tuning.plan import plan_inserts

CRASHES = 20
THREADS = 4
WRITER_DELAY = "200ms"  # PostgreSQL's default
BOUND_S = 0.6  # what is older than three times that is on the disk

logger = logging.getLogger(__name__)

Row = tuple[str, int]
Acknowledged = dict[Row, float]
"""When each row's commit was confirmed, by the monotonic clock."""


@pytest.mark.long
@pytest.mark.parametrize("risk", [Risk.SAFE, Risk.LOSE_LAST_MOMENTS, Risk.NO_REPLICATION], ids=str)
def test_a_crash_costs_what_the_accepted_risk_says_and_no_more(base, binaries, risk):
    init(base / "cluster", binaries=binaries)
    running = start(base / "cluster", binaries=binaries)
    _tune(running, risk)
    rows, lost, oldest_s = 0, 0, 0.0
    for number in range(CRASHES):
        running = start(base / "cluster", binaries=binaries)
        acknowledged, killed_at = _inserted_until_crash(running, number)
        running = start(base / "cluster", binaries=binaries)
        _check_sound(running, binaries)
        with psycopg.connect(running.conninfo()) as conn:
            missing = _missing(conn, acknowledged)
        for name in {name for name, _ in missing}:
            of_thread = [row for row in acknowledged if row[0] == name]
            gone = [row for row in missing if row[0] == name]
            assert of_thread[-len(gone) :] == gone, "a hole, and not a tail"
        ages = [killed_at - acknowledged[row] for row in missing]
        rows, lost = rows + len(acknowledged), lost + len(missing)
        oldest_s = max([oldest_s, *ages])

    logger.info("%d crashes, %d rows, %d lost, the oldest %.3f s", CRASHES, rows, lost, oldest_s)
    if risk is Risk.LOSE_LAST_MOMENTS:
        assert lost, "the crashes cost nothing, so they prove nothing"
        assert oldest_s <= BOUND_S
    else:
        assert lost == 0


def _tune(running: Running, risk: Risk) -> None:
    with psycopg.connect(running.conninfo(), autocommit=True) as conn:
        conn.execute("CREATE TABLE events (thread text, n int, PRIMARY KEY (thread, n))")
        conn.execute("CREATE INDEX ON events (n)")
        tuning = plan_inserts(read_facts(conn), allowed=[risk])
        values = tuning.values
        if risk is Risk.LOSE_LAST_MOMENTS:
            said = next(c.effect for c in tuning.changes if c.setting == "synchronous_commit")
            assert values["wal_writer_delay"] == "20ms"
            assert "at most the last 0.06 s" in said
        # A busy machine may be late by more than 60 ms; by three times the default it is not.
        values["wal_writer_delay"] = WRITER_DELAY
        values.pop("shared_buffers", None)  # it is made anew 40 times
        plan = plan_change(conn, [Change(name, value) for name, value in values.items()])
        assert apply_change(conn, plan, restart=True).state == "done"


def _inserted(running: Running, thread: str, acknowledged: Acknowledged) -> None:
    """Insert rows, each its own transaction, until the crash."""
    with (
        suppress(psycopg.OperationalError),
        psycopg.connect(running.conninfo(), autocommit=True) as conn,
    ):
        for n in range(1_000_000):
            conn.execute("INSERT INTO events VALUES (%s, %s)", [thread, n])
            acknowledged[thread, n] = time.monotonic()


def _inserted_until_crash(running: Running, number: int) -> tuple[Acknowledged, float]:
    """Return what was confirmed, and when the server was killed."""
    parts: list[Acknowledged] = [{} for _ in range(THREADS)]
    threads = [
        threading.Thread(target=_inserted, args=(running, f"{number}, {thread}", part))
        for thread, part in enumerate(parts)
    ]
    for thread in threads:
        thread.start()
    # Longer than what may be lost, and to another moment each time.
    time.sleep(2 * BOUND_S + 0.01 * number)
    killed_at = time.monotonic()
    if number % 2:
        os.kill(running.pid, signal.SIGQUIT)  # what an immediate shutdown is
    else:
        for pid in [running.pid, *processes(running.data_dir)]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    for thread in threads:
        thread.join()
    deadline = time.monotonic() + 30
    while processes(running.data_dir):
        assert time.monotonic() < deadline, "the server outlives its crash"
        time.sleep(0.02)
    return {row: at for part in parts for row, at in part.items()}, killed_at


def _missing(conn, rows: Acknowledged) -> list[Row]:
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
