"""Every setting of the catalogue changed at once, and taken back to what was before."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from howdah.server.change import Change, apply_change, plan_change, plan_undo
from howdah.server.settings import Setting, same_value, setting, settings
from howdah.tuning.catalogue import catalogue

pytestmark = pytest.mark.long

# What a plain rule does not give: values that go together, or that a server has no number for.
CHOSEN = {
    "archive_mode": "on",
    "wal_level": "logical",
    "huge_pages": "off",
    "wal_sync_method": "fsync",
    "autovacuum_work_mem": "65536",
    "autovacuum_vacuum_cost_limit": "1000",
    "checkpoint_completion_target": "0.5",
}
EARLIER = ("work_mem = '5MB'", "commit_delay = '7'", "max_wal_size = '2GB'", "jit = 'off'")
TABLE = """
    CREATE UNLOGGED TABLE orders (n int) WITH (fillfactor = 70, autovacuum_enabled = off);
    CREATE INDEX ON orders (n) WITH (fillfactor = 60)
"""
_RELATIONS = """
    SELECT relname, relpersistence, reloptions FROM pg_class WHERE relname LIKE 'orders%' ORDER BY 1
"""
_IN_FORCE = "SELECT name, setting, source, pending_restart FROM pg_settings ORDER BY 1"


def _another(current: Setting) -> str:
    """Return a valid value that is not the one in force."""
    if current.name in CHOSEN:
        return CHOSEN[current.name]
    if current.vartype == "bool":
        return "off" if current.value == "on" else "on"
    if current.vartype == "enum":
        assert current.enum_values is not None
        return next(v for v in current.enum_values if not same_value(current, v, current.value))
    number = float(current.value)
    above = number + 1 <= float(current.max_value or "inf")
    return f"{number + 1 if above else number - 1:g}"


def _state(conninfo: str) -> tuple[object, ...]:
    with psycopg.connect(conninfo) as conn:
        rows = conn.execute(_IN_FORCE).fetchall()
        moving = ("transaction", "in_hot_standby", "application_name")
        in_force = [row for row in rows if not row[0].startswith(moving)]
        return in_force, conn.execute(_RELATIONS).fetchall()


def _change_all_and_undo(conninfo: str, major: int) -> None:
    with psycopg.connect(conninfo, autocommit=True) as conn:
        known = settings(conn)
        wishes = {
            name: _another(known[name])
            for name, entry in catalogue().settings.items()
            if entry.since <= major and len(known[name].enum_values or "many") > 1
        }
        plan = plan_change(conn, [Change(*wish) for wish in wishes.items()], reason="howdah tune")
        assert {step.name for step in plan.steps} == set(wishes)
        assert apply_change(conn, plan, restart=True).state == "done"
    with psycopg.connect(conninfo, autocommit=True) as conn:
        for name, value in wishes.items():
            assert same_value(setting(conn, name), setting(conn, name).value, value), name
        plan, entry = plan_undo(conn)
        assert apply_change(conn, plan, restart=True, undoes=entry.number).state == "done"


@pytest.mark.parametrize("earlier", [(), EARLIER], ids=["nothing set before", "some set before"])
def test_all_settings_at_once_are_undone_to_the_earlier_file_and_values(
    make_cluster, binaries, earlier
):
    running = make_cluster(binaries=binaries, settings="fsync = on\n")
    conninfo, auto = running.conninfo(), Path(running.data_dir, "postgresql.auto.conf")
    with psycopg.connect(conninfo, autocommit=True) as conn:
        conn.execute(TABLE)
        for assignment in earlier:
            conn.execute(f"ALTER SYSTEM SET {assignment}")
        conn.execute("SELECT pg_reload_conf()")
    files = [p for p in running.data_dir.glob("*.conf") if p != auto]
    before, lines = _state(conninfo), auto.read_bytes()
    texts = [path.read_bytes() for path in files]

    _change_all_and_undo(conninfo, binaries.major)

    assert _state(conninfo) == before
    assert [path.read_bytes() for path in files] == texts
    # PostgreSQL itself moves a line that is written anew to the end of its file.
    assert sorted(auto.read_bytes().splitlines()) == sorted(lines.splitlines())
    if not earlier:
        assert auto.read_bytes() == lines


def test_the_include_file_too_is_as_it_was(make_cluster, binaries):
    if binaries.major < 17:
        pytest.skip("before PostgreSQL 17 ALTER SYSTEM cannot be forbidden")
    forbidden = "fsync = on\nallow_alter_system = off\n"
    running = make_cluster(binaries=binaries, settings=forbidden)
    conninfo = running.conninfo()
    with psycopg.connect(conninfo, autocommit=True) as conn:
        apply_change(conn, plan_change(conn, [Change("commit_delay", "7")]))
    files = list(running.data_dir.glob("*.conf"))
    before, texts = _state(conninfo), [path.read_bytes() for path in files]

    _change_all_and_undo(conninfo, binaries.major)

    assert _state(conninfo) == before
    assert [path.read_bytes() for path in files] == texts
