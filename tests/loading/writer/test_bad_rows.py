"""A row that the server refuses fails only its own future."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections import Counter

import psycopg
import pytest

import howdah
from howdah.errors import Refused
from tests.loading.writer.posting import EVENTS, in_threads, reason

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
