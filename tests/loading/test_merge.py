"""Rows that meet rows: skipped, updated, or updates alone."""

from __future__ import annotations

import json
import zipfile
from itertools import count

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import howdah
from howdah.loading.chunks import CHUNK_BYTES

SKIP = howdah.Columns(key=("id",), on_conflict="skip")
UPDATE = howdah.Columns(key=("id",), on_conflict="update")
UPDATE_ONLY = howdah.Columns(key=("id",), updates_only=True)


def ndjson(path, *records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


@pytest.fixture
def items(ask):
    ask("""
        CREATE TABLE items (
            id int PRIMARY KEY, name text DEFAULT 'none', price numeric, doc json, place point
        );
        INSERT INTO items VALUES (1, 'one', 1.0, '{"a": 1}', '(1,2)'), (2, 'two', 2.0, NULL, NULL)
    """)


@pytest.mark.parametrize(
    ("columns", "rows", "expected"),
    [
        (SKIP, 2, [(1, "one", "1.0"), (2, "two", "2.0"), (3, "III", "3"), (4, "none", None)]),
        (UPDATE, 4, [(1, "I", "1.0"), (2, "two", "9"), (3, "III", "3"), (4, "none", None)]),
        (UPDATE_ONLY, 2, [(1, "I", "1.0"), (2, "two", "9")]),
    ],
)
def test_record_changes_what_it_brings_and_nothing_else(
    dsn, ask, items, tmp_path, columns, rows, expected
):
    path = ndjson(
        tmp_path / "a.ndjson",
        {"id": 1, "name": "I"},
        {"id": 2, "price": 9},
        {"id": 3, "name": "III", "price": 3},
        {"id": 4},
    )

    report = howdah.load([path], dsn=dsn, table="items", columns=columns)

    assert (report.records, report.rows, report.rejects) == (4, rows, 0)
    assert ask("SELECT id, name, price::text FROM items ORDER BY id") == expected
    assert ask("SELECT doc, place::text FROM items WHERE id = 1") == [({"a": 1}, "(1,2)")]


def test_csv_changes_the_columns_of_its_header(dsn, ask, items, tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('id,price,doc,place\n2,5,"[1]","(3,4)"\n1,1.0,"{""a"": 1}","(1,2)"\n')

    report = howdah.load([path], dsn=dsn, table="items", columns=UPDATE_ONLY)

    assert (report.records, report.rows) == (2, 1)  # 1 is what it was
    assert ask("SELECT id, name, price, doc, place::text FROM items WHERE id = 2") == [
        (2, "two", 5, [1], "(3,4)")
    ]


def test_unchanged_rows_are_not_written(dsn, ask, items, tmp_path):
    before = ask("SELECT ctid::text FROM items ORDER BY id")
    path = ndjson(
        tmp_path / "a.ndjson",
        {"id": 1, "name": "one", "doc": {"a": 1}, "place": "(1,2)"},
        {"id": 2, "price": "2.0"},
    )

    for columns in (UPDATE, UPDATE_ONLY):
        report = howdah.load([path], dsn=dsn, table="items", columns=columns, again=True)
        assert (report.records, report.rows) == (2, 0)
    assert ask("SELECT ctid::text FROM items ORDER BY id") == before


def test_equal_but_not_the_same_is_a_change(dsn, ask, items, tmp_path):
    howdah.load(
        [ndjson(tmp_path / "a.ndjson", {"id": 2, "price": 2})],
        dsn=dsn, table="items", columns=UPDATE,
    )  # fmt: skip

    assert ask("SELECT price::text FROM items WHERE id = 2") == ["2"]


KEYS = st.integers(1, 4)
RECORDS = st.lists(
    st.tuples(KEYS, st.dictionaries(st.sampled_from("abc"), st.integers(0, 9))), max_size=12
)
numbers = count()


@pytest.mark.parametrize("columns", [SKIP, UPDATE, UPDATE_ONLY])
@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(known=st.dictionaries(KEYS, st.integers(10, 19)), records=RECORDS)
def test_merge_gives_what_the_records_give_one_by_one(dsn, ask, tmp_path, columns, known, records):
    ask("DROP TABLE IF EXISTS t; CREATE TABLE t (id int PRIMARY KEY, a int, b int, c int)")
    for key, value in known.items():
        ask("INSERT INTO t VALUES (%s, %s)", key, value)
    expected = {key: {"a": value, "b": None, "c": None} for key, value in known.items()}
    for key, values in records:
        if key not in expected and columns is not UPDATE_ONLY:
            expected[key] = {"a": None, "b": None, "c": None} | values
        elif key in expected and columns is not SKIP:
            expected[key] |= values
    path = ndjson(
        tmp_path / f"{next(numbers)}.ndjson", *({"id": k, **v} for k, v in records), {"id": 9}
    )

    report = howdah.load([path], dsn=dsn, table="t", columns=columns)

    assert (report.records, report.rejects) == (len(records) + 1, 0)
    rows = {key: {"a": a, "b": b, "c": c} for key, a, b, c in ask("SELECT * FROM t WHERE id < 9")}
    assert rows == expected


def test_of_rows_with_one_key_the_last_one_counts_in_all_of_a_large_file(dsn, ask, tmp_path):
    """Over several chunks, and over several files in the order in which they are named."""
    ask("CREATE TABLE t (id int PRIMARY KEY, n int, pad text)")
    large, small = tmp_path / "b.csv", tmp_path / "a.csv"
    with large.open("w") as file:
        file.write("id,n,pad\n")
        for n in range(300_000):
            file.write(f"{n % 1000},{n},{'x' * 100}\n")
    small.write_text("id,n\n7,-7\n")
    assert large.stat().st_size > CHUNK_BYTES

    howdah.load([large, small], dsn=dsn, table="t", columns=UPDATE, workers=4)
    assert ask("SELECT count(*), min(n), sum(n) FROM t") == [
        (1000, -7, sum(range(299_000, 300_000)) - 299_007 - 7)
    ]

    howdah.load([small, large], dsn=dsn, table="t", columns=UPDATE, again=True)
    assert ask("SELECT n FROM t WHERE id = 7") == [299_007]


def test_of_updates_of_one_row_the_last_one_counts(dsn, ask, items, tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("id,price\n1,5\n2,6\n,0\n1,3\n2,9\n1,4\n,1\n")

    report = howdah.load([path], dsn=dsn, table="items", columns=UPDATE_ONLY)

    assert (report.records, report.rows, report.rejects) == (7, 2, 0)
    assert ask("SELECT id, price FROM items ORDER BY id") == [(1, 4), (2, 9)]


def test_backend_that_ends_in_a_small_load_costs_a_retry_and_no_record(dsn, ask, tmp_path):
    """Such a load is done over the session that tells of a crash."""
    ask("""
        CREATE TABLE t (id int PRIMARY KEY, n int);
        CREATE SEQUENCE calls;
        CREATE FUNCTION end_once() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF nextval('calls') = 2 THEN
                PERFORM pg_terminate_backend(pg_backend_pid());
            END IF;
            RETURN NEW;
        END $$;
        CREATE TRIGGER ending BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION end_once()
    """)
    waits = []
    path = ndjson(tmp_path / "a.ndjson", *({"id": n, "n": n} for n in range(5)))

    for columns in (howdah.Columns(), UPDATE):
        ask("SELECT setval('calls', 1, false); TRUNCATE t")
        report = howdah.load([path], dsn=dsn, table="t", columns=columns, on_event=waits.append)
        assert (report.sources, report.records, report.rows, report.rejects) == (1, 5, 5, 0)
        assert ask("SELECT count(*), sum(n) FROM t") == [(5, 10)]

    assert sum(type(event).__name__ == "Waiting" for event in waits) == 2
    assert ask("SELECT sources, records FROM howdah.loads") == [(1, 5), (1, 5)]


def test_files_that_bring_other_columns_share_a_transaction(dsn, ask, tmp_path):
    ask("CREATE TABLE t (id int PRIMARY KEY, a int, b int, c int)")
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for number in range(30):
            name = "abc"[number % 3]
            lines = {"id": number, name: 1}, {"id": number + 1, name: 2}
            member = ndjson(tmp_path / f"{number:02}.ndjson", *lines)
            archive.write(member, member.name)
            archive.writestr(f"{number:02}.csv", f"id,{name}\n{100 + number},7\n")

    report = howdah.load([tmp_path / "all.zip"], dsn=dsn, table="t", columns=UPDATE)

    assert (report.records, report.rejects) == (90, 0)
    assert ask("SELECT count(*), sum(a), sum(b), sum(c) FROM t") == [
        (61, 30 + 70, 30 + 70, 30 + 70)
    ]
    assert ask("SELECT id, a, b, c FROM t WHERE id IN (0, 1, 100) ORDER BY id") == [
        (0, 1, None, None), (1, 2, 1, None), (100, 7, None, None)
    ]  # fmt: skip


@pytest.mark.parametrize("wrap", [False, True], ids=["files", "members of an archive"])
def test_small_files_are_merged_in_their_order_in_one_transaction(dsn, ask, tmp_path, wrap):
    ask("CREATE TABLE t (id int PRIMARY KEY, n int)")
    paths = [tmp_path / f"{number * 37 % 60}.csv" for number in range(60)]
    for number, path in enumerate(paths):
        path.write_text(f"id,n\n1,{number}\n2,{-number}\n")
    if wrap:
        with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
            for path in paths:
                archive.write(path, path.name)
        paths = [tmp_path / "all.zip"]

    report = howdah.load(paths, dsn=dsn, table="t", columns=UPDATE)

    assert (report.records, report.chunks) == (120, 1)
    assert ask("SELECT * FROM t ORDER BY id") == [(1, 59), (2, -59)]


def test_rows_whose_key_is_null_meet_no_others(dsn, ask, tmp_path):
    ask("CREATE TABLE t (id int UNIQUE, n int); INSERT INTO t VALUES (NULL, 0), (1, 0)")
    records = [{"id": None, "n": 1}, {"id": None, "n": 2}, {"n": 3}, {"id": 1, "n": 4}, {"id": 1}]

    report = howdah.load(
        [ndjson(tmp_path / "a.ndjson", *records)], dsn=dsn, table="t", columns=UPDATE
    )

    assert (report.records, report.rejects) == (5, 0)
    assert ask("SELECT id, n FROM t ORDER BY id, n") == [
        (1, 4), (None, 0), (None, 1), (None, 2), (None, 3)
    ]  # fmt: skip


@pytest.mark.parametrize("suffix", ["csv", "ndjson"])
def test_update_without_its_key_is_a_reject(dsn, ask, items, tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    path.write_text(
        "name,price\nx,1\n" if suffix == "csv" else '{"name": "x"}\n{"id": 1, "price": 7}\n'
    )

    report = howdah.load([path], dsn=dsn, table="items", columns=UPDATE_ONLY)

    assert report.rejects == 1
    assert "no id to find its row by" in ask("SELECT reason FROM howdah.rejects")[0]
    assert report.records == (suffix == "ndjson")


def test_key_of_several_columns_with_odd_names(dsn, ask, tmp_path):
    ask('CREATE TABLE "T%" ("A b" int, "c%s" text, "n""q" int, UNIQUE ("c%s", "A b"))')
    path = ndjson(tmp_path / "a.ndjson", {"A b": 1, "c%s": "x", 'n"q': 1}, {"A b": 1, "c%s": "y"})
    columns = howdah.Columns(key=("A b", "c%s"), on_conflict="update")
    howdah.load([path], dsn=dsn, table='"T%"', columns=columns)
    ndjson(path, {"A b": 1, "c%s": "x", 'n"q': 2})

    report = howdah.load([path], dsn=dsn, table='"T%"', columns=columns)

    assert report.rows == 1
    assert ask('SELECT * FROM "T%" ORDER BY 2') == [(1, "x", 2), (1, "y", None)]


def test_bad_records_of_a_merge_are_rejects_and_the_others_are_merged(dsn, ask, items, tmp_path):
    ask("ALTER TABLE items ADD CHECK (price < 100)")
    records = [{"id": n, "price": 500 if n % 17 == 3 else n % 90} for n in range(200)]
    records.append({"id": "x", "price": 1})

    report = howdah.load(
        [ndjson(tmp_path / "a.ndjson", *records)], dsn=dsn, table="items", columns=UPDATE
    )

    assert (report.records, report.rejects) == (188, 13)
    assert ask("SELECT count(*), max(price) FROM items") == [(188, 89)]


def test_identity_column_that_is_always_generated_is_not_changed(dsn, ask, tmp_path):
    ask("""
        CREATE TABLE t (id int GENERATED ALWAYS AS IDENTITY, code text UNIQUE, n int);
        INSERT INTO t (code, n) VALUES ('a', 1)
    """)
    path = ndjson(tmp_path / "a.ndjson", {"id": 70, "code": "a", "n": 2}, {"id": 80, "code": "b"})
    columns = howdah.Columns(key=("code",), on_conflict="update")

    report = howdah.load([path], dsn=dsn, table="t", columns=columns)

    assert report.rejects == 0
    assert ask("SELECT * FROM t ORDER BY id") == [(1, "a", 2), (80, "b", None)]


def test_partitioned_table_is_merged_into(dsn, ask, tmp_path):
    ask("""
        CREATE TABLE t (id int, day date, n int, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
        CREATE TABLE t_24 PARTITION OF t FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
        INSERT INTO t VALUES (1, '2024-01-01', 0)
    """)
    path = tmp_path / "a.csv"
    path.write_text("id,day,n\n1,2024-01-01,1\n2,2024-01-01,2\n3,1999-01-01,3\n")
    columns = howdah.Columns(key=("id", "day"), on_conflict="update")

    report = howdah.load([path], dsn=dsn, table="t", columns=columns)

    assert (report.rows, report.rejects) == (2, 1)
    assert ask("SELECT id, n FROM t ORDER BY id") == [(1, 1), (2, 2)]


def test_new_table_gets_the_key_and_is_widened_by_a_merge(dsn, ask, tmp_path):
    first = ndjson(tmp_path / "a.ndjson", {"id": 1, "n": 1})
    second = ndjson(tmp_path / "b.ndjson", {"id": "1", "n": 1.5, "new": True}, {"id": "007"})

    for path in (first, second):
        report = howdah.load([path], dsn=dsn, table="t", columns=UPDATE)
        assert report.rejects == 0

    assert ask("SELECT id, n::text, new FROM t ORDER BY id") == [
        ("007", None, None), ("1", "1.5", True)
    ]  # fmt: skip


def test_merge_twice_changes_nothing_the_second_time(dsn, ask, items, tmp_path):
    path = ndjson(tmp_path / "a.ndjson", *({"id": n, "price": n} for n in range(1000)))
    howdah.load([path], dsn=dsn, table="items", columns=UPDATE)

    again = howdah.load([path], dsn=dsn, table="items", columns=UPDATE, again=True)

    assert (again.records, again.rows) == (1000, 0)
    assert ask("SELECT count(*) FROM items") == [1000]
