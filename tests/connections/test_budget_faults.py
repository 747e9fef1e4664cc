from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

import howdah
from howdah.errors import Refused
from howdah.server import restart
from tests.connections.conftest import until
from tests.connections.fleet import SETTINGS
from tests.fixtures.network import NoNamespaces, other_host

HOLD = """
    import sys, howdah
    budget = howdah.Budget("etl", 60, dsn=sys.argv[1], lost_after_s=4)
    reservation = budget.reserve(int(sys.argv[2]), purpose="to die")
    conns = [reservation.connect(application_name="job") for _ in range(int(sys.argv[3]))]
    print("holds", flush=True)
    sys.stdin.read()
"""


def test_a_killed_process_loses_its_slots_at_once(budget, python, dsn, backends):
    process = python(HOLD, dsn, "60", "10")
    assert process.stdout.readline() == "holds\n"
    assert backends() == 10
    process.send_signal(signal.SIGKILL)

    budget.reserve(60, timeout_s=10).release()
    assert backends() == 0


def test_a_killed_process_in_line_does_not_hold_up_the_others(budget, python, dsn):
    with budget.reserve(30):
        process = python(HOLD, dsn, "60", "0")
        until(lambda: budget.use().line)
        process.send_signal(signal.SIGKILL)
        process.wait()
        budget.reserve(30, timeout_s=10).release()


def test_backends_that_outlive_a_killed_process_keep_its_slots(budget, python, dsn, backends):
    code = HOLD.replace("sys.stdin.read()", 'conns[1].execute("SELECT pg_sleep(30)")')
    process = python(code, dsn, "60", "2")
    assert process.stdout.readline() == "holds\n"
    time.sleep(0.3)
    process.send_signal(signal.SIGKILL)
    with budget.reserve(60, timeout_s=20):  # client_connection_check_interval ends it, not we
        assert backends() == 0


def test_a_lost_control_connection_keeps_the_slots(budget, ask):
    with budget.reserve(40) as reservation:
        first = reservation.connect(autocommit=True)
        pids = ask(
            "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'howdah budget %' "
            "AND datname = current_database()"
        )
        ask("SELECT pg_terminate_backend(%s)", pids[0])
        second = reservation.connect(autocommit=True)
        assert first.execute("SELECT 1").fetchone() == second.execute("SELECT 1").fetchone()
        use = budget.use()
        assert (use.held, use.holders[0].lost) == (40, False)
    assert budget.use().held == 0


@pytest.mark.parametrize("mode", ["fast", "crash"])
def test_slots_are_reserved_again_after_the_server_was_restarted(make_cluster, mode):
    running = make_cluster()
    budget = howdah.Budget("etl", 10, dsn=running.conninfo())
    with howdah.Pool(running.conninfo(), size=4, budget=budget, name="web") as pool:
        with pool.reserve(4) as conns:
            conns[0].execute("SELECT 1")
        if mode == "fast":
            restart(running.data_dir)
        else:
            pid = int((Path(running.data_dir) / "postmaster.pid").read_text().split()[0])
            os.kill(pid, signal.SIGKILL)
            until(lambda: not Path(f"/proc/{pid}").exists())
            restart(running.data_dir)
        with pool.connection(timeout=20) as conn:
            assert conn.execute("SELECT 1").fetchone() == (1,)
        use = budget.use()
        assert (use.held, use.holders[0].backends >= 1) == (4, True)
    assert budget.use().held == 0


@pytest.mark.long
def test_a_host_that_vanishes_from_the_network_loses_its_slots(make_cluster):
    """How soon, `bench/budget.py --cut` measures."""
    running = make_cluster()
    try:
        with other_host(running) as host:
            away = host.python(textwrap.dedent(HOLD), "60", "5")
            assert away.stdout.readline() == "holds\n"
            budget = howdah.Budget("etl", dsn=running.conninfo(), lost_after_s=4)
            with pytest.raises(howdah.BudgetTimeout, match="to die"):
                budget.reserve(1, timeout_s=0.2)
            host.cut()
            # TCP alone would take hours (tcp_keepalive_time), or a quarter of one (tcp_retries2).
            budget.reserve(60, timeout_s=30).release()
            assert away.poll() is None  # it lives, and knows nothing of it
    except NoNamespaces as exc:
        pytest.skip(str(exc))


def test_pooler_in_transaction_mode_is_refused_and_its_connections_are_bounded(
    make_cluster, make_pooler
):
    running = make_cluster()
    with (running.data_dir / "pg_hba.conf").open("r+") as hba:
        text = hba.read()
        hba.seek(0)
        hba.write("host all all 127.0.0.1/32 trust\n" + text)
    restart(running.data_dir)
    port = make_pooler(f"host=127.0.0.1 port={running.port} user=postgres", users=["postgres"])
    through = f"host=127.0.0.1 port={port} user=postgres dbname=howdah"

    with pytest.raises(Refused, match="needs a session of its own"):
        howdah.Budget("etl", 10, dsn=through).reserve(1)

    budget = howdah.Budget("etl", 10, dsn=running.conninfo())
    with howdah.Pool(through, size=2, budget=budget) as pool, pool.reserve(2) as conns:
        assert [conn.execute("SELECT 1").fetchone() for conn in conns] == [(1,), (1,)]
        assert budget.use().held == 2
    assert budget.use().held == 0


@pytest.mark.long
def test_a_fleet_of_which_some_are_killed_never_exceeds_its_budget(make_cluster):
    running = make_cluster(settings=SETTINGS)
    done = subprocess.run(
        [sys.executable, "-m", "tests.connections.fleet", "--seconds", "10", running.conninfo()],
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    report = json.loads(done.stdout)

    assert report["failed"] == [], done.stderr
    assert report["killed"] >= 5
    assert report["done"] >= 10  # how many more, the machine's other work decides
    assert report["samples"] >= 10
    assert 10 <= report["peak"] <= 60
    assert report["lost"] == 0
