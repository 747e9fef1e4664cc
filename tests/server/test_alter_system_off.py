"""allow_alter_system = off (PostgreSQL 17 and newer): the include file is the way."""

from __future__ import annotations

import psycopg
import pytest

from howdah import pg
from howdah.server.change import Change, apply_change, plan_change, plan_undo
from howdah.server.includefile import INCLUDE_NAME
from tests.connections.test_reserved_slots import newest


@pytest.fixture
def running(make_cluster):
    return make_cluster(binaries=newest(17), settings="allow_alter_system = off\n")


def show(running, name):
    with psycopg.connect(running.conninfo()) as conn:
        return conn.execute("SELECT current_setting(%s)", [name]).fetchone()[0]


def test_superuser_writes_our_include_file_and_takes_it_back(running):
    with psycopg.connect(running.conninfo(), autocommit=True) as conn:
        with pytest.raises(psycopg.errors.FeatureNotSupported):
            conn.execute("ALTER SYSTEM SET work_mem = '5MB'")
        before = conn.execute("SHOW max_connections").fetchone()[0]
    auto_conf = (running.data_dir / "postgresql.auto.conf").read_text()

    with pg.connect(running.conninfo()) as conn:
        plan = plan_change(conn, [Change("max_connections", "61"), Change("work_mem", "5MB")])
        assert plan.way == "include file"
        assert apply_change(conn, plan, restart=True).state == "done"

    assert (show(running, "max_connections"), show(running, "work_mem")) == ("61", "5MB")
    assert "max_connections = '61'" in (running.data_dir / INCLUDE_NAME).read_text()
    assert (running.data_dir / "postgresql.auto.conf").read_text() == auto_conf
    with pg.connect(running.conninfo()) as conn:
        plan, entry = plan_undo(conn)
        apply_change(conn, plan, restart=True, undoes=entry.number)
    assert (show(running, "max_connections"), show(running, "work_mem")) == (before, "4MB")
