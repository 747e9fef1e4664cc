from __future__ import annotations

import psycopg

from howdah.tuning.catalogue import Risk
from howdah.tuning.facts import read_facts
from howdah.tuning.proof import Subject
from howdah.tuning.search import search

_SETTINGS = "SELECT name, setting, source FROM pg_settings ORDER BY name"


def test_a_search_tries_accepted_values_and_leaves_the_settings_as_they_were(make_cluster):
    conninfo = make_cluster().conninfo()
    with psycopg.connect(conninfo, autocommit=True) as conn:
        before = conn.execute(_SETTINGS).fetchall()
        facts = read_facts(conn)

    found = search(conninfo, facts, Subject("single", seconds=0.1), minutes=0.05)

    assert found.trials
    assert all(trial.values.get("synchronous_commit") != "off" for trial in found.trials)
    assert {trial.outcome for trial in found.trials} <= {"done", "stopped early", "p99 too high"}
    if found.plan is not None:
        assert found.comparison is not None
        assert found.comparison.verdict == "better"
        assert {change.risk for change in found.plan.changes} == {Risk.SAFE}
    with psycopg.connect(conninfo) as conn:
        after = conn.execute(_SETTINGS).fetchall()
    moving = ("transaction", "application_name")
    assert [row for row in after if not row[0].startswith(moving)] == [
        row for row in before if not row[0].startswith(moving)
    ]
