"""A primary and its standby, made by pg_basebackup."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from howdah import pg
from howdah.errors import ServerFailed
from howdah.server import find, start
from howdah.server.change import Change, apply_change, plan_change
from tests.connections.conftest import until

pytestmark = pytest.mark.long


@pytest.fixture
def pair(make_cluster, base):
    program = Path(find().program("pg_basebackup"))
    if not program.exists():
        pytest.skip("this PostgreSQL has no pg_basebackup")
    primary = make_cluster("primary", settings="max_connections = 60\n")
    passfile = primary.passfile.read_text().strip()
    # The standby's OS user may not read our password file.
    words = conninfo_to_dict(primary.conninfo()) | {"password": passfile.rpartition(":")[2]}
    words.pop("passfile")
    standby = base / "standby"
    subprocess.run(
        [program, "-D", standby, "-R", "-c", "fast", "-d", make_conninfo(**words)], check=True
    )
    if os.geteuid() == 0:
        owner = f"--reference={primary.data_dir}"
        subprocess.run(["chown", "-R", owner, standby], check=True)
    shutil.copy2(primary.passfile, base / "standby.pgpass")
    running = start(standby, port=0)
    until(lambda: ask(primary, "SELECT state FROM pg_stat_replication") == "streaming")
    return primary, running


def ask(running, query):
    with psycopg.connect(running.conninfo(), autocommit=True) as conn:
        row = conn.execute(query).fetchone()
        return row and row[0]


def plan_of(running, value):
    with pg.connect(running.conninfo()) as conn:
        return plan_change(conn, [Change("max_connections", value)])


def set_value(running, value):
    with pg.connect(running.conninfo()) as conn:
        plan = plan_change(conn, [Change("max_connections", value)])
        return apply_change(conn, plan, restart=True)


def test_raising_on_the_standby_first_is_told_and_right(pair):
    primary, standby = pair
    assert any(
        "1 standby (howdah)" in note and "raise max_connections there first" in note
        for note in plan_of(primary, "80").notes
    )
    assert any(
        "must not be less than on its primary" in note for note in plan_of(standby, "80").notes
    )

    for running in (standby, primary):
        assert set_value(running, "80").state == "done"

    until(lambda: ask(primary, "SELECT state FROM pg_stat_replication") == "streaming")
    ask(primary, "SELECT pg_switch_wal()")
    assert ask(standby, "SELECT pg_is_in_recovery() AND NOT pg_is_wal_replay_paused()")
    assert ask(standby, "SHOW max_connections") == "80"


def test_less_than_the_primary_has_is_put_back_on_a_standby(pair):
    _, standby = pair

    with pytest.raises(ServerFailed, match="runs with it again"):
        set_value(standby, "50")

    assert ask(standby, "SHOW max_connections") == "60"
    assert ask(standby, "SELECT pg_is_in_recovery()")


def test_the_primary_raised_first_stops_its_standby(pair):
    """What the warning warns of."""
    primary, standby = pair

    set_value(primary, "80")

    until(lambda: ask(standby, "SELECT pg_is_wal_replay_paused()"))
    assert set_value(standby, "80").state == "done"
    until(lambda: not ask(standby, "SELECT pg_is_wal_replay_paused()"))
