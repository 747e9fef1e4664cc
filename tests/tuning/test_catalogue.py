from __future__ import annotations

import runpy
from pathlib import Path

import psycopg
import pytest

from howdah.server.settings import settings
from howdah.tuning.catalogue import WORKLOADS, Risk, catalogue, setting
from howdah.tuning.rules import RULES

ROOT = Path(__file__).parents[2]


@pytest.fixture
def known(binaries, make_cluster):
    """The settings of a major: that of the tests (`HOWDAH_PG_BIN` names it), and the newest."""
    with psycopg.connect(make_cluster(binaries=binaries).conninfo()) as conn:
        return conn.info.server_version // 10_000, settings(conn)


def test_catalogue_says_what_the_server_says(known):
    major, in_server = known

    for name, entry in catalogue().settings.items():
        if entry.since > major:
            assert name not in in_server
            continue
        assert (in_server[name].unit or "") == entry.unit, name
        assert in_server[name].context == entry.context(major), name


def test_each_value_that_it_names_is_one_of_the_servers(known):
    _, in_server = known

    for name, entry in catalogue().settings.items():
        theirs = in_server[name].enum_values if name in in_server else None
        if theirs is not None:
            builds = {"lz4", "zstd"}  # not in every build
            assert {*entry.choices, *entry.risks} <= {*theirs, *builds, "on", "off"}, name


def test_what_may_corrupt_is_named_so():
    risky = {
        (name, value)
        for name, entry in catalogue().settings.items()
        for value, risk in entry.risks.items()
        if risk is Risk.MAY_CORRUPT
    }

    assert risky == {("fsync", "off"), ("full_page_writes", "off")}
    assert setting("wal_level").risk("minimal") is Risk.NO_REPLICATION
    assert setting("synchronous_commit").risk("off") is Risk.LOSE_LAST_MOMENTS
    assert setting("synchronous_commit").risk("on") is Risk.SAFE


def test_each_entry_is_for_a_workload_and_has_its_source():
    known = catalogue()

    for entry in (*known.settings.values(), *known.tables.values(), *known.habits.values()):
        assert entry.workloads
        assert set(entry.workloads) <= set(WORKLOADS)
        assert entry.source.startswith("https://www.postgresql.org/docs/")


def test_each_habit_has_its_gain_from_a_script_that_measures_both_sides():
    for key, habit in catalogue().habits.items():
        assert habit.gain is not None, key
        assert habit.gain.times > 1, key
        text = (ROOT / habit.gain.script).read_text()
        assert f'"{habit.gain.side}"' in text, key
        assert f'"{habit.gain.against}"' in text, key
    # What no habit gains of itself has no figure.
    assert all(table.gain is None for table in catalogue().tables.values())


def test_each_rule_is_of_a_setting_in_the_catalogue():
    assert set(RULES) <= set(catalogue().settings)


def test_reference_page_is_what_the_catalogue_says():
    script = runpy.run_path(str(ROOT / "tools" / "catalogue-page"))

    assert script["PAGE"].read_text() == script["page"](), "run tools/catalogue-page"
