from __future__ import annotations

import json
from pathlib import Path

import psycopg
import pytest

from howdah.server import init, start
from howdah.tuning.facts import read_facts
from howdah.tuning.plan import plan_of
from howdah.tuning.proof import Subject, apply_plan
from tests.fixtures.commands import Howdah

pytestmark = pytest.mark.long

SUBJECT = Subject("single", rounds=5, seconds=0.2)


@pytest.fixture
def durable(base, binaries):
    """A running cluster that flushes, as a user's does."""
    init(base / "durable", binaries=binaries)
    return start(base / "durable", binaries=binaries)


def _state(conninfo: str) -> object:
    with psycopg.connect(conninfo) as conn:
        files = conn.execute("SELECT name, setting FROM pg_file_settings ORDER BY seqno").fetchall()
        settings = conn.execute("SELECT name, setting, source FROM pg_settings ORDER BY 1")
        moving = ("transaction", "in_hot_standby", "application_name")
        return files, [row for row in settings.fetchall() if not row[0].startswith(moving)]


def test_a_better_plan_is_kept_and_undone_to_the_exact_earlier_state(durable):
    howdah = Howdah(durable.conninfo())
    with psycopg.connect(durable.conninfo(), autocommit=True) as conn:
        # Storage that flushes slowly: a commit that waits, waits 10 ms longer.
        conn.execute("ALTER SYSTEM SET commit_delay = 10000")
        conn.execute("ALTER SYSTEM SET commit_siblings = 0")
        conn.execute("SELECT pg_reload_conf()")
    before = _state(durable.conninfo())

    kept = howdah(
        *("tune", "inserts", "--workload", "single", "--allow", "lose-last-moments"),
        *("--apply", "--restart", "--rounds", 5, "--seconds", 0.2, "--json"),
    )

    outcome = json.loads(kept.stdout)
    assert kept.returncode == 0, kept.stderr
    assert outcome["kept"]
    assert outcome["measured"][0]["comparison"]["verdict"] == "better"
    assert outcome["waiting"] == []
    with psycopg.connect(durable.conninfo()) as conn:
        assert conn.execute("SHOW synchronous_commit").fetchone() == ("off",)
        assert conn.execute("SHOW wal_buffers").fetchone() == ("16MB",)

    undone = howdah("tune", "undo", "--restart")

    assert undone.returncode == 0, undone.stderr
    assert _state(durable.conninfo()) == before
    again = howdah("tune", "undo")
    assert again.returncode == 2
    assert "No change of `howdah tune`" in again.stderr


def test_a_plan_that_is_not_better_is_rolled_back(durable):
    with psycopg.connect(durable.conninfo(), autocommit=True) as conn:
        conn.execute("ALTER SYSTEM SET synchronous_commit = off")
        conn.execute("SELECT pg_reload_conf()")
        facts = read_facts(conn)
    before = _state(durable.conninfo())
    worse = plan_of(facts, {"synchronous_commit": "on"}, workload="single", why="a test")

    outcome = apply_plan(durable.conninfo(), worse, SUBJECT)

    assert not outcome.kept
    assert outcome.number is None
    assert _state(durable.conninfo()) == before


def test_a_workload_that_fails_leaves_all_settings_as_they_were(durable, tmp_path: Path):
    howdah = Howdah(durable.conninfo())
    before = _state(durable.conninfo())
    (tmp_path / "insert.sql").write_text("INSERT INTO nowhere VALUES (1)")

    done = howdah("tune", "inserts", "--apply", "--statement", tmp_path / "insert.sql")

    assert done.returncode == 2
    assert "no table nowhere" in done.stderr
    assert _state(durable.conninfo()) == before


def test_disposable_server_alone_is_planned_to_flush_nothing(base):
    howdah = Howdah(start(base / "ci", disposable=True).conninfo())
    with psycopg.connect(howdah.dsn) as conn:
        assert conn.execute("SHOW fsync").fetchone() == ("off",)
        assert read_facts(conn).disposable


def test_a_server_that_is_not_disposable_does_not_become_so(base, howdah):
    start(base / "kept")

    refused = howdah("server", "start", "--disposable", "--data", base / "kept")

    assert refused.returncode == 2
    assert "was not made to be disposable" in refused.stderr
    with psycopg.connect(start(base / "kept").conninfo(), autocommit=True) as conn:
        assert not read_facts(conn).disposable


def test_explaining_names_risk_and_source(howdah):
    text = howdah("tune", "explain", "fsync").stdout
    unknown = howdah("tune", "explain", "fsink")

    assert "off: may-corrupt" in text
    assert "https://www.postgresql.org/docs/current/runtime-config-wal.html#GUC-FSYNC" in text
    assert unknown.returncode == 2
