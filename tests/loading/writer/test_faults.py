"""howdah.Writer: whatever is cut, killed or restarted, each row is there once or has failed."""

from __future__ import annotations

import os
import random
import signal
import threading
import time

import psycopg
import pytest

import howdah
from howdah.errors import HowdahError
from howdah.loading import OutcomeUnknown
from howdah.server import start, stop
from tests.loading.proxy import Proxy

TABLE = "CREATE TABLE events (k int, kind text CHECK (kind <> 'bad'))"


@pytest.fixture
def events(ask) -> None:
    ask(TABLE)


@pytest.fixture
def proxy(server):
    proxy = Proxy(server.port)
    yield proxy
    proxy.close()


@pytest.fixture
def through(dsn, proxy) -> str:
    """The connection string of the test's database, through the proxy."""
    return psycopg.conninfo.make_conninfo(dsn, host="127.0.0.1", port=proxy.port)


def wait_until(condition, timeout_s=30.0):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.005)


class Posters:
    """Threads that post numbered rows until they are told to stop; every seventh row is bad."""

    def __init__(self, writer, threads=4):
        self.futures = {}
        self._writer = writer
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._post, args=(n,)) for n in range(threads)]
        for thread in self._threads:
            thread.start()

    def _post(self, thread):
        number = thread
        while not self._stop.is_set():
            kind = "bad" if number % 7 == 0 else "good"
            self.futures[number] = self._writer.post({"k": number, "kind": kind})
            number += len(self._threads)
            if number % 50 < len(self._threads):
                time.sleep(0.001)

    def done(self) -> int:
        return sum(future.done() for future in list(self.futures.values()))

    def finish(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def check(self, rows) -> None:
        """Check that all good rows are in the table, once, and no bad ones."""
        failed = {k for k, future in self.futures.items() if future.exception(timeout=0)}
        assert failed == {k for k in self.futures if k % 7 == 0}
        assert sorted(rows) == sorted(self.futures.keys() - failed)


def test_backends_that_are_terminated_at_any_moment_cost_no_row(dsn, ask, events):
    chance = random.Random()
    with howdah.Writer(dsn, "events", connections=3, batch_rows=50) as writer:
        posters = Posters(writer)
        killed = 0
        while killed < 30:
            time.sleep(chance.uniform(0, 0.03))
            killed += len(
                ask(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE application_name ~ '^howdah writer' AND datname = current_database()"
                )
            )
        posters.finish()

    assert len(posters.futures) > 500
    posters.check(ask("SELECT k FROM events"))


@pytest.mark.parametrize("how", ["before", "after", "hold"])
@pytest.mark.parametrize("with_bad_rows", [False, True])
def test_connection_cut_at_the_commit_doubles_and_loses_nothing(
    through, proxy, ask, events, how, with_bad_rows
):
    with howdah.Writer(through, "events", linger_s=0.01, connections=1) as writer:
        for cut in range(5):
            proxy.cut = how
            futures = [writer.post({"k": cut * 10 + n, "kind": "good"}) for n in range(10)]
            if with_bad_rows:
                futures.append(writer.post({"k": 99, "kind": "bad"}))
            errors = [future.exception(timeout=30) for future in futures]
            assert errors[:10] == [None] * 10
            assert all("events_kind_check" in str(error) for error in errors[10:])

    assert proxy.cuts == 5
    assert ask("SELECT k FROM events ORDER BY k") == list(range(50))


def test_answer_that_is_lost_once_the_bad_rows_are_known_keeps_them_known(
    through, proxy, ask, events
):
    """The COPY in savepoints fails here and there; the connection is cut in a later one."""
    with howdah.Writer(through, "events", linger_s=0.05, connections=1) as writer:
        for cut in range(3):
            futures = [
                writer.post({"k": cut * 100 + n, "kind": "bad" if n % 9 == 0 else "good"})
                for n in range(40)
            ]
            done = threading.Timer(random.uniform(0.05, 0.07), setattr, (proxy, "cut", "after"))
            done.start()
            errors = [future.exception(timeout=30) for future in futures]
            done.join()
            proxy.cut = None
            assert [error is not None for error in errors] == [n % 9 == 0 for n in range(40)]

    assert ask("SELECT k FROM events ORDER BY k") == [
        cut * 100 + n for cut in range(3) for n in range(40) if n % 9
    ]


def test_lost_answer_without_marks_may_double_rows_and_loses_none(through, proxy, ask, events):
    with howdah.Writer(through, "events", exactly_once=False) as writer:
        proxy.cut = "after"
        writer.post({"k": 1}).result(timeout=30)

    assert ask("SELECT DISTINCT k FROM events") == [1]
    assert 1 <= ask("SELECT count(*) FROM events")[0] <= 2
    assert ask("SELECT to_regclass('howdah.writer_batches')::text") == [None]


def test_row_is_unknown_if_the_server_never_says_what_became_of_it(through, proxy, ask, events):
    with howdah.Writer(through, "events", retry_for_s=0.3) as writer:
        proxy.cut = "after"
        proxy.refuses = True
        asked = writer.post({"k": 1})
        with pytest.raises(OutcomeUnknown, match="what became of the row"):
            asked.result(timeout=30)
        # The outage is known by now: this one is tried once, and was never sent.
        with pytest.raises(HowdahError, match="took no rows") as caught:
            writer.post({"k": 2}).result(timeout=30)
        assert not isinstance(caught.value, OutcomeUnknown)
        proxy.refuses = False
        writer.post({"k": 3}).result(timeout=30)

    assert set(ask("SELECT k FROM events")) - {1} == {3}


def test_locked_table_fails_rows_after_retry_for_s(dsn, ask, events):
    impatient = psycopg.conninfo.make_conninfo(dsn, options="-c lock_timeout=50ms")
    with howdah.Writer(impatient, "events", retry_for_s=0.2) as writer:
        with psycopg.connect(dsn) as slow:
            slow.execute("LOCK TABLE events IN SHARE MODE")
            with pytest.raises(HowdahError, match="lock timeout") as caught:
                writer.post({"k": 1}).result(timeout=30)
        writer.post({"k": 2}).result(timeout=30)

    assert not isinstance(caught.value, OutcomeUnknown)
    assert ask("SELECT k FROM events") == [2]


def test_refusal_that_may_pass_is_no_unknown_outcome(dsn, ask, events):
    """The error comes when the data and the COMMIT behind it are sent, and is an answer."""
    ask(
        "CREATE FUNCTION again() RETURNS trigger LANGUAGE plpgsql AS "
        "$$BEGIN RAISE 'again' USING ERRCODE = 'serialization_failure'; END$$"
    )
    ask("CREATE TRIGGER again BEFORE INSERT ON events FOR EACH ROW EXECUTE FUNCTION again()")
    with howdah.Writer(dsn, "events", retry_for_s=0.2) as writer:
        with pytest.raises(HowdahError, match="took no rows: again") as caught:
            writer.post({"k": 1}).result(timeout=30)
        ask("DROP TRIGGER again ON events")
        writer.post({"k": 2}).result(timeout=30)

    assert not isinstance(caught.value, OutcomeUnknown)
    assert ask("SELECT k FROM events") == [2]


def test_server_that_is_restarted_and_killed_during_the_posts_costs_no_row(make_cluster):
    running = make_cluster()
    with psycopg.connect(running.conninfo(), autocommit=True) as conn:
        conn.execute(TABLE)
    chance = random.Random()
    with howdah.Writer(running.conninfo(), "events", connections=2, batch_rows=50) as writer:
        posters = Posters(writer)
        for how in ("kill", "fast", "kill", "kill"):
            seen = posters.done()
            wait_until(lambda seen=seen: posters.done() > seen + 100)
            time.sleep(chance.uniform(0, 0.1))
            if how == "kill":
                os.kill(running.pid, signal.SIGQUIT)  # immediate shutdown: a crash, to the data
            else:
                stop(running.data_dir)
            wait_until(lambda running=running: not (running.data_dir / "postmaster.pid").exists())
            running = start(running.data_dir, port=running.port)
        seen = posters.done()
        wait_until(lambda: posters.done() > seen + 100)
        posters.finish()

    with psycopg.connect(running.conninfo()) as conn:
        posters.check([k for (k,) in conn.execute("SELECT k FROM events")])


def test_server_that_is_away_for_a_while_makes_posts_wait(make_cluster):
    running = make_cluster()
    with psycopg.connect(running.conninfo(), autocommit=True) as conn:
        conn.execute(TABLE)
    with howdah.Writer(running.conninfo(), "events") as writer:
        stop(running.data_dir)
        future = writer.post({"k": 1})
        time.sleep(0.5)
        assert not future.done()
        running = start(running.data_dir, port=running.port)
        assert future.result(timeout=30) is None

    with psycopg.connect(running.conninfo()) as conn:
        assert conn.execute("SELECT k FROM events").fetchall() == [(1,)]
