from __future__ import annotations

from dataclasses import replace

import psycopg
import pytest

from howdah.errors import UsageError
from howdah.server.change import Change, plan_change
from howdah.tuning.catalogue import Risk
from howdah.tuning.facts import Activity, Facts, Host, Writes, read_facts
from howdah.tuning.plan import as_conf, as_sql, plan_inserts

GB = 1 << 30


@pytest.fixture(scope="module")
def facts(server) -> Facts:
    """The server's, on a host of our making that waits 10 ms for its disk."""
    with psycopg.connect(server.conninfo(), autocommit=True) as conn:
        found = read_facts(conn)
    # The tests' server has these off, for speed.
    settings = dict(found.settings)
    for name in ("fsync", "full_page_writes"):
        settings[name] = replace(settings[name], value="on", shown="on")
    host = Host(8, 32 * GB, 400 * GB, "ext4", 0.010)
    return replace(found, settings=settings, host=host, commit_wait_s=0.010, activity=Activity())


def _with(facts: Facts, **values: str) -> Facts:
    changed = {name: replace(facts.settings[name], value=v) for name, v in values.items()}
    return replace(facts, settings=dict(facts.settings) | changed)


def test_facts_of_a_server_on_this_machine_hold_the_flush_time_of_its_wal(server):
    with psycopg.connect(server.conninfo(), autocommit=True) as conn:
        found = read_facts(conn)
        left = conn.execute("SELECT count(*) FROM pg_ls_waldir() WHERE name ~ 'howdah'").fetchone()

    assert found.host is not None
    assert found.host.flush_s is not None
    assert found.host.flush_s > 0
    assert found.commit_wait_s is not None
    assert left == (0,)


_WORK = """
    CREATE TABLE pages (n int, filler text) WITH (autovacuum_enabled = off);
    INSERT INTO pages SELECT n, repeat('x', 500) FROM generate_series(1, 20000) AS n;
    UPDATE pages SET n = -n;
"""


def test_who_writes_pages_and_flushes_wal_is_read_where_the_server_tells(make_cluster, binaries):
    settings = "fsync = on\nshared_buffers = 1MB\nshared_preload_libraries = 'pg_stat_statements'\n"
    with psycopg.connect(
        make_cluster(binaries=binaries, settings=settings).conninfo(), autocommit=True
    ) as conn:
        conn.execute("CREATE EXTENSION pg_stat_statements")
        conn.execute(_WORK)
        if binaries.major >= 16:
            conn.execute("SELECT pg_stat_force_next_flush()")
        found = read_facts(conn)
        plan = plan_inserts(found)

    told = "\n".join(plan.observed)
    assert found.activity.wal_syncs > 0
    assert "flushes" in told
    assert "UPDATE pages SET n = -n: 1 calls" in told
    if binaries.major < 16:
        assert found.activity.writes is None
        return
    assert found.activity.writes is not None
    # The table's 20 MB do not fit into a cache of 1 MB, and no checkpoint came.
    assert found.activity.writes.backends_bytes > 10 << 20
    assert found.activity.writes.extended_bytes > 10 << 20
    why = next(change.why for change in plan.changes if change.setting == "shared_buffers")
    assert "backends had to write" in why
    assert "by backends in need of room" in told


def test_what_was_observed_names_what_does_not_keep_up(facts):
    activity = Activity(
        checkpoints_timed=2,
        checkpoints_requested=12,
        writes=Writes(1 << 30, 3 << 30, 1 << 30, backend_fsyncs=7),
    )
    told = plan_inserts(replace(facts, activity=activity)).observed

    assert "checkpoints: 12 of 14 were requested, not timed" in told
    assert any("25% by backends in need of room" in line for line in told)
    assert any("backends flushed files 7 times themselves" in line for line in told)


def test_nothing_risky_is_planned_unless_it_is_accepted_by_name(facts):
    plan = plan_inserts(facts)

    assert {change.risk for change in plan.changes} == {Risk.SAFE}
    assert {"synchronous_commit", "wal_level", "fsync"} <= {one.setting for one in plan.withheld}
    assert all(change.why and change.effect for change in plan.changes)


def test_accepted_risk_brings_the_change_in_with_what_it_costs(facts):
    plan = plan_inserts(facts, allowed=[Risk.LOSE_LAST_MOMENTS])
    change = next(one for one in plan.changes if one.setting == "synchronous_commit")

    assert change.risk is Risk.LOSE_LAST_MOMENTS
    assert "10 ms" in change.why
    assert "0.06 s" in change.effect  # three times the wal_writer_delay that is planned too
    assert plan.values["wal_writer_delay"] == "20ms"
    assert "wal_level" not in plan.values


def test_minimal_wal_brings_along_the_senders_that_forbid_it(facts):
    plan = plan_inserts(facts, allowed=[Risk.NO_REPLICATION])

    assert plan.values["wal_level"] == "minimal"
    assert plan.values["max_wal_senders"] == "0"
    assert "synchronous_commit" not in plan.values


def test_flushing_early_is_planned_only_where_rows_are_copied_without_wal(facts):
    there = _with(facts, wal_level="minimal", max_wal_senders="0")

    assert "backend_flush_after" not in plan_inserts(facts).values
    minimal = plan_inserts(facts, allowed=[Risk.NO_REPLICATION])
    assert minimal.values["backend_flush_after"] == "2MB"
    assert plan_inserts(there).values["backend_flush_after"] == "2MB"
    assert "backend_flush_after" not in plan_inserts(there, workload="single").values


@pytest.mark.parametrize(
    ("in_use", "reason"),
    [
        ({"activity": Activity(standbys=1)}, "1 standbys"),
        ({"activity": Activity(slots=2)}, "2 replication slots"),
        ({"activity": Activity(archiving=True)}, "archive_mode"),
        ({"activity": Activity(recovering=True)}, "is a standby"),
    ],
)
def test_minimal_wal_is_refused_with_the_reason_where_the_wal_is_needed(facts, in_use, reason):
    plan = plan_inserts(replace(facts, **in_use), allowed=[Risk.NO_REPLICATION])
    refused = next(one for one in plan.withheld if one.setting == "wal_level")

    assert reason in refused.reason
    assert not {"wal_level", "max_wal_senders", "backend_flush_after"} & set(plan.values)


def test_what_may_corrupt_is_planned_for_a_disposable_server_alone(facts):
    never = plan_inserts(facts, allowed=[Risk.MAY_CORRUPT])
    disposable = plan_inserts(replace(facts, disposable=True), allowed=[Risk.MAY_CORRUPT])

    assert "fsync" not in never.values
    assert disposable.values["fsync"] == disposable.values["full_page_writes"] == "off"


def test_no_rule_lowers_what_somebody_has_set_higher(facts):
    larger = _with(facts, shared_buffers="4194304", max_wal_size="65536", checkpoint_timeout="3600")

    plan = plan_inserts(larger)

    assert not {"shared_buffers", "max_wal_size", "checkpoint_timeout"} & set(plan.values)


def test_wal_takes_an_eighth_of_the_free_disk_at_most(facts):
    assert facts.host is not None
    small = replace(facts, host=replace(facts.host, wal_free_bytes=24 * GB))

    assert plan_inserts(facts).values["max_wal_size"] == "16GB"
    assert plan_inserts(small).values["max_wal_size"] == "3GB"


def test_a_plan_made_twice_is_empty_the_second_time(facts, server):
    plan = plan_inserts(facts, allowed=list(Risk))
    with psycopg.connect(server.conninfo(), autocommit=True) as conn:
        in_force = {}
        for name, value in plan.values.items():
            unit = facts.settings[name].unit
            number = conn.execute(
                "SELECT pg_size_bytes(%s)" if unit in ("8kB", "kB", "MB") else "SELECT %s::text",
                [value],
            ).fetchone()[0]
            size = {"8kB": 8192, "kB": 1024, "MB": 1 << 20}.get(unit or "")
            in_force[name] = str(number // size) if size else str(number)
    in_force |= {"checkpoint_timeout": "900"}

    assert plan_inserts(_with(facts, **in_force), allowed=list(Risk)).values == {}


def test_the_server_takes_each_value_of_a_plan(facts, server):
    values = plan_inserts(facts, allowed=list(Risk)).values

    with psycopg.connect(server.conninfo(), autocommit=True) as conn:
        plan = plan_change(conn, [Change(name, value) for name, value in values.items()])

    assert {step.name for step in plan.steps} <= set(values)


def test_a_plan_as_file_and_as_sql_names_what_waits_for_a_restart(facts):
    plan = plan_inserts(facts)

    assert "shared_buffers = '8GB'" in as_conf(plan)
    assert "ALTER SYSTEM SET max_wal_size = '16GB'" in as_sql(plan)
    assert "-- these wait for a restart: wal_buffers, shared_buffers" in as_sql(plan)


def test_unknown_workload_is_told_with_the_known_ones(facts):
    with pytest.raises(UsageError, match="no workload"):
        plan_inserts(facts, workload="quick")
