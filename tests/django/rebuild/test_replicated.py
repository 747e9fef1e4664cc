"""A database that others follow is more than a developer's: refused, unless it is named."""

from __future__ import annotations

import shutil
import time

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from howdah.server import find, start
from howdah.server.account import account_of, run_as

pytestmark = pytest.mark.long


@pytest.fixture
def followed(make_cluster, small):
    """The small project on a server of its own, which can be followed."""
    cluster = make_cluster("primary", settings="wal_level = logical\nmax_wal_senders = 4\n")
    small.server |= {"host": str(cluster.socket_dir), "port": str(cluster.port)}
    small.server["passfile"] = str(cluster.passfile)
    with psycopg.connect(cluster.conninfo(), autocommit=True) as conn:
        conn.execute(f'CREATE DATABASE "{small.main}"')
    small.ask("CREATE EXTENSION hstore SCHEMA public")
    small.rebuild()
    return small, cluster


def test_database_with_a_logical_replication_slot_is_refused(followed):
    project, _ = followed
    project.ask("SELECT pg_create_logical_replication_slot('follower', 'pgoutput')")
    before = project.digest()

    said = project.rebuild(code=2)

    assert "has 1 logical replication slots" in said
    assert f"--allow {project.main}" in said
    assert project.digest() == before
    project.rebuild("--allow", project.main)
    assert project.digest() != before


def test_database_with_a_standby_is_refused_and_so_is_the_standby_itself(followed, base):
    project, cluster = followed
    copy = base / "standby"
    account = account_of(cluster.data_dir)
    copy.mkdir(mode=0o700)
    shutil.chown(copy, account.name)
    secret = base / "standby.pgpass"
    shutil.copy(cluster.passfile, secret)
    shutil.chown(secret, account.name)
    primary = make_conninfo(cluster.conninfo(), passfile=str(secret))
    command = [find().program("pg_basebackup"), "-D", copy, "-R", "-c", "fast", "-d", primary]
    done = run_as(account, [*map(str, command), "--no-password"], timeout_s=60)
    assert done.returncode == 0, done.stdout
    standby = start(copy, port=0)
    deadline = time.monotonic() + 30
    while project.ask("SELECT state FROM pg_stat_replication") != ["streaming"]:
        assert time.monotonic() < deadline
        time.sleep(0.05)

    assert "is followed by 1 standbys" in project.rebuild(code=2)
    project.rebuild("--allow", project.main)
    project.server |= {"host": str(standby.socket_dir), "port": str(standby.port)}
    said = project.rebuild("--allow", project.main, code=2)

    assert "is on a standby, which takes no writes" in said
