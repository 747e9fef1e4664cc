"""Indexes that a load drops are built again, however the load ends."""

from __future__ import annotations

import os
import signal

import psutil
import psycopg
import pytest

import howdah as api
from howdah.errors import HowdahError
from howdah.loading import BuildingIndexes, Planned, restore_indexes
from howdah.loading.indexes import SLOW_BYTES
from tests.fixtures.commands import Howdah
from tests.loading.records import write_ndjson
from tests.loading.test_faults import wait_until

TABLE = """
    CREATE TABLE t (n int, pad text, day date DEFAULT '2024-01-02');
    CREATE INDEX plain ON t (n);
    CREATE INDEX "Odd ""name"" %" ON t USING hash (pad) WITH (fillfactor = 77);
    CREATE INDEX partial ON t (day DESC NULLS LAST, n) INCLUDE (pad) WHERE n % 2 = 0;
    CREATE INDEX expression ON t ((lower(pad)) text_pattern_ops);
    COMMENT ON INDEX expression IS 'to search';
    ALTER INDEX expression ALTER COLUMN 1 SET STATISTICS 77;
    CREATE UNIQUE INDEX stays ON t (n, day);
"""
DEFERRED = {"plain", 'Odd "name" %', "partial", "expression"}
INDEXES = """
    SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid),
           obj_description(indexrelid, 'pg_class'), spcname::text,
           ARRAY(SELECT attstattarget FROM pg_attribute WHERE attrelid = indexrelid)
      FROM pg_index
      JOIN pg_class ON oid = indexrelid
      LEFT JOIN pg_tablespace ON pg_tablespace.oid = reltablespace
     WHERE indrelid = 't'::regclass AND indisvalid
     ORDER BY 1
"""
KEPT = "SELECT name FROM howdah.indexes ORDER BY name"


@pytest.fixture
def indexes(ask):
    ask(TABLE)
    before = ask(INDEXES)
    assert len(before) == 5
    return before


@pytest.fixture
def large(tmp_path):
    return write_ndjson(tmp_path / "large.ndjson", 120_000)


def guards_of(pid):
    return [
        child
        for child in psutil.Process(pid).children()
        if "howdah.loading.guard" in " ".join(child.cmdline())
    ]


def test_indexes_are_gone_during_the_load_and_back_after_it(dsn, ask, indexes, tmp_path):
    seen = []

    def look(event):
        if isinstance(event, Planned | BuildingIndexes):
            seen.append((event, len(ask(INDEXES)), ask(KEPT)))

    path = write_ndjson(tmp_path / "a.ndjson", 1_000)
    report = api.load([path], dsn=dsn, table="t", defer_indexes=True, on_event=look)

    (planned, before, _), (building, during, kept) = seen
    assert isinstance(planned, Planned)
    assert isinstance(building, BuildingIndexes)
    assert (before, during) == (1, 1)
    assert set(building.names) == set(kept) == DEFERRED
    assert report.records == 1_000
    assert ask(INDEXES) == indexes
    assert ask(KEPT) == []


def test_table_without_indexes_says_of_none_that_it_is_built(dsn, tmp_path):
    events: list[object] = []

    api.load(
        [write_ndjson(tmp_path / "a.ndjson", 1)],
        dsn=dsn,
        defer_indexes=True,
        on_event=events.append,
    )

    assert events
    assert not any(isinstance(event, BuildingIndexes) for event in events)


def test_index_in_another_tablespace_is_built_there(make_cluster, base):
    running = make_cluster()
    folder = base / "space"
    folder.mkdir()
    os.chown(folder, running.data_dir.stat().st_uid, -1)
    with psycopg.connect(running.conninfo(), autocommit=True) as conn:
        conn.execute(f"CREATE TABLESPACE space LOCATION '{folder}'")
        conn.execute("CREATE TABLE t (n int, pad text)")
        conn.execute("CREATE INDEX there ON t (n) TABLESPACE space")
        conn.execute("CREATE INDEX here ON t (pad)")
        before = conn.execute(INDEXES).fetchall()
        path = write_ndjson(base / "a.ndjson", 10)
        api.load([path], dsn=running.conninfo(), table="t", defer_indexes=True)

        assert [row[3] for row in before] == [None, "space"]
        assert conn.execute(INDEXES).fetchall() == before


def test_indexes_that_mean_more_than_speed_stay(dsn, ask, tmp_path):
    ask("""
        CREATE TABLE t (n int PRIMARY KEY, pad text UNIQUE, r int4range,
                        EXCLUDE USING gist (r WITH &&));
        CREATE INDEX clustered ON t (r);
        CLUSTER t USING clustered;
        CREATE TABLE p (n int, pad text) PARTITION BY RANGE (n);
        CREATE TABLE p_all PARTITION OF p DEFAULT;
        CREATE INDEX ON p (n)
    """)
    for table in ("t", "p", "p_all"):
        oids = ask(
            f"SELECT indexrelid FROM pg_index WHERE indrelid = '{table}'::regclass ORDER BY 1"
        )
        path = write_ndjson(tmp_path / f"{table}.ndjson", 1)

        api.load([path], dsn=dsn, table=table, defer_indexes=True)

        after = ask(
            f"SELECT indexrelid FROM pg_index WHERE indrelid = '{table}'::regclass ORDER BY 1"
        )
        assert after == oids


def start_and_wait(howdah: Howdah, ask, large, *arguments, **options):
    loading = howdah.start("load", large, "--table", "t", "--defer-indexes", *arguments, **options)
    wait_until(lambda: ask("SELECT count(*) FROM t")[0] > 0 or loading.poll() is not None)
    assert loading.poll() is None
    assert len(ask(INDEXES)) == 1
    return loading


def test_killed_load_has_its_indexes_built_by_its_guard(howdah, ask, indexes, large):
    loading = start_and_wait(howdah, ask, large, "--workers", 1)
    [guard] = guards_of(loading.pid)

    loading.send_signal(signal.SIGKILL)
    loading.communicate()

    wait_until(lambda: ask(INDEXES) == indexes and ask(KEPT) == [])
    wait_until(lambda: not guard.is_running() or guard.status() == psutil.STATUS_ZOMBIE)
    assert howdah("load", large, "--table", "t").returncode == 0
    assert ask("SELECT count(*), count(DISTINCT n) FROM t") == [(120_000, 120_000)]


@pytest.mark.parametrize("way", ["next load", "command"])
def test_indexes_of_a_load_killed_with_its_guard_are_built_later(
    howdah, ask, indexes, large, tmp_path, way
):
    loading = start_and_wait(howdah, ask, large, "--workers", 1)
    [guard] = guards_of(loading.pid)
    guard.kill()
    loading.send_signal(signal.SIGKILL)
    loading.communicate()
    assert set(ask(KEPT)) == DEFERRED

    if way == "command":
        done = howdah("load", "--restore-indexes", "--table", "t")
        assert done.stdout.startswith("built ")
        done = howdah("load", "--restore-indexes", "--table", "t")
        assert done.stdout == "no load has left indexes of t dropped\n"
    else:
        done = howdah("load", write_ndjson(tmp_path / "b.ndjson", 1, start=900_000), "--table", "t")

    assert done.returncode == 0, done.stderr
    assert ask(INDEXES) == indexes
    assert ask(KEPT) == []


def test_another_load_leaves_the_indexes_of_a_running_one_alone(
    howdah, ask, indexes, large, tmp_path
):
    loading = start_and_wait(howdah, ask, large, "--workers", 1)
    small = write_ndjson(tmp_path / "b.ndjson", 1, start=900_000)
    os.kill(loading.pid, signal.SIGSTOP)
    try:
        for options in ([], ["--defer-indexes"]):
            done = howdah("load", small, "--table", "t", *options)
            assert done.returncode == 0, done.stderr
            assert set(ask(KEPT)) == DEFERRED
    finally:
        os.kill(loading.pid, signal.SIGCONT)
    loading.communicate(timeout=60)

    assert ask(INDEXES) == indexes


def test_ctrl_c_builds_them_before_it_ends(howdah, ask, indexes, large):
    loading = start_and_wait(howdah, ask, large, "--workers", 1, start_new_session=True)
    os.killpg(loading.pid, signal.SIGINT)
    _, errors = loading.communicate(timeout=60)

    assert loading.returncode == 130
    assert "Traceback" not in errors
    assert ask(INDEXES) == indexes
    assert ask(KEPT) == []


def test_failed_load_builds_them_and_tells_of_the_failure(dsn, ask, indexes, large):
    short = psycopg.conninfo.make_conninfo(dsn, options="-c statement_timeout=1s")

    def lock(event):
        if isinstance(event, Planned):
            holder.execute("LOCK TABLE howdah.sources")

    with psycopg.connect(dsn) as holder:
        with pytest.raises(HowdahError, match="gave up waiting"):
            api.load([large], dsn=short, table="t", defer_indexes=True, on_event=lock)
        holder.rollback()

    assert ask(INDEXES) == indexes
    assert ask(KEPT) == []


@pytest.mark.long
def test_load_that_loses_its_connections_builds_them_all_the_same(howdah, ask, indexes, large):
    loading = start_and_wait(howdah, ask, large, "--workers", 1)
    ask("""
        SELECT pg_terminate_backend(pid)
          FROM pg_stat_activity
         WHERE datname = current_database() AND application_name = 'howdah load'
    """)
    _, errors = loading.communicate(timeout=60)

    assert "Traceback" not in errors
    wait_until(lambda: ask(INDEXES) == indexes and ask(KEPT) == [])
    assert howdah("load", large, "--table", "t").returncode == 0
    assert ask("SELECT count(*), count(DISTINCT n) FROM t") == [(120_000, 120_000)]


def test_index_that_cannot_hold_the_new_rows_is_told_and_kept(dsn, ask, tmp_path):
    ask("""
        CREATE TABLE t (n int, pad text);
        CREATE INDEX inverse ON t ((1 / n));
        CREATE INDEX fine ON t (n)
    """)
    path = write_ndjson(tmp_path / "a.ndjson", 10)

    with pytest.raises(HowdahError, match=r"inverse \(division by zero\)") as error:
        api.load([path], dsn=dsn, table="t", defer_indexes=True)

    assert "howdah load --restore-indexes --table t" in str(error.value)
    assert ask("SELECT count(*) FROM t") == [10]
    assert ask(KEPT) == ["inverse"]
    ask("DELETE FROM t WHERE n = 0")
    assert restore_indexes("t", dsn=dsn) == ["inverse"]
    assert restore_indexes("t", dsn=dsn) == []


def test_index_that_someone_made_again_is_not_made_twice(howdah, ask, indexes, large):
    loading = start_and_wait(howdah, ask, large, "--workers", 1)
    [guard] = guards_of(loading.pid)
    guard.kill()
    loading.kill()
    loading.communicate()
    wait_until(lambda: ask("SELECT count(*) FROM pg_locks WHERE relation = 't'::regclass") == [0])
    ask("CREATE INDEX plain ON t (n)")

    assert "plain" in restore_indexes("t", dsn=howdah.dsn)
    assert [row[0] for row in ask(INDEXES)] == [row[0] for row in indexes]


def test_large_load_says_which_indexes_slow_it_down(howdah, ask, indexes, tmp_path):
    path = tmp_path / "a.csv"
    with path.open("w") as file:
        file.write("n,pad\n")
        while file.tell() < SLOW_BYTES:
            file.write(f"{file.tell()},{'x' * 2000}\n")
    events = []

    done = howdah("load", path, "--table", "t")
    api.load([path], dsn=howdah.dsn, table="t", truncate=True, on_event=events.append)

    assert done.returncode == 0, done.stderr
    assert "t has 4 indexes (plain, Odd " in done.stderr
    assert "--defer-indexes drops them" in done.stderr
    assert set(events[0].slowing) == DEFERRED
    small = write_ndjson(tmp_path / "b.ndjson", 10)
    assert "indexes" not in howdah("load", small, "--table", "t").stderr
