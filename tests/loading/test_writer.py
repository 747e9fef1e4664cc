"""howdah.Writer: rows from threads and tasks, each committed once or refused alone."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import datetime as dt
import hashlib
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from decimal import Decimal
from ipaddress import ip_address

import psycopg
import pytest
from psycopg.types.json import Jsonb
from psycopg.types.range import Range

import howdah
from howdah.errors import HowdahError, NoDatabase, Refused, UsageError
from howdah.loading import WriterFull
from tests.loading.records import write_ndjson

EVENTS = """
    CREATE TABLE events (
        id    bigint  GENERATED ALWAYS AS IDENTITY,
        k     integer,
        kind  text    NOT NULL DEFAULT 'seen',
        twice integer GENERATED ALWAYS AS (k * 2) STORED,
        data  jsonb
    )
"""


@pytest.fixture
def events(ask) -> None:
    ask(EVENTS)


def in_threads(count, work) -> None:
    """Run work(number) in threads; raise what one of them raises."""
    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        for done in [pool.submit(work, number) for number in range(count)]:
            done.result()


def reason(future) -> str:
    return str(future.exception(timeout=30))


def wait_until(condition, timeout_s=30.0):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.005)


# Rows and tables


def test_rows_of_many_threads_are_committed_when_their_futures_are_done(dsn, ask, events):
    with howdah.Writer(dsn, "events") as writer, psycopg.connect(dsn, autocommit=True) as reader:

        def post(thread):
            for number in range(50):
                k = thread * 1000 + number
                assert writer.post({"k": k}).result(timeout=30) is None
                if number == 49:
                    query = "SELECT count(*) FROM events WHERE k = %s"
                    with reader.cursor() as cursor:
                        assert cursor.execute(query, [k]).fetchone() == (1,)

        in_threads(16, post)

    assert ask("SELECT count(*), count(DISTINCT k), min(kind), max(twice) FROM events") == [
        (800, 800, "seen", 2 * 15_049)
    ]


def test_missing_table_is_made_as_the_loader_makes_it(dsn, ask, tmp_path):
    with howdah.Writer(dsn, "raw.docs", name="web") as writer:
        for number in range(3):
            writer.post({"n": number, "text": 'a\\b\n\t"\u2028é'})
    howdah.load([write_ndjson(tmp_path / "more.ndjson", 2)], dsn=dsn, table="raw.docs")
    with howdah.Writer(dsn, "raw.docs", name="web 2") as writer:
        writer.post({})

    assert ask(
        "SELECT record, attributes->'n', attributes->>'text' FROM raw.docs "
        "WHERE source = 'web' ORDER BY record"
    ) == [(n + 1, n, 'a\\b\n\t"\u2028é') for n in range(3)]
    assert ask("SELECT count(*), count(id), count(loaded_at) FROM raw.docs") == [(6, 6, 6)]
    assert ask("SELECT attributes FROM raw.docs WHERE source = 'web 2'") == [{}]


def test_rows_of_different_keys_share_a_batch_and_missing_columns_get_defaults(dsn, ask, events):
    with howdah.Writer(dsn, "events", linger_s=5, connections=1) as writer:
        writer.post({"k": 1, "kind": "a"})
        writer.post({"kind": "b", "k": 2})
        writer.post({"k": 3})
        writer.post({"data": [1, {"x": None}], "kind": "d"})

    assert ask("SELECT k, kind, data FROM events ORDER BY kind") == [
        (1, "a", None),
        (2, "b", None),
        (None, "d", [1, {"x": None}]),
        (3, "seen", None),
    ]
    assert ask("SELECT count(DISTINCT xmin::text) FROM events") == [1]


VALUES = {
    "bool": [True, False],
    "int": [0, -1, 2**31 - 1, "12"],
    "int8": [2**62],
    "float8": [1.5, 1e300, float("nan"), float("-inf"), 3],
    "numeric": [Decimal("1.50"), Decimal("NaN"), 10**40, 1.5],
    "text": ["", "\\N", "\\.", "a\tb\nc\rd\\e", "\b\f\v", "ünï😀", "'\"", "NULL"],
    "varchar(3)": ["abc"],
    "bytea": [b"", b"\x00\\x\n\xff", bytearray(b"ab"), memoryview(b"cd")],
    "date": [dt.date(2024, 2, 29), "2024-02-29"],
    "timestamptz": [dt.datetime(2024, 1, 1, 12, tzinfo=dt.timezone(dt.timedelta(hours=3)))],
    "timestamp": [dt.datetime(2024, 1, 1, 12, 0, 0, 123)],  # noqa: DTZ001
    "time": [dt.time(23, 59, 59, 999999)],
    "interval": [dt.timedelta(days=-3, hours=5, microseconds=7), dt.timedelta(0)],
    "uuid": [uuid.UUID(int=7), str(uuid.UUID(int=8))],
    "inet": [ip_address("10.0.0.1"), "::1"],
    "int[]": [[1, None, 3], [], [[1, 2], [3, 4]]],
    "text[]": [["a,b", '"', "\\", "NULL", "\n"]],
    "bytea[]": [[b"\\\x00"]],
    "int4range": [Range(1, 5)],
    "jsonb": [{"a": [1, None]}, [], [1, "\\"], (1, 2), True, 5, 1.5, '{"text": "is JSON"}'],
    "json": [{"b": 1, "a": "\n"}],
    "mood": ["ok"],
    "payload": [{"deep": {"er": 1}}],
}


@pytest.mark.parametrize("column", VALUES)
def test_values_are_what_an_insert_makes_of_them(dsn, ask, column):
    ask("CREATE TYPE mood AS ENUM ('ok')")
    ask("CREATE DOMAIN payload AS jsonb CHECK (VALUE IS NOT NULL)")
    ask(f"CREATE TABLE t (n int, v {column})")
    is_json = column in {"jsonb", "json", "payload"}
    with psycopg.connect(dsn) as conn:
        for n, value in enumerate(VALUES[column]):
            as_json = is_json and not isinstance(value, str)
            conn.execute(
                f"INSERT INTO t VALUES (%s, %s::text::{column})"
                if as_json
                else "INSERT INTO t VALUES (%s, %s)",
                [n, Jsonb(value) if as_json else value],
            )

    with howdah.Writer(dsn, "t") as writer:
        futures = [writer.post({"n": n, "v": v}) for n, v in enumerate(VALUES[column])]
    for future in futures:
        future.result()

    same = "v::jsonb" if is_json else "v::text"
    assert ask(f"SELECT n, count(*), count(DISTINCT {same}) FROM t GROUP BY n ORDER BY n") == [
        (n, 2, 1) for n in range(len(VALUES[column]))
    ]


def test_none_is_null_in_every_kind_of_column(dsn, ask, events):
    with howdah.Writer(dsn, "events") as writer:
        writer.post({"k": None, "data": None, "kind": "x"}).result(timeout=30)

    assert ask("SELECT count(*) FROM events WHERE k IS NULL AND data IS NULL") == [1]


def test_row_may_be_changed_after_it_is_posted(dsn, ask, events):
    row = {"k": 0, "data": {"list": []}}
    with howdah.Writer(dsn, "events", linger_s=5) as writer:
        for number in range(10):
            row["k"] = number
            row["data"]["list"].append(number)
            writer.post(row)

    assert ask("SELECT k, jsonb_array_length(data->'list') FROM events ORDER BY k") == [
        (n, n + 1) for n in range(10)
    ]


SHOUT = r"""
    CREATE FUNCTION shout() RETURNS trigger LANGUAGE plpgsql AS
        $$BEGIN NEW."b\" := upper(NEW."b\"); RETURN NEW; END$$
"""


def test_partitions_triggers_and_odd_names_are_respected(dsn, ask):
    ask('CREATE SCHEMA "Odd ""S"""')
    ask('CREATE TABLE "Odd ""S"""."T %s" ("a %s" int, "b\\" text) PARTITION BY LIST ("a %s")')
    ask('CREATE TABLE p1 PARTITION OF "Odd ""S"""."T %s" FOR VALUES IN (1)')
    ask(SHOUT)
    ask("CREATE TRIGGER shout BEFORE INSERT ON p1 FOR EACH ROW EXECUTE FUNCTION shout()")
    with howdah.Writer(dsn, '"Odd ""S"""."T %s"') as writer:
        good = writer.post({"a %s": 1, "b\\": "x"})
        bad = writer.post({"a %s": 2, "b\\": "y"})

    assert good.exception() is None
    assert "no partition" in reason(bad)
    assert ask("SELECT * FROM p1") == [(1, "X")]


@pytest.mark.parametrize(
    ("statement", "table", "message"),
    [
        ("CREATE VIEW v AS SELECT 1 AS a", "v", "v is no table"),
        ("CREATE SEQUENCE s", "s", "s is no table"),
    ],
)
def test_what_copy_cannot_fill_is_refused_at_once(dsn, ask, statement, table, message):
    ask(statement)

    with pytest.raises(Refused, match=message):
        howdah.Writer(dsn, table)


def test_table_with_row_security_is_refused_at_once(dsn, ask, a_role):
    ask("CREATE TABLE own (a int)")
    ask("ALTER TABLE own ENABLE ROW LEVEL SECURITY")
    ask(f"GRANT INSERT, SELECT ON own TO {a_role}")

    with pytest.raises(Refused, match="row-level security"):
        howdah.Writer(as_role(dsn, a_role), "own", exactly_once=False)


def test_server_that_is_away_is_told_when_the_writer_is_opened():
    with pytest.raises(NoDatabase, match="does not answer"):
        howdah.Writer("host=127.0.0.1 port=1", "events")


@pytest.mark.parametrize(
    "options",
    [{"connections": 0}, {"max_pending": 0}, {"linger_s": -1}, {"retry_for_s": -1}],
)
def test_arguments_that_make_no_sense_are_refused(dsn, options):
    with pytest.raises(UsageError):
        howdah.Writer(dsn, "events", **options)


# Bad rows

ORDERS = """
    CREATE TABLE customers (id int PRIMARY KEY);
    INSERT INTO customers VALUES (1);
    CREATE TABLE orders (
        id       int PRIMARY KEY,
        customer int REFERENCES customers,
        later    int REFERENCES customers DEFERRABLE INITIALLY DEFERRED,
        amount   numeric(5, 2) CHECK (amount > 0),
        code     varchar(5),
        note     text NOT NULL DEFAULT '',
        data     jsonb,
        at       timestamp,
        double   int GENERATED ALWAYS AS (id * 2) STORED
    );
    CREATE INDEX ON orders (note);
    CREATE FUNCTION no_13() RETURNS trigger LANGUAGE plpgsql AS
        $$BEGIN IF NEW.id = 13 THEN RAISE 'no thirteen' USING ERRCODE = 'XY123'; END IF;
        RETURN NEW; END$$;
    CREATE TRIGGER no_13 BEFORE INSERT ON orders FOR EACH ROW EXECUTE FUNCTION no_13();
"""
LONG = "".join(hashlib.sha256(bytes([n])).hexdigest() for n in range(200))  # hardly compresses
BAD = {
    "type": ({"id": "abc"}, "invalid input syntax for type integer.*column id"),
    "range": ({"id": 2**40}, "out of range"),
    "unique": ({"id": 1_000_000}, "orders_pkey"),
    "null": ({"id": 5, "note": None}, '"note"'),
    "check": ({"id": 5, "amount": -1}, "orders_amount_check"),
    "numeric": ({"id": 5, "amount": 12345}, "numeric field overflow"),
    "foreign key": ({"id": 5, "customer": 7}, "orders_customer_fkey"),
    "deferred foreign key": ({"id": 5, "later": 7}, "orders_later_fkey"),
    "too long": ({"id": 5, "code": "abcdef"}, r"too long.*varying\(5\)"),
    "too large for its index": ({"id": 5, "note": LONG}, "index"),
    "trigger": ({"id": 13}, "no thirteen"),
    "NUL": ({"id": 5, "note": "a\0b"}, "column 'note'.*NUL"),
    "NUL in jsonb": ({"id": 5, "data": {"x": ["\0"]}}, "column 'data'.*NUL"),
    "NaN in jsonb": ({"id": 5, "data": [float("nan")]}, "column 'data'.*NaN"),
    "no JSON": ({"id": 5, "data": "{"}, "json"),
    "surrogate": ({"id": 5, "note": "\ud800"}, "column 'note'.*surrogates"),
    "time zone": ({"id": 5, "at": dt.datetime.now(dt.UTC)}, "column 'at'.*time zone"),
    "unknown column": ({"id": 5, "nosuch": 1}, "no column 'nosuch'"),
    "generated column": ({"id": 5, "double": 1}, "'double' is computed"),
    "key that is no string": ({"id": 5, 7: 1}, "no column 7"),
    "no adaptation": ({"id": 5, "note": object()}, "column 'note'.*object"),
    "no columns": ({}, "no columns"),
    "no mapping": ([("id", 5)], "is a mapping, not list"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_row_fails_alone(dsn, ask, kind):
    ask(ORDERS)
    bad, message = BAD[kind]
    with howdah.Writer(dsn, "orders", linger_s=5, connections=1) as writer:
        good = [writer.post({"id": 1_000_000 + n, "customer": 1, "later": 1}) for n in range(20)]
        failing = writer.post(bad)
        good += [writer.post({"id": 2_000_000 + n}) for n in range(20)]

    with pytest.raises(Refused, match=f"(?s){message}") as caught:
        failing.result()
    assert caught.value.next_step
    assert [future.exception() for future in good] == [None] * 40
    assert ask("SELECT count(*) FROM orders") == [40]


def test_cause_of_a_refused_row_is_psycopgs_error(dsn, ask):
    ask(ORDERS)
    with howdah.Writer(dsn, "orders") as writer:
        writer.post({"id": 1}).result()
        error = writer.post({"id": 1}).exception()

    assert isinstance(error, Refused)
    assert isinstance(error.__cause__, psycopg.errors.UniqueViolation)


def test_many_bad_rows_among_good_ones_are_told_apart(dsn, ask):
    ask("CREATE TABLE t (k int PRIMARY KEY, v int)")
    with howdah.Writer(dsn, "t", batch_rows=500) as writer:
        futures = [
            writer.post({"k": n // 2 if n % 10 == 0 else 10_000 + n, "v": 1 if n % 7 else "x"})
            for n in range(3000)
        ]
    committed = sum(future.exception() is None for future in futures)

    assert [future.exception() is not None for future in futures] == [
        n % 7 == 0 for n in range(3000)
    ]
    assert ask("SELECT count(*) FROM t") == [committed]


def test_rows_fail_quickly_when_the_table_is_gone_and_go_on_when_it_is_back(dsn, ask, events):
    with howdah.Writer(dsn, "events") as writer:
        writer.post({"k": 1}).result(timeout=30)
        ask("DROP TABLE events")
        gone = [writer.post({"k": n}) for n in range(100)]
        assert all("events" in reason(future) for future in gone)
        ask(EVENTS)
        writer.post({"k": 2}).result(timeout=30)

    assert ask("SELECT k FROM events") == [2]


def test_row_that_is_too_long_for_postgresql_is_refused_here(dsn, ask, events):
    with howdah.Writer(dsn, "events") as writer:
        huge = writer.post({"kind": "x" * (256 << 20)})
        good = writer.post({"k": 1})

    assert "more than 268435456" in reason(huge)
    assert good.exception() is None


def test_row_larger_than_the_queue_is_taken_alone(dsn, ask, events):
    with howdah.Writer(dsn, "events", max_pending_bytes=1000, batch_bytes=500) as writer:
        for number in range(5):
            writer.post({"k": number, "kind": "x" * 100_000})

    assert ask("SELECT count(*), sum(length(kind)) FROM events") == [(5, 500_000)]


def test_writers_that_race_for_the_same_keys_leave_each_once(dsn, ask):
    ask("CREATE TABLE t (k int PRIMARY KEY, writer int)")
    won: Counter[int] = Counter()

    def race(number):
        with howdah.Writer(dsn, "t", batch_rows=50) as writer:
            order = range(400) if number % 2 else reversed(range(400))  # deadlocks, too
            futures = {k: writer.post({"k": k, "writer": number}) for k in order}
        for k, future in futures.items():
            error = future.exception()
            assert error is None or isinstance(error.__cause__, psycopg.errors.UniqueViolation)
            won[k] += error is None

    in_threads(4, race)

    assert won == Counter(range(400))
    assert ask("SELECT count(*) FROM t") == [400]


# The queue


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


# asyncio


def test_tasks_post_and_wait_for_their_commit(dsn, ask, events):
    async def main():
        async with howdah.AsyncWriter(dsn, "events", max_pending=100, batch_rows=20) as writer:
            posts = [writer.post({"k": n if n != 7 else "x"}) for n in range(1000)]
            return await asyncio.gather(*posts, return_exceptions=True)

    outcomes = asyncio.run(main())

    assert [n for n, outcome in enumerate(outcomes) if outcome is not None] == [7]
    assert isinstance(outcomes[7], Refused)
    assert ask("SELECT count(DISTINCT k) FROM events") == [999]


def test_full_writer_does_not_hold_up_the_loop(dsn, ask, events):
    async def main():
        turns = 0
        async with howdah.AsyncWriter(dsn, "events", max_pending=2) as writer:
            with psycopg.connect(dsn) as slow:
                slow.execute("LOCK TABLE events IN SHARE MODE")
                tasks = [asyncio.create_task(writer.post({"k": n})) for n in range(10)]
                for _ in range(20):
                    await asyncio.sleep(0.005)
                    turns += 1
                assert not any(task.done() for task in tasks)
                tasks[1].cancel()  # posted: it takes nothing back
                tasks[9].cancel()  # waits for room: never posted
                flushing = asyncio.create_task(writer.flush())
                await asyncio.sleep(0.01)
                assert not flushing.done()
            await asyncio.gather(*tasks, flushing, return_exceptions=True)
            return turns, [task.cancelled() for task in tasks]

    turns, cancelled = asyncio.run(main())

    assert turns == 20
    assert cancelled == [n in {1, 9} for n in range(10)]
    assert ask("SELECT k FROM events ORDER BY k") == list(range(9))


def test_one_async_writer_serves_several_loops(dsn, ask, events):
    writer = howdah.AsyncWriter(dsn, "events")

    async def post(thread):
        await writer.open()
        await asyncio.gather(*(writer.post({"k": thread * 100 + n}) for n in range(100)))

    asyncio.run(post(0))
    in_threads(4, lambda thread: asyncio.run(post(thread + 1)))
    asyncio.run(writer.close())

    assert ask("SELECT count(*), count(DISTINCT k) FROM events") == [(500, 500)]


def test_async_writer_that_is_not_open_says_how_to_open_it(dsn):
    with pytest.raises(UsageError, match="async with"):
        asyncio.run(howdah.AsyncWriter(dsn, "events").post({"k": 1}))


def test_futures_of_threads_can_be_awaited(dsn, ask, events):
    async def main():
        await asyncio.wrap_future(writer.post({"k": 1}))
        with pytest.raises(Refused):
            await asyncio.wrap_future(writer.post({"k": "x"}))

    with howdah.Writer(dsn, "events") as writer:
        asyncio.run(main())

    assert ask("SELECT k FROM events") == [1]


# The process

COMMON = """
import os, sys, time, signal, howdah
from howdah.errors import UsageError
dsn = sys.argv[1]
"""


def python(dsn, script) -> subprocess.Popen[str]:
    return subprocess.Popen(
        # From 3.12 on Python warns of forks in programs with threads: the very thing to try.
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", COMMON + script, dsn],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_end_of_the_program_commits_what_a_writer_that_is_not_closed_has(dsn, ask, events):
    program = python(
        dsn,
        """
writer = howdah.Writer(dsn, "events", linger_s=60)
for n in range(100):
    writer.post({"k": n})
""",
    )
    _, errors = program.communicate(timeout=60)

    assert (program.returncode, errors) == (0, "")
    assert ask("SELECT count(*) FROM events") == [100]


def test_forked_child_is_told_and_its_parent_goes_on(dsn, ask, events):
    program = python(
        dsn,
        """
with howdah.Writer(dsn, "events", linger_s=0.2) as writer:
    future = writer.post({"k": 1})
    if os.fork() == 0:
        try:
            writer.post({"k": 2})
        except UsageError as exc:
            print("child:", exc)
        with howdah.Writer(dsn, "events") as own:
            own.post({"k": 3}).result()
        writer.close()
        sys.exit(0)
    assert os.wait()[1] == 0
    future.result(timeout=30)
    writer.post({"k": 4}).result(timeout=30)
""",
    )
    output, errors = program.communicate(timeout=60)

    assert (program.returncode, errors) == (0, "")
    assert "child: The row was not posted: this process was forked" in output
    assert ask("SELECT k FROM events ORDER BY k") == [1, 3, 4]


INTERRUPTED = """
with howdah.Writer(dsn, "events", linger_s=60) as writer:
    for n in range(10):
        writer.post({"k": n})
    print("posted", flush=True)
    time.sleep(60)
"""


def test_ctrl_c_commits_what_was_posted(dsn, ask, events):
    program = python(dsn, INTERRUPTED)
    assert program.stdout is not None
    program.stdout.readline()
    program.send_signal(signal.SIGINT)
    _, errors = program.communicate(timeout=30)

    assert "KeyboardInterrupt" in errors
    assert ask("SELECT count(*) FROM events") == [10]


def test_second_ctrl_c_ends_a_program_whose_rows_cannot_be_committed(dsn, ask, events):
    with psycopg.connect(dsn) as slow:
        program = python(dsn, INTERRUPTED)
        assert program.stdout is not None
        program.stdout.readline()
        slow.execute("LOCK TABLE events IN SHARE MODE")
        program.send_signal(signal.SIGINT)
        wait_until(lambda: ask("SELECT true FROM pg_locks WHERE NOT granted"))
        program.send_signal(signal.SIGINT)
        program.communicate(timeout=30)

    assert program.returncode != 0


def test_killed_process_loses_only_rows_whose_futures_were_not_done(dsn, ask, events):
    program = python(
        dsn,
        """
with howdah.Writer(dsn, "events") as writer:
    n = 0
    while True:
        waiting = [(k, writer.post({"k": k})) for k in range(n, n + 100)]
        n += 100
        for k, future in waiting:
            future.result()
            print(k, flush=True)
""",
    )
    assert program.stdout is not None
    for _ in range(1000):
        last = int(program.stdout.readline())
    program.kill()
    for line in program.communicate(timeout=30)[0].splitlines(keepends=True):
        if line.endswith("\n"):
            last = int(line)
    wait_until(
        lambda: not ask("SELECT pid FROM pg_stat_activity WHERE application_name ~ '^howdah wr'")
    )

    assert ask(f"SELECT count(*), count(DISTINCT k) FROM events WHERE k <= {last}") == [
        (last + 1, last + 1)
    ]


# Roles


@pytest.fixture
def a_role(dsn):
    role = f"role_{uuid.uuid4().hex[:8]}"
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute(f"CREATE ROLE {role}")
        yield role
        conn.execute(f"DROP OWNED BY {role}")
        conn.execute(f"DROP ROLE {role}")


def as_role(dsn, role) -> str:
    return psycopg.conninfo.make_conninfo(dsn, options=f"-c role={role}")


def test_role_without_rights_in_the_schema_howdah_is_told_what_to_do(dsn, ask, events, a_role):
    ask(f"GRANT INSERT ON events TO {a_role}")
    with pytest.raises(Refused, match="exactly_once=False"):
        howdah.Writer(as_role(dsn, a_role), "events")

    howdah.Writer(dsn, "events").close()  # an administrator makes the table
    with pytest.raises(Refused, match="may not use the table"):
        howdah.Writer(as_role(dsn, a_role), "events")
    with howdah.Writer(as_role(dsn, a_role), "events", exactly_once=False) as writer:
        writer.post({"k": 1}).result(timeout=30)

    ask(f"GRANT USAGE ON SCHEMA howdah TO {a_role}")
    ask(f"GRANT SELECT, INSERT, DELETE ON howdah.writer_batches TO {a_role}")
    with howdah.Writer(as_role(dsn, a_role), "events") as writer:
        writer.post({"k": 2}).result(timeout=30)

    assert ask("SELECT k FROM events ORDER BY k") == [1, 2]


def test_role_that_may_not_insert_is_told_so(dsn, ask, events, a_role):
    with howdah.Writer(as_role(dsn, a_role), "events", exactly_once=False) as writer:
        future = writer.post({"k": 1})

    assert isinstance(future.exception(), HowdahError)
    assert isinstance(future.exception().__cause__, psycopg.errors.InsufficientPrivilege)


def test_marks_of_writers_that_were_killed_are_swept(dsn, ask, events):
    howdah.Writer(dsn, "events").close()
    ask("""
        INSERT INTO howdah.writer_batches
        VALUES (gen_random_uuid(), 0, 7, now() - interval '2 days'),
               (gen_random_uuid(), 0, 8, now() - interval '2 hours')
    """)
    howdah.Writer(dsn, "events").close()

    assert ask("SELECT batch FROM howdah.writer_batches") == [8]
