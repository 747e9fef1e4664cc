from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import psycopg
import pytest

from howdah.connections import limit
from howdah.server.settings import settings
from howdah.tuning.catalogue import Risk
from howdah.tuning.facts import read_facts
from howdah.tuning.memory import affords
from howdah.tuning.proof import Subject
from howdah.tuning.search import search

GB = 1 << 30
OUTCOMES = {"done", "stopped early", "p99 too high", "over memory"}
_SETTINGS = "SELECT name, setting, source FROM pg_settings ORDER BY name"


def _in_force(conninfo: str) -> list[tuple[str, ...]]:
    with psycopg.connect(conninfo) as conn:
        rows = conn.execute(_SETTINGS).fetchall()
    return [row for row in rows if not row[0].startswith(("transaction", "application_name"))]


def _facts(conninfo: str):
    with psycopg.connect(conninfo, autocommit=True) as conn:
        return read_facts(conn)


def test_a_search_tries_accepted_values_and_leaves_the_settings_as_they_were(make_cluster):
    conninfo = make_cluster().conninfo()
    before, facts = _in_force(conninfo), _facts(conninfo)

    found = search(conninfo, facts, Subject("single", seconds=0.1), minutes=0.05)

    assert found.trials
    assert found.restarts == 0
    assert all(trial.values.get("synchronous_commit") != "off" for trial in found.trials)
    assert {trial.outcome for trial in found.trials} <= OUTCOMES
    if found.plan is not None:
        assert found.comparison is not None
        assert found.comparison.verdict == "better"
        assert {change.risk for change in found.plan.changes} == {Risk.SAFE}
    assert _in_force(conninfo) == before


@pytest.mark.long
def test_what_the_rules_leave_alone_is_found_with_what_it_is_worth(make_cluster):
    # Each commit of 16 connections sleeps 10 ms, and no rule looks at it.
    slow = "fsync = on\ncommit_delay = 10000\ncommit_siblings = 0\n"
    conninfo = make_cluster(settings=slow).conninfo()
    before = _in_force(conninfo)

    found = search(conninfo, _facts(conninfo), Subject("many", seconds=0.3), minutes=0.5)

    assert found.plan is not None
    assert found.plan.values["commit_delay"] in {"0", "500", "2000"}
    assert found.comparison is not None
    assert found.comparison.verdict == "better"
    assert found.worth["commit_delay"] == max(found.worth.values()) > 1
    assert _in_force(conninfo) == before


@pytest.mark.long
def test_restarts_are_batched_and_no_more_memory_is_taken_than_there_is(make_cluster):
    conninfo = make_cluster().conninfo()
    before, facts = _in_force(conninfo), _facts(conninfo)
    assert facts.host is not None
    small = replace(facts, host=replace(facts.host, memory_bytes=2 * GB))

    found = search(
        conninfo,
        small,
        Subject("bulk", seconds=0.1),
        minutes=0.5,
        restart=True,
        memory_bytes=2 * GB,
    )

    tried = [trial.values for trial in found.trials if trial.outcome != "over memory"]
    groups = [(values["shared_buffers"], values["wal_buffers"]) for values in tried]
    assert len(set(groups)) > 1
    assert found.restarts > 0
    # Several trials to a restart: a search that restarts for each changes groups each time.
    assert sum(one != next_ for one, next_ in pairwise(groups)) < len(groups) / 2
    assert not {"4GB", "8GB"} & {values["shared_buffers"] for values in tried}
    assert _in_force(conninfo) == before


@pytest.mark.parametrize(
    ("ram", "values", "fits"),
    [
        (8 * GB, {}, True),
        (8 * GB, {"shared_buffers": "4GB"}, True),
        (8 * GB, {"shared_buffers": "8GB"}, False),
        (
            8 * GB,
            {"shared_buffers": "4GB", "maintenance_work_mem": "1GB"},
            False,
        ),  # 3 workers, 1 index
        (8 * GB, {"maintenance_work_mem": "1GB", "autovacuum_work_mem": "64MB"}, True),
        (8 * GB, {"autovacuum_work_mem": "1GB", "autovacuum_max_workers": "10"}, False),
        (8 * GB, {"wal_buffers": "-1"}, True),
        (GB // 2, {}, True),  # over already: what runs is not made to look forbidden
        (GB // 2, {"shared_buffers": "256MB"}, False),
    ],
)
def test_the_sum_of_connections_limit_says_what_the_host_affords(server, ram, values, fits):
    with psycopg.connect(server.conninfo(), autocommit=True) as conn:
        facts, known = limit.facts(conn, ram_bytes=ram, cores=2), settings(conn)
    assert facts is not None
    facts = replace(facts, backend=replace(facts.backend, private_bytes=2 << 20))

    assert affords(facts, known, values) is fits
