"""Rows that are posted: committed when their futures are done, in tables of every kind."""

from __future__ import annotations

import datetime as dt
import uuid
from decimal import Decimal
from ipaddress import ip_address

import psycopg
import pytest
from psycopg.types.json import Jsonb
from psycopg.types.range import Range

import howdah
from howdah.errors import NoDatabase, Refused, UsageError
from tests.loading.records import write_ndjson
from tests.loading.writer.posting import as_role, in_threads, reason


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
