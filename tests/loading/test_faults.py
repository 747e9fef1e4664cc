"""Exactly once: whatever is killed, cut or run twice, each record is in the table once."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import threading
import time
from pathlib import Path

import psutil
import psycopg
import pytest

import howdah as api
from howdah.errors import HowdahError
from howdah.loading import Event, Limits, Outcome, Waiting
from howdah.server import Running, start
from howdah.server.postmaster import processes
from tests.fixtures.commands import Howdah
from tests.loading.records import PAIRS, digest, write_ndjson

RECORDS = 200_000  # 4 chunks


@pytest.fixture(scope="module")
def large(tmp_path_factory) -> Path:
    return write_ndjson(tmp_path_factory.mktemp("records") / "large.ndjson", RECORDS)


@pytest.fixture
def many(tmp_path) -> Path:
    """A folder of small files: several share a transaction."""
    for number in range(200):
        write_ndjson(tmp_path / f"{number:03}.ndjson", 20, start=number * 20)
    return tmp_path


EVERY_RECORD = digest([(n + 1, n) for n in range(RECORDS)])


def workers_of(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """Return the live worker processes of a load: not the helpers of multiprocessing."""
    found = []
    with contextlib.suppress(psutil.NoSuchProcess):
        for child in psutil.Process(process.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                helper = child.ppid() == process.pid and "multiprocessing" in "".join(
                    child.cmdline()
                )
                if not helper and child.status() != psutil.STATUS_ZOMBIE:
                    found.append(child)
    return found


def wait_until(condition, timeout_s=30.0):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.005)


def committed(ask) -> int:
    try:
        return ask("SELECT count(*) FROM documents")[0]
    except psycopg.errors.UndefinedTable:
        return 0


TERMINATE = """
    SELECT pg_terminate_backend(pid)
      FROM pg_stat_activity
     WHERE datname = current_database() AND application_name = 'howdah load'
"""


def crash(running: Running) -> None:
    os.kill(running.pid, signal.SIGKILL)
    wait_until(lambda: not processes(running.data_dir))


def make_forgetful(running: Running) -> None:
    """Have nothing on disk before a commit waits for it: up to 10 s may be lost."""
    with psycopg.connect(running.conninfo(), autocommit=True) as conn:
        conn.execute("ALTER SYSTEM SET wal_writer_delay = '10s'")
        conn.execute("ALTER SYSTEM SET wal_writer_flush_after = '1GB'")
        conn.execute("SELECT pg_reload_conf()")


def rows_in(running: Running) -> int:
    with psycopg.connect(running.conninfo(), autocommit=True) as conn:
        try:
            row = conn.execute("SELECT count(*) FROM documents").fetchone()
        except psycopg.errors.UndefinedTable:
            return 0
    assert row is not None
    return row[0]


def test_killed_load_started_again_leaves_every_record_once(howdah: Howdah, ask, large, many):
    chance = random.Random()
    kills = 0
    while kills < 8:
        loading = howdah.start("load", large, many, "--workers", 2)
        time.sleep(chance.uniform(0.05, 1.5))
        psutil.Process(loading.pid).send_signal(signal.SIGKILL)
        kills += loading.wait() == -signal.SIGKILL
        loading.communicate()
        if committed(ask) == RECORDS + 4000:
            break

    assert howdah("load", large, many).returncode == 0
    assert digest(ask(PAIRS + f" WHERE source = '{large}'")) == EVERY_RECORD
    assert ask(
        f"SELECT count(*), count(DISTINCT attributes->'n') FROM documents WHERE source <> '{large}'"
    ) == [(4000, 4000)]
    assert ask("SELECT count(*) FROM howdah.sources WHERE NOT finished") == [0]


def test_killed_load_is_gone_on_with_and_not_begun_anew(howdah: Howdah, ask, large):
    loading = howdah.start("load", large, "--workers", 1)
    wait_until(lambda: committed(ask) > 0)
    loading.kill()
    loading.communicate()
    before = committed(ask)
    oldest = ask("SELECT min(id) FROM documents")

    finishing = howdah("load", "--json", large)

    assert 0 < before < RECORDS
    assert f'"records": {RECORDS - before},' in finishing.stdout
    assert ask("SELECT min(id) FROM documents") == oldest
    assert digest(ask(PAIRS)) == EVERY_RECORD


def test_killed_workers_cost_a_retry_and_no_record(howdah: Howdah, ask, large, many):
    loading = howdah.start("load", "--json", large, many, "--workers", 2)
    killed = 0
    while killed < 3 and loading.poll() is None:
        wait_until(lambda: len(workers_of(loading)) == 2 or loading.poll() is not None)
        time.sleep(0.3)
        for worker in workers_of(loading)[-1:]:
            worker.kill()
            killed += 1
            time.sleep(0.3)
    output, errors = loading.communicate(timeout=60)

    assert killed
    assert loading.returncode == 0
    assert "was killed by SIGKILL" in errors
    assert "Traceback" not in errors
    assert f'"records": {RECORDS + 4000},' in output
    assert digest(ask(PAIRS + f" WHERE source = '{large}'")) == EVERY_RECORD
    assert ask("SELECT count(*), count(DISTINCT (source, record)) FROM documents") == [
        (RECORDS + 4000, RECORDS + 4000)
    ]


def test_two_loads_at_once_share_the_work(howdah: Howdah, ask, large, many):
    both = [howdah.start("load", "--json", large, many, "--workers", 2) for _ in range(2)]
    outputs = [loading.communicate(timeout=60) for loading in both]

    assert [loading.returncode for loading in both] == [0, 0], outputs
    assert digest(ask(PAIRS + f" WHERE source = '{large}'")) == EVERY_RECORD
    assert ask("SELECT count(*), count(DISTINCT (source, record)) FROM documents") == [
        (RECORDS + 4000, RECORDS + 4000)
    ]


@pytest.mark.long
def test_two_loads_at_once_of_which_one_is_killed_leave_every_record_once(
    howdah: Howdah, ask, large, many
):
    first = howdah.start("load", large, many, "--workers", 2, start_new_session=True)
    second = howdah.start("load", many, large, "--workers", 2, "--json")
    wait_until(lambda: committed(ask) > 0)
    time.sleep(random.uniform(0, 0.4))
    was_running = first.poll() is None
    os.killpg(first.pid, signal.SIGKILL)
    first.communicate()
    _, errors = second.communicate(timeout=60)

    assert was_running
    assert second.returncode == 0, errors
    assert digest(ask(PAIRS + f" WHERE source = '{large}'")) == EVERY_RECORD
    assert ask("SELECT count(*), count(DISTINCT (source, record)) FROM documents") == [
        (RECORDS + 4000, RECORDS + 4000)
    ]
    assert ask("SELECT count(*) FROM howdah.sources WHERE NOT finished") == [0]


def test_backends_that_are_terminated_cost_a_retry_and_no_record(howdah: Howdah, ask, large, many):
    loading = howdah.start("load", large, many, "--workers", 2, "--json")
    ended = 0
    while ended < 6 and loading.poll() is None:
        wait_until(lambda: committed(ask) > 0 or loading.poll() is not None)
        ended += len(ask(TERMINATE))
        time.sleep(0.2)
    output, errors = loading.communicate(timeout=60)

    assert ended
    assert loading.returncode == 0, errors
    assert "trying again in" not in output
    report = json.loads(output)
    assert (report["sources"], report["records"]) == (201, RECORDS + 4000)
    assert digest(ask(PAIRS + f" WHERE source = '{large}'")) == EVERY_RECORD
    assert ask("SELECT count(*), count(DISTINCT (source, record)) FROM documents") == [
        (RECORDS + 4000, RECORDS + 4000)
    ]


@pytest.mark.long
def test_table_that_is_loaded_aside_takes_its_place_once_though_backends_are_terminated(
    howdah: Howdah, ask, large, many
):
    howdah("load", many)
    loading = howdah.start("load", large, "--replace", "--workers", 2, "--json")
    ended = 0
    while loading.poll() is None and not ended:
        ended = len(ask(TERMINATE))
        time.sleep(random.uniform(0, 0.3))
    deadline = time.monotonic() + 2.5
    while loading.poll() is None and time.monotonic() < deadline:
        ended += len(ask(TERMINATE))
        assert committed(ask) in {4000, RECORDS}  # all old rows, or all new ones
        time.sleep(random.uniform(0, 0.3))
    output, errors = loading.communicate(timeout=60)

    assert ended
    assert loading.returncode == 0, errors
    assert json.loads(output)["records"] == RECORDS
    assert digest(ask(PAIRS)) == EVERY_RECORD
    assert ask("SELECT to_regclass('documents__next') IS NULL") == [True]
    assert ask("SELECT count(*) FROM howdah.loads WHERE target = 'documents'::regclass") == [1]


# A sequence counts also what is rolled back. The second try comes through.
END_ONCE = """
    CREATE SEQUENCE tries;
    CREATE FUNCTION end_once() RETURNS event_trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF current_query() LIKE '%__next%' OR current_query() LIKE '%by_n%' THEN
            IF nextval('tries') = 1 THEN
                PERFORM pg_terminate_backend(pg_backend_pid());
            END IF;
        END IF;
    END $$;
"""
TRIGGER = (
    "CREATE EVENT TRIGGER ending ON ddl_command_start WHEN TAG IN ({}) EXECUTE FUNCTION end_once()"
)


@pytest.mark.parametrize("command", ["CREATE TABLE", "COMMENT", "CREATE INDEX", "ALTER TABLE"])
def test_backend_that_is_terminated_while_it_makes_or_places_the_table_aside_is_not_missed(
    howdah: Howdah, ask, tmp_path, command
):
    howdah("load", write_ndjson(tmp_path / "old.ndjson", 10))
    ask("CREATE INDEX by_n ON documents ((attributes->>'n'))")
    ask(END_ONCE)
    ask(TRIGGER.format(f"'{command}'"))

    done = howdah("load", write_ndjson(tmp_path / "new.ndjson", 100), "--replace", "--json")

    assert done.returncode == 0, done.stderr
    assert ask("SELECT last_value > 1 FROM tries") == [True]
    assert json.loads(done.stdout)["records"] == 100
    assert digest(ask(PAIRS)) == digest([(n + 1, n) for n in range(100)])
    assert ask("SELECT indexname FROM pg_indexes WHERE tablename = 'documents'") == ["by_n"]


@pytest.mark.parametrize("command", ["DROP INDEX", "CREATE INDEX"])
def test_backend_that_is_terminated_while_it_drops_or_builds_indexes_is_not_missed(
    howdah: Howdah, ask, tmp_path, command
):
    howdah("load", write_ndjson(tmp_path / "old.ndjson", 10))
    ask("CREATE INDEX by_n ON documents ((attributes->>'n'))")
    ask(END_ONCE)
    ask(TRIGGER.format(f"'{command}'"))

    done = howdah("load", write_ndjson(tmp_path / "new.ndjson", 100), "--defer-indexes")

    assert done.returncode == 0, done.stderr
    assert ask("SELECT last_value > 1 FROM tries") == [True]
    assert ask("SELECT count(*) FROM documents") == [110]
    assert ask("SELECT indexname FROM pg_indexes WHERE tablename = 'documents'") == ["by_n"]


def test_server_that_stays_away_is_told_and_the_load_can_go_on(make_cluster, base, large):
    running = make_cluster()
    command = Howdah(running.conninfo())
    loading = command.start("load", large, "--workers", 2, "--retry-for", 1)
    wait_until(lambda: rows_in(running) > 0)
    os.kill(running.pid, signal.SIGKILL)
    _, errors = loading.communicate(timeout=60)
    again = start(running.data_dir)
    finishing = Howdah(again.conninfo())("load", large)

    assert loading.returncode == 1
    assert "Traceback" not in errors
    assert "the server is away; trying again in 0." in errors
    assert "The server is away: it could not load into documents (tried for 1 s): " in errors
    assert "run the same command again" in errors.lower()
    assert finishing.returncode == 0, finishing.stderr
    with psycopg.connect(again.conninfo()) as conn:
        assert digest(conn.execute(PAIRS).fetchall()) == EVERY_RECORD


def test_ctrl_c_stops_at_once_and_says_how_to_go_on(howdah: Howdah, ask, large):
    loading = howdah.start("load", large, "--workers", 2, start_new_session=True)
    wait_until(lambda: committed(ask) > 0)
    workers = workers_of(loading)
    os.killpg(loading.pid, signal.SIGINT)  # as a terminal does: to all of them
    _, errors = loading.communicate(timeout=20)

    assert loading.returncode == 130
    assert "run the same command again to go on" in errors
    assert "Traceback" not in errors
    wait_until(lambda: not any(worker.is_running() for worker in workers))
    assert howdah("load", large).returncode == 0
    assert digest(ask(PAIRS)) == EVERY_RECORD


def _loading_a_stream(howdah: Howdah, ask, large) -> subprocess.Popen[str]:
    """Return a load that has read a part of a stream and made its table."""
    loading = howdah.start("load", "-", stdin=subprocess.PIPE)
    assert loading.stdin is not None
    loading.stdin.write(large.read_text()[:20_000_000])
    loading.stdin.flush()
    wait_until(lambda: ask("SELECT to_regclass('documents') IS NOT NULL")[0])
    return loading


def test_ctrl_c_during_a_stream_says_that_nothing_of_it_is_loaded(howdah: Howdah, ask, large):
    loading = _loading_a_stream(howdah, ask, large)
    wait_until(
        lambda: ask("SELECT count(*) FROM pg_locks WHERE relation = 'documents'::regclass")[0]
    )
    loading.send_signal(signal.SIGINT)
    _, errors = loading.communicate(timeout=20)

    assert loading.returncode == 130
    assert "A stream is loaded as a whole or not at all" in errors
    assert "committed" not in errors
    assert ask("SELECT count(*) FROM documents") == [0]


def test_stream_that_is_killed_leaves_nothing(howdah: Howdah, ask, large):
    loading = _loading_a_stream(howdah, ask, large)
    time.sleep(0.5)
    loading.kill()
    loading.wait()
    with large.open() as whole:
        finishing = howdah("load", "-", "--json", stdin=whole)

    assert f'"records": {RECORDS},' in finishing.stdout
    assert digest(ask(PAIRS)) == EVERY_RECORD


def test_locked_table_ends_in_a_sentence_that_names_who_holds_it(dsn, ask, many):
    api.load([many / "000.ndjson"], dsn=dsn)
    limits = Limits(retry_for_s=1, lock_timeout_s=0.3)
    waits: list[Event] = []
    with psycopg.connect(dsn, application_name="a report") as holder:
        holder.execute("LOCK TABLE documents IN SHARE MODE")
        pid = holder.info.backend_pid
        with pytest.raises(HowdahError) as raised:
            api.load([many], dsn=dsn, limits=limits, on_event=waits.append)

    assert raised.value.message.startswith(
        "The server gave up waiting to load into documents (tried for 1 s): documents is locked "
        f"(ShareLock) by pid {pid} (role postgres, application a report, its statement began 20"
    )
    assert any(isinstance(event, Waiting) for event in waits)
    assert api.load([many], dsn=dsn).records == 199 * 20


def test_table_that_is_locked_for_a_moment_costs_a_wait(dsn, ask, many):
    api.load([many / "000.ndjson"], dsn=dsn)
    waits: list[Event] = []
    with psycopg.connect(dsn) as holder:
        holder.execute("LOCK TABLE documents IN SHARE MODE")

        def let_go(event: Event) -> None:
            waits.append(event)
            if isinstance(event, Waiting):
                holder.rollback()

        report = api.load(
            [many], dsn=dsn, limits=Limits(lock_timeout_s=0.2), on_event=let_go, workers=2
        )

    assert any(isinstance(event, Waiting) for event in waits)
    assert report.records == 199 * 20


def test_load_from_a_thread_of_a_program_is_the_same(dsn, ask, many):
    outcomes: list[Outcome] = []
    loading = threading.Thread(
        target=lambda: outcomes.append(api.load([many], dsn=dsn, workers=2))  # type: ignore[arg-type]
    )
    loading.start()
    loading.join()

    assert [report.records for report in outcomes] == [4000]
    assert ask("SELECT count(*) FROM documents") == [4000]


def test_server_that_crashes_and_comes_back_loses_no_record_of_the_running_load(
    make_cluster, base, large, many
):
    running = make_cluster()
    loading = Howdah(running.conninfo()).start("load", large, many, "--workers", 2, "--json")
    wait_until(lambda: rows_in(running) > 0)
    crash(running)
    again = start(running.data_dir)
    output, errors = loading.communicate(timeout=60)

    assert loading.returncode == 0, errors
    assert json.loads(output)["records"] == RECORDS + 4000
    assert json.loads(output)["sources"] == 201
    with psycopg.connect(again.conninfo()) as conn:
        assert digest(conn.execute(PAIRS + f" WHERE source = '{large}'").fetchall()) == EVERY_RECORD
        assert conn.execute("SELECT count(*) FROM documents").fetchone() == (RECORDS + 4000,)
        assert conn.execute("SELECT count(*) FROM howdah.chunks").fetchone() == (0,)


def test_commits_that_a_crash_takes_are_loaded_again_by_the_same_load(make_cluster, base, tmp_path):
    """The server forgets, after the workers' last commits, what was not on disk."""
    for number in range(40):
        path = write_ndjson(tmp_path / f"{number:02}.ndjson", 50, start=number * 50)
        with path.open("a") as file:
            file.write(f'{{"n": {2000 + number}, "repaired": "\\u0000"}}\n')
    running = make_cluster()
    make_forgetful(running)
    lost: list[int] = []
    seen: list[Outcome] = []

    def crash_behind_the_last_one(event: Event) -> None:
        if isinstance(event, Outcome):
            seen.append(event)
            if not lost and sum(one.sources for one in seen) >= 40:
                crash(running)
                start(running.data_dir)
                lost.append(2040 - rows_in(running))

    report = api.load(
        [tmp_path], dsn=running.conninfo(), workers=1, on_event=crash_behind_the_last_one
    )

    assert lost[0] > 0, "the crash took nothing"
    assert (report.sources, report.records, report.rejects) == (40, 2040, 0)
    assert (report.repaired, report.chunks) == (40, 1)  # once, though they were committed twice
    total = sum(seen, Outcome())
    assert (total.repaired, total.chunks) == (40, 1)
    assert (total.sources, total.records) == (40, 2040)
    with psycopg.connect(running.conninfo()) as conn:
        rows = conn.execute("SELECT (attributes->>'n')::int FROM documents ORDER BY 1").fetchall()
    assert [n for (n,) in rows] == list(range(2040))


def test_small_merge_that_a_crash_takes_is_done_again_by_the_same_load(make_cluster, tmp_path):
    running = make_cluster()
    make_forgetful(running)
    path = tmp_path / "a.csv"
    path.write_text("id,n\n" + "".join(f"{n % 50},{n}\n" for n in range(100)))
    with psycopg.connect(running.conninfo(), autocommit=True) as conn:
        conn.execute("CREATE TABLE documents (id int PRIMARY KEY, n int)")
        conn.execute("INSERT INTO documents SELECT n, -1 FROM generate_series(0, 49) AS n")
    changed: list[int] = []

    def changes() -> int:
        with psycopg.connect(running.conninfo()) as conn:
            [(found,)] = conn.execute("SELECT count(*) FROM documents WHERE n >= 0")
        return int(found)

    def crash_behind_it(event: Event) -> None:
        if isinstance(event, Outcome) and event.sources and not changed:
            crash(running)
            start(running.data_dir)
            changed.append(changes())

    columns = api.Columns(key=("id",), updates_only=True)
    report = api.load([path], dsn=running.conninfo(), table="documents", columns=columns,
                      on_event=crash_behind_it)  # fmt: skip

    assert changed == [0], "the crash took nothing"
    assert (report.sources, report.records, report.rejects) == (1, 100, 0)
    with psycopg.connect(running.conninfo()) as conn:
        rows = conn.execute("SELECT id, n FROM documents ORDER BY id").fetchall()
    assert rows == [(n, n + 50) for n in range(50)]


def test_stream_that_loses_the_server_says_that_it_cannot_be_read_again(howdah: Howdah, ask, large):
    loading = _loading_a_stream(howdah, ask, large)
    time.sleep(0.3)
    ask(TERMINATE)
    with contextlib.suppress(BrokenPipeError):
        loading.stdin.write(large.read_text()[20_000_000:])
    _, errors = loading.communicate(timeout=60)

    assert loading.returncode == 1
    assert "Standard input cannot be read a second time" in errors
    assert "Traceback" not in errors
    assert committed(ask) == 0
