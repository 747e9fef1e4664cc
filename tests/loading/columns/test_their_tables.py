"""Loading into the columns of tables that others made."""

from __future__ import annotations

import json
import signal
import time

import psycopg
import pytest

import howdah
from howdah.errors import Refused
from howdah.loading import plan
from tests.loading.columns.shared import INTO_COLUMNS, write
from tests.loading.test_faults import wait_until


def test_existing_table_is_matched_by_name_and_its_defaults_are_kept(dsn, ask, tmp_path):
    ask("""
        CREATE TABLE orders (
            id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            gone text,
            "Customer" text NOT NULL,
            amount numeric(10, 2) CHECK (amount > 0),
            state text NOT NULL DEFAULT 'new',
            total numeric GENERATED ALWAYS AS (amount * 2) STORED,
            tags text[],
            rest jsonb
        )
    """)
    ask("ALTER TABLE orders DROP COLUMN gone")
    path = write(
        tmp_path / "a.ndjson",
        {"customer": "ann", "amount": 1.5, "tags": ['a"b', None, "c\\"], "color": "red"},
        {"customer": "bob", "amount": 2, "state": "paid", "total": 99},
        {"customer": "cid", "amount": -1},
        {"amount": 3},
        {"customer": "dan", "amount": "x"},
    )

    report = howdah.load([path], dsn=dsn, table="orders", columns=howdah.Columns(extra="rest"))

    assert (report.records, report.rejects) == (2, 3)
    assert ask('SELECT "Customer", amount::text, state, total::text, tags, rest FROM orders') == [
        ("ann", "1.50", "new", "3.00", ['a"b', None, "c\\"], {"color": "red"}),
        ("bob", "2.00", "paid", "4.00", None, None),
    ]
    reasons = ask("SELECT reason FROM howdah.rejects ORDER BY record")
    assert "check constraint" in reasons[0]
    assert 'null value in column "Customer"' in reasons[1]
    assert "column amount" in reasons[2]


def test_attribute_without_a_column_is_a_reject_where_there_is_none_for_the_rest(
    dsn, ask, tmp_path
):
    ask("CREATE TABLE t (n int)")

    report = howdah.load(
        [write(tmp_path / "a.ndjson", {"n": 1}, {"n": 2, "x": 1})], dsn=dsn, table="t"
    )

    assert (report.records, report.rejects) == (1, 1)
    assert ask("SELECT reason FROM howdah.rejects") == [
        'The table has no column "x", and no column for the rest.'
    ]


def test_column_that_is_generated_is_not_widened(dsn, ask, tmp_path):
    howdah.load([write(tmp_path / "a.ndjson", {"n": 1})], dsn=dsn, table="t", columns=INTO_COLUMNS)
    ask("ALTER TABLE t ADD twice bigint GENERATED ALWAYS AS (abs(1)) STORED")

    report = howdah.load(
        [write(tmp_path / "b.ndjson", {"n": 2, "twice": "x", "new": 1})], dsn=dsn, table="t"
    )

    assert (report.records, report.rejects) == (1, 0)
    assert ask("SELECT n, twice, new FROM t ORDER BY n") == [(1, 1, None), (2, 1, 1)]


def test_dry_run_shows_values_under_the_names_of_their_columns(tmp_path):
    planned = plan([write(tmp_path / "a.ndjson", {"ctid": 1, "x" * 80: 2}, {})])

    assert planned.rows[0] == ("1", "2")


@pytest.mark.parametrize("suffix", ["csv", "ndjson"])
def test_table_with_generated_columns_takes_its_own_export(dsn, ask, tmp_path, suffix):
    ask("CREATE TABLE t (n int, twice int GENERATED ALWAYS AS (n * 2) STORED)")
    path = tmp_path / f"a.{suffix}"
    path.write_text("n,twice\n1,2\n" if suffix == "csv" else '{"n": 1, "twice": 2}\n')

    report = howdah.load([path], dsn=dsn, table="t")

    assert (report.records, report.rejects) == (1, 0)
    assert ask("SELECT * FROM t") == [(1, 2)]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (howdah.Columns(extra="nosuch"), "no json or jsonb column nosuch"),
        (howdah.Columns(extra="word"), "no json or jsonb column word"),
        (howdah.Columns(key=("nosuch",), on_conflict="update"), "no column nosuch"),
        (howdah.Columns(key=("word",), on_conflict="update"), "no unique index on word"),
        (howdah.Columns(key=("doc",), updates_only=True), "cannot be compared"),
    ],
)
def test_what_a_table_does_not_allow_is_refused_before_anything_is_loaded(
    dsn, ask, tmp_path, columns, message
):
    ask("CREATE TABLE t (n int PRIMARY KEY, word text, doc json)")

    with pytest.raises(Refused, match=message):
        howdah.load([write(tmp_path / "a.ndjson", {"n": 1})], dsn=dsn, table="t", columns=columns)


def test_partitioned_table_triggers_and_foreign_keys_are_respected(dsn, ask, tmp_path):
    ask("""
        CREATE TABLE customers (id int PRIMARY KEY);
        INSERT INTO customers VALUES (1), (2);
        CREATE TABLE orders (id int, customer int REFERENCES customers, day date, loud text)
            PARTITION BY RANGE (day);
        CREATE TABLE orders_2024 PARTITION OF orders
            FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
        CREATE FUNCTION shout() RETURNS trigger LANGUAGE plpgsql
            AS $$ BEGIN new.loud := upper(new.loud); RETURN new; END $$;
        CREATE TRIGGER shout BEFORE INSERT ON orders FOR EACH ROW EXECUTE FUNCTION shout();
    """)
    path = tmp_path / "a.csv"
    path.write_text(
        "id,customer,day,loud\n1,1,2024-05-06,a\n2,9,2024-05-06,b\n3,2,2023-05-06,c\n4,2,2024-07-08,d\n"
    )

    report = howdah.load([path], dsn=dsn, table="orders")

    assert (report.records, report.rejects) == (2, 2)
    assert ask("SELECT id, loud FROM orders_2024 ORDER BY 1") == [(1, "A"), (4, "D")]


@pytest.mark.parametrize(
    "refusing",
    [
        "ALTER TABLE t ADD FOREIGN KEY (n) REFERENCES known DEFERRABLE INITIALLY DEFERRED",
        "ALTER TABLE t ALTER words TYPE tsvector USING NULL",
        """
        CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF new.n = 9 THEN RAISE 'no nine' USING ERRCODE = 'MY009'; END IF;
            RETURN new;
        END $$;
        CREATE TRIGGER no BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION no()
        """,
        """
        CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF new.n = 9 THEN RAISE 'as PostGIS says it' USING ERRCODE = 'XX000'; END IF;
            RETURN new;
        END $$;
        CREATE CONSTRAINT TRIGGER no AFTER INSERT ON t DEFERRABLE INITIALLY DEFERRED
            FOR EACH ROW EXECUTE FUNCTION no()
        """,
    ],
)
def test_row_is_a_reject_whatever_of_the_table_refuses_it_and_when(dsn, ask, tmp_path, refusing):
    ask("""
        CREATE TABLE known (n int PRIMARY KEY);
        INSERT INTO known VALUES (1), (2), (3);
        CREATE TABLE t (n int, words text);
    """)
    ask(refusing)
    rows = [{"n": 1, "words": "a"}, {"n": 2}, {"n": 9, "words": "'b"}, {"n": 3, "words": "c"}]

    report = howdah.load([write(tmp_path / "a.ndjson", *rows)], dsn=dsn, table="t")

    assert (report.records, report.rejects) == (3, 1)
    assert ask("SELECT n FROM t ORDER BY n") == [1, 2, 3]
    assert ask("SELECT record FROM howdah.rejects") == [3]


@pytest.mark.parametrize("when", ["", "DEFERRABLE INITIALLY DEFERRED"])
def test_rows_that_refer_to_later_ones_are_loaded_beside_one_that_cannot_be(
    dsn, ask, tmp_path, when
):
    ask(f"CREATE TABLE t (id int PRIMARY KEY, parent int REFERENCES t {when})")
    rows = [{"id": n, "parent": n + 1 if n < 50 else None} for n in range(1, 51)]
    rows.insert(20, {"id": 99, "parent": 100})

    report = howdah.load([write(tmp_path / "a.ndjson", *rows)], dsn=dsn, table="t")

    assert (report.records, report.rejects) == (50, 1)
    assert ask("SELECT id FROM t ORDER BY id") == list(range(1, 51))
    assert ask("SELECT record FROM howdah.rejects") == [21]


def test_arrays_of_json_keep_what_is_a_text_and_what_a_number(dsn, ask, tmp_path):
    ask("CREATE TABLE t (a jsonb[])")
    values = [{"k": 1}, 2, "2", "x", None, [1, "1"], True]

    howdah.load([write(tmp_path / "a.ndjson", {"a": values})], dsn=dsn, table="t")

    assert ask("SELECT to_json(a) FROM t") == [values]


def test_row_level_security_of_the_role_is_respected(dsn, ask, tmp_path):
    ask(
        """
        CREATE ROLE tenant LOGIN;
        GRANT CREATE, TEMPORARY ON DATABASE {} TO tenant;
        CREATE TABLE t (n int PRIMARY KEY, owner text DEFAULT current_user);
        ALTER TABLE t ENABLE ROW LEVEL SECURITY;
        CREATE POLICY own ON t USING (owner = current_user);
        GRANT SELECT, INSERT, UPDATE ON t TO tenant
    """.replace("{}", psycopg.conninfo.conninfo_to_dict(dsn)["dbname"])
    )
    as_tenant = psycopg.conninfo.make_conninfo(dsn, options="-c role=tenant")
    try:
        report = howdah.load(
            [write(tmp_path / "a.ndjson", {"n": 1}, {"n": 2}, {"n": "x"})], dsn=as_tenant, table="t"
        )

        assert (report.records, report.rejects) == (2, 1)
        assert ask("SELECT n, owner FROM t ORDER BY n") == [(1, "tenant"), (2, "tenant")]
        path = write(tmp_path / "b.ndjson", {"n": 3, "owner": "postgres"})
        with pytest.raises(Refused, match="row-level security"):
            howdah.load([path], dsn=as_tenant, table="t")
    finally:
        ask("DROP OWNED BY tenant; DROP ROLE tenant")


def test_changed_source_is_refused_where_no_column_tells_its_rows(dsn, ask, tmp_path):
    path = write(tmp_path / "a.ndjson", {"n": 1})
    howdah.load([path], dsn=dsn, table="t", columns=INTO_COLUMNS)

    assert howdah.load([path], dsn=dsn, table="t", columns=INTO_COLUMNS).skipped == 1
    with pytest.raises(Refused, match="in t already"):
        howdah.load([path], dsn=dsn, table="t", columns=INTO_COLUMNS, again=True)
    write(path, {"n": 2})
    with pytest.raises(Refused, match="in t already"):
        howdah.load([path], dsn=dsn, table="t", columns=INTO_COLUMNS)
    assert ask("SELECT n FROM t") == [1]

    howdah.load([path], dsn=dsn, table="t", columns=INTO_COLUMNS, truncate=True)
    assert ask("SELECT n FROM t") == [2]


def test_killed_load_into_columns_is_gone_on_with(howdah, ask, tmp_path):
    path = tmp_path / "a.csv"
    with path.open("w") as file:
        file.write("n,pad\n")
        for n in range(600_000):
            file.write(f"{n},{'x' * 60}\n")
    arguments = ["load", path, "--as", "columns", "--table", "t", "--json"]
    loading = howdah.start(*arguments, "--workers", 1)
    wait_until(lambda: ask("SELECT to_regclass('t') IS NOT NULL")[0])
    wait_until(lambda: ask("SELECT count(*) FROM t")[0] > 0 or loading.poll() is not None)
    loading.send_signal(signal.SIGKILL)
    loading.communicate()
    time.sleep(0.2)  # what was about to commit has done so
    before = ask("SELECT count(*) FROM t")[0]

    report = json.loads(howdah(*arguments).stdout)

    assert 0 < before < 600_000
    assert report["records"] == 600_000 - before
    assert ask("SELECT count(*), count(DISTINCT n) FROM t") == [(600_000, 600_000)]


def test_standard_input_into_columns(howdah, ask):
    done = howdah("load", "-", "--as", "columns", "--table", "t", input='{"n": 1}\n{"n": 2}\n')

    assert done.returncode == 2  # nothing to tell the columns of a new table by
    assert "cannot be told from a stream: it can be read only once" in done.stderr
    ask("CREATE TABLE t (n int)")
    for _ in range(2):
        done = howdah("load", "-", "--as", "columns", "--table", "t", input='{"n": 1}\n{"n": 2}\n')
        assert done.returncode == 0, done.stderr
    assert ask("SELECT n FROM t ORDER BY n") == [1, 1, 2, 2]


def test_file_that_is_cut_off_gives_the_rows_before(dsn, ask, tmp_path):
    import gzip

    rows = "n\n" + "".join(f"{n}\n" for n in range(100_000))
    whole = gzip.compress(rows.encode(), mtime=0)
    (tmp_path / "a.csv.gz").write_bytes(whole[: len(whole) // 2])

    report = howdah.load([tmp_path], dsn=dsn, table="t", columns=INTO_COLUMNS)

    assert 0 < report.records < 100_000
    assert report.rejects == 1
    assert ask("SELECT count(*) FROM t") == [report.records]
