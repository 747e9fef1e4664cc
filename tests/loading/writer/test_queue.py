"""The bounded queue: waiting, lingering, flush and close."""

from __future__ import annotations

import concurrent.futures
import contextlib
import threading

import psycopg
import pytest

import howdah
from howdah.errors import UsageError
from howdah.loading import WriterFull
from tests.loading.writer.posting import in_threads, reason, wait_until


def test_full_writer_makes_posts_wait_and_gives_up_after_timeout_s(dsn, ask, events):
    with (
        howdah.Writer(dsn, "events", max_pending=10, linger_s=0) as writer,
        psycopg.connect(dsn) as slow,
    ):
        slow.execute("LOCK TABLE events IN SHARE MODE")
        futures = [writer.post({"k": n}) for n in range(10)]
        with pytest.raises(WriterFull, match="10 rows"):
            writer.post({"k": 99}, timeout_s=0.05)
        waiting = threading.Thread(target=lambda: futures.append(writer.post({"k": 10})))
        waiting.start()
        waiting.join(0.1)
        assert waiting.is_alive()
        assert not any(future.done() for future in futures)
        slow.rollback()
        waiting.join(30)
        assert not waiting.is_alive()

    assert [future.exception() for future in futures] == [None] * 11
    assert ask("SELECT k FROM events ORDER BY k") == list(range(11))


def test_bytes_fill_a_writer_too(dsn, ask, events):
    with howdah.Writer(dsn, "events", max_pending_bytes=10_000) as writer:
        with psycopg.connect(dsn) as slow:
            slow.execute("LOCK TABLE events IN SHARE MODE")
            writer.post({"kind": "x" * 6000})
            with pytest.raises(WriterFull):
                writer.post({"kind": "x" * 6000}, timeout_s=0.05)
        writer.post({"kind": "y" * 6000}, timeout_s=30)

    assert ask("SELECT count(*) FROM events") == [2]


def test_full_writer_does_not_let_rows_linger(dsn, ask, events):
    with howdah.Writer(dsn, "events", max_pending=2, linger_s=60) as writer:
        for number in range(7):
            writer.post({"k": number}, timeout_s=30)

    assert ask("SELECT count(*) FROM events") == [7]


def test_flush_waits_for_all_that_was_posted_and_not_for_lingering(dsn, ask, events):
    with howdah.Writer(dsn, "events", linger_s=60) as writer:
        futures = [writer.post({"k": n}) for n in range(10)] + [writer.post({"k": "x"})]
        writer.flush()

        assert all(future.done() for future in futures)
        assert ask("SELECT count(*) FROM events") == [10]
        writer.flush()


def test_end_of_the_block_commits_also_when_it_raises(dsn, ask, events):
    posted = []

    def fail():
        with howdah.Writer(dsn, "events", linger_s=60) as writer:
            posted.append(writer.post({"k": 1}))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert posted[0].result(timeout=0) is None
    assert ask("SELECT k FROM events") == [1]


def test_closed_writer_takes_no_rows(dsn, events):
    writer = howdah.Writer(dsn, "events")
    writer.close()
    writer.close()

    with pytest.raises(UsageError, match="writer is closed"):
        writer.post({"k": 1})


def test_close_while_others_post_commits_what_was_taken(dsn, ask, events):
    writer = howdah.Writer(dsn, "events", max_pending=50)
    taken = []

    def post(thread):
        with contextlib.suppress(UsageError):
            while True:
                taken.append(writer.post({"k": thread}))

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        running = [pool.submit(post, number) for number in range(8)]
        wait_until(lambda: len(taken) > 500)
        writer.close()
        for one in running:
            one.result(timeout=30)

    assert [future.exception(timeout=0) for future in taken] == [None] * len(taken)
    assert ask("SELECT count(*) FROM events") == [len(taken)]


def test_closing_leaves_no_thread_connection_or_mark(dsn, ask, events):
    before = threading.active_count()
    with howdah.Writer(dsn, "events", connections=4, batch_rows=5) as writer:
        in_threads(8, lambda n: [writer.post({"k": n}).result() for _ in range(5)])
        assert 1 <= ask("SELECT count(*) FROM howdah.writer_batches")[0] <= 4

    assert threading.active_count() == before
    assert ask("SELECT count(*) FROM howdah.writer_batches") == [0]
    wait_until(
        lambda: not ask("SELECT pid FROM pg_stat_activity WHERE application_name ~ '^howdah wr'")
    )


def test_abandoned_writer_fails_what_is_not_committed(dsn, ask, events):
    writer = howdah.Writer(dsn, "events", linger_s=60)
    future = writer.post({"k": 1})
    writer.abandon()
    writer.close()

    assert "stopped before the row was committed" in reason(future)
    assert ask("SELECT count(*) FROM events") == [0]


def test_forgotten_writer_commits_and_ends_its_threads(dsn, ask, events):
    before = threading.active_count()
    writer = howdah.Writer(dsn, "events", linger_s=60)
    future = writer.post({"k": 1})
    del writer

    assert future.result(timeout=30) is None
    wait_until(lambda: threading.active_count() == before)


def test_futures_are_those_of_the_standard_library(dsn, ask, events):
    called = []
    with howdah.Writer(dsn, "events", linger_s=0.2) as writer:
        futures = [writer.post({"k": n}) for n in range(5)] + [writer.post({"k": "x"})]
        futures[0].add_done_callback(lambda _: 1 / 0)  # is logged
        futures[0].add_done_callback(called.append)
        assert futures[0].running()
        assert not futures[0].cancel()
        with pytest.raises(TimeoutError):
            futures[0].result(timeout=0.01)
        assert set(concurrent.futures.as_completed(futures, timeout=30)) == set(futures)
    done, not_done = concurrent.futures.wait(futures, return_when="FIRST_EXCEPTION")

    assert called == futures[:1]
    assert (len(done), len(not_done)) == (6, 0)
    assert [future.done() and not future.cancelled() for future in futures] == [True] * 6
    assert "raised Refused" in repr(futures[5])
    futures[0].add_done_callback(called.append)
    assert len(called) == 2
