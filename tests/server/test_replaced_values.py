"""Values that PostgreSQL shows otherwise than they were written: set, in force, and undone."""

from __future__ import annotations

import psycopg
import pytest

from howdah import pg
from howdah.server import init, start
from howdah.server.change import Change, apply_change, plan_change, plan_undo
from howdah.server.drift import drifts
from tests.fixtures.server import add_fast_settings, reachable_folder

# The setting, what it has first, what is written then, and since which major that is a value.
REPLACED = [
    ("wal_buffers", "16MB", "-1", 14),
    ("transaction_buffers", "1MB", "0", 17),
    ("subtransaction_buffers", "1MB", "0", 17),
    ("commit_timestamp_buffers", "1MB", "0", 17),
    ("io_max_concurrency", "5", "-1", 18),
    ("wal_compression", "off", "on", 15),
    ("TimeZone", "Europe/Oslo", "utc", 14),
    ("log_timezone", "Europe/Oslo", "utc", 14),
]
# These stay as they are written, though the server does as it sees fit.
KEPT = [
    ("autovacuum_work_mem", "64MB", "-1", 14),
    ("huge_pages", "off", "try", 14),
    ("default_text_search_config", "simple", "english", 14),
]
# Another session cannot ask what it would be; and PostgreSQL itself takes 0 for a change.
FILES_DIFFER = ("log_timezone", "transaction_buffers", "subtransaction_buffers")
FILES_DIFFER += ("commit_timestamp_buffers",)
# The server does with these as with another one of the lists.
ALIKE = ("subtransaction_buffers", "commit_timestamp_buffers", "log_timezone", "huge_pages")
EACH = [
    pytest.param(*row, marks=[pytest.mark.long] if row[0] in ALIKE else [])
    for row in REPLACED + KEPT
]


@pytest.fixture(scope="module")
def own(binaries):
    with reachable_folder() as base:
        init(base / "cluster", binaries=binaries)
        add_fast_settings(base / "cluster")
        yield start(base / "cluster", binaries=binaries)


def applied(own, name, value):
    with pg.connect(own.conninfo()) as conn:
        plan = plan_change(conn, [Change(name, value)], reason="a test")
        return apply_change(conn, plan, restart=True)


def undone(own):
    with pg.connect(own.conninfo()) as conn:
        plan, entry = plan_undo(conn)
        return apply_change(conn, plan, restart=True, undoes=entry.number)


def shown(own, name):
    with psycopg.connect(own.conninfo()) as conn:
        return conn.execute("SELECT current_setting(%s, true)", [name]).fetchone()[0]


@pytest.mark.parametrize(("name", "first", "then", "since"), EACH, ids=str)
def test_it_is_set_from_a_value_and_undone_and_redone(own, name, first, then, since):
    with psycopg.connect(own.conninfo()) as conn:
        if conn.info.server_version < since * 10_000:
            pytest.skip(f"{name} = {then} is of PostgreSQL {since} and newer")
    by_itself = shown(own, name)
    applied(own, name, first)
    assert shown(own, name) == first

    assert applied(own, name, then).state == "done"

    assert (shown(own, name) == then) == ((name, first, then, since) in KEPT)
    if name not in FILES_DIFFER:
        with pg.connect(own.conninfo()) as conn:
            assert name not in {drift.name for drift in drifts(conn)}
    assert undone(own).state == "done"
    assert shown(own, name) == first
    applied(own, name, then)
    assert applied(own, name, first).state == "done"
    assert undone(own).state == "done"  # what stood in the file was -1, 0, "on", "utc"
    assert shown(own, name) not in (first, None)
    applied(own, name, None)
    assert shown(own, name) == by_itself


def test_it_takes_no_restart_where_it_comes_to_what_is_in_force(own):
    by_itself = shown(own, "wal_buffers")
    assert applied(own, "wal_buffers", by_itself).state in ("done", "nothing")
    with psycopg.connect(own.conninfo()) as conn:
        conn.execute("SELECT 1")
        with pg.connect(own.conninfo()) as other:
            plan = plan_change(other, [Change("wal_buffers", "-1")])
            result = apply_change(other, plan, restart=True)
        assert (result.state, result.restarted) == ("done", None)
        conn.execute("SELECT 1")  # nobody was cut off
    applied(own, "wal_buffers", None)
