"""The pgbouncer.ini that `howdah connections plan` prints, used by a real PgBouncer."""

from __future__ import annotations

import json
import threading

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

CLIENTS = 60


@pytest.fixture
def app(make_cluster):
    """The connection string of a plain role on a server of 20 slots."""
    running = make_cluster(settings="max_connections = 20\n")
    with psycopg.connect(running.conninfo(), autocommit=True) as conn:
        conn.execute("CREATE ROLE app LOGIN PASSWORD 'x'")
        conn.execute("GRANT pg_monitor TO app")
    return make_conninfo(f"host=127.0.0.1 port={running.port} dbname=howdah user=app password=x")


@pytest.fixture
def pooler(make_pooler, app, howdah):
    """Run PgBouncer with what the command prints; only paths and the port are changed."""
    fleet = ("--nodes", 3, "--processes", 2, "--threads", 8, "--pool", "10..20")
    done = howdah("connections", "plan", *fleet, "--dsn", app, "--json")
    assert done.returncode == 3, done.stderr
    plan = json.loads(done.stdout)
    ini = plan["pgbouncer_ini"].replace("/etc/pgbouncer/userlist.txt", "{folder}/users")
    ini = ini.replace("listen_port = 6432", "listen_port = {port}\nunix_socket_dir =")
    return plan, make_conninfo(app, port=make_pooler(users=["app"], ini=ini))


def test_many_clients_work_through_it_and_the_slots_suffice(app, pooler):
    plan, through = pooler
    assert plan["available"] == 20 - 3 - 5
    done, errors, together = [], [], threading.Barrier(CLIENTS)

    def work():
        try:
            with psycopg.connect(through, autocommit=True) as conn:
                together.wait(60)  # all are connected at once
                for _ in range(5):
                    row = conn.execute("SELECT 1, pg_sleep(0.02)").fetchone()
                    done.append(row[0])
        except (psycopg.Error, threading.BrokenBarrierError) as exc:
            errors.append(exc)

    threads = [threading.Thread(target=work) for _ in range(CLIENTS)]
    peak = 0
    with psycopg.connect(app, autocommit=True, application_name="watcher") as conn:
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            row = conn.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE usename = 'app'"
                " AND application_name <> 'watcher'"
            ).fetchone()
            peak = max(peak, row[0])
    assert errors == []
    assert len(done) == CLIENTS * 5
    assert 2 <= peak <= plan["available"]


def test_prepared_statements_work_through_it(pooler):
    plan, through = pooler
    if ";" in plan["pgbouncer_ini"].partition("max_prepared_statements")[0].splitlines()[-1]:
        pytest.skip("this PgBouncer is older than 1.21 and has none")
    with psycopg.connect(through, prepare_threshold=0) as conn:
        for number in range(5):
            assert conn.execute("SELECT %s::int", [number]).fetchone() == (number,)
            conn.commit()
