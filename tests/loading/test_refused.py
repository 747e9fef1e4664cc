"""Faults that end a load in one clear sentence; the next load goes on where it ended."""

from __future__ import annotations

import os
import subprocess
from contextlib import contextmanager

import psycopg
import pytest
from psycopg import conninfo, sql

import howdah
from howdah.errors import HowdahError, Refused
from howdah.loading import Limits, ddl
from tests.fixtures.commands import Howdah
from tests.loading.records import PAIRS, digest, write_ndjson

RECORDS = 60_000


@pytest.fixture
def role(dsn, ask):
    """A role that may connect and no more."""
    name = f"plain_{os.getpid()}"
    ask(f"CREATE ROLE {name} LOGIN PASSWORD 'plain'")
    yield name
    ask(f"DROP OWNED BY {name}")
    ask(f"DROP ROLE {name}")


@pytest.fixture
def as_role(dsn, role):
    return conninfo.make_conninfo(dsn, user=role, password="plain")


@contextmanager
def small_disk(folder, size):
    """Mount a file system of that size; only root may."""
    folder.mkdir()
    mounting = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size},mode=0777", "tmpfs", folder],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounting.returncode:
        pytest.skip(f"no file system of a limited size can be mounted: {mounting.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def test_full_disk_is_a_sentence_and_the_load_goes_on_when_there_is_space(make_cluster, base):
    running = make_cluster()
    path = write_ndjson(base / "large.ndjson", RECORDS)
    owner = running.data_dir.stat()
    with small_disk(base / "disk", "16m"):
        (base / "disk" / "space").mkdir()
        os.chown(base / "disk" / "space", owner.st_uid, owner.st_gid)
        with psycopg.connect(running.conninfo(), autocommit=True) as conn:
            place = str(base / "disk" / "space")
            conn.execute(sql.SQL("CREATE TABLESPACE small LOCATION {}").format(place))
            howdah.load([write_ndjson(base / "one.ndjson", 1)], dsn=running.conninfo())
            conn.execute("ALTER TABLE documents SET TABLESPACE small")
            with pytest.raises(HowdahError, match="The server's disk is full") as raised:
                howdah.load([path], dsn=running.conninfo(), workers=2)
            subprocess.run(["mount", "-o", "remount,size=256m", base / "disk"], check=True)
            report = howdah.load([path], dsn=running.conninfo(), workers=2)
            rows = conn.execute(PAIRS + f" WHERE source = '{path}'").fetchall()
            conn.execute("DROP TABLE documents")
            conn.execute("DROP TABLESPACE small")

    assert "what is committed stays" in str(raised.value.next_step)
    assert report.sources == 1
    assert digest(rows) == digest([(n + 1, n) for n in range(RECORDS)])


def test_role_without_the_schema_is_told_what_an_administrator_runs(
    dsn, ask, as_role, role, tmp_path
):
    path = write_ndjson(tmp_path / "a.ndjson", 3)
    with pytest.raises(Refused, match="may not create the schema howdah") as raised:
        howdah.load([path], dsn=as_role)
    printing = Howdah(dsn)("load", "--print-ddl", role)

    assert str(raised.value.next_step).endswith(f"howdah load --print-ddl {role}")
    assert printing.stdout == ddl(role)
    ask(printing.stdout)  # as the administrator
    ask(f"GRANT CREATE ON SCHEMA public TO {role}")
    assert howdah.load([path], dsn=as_role).records == 3


def test_missing_usage_and_missing_insert_are_sentences_and_rights_mend_them(
    dsn, ask, as_role, role, tmp_path
):
    howdah.load([write_ndjson(tmp_path / "first.ndjson", 1)], dsn=dsn)
    path = write_ndjson(tmp_path / "a.ndjson", 3)

    with pytest.raises(Refused, match="permission denied for schema howdah"):
        howdah.load([path], dsn=as_role)
    ask(ddl(role))
    ask(f"GRANT SELECT, DELETE ON documents TO {role}")
    with pytest.raises(Refused, match="may not load into documents: permission denied"):
        howdah.load([path], dsn=as_role)
    ask(f"GRANT INSERT ON documents TO {role}")

    assert howdah.load([path], dsn=as_role).records == 3


def test_connection_limit_of_the_role_makes_fewer_workers_or_a_sentence(
    dsn, ask, as_role, role, tmp_path
):
    ask(ddl(role))
    ask(f"GRANT CREATE ON SCHEMA public TO {role}")
    path = write_ndjson(tmp_path / "a.ndjson", RECORDS)
    ask(f"ALTER ROLE {role} CONNECTION LIMIT 1")
    with pytest.raises(Refused, match=f"role {role} may hold 1 connections and holds 1; a load"):
        howdah.load([path], dsn=as_role)
    ask(f"ALTER ROLE {role} CONNECTION LIMIT 2")

    assert howdah.load([path], dsn=as_role, workers=4).records == RECORDS


def test_slot_that_is_taken_on_the_way_is_waited_for(dsn, ask, as_role, role, tmp_path):
    ask(ddl(role))
    ask(f"GRANT CREATE ON SCHEMA public TO {role}")
    ask(f"ALTER ROLE {role} CONNECTION LIMIT 2")
    paths = [write_ndjson(tmp_path / f"{name}.ndjson", 100) for name in "ab"]
    taken: list[psycopg.Connection] = []
    waits = []

    def take(event):
        if type(event).__name__ == "Planned":
            taken.append(psycopg.connect(as_role))
        if type(event).__name__ == "Waiting" and taken:
            waits.append(event)
            taken.pop().close()

    report = howdah.load(paths, dsn=as_role, on_event=take)

    assert waits
    assert report.records == 200


def test_small_file_needs_one_connection(dsn, ask, as_role, role, tmp_path):
    ask(ddl(role))
    ask(f"GRANT CREATE ON SCHEMA public TO {role}")
    ask(f"ALTER ROLE {role} CONNECTION LIMIT 1")

    assert howdah.load([write_ndjson(tmp_path / "a.ndjson", 100)], dsn=as_role).records == 100


def test_database_that_takes_no_writes_is_a_sentence(dsn, ask, tmp_path):
    path = write_ndjson(tmp_path / "a.ndjson", 3)
    howdah.load([path], dsn=dsn)
    more = write_ndjson(tmp_path / "b.ndjson", 3)
    read_only = conninfo.make_conninfo(dsn, options="-c default_transaction_read_only=on")

    with pytest.raises(Refused, match="The server takes no writes") as raised:
        howdah.load([path, more], dsn=read_only)

    assert "target_session_attrs=read-write" in str(raised.value.next_step)
    assert howdah.load([path, more], dsn=dsn, limits=Limits(retry_for_s=0)).records == 3
