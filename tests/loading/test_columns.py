"""Records into a column for each attribute: new tables, tables that grow, tables of others."""

from __future__ import annotations

import json
import signal
import time

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import howdah
from howdah.errors import Refused
from howdah.loading import plan
from howdah.loading.columns import column_name, matched
from tests.loading.test_faults import wait_until

TYPES = """
    SELECT attname::text, format_type(atttypid, NULL)
      FROM pg_attribute
     WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped
     ORDER BY attnum
"""
INTO_COLUMNS = howdah.Columns()


def write(path, *records):
    """Write records as NDJSON; a text stands for itself."""
    lines = (r if isinstance(r, str) else json.dumps(r, ensure_ascii=False) for r in records)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


# ---- new tables


def test_columns_are_told_from_the_records(dsn, ask, tmp_path):
    path = write(
        tmp_path / "a.ndjson",
        '{"i": 1, "n": 1.50, "d": 0.5, "b": true, "t": "x", "l": [1], "day": "2024-01-02"}',
        '{"i": null, "z": "2024-01-02T03:04:05Z", "o": {"x": 1}, "new": 12345678901234567890}',
    )

    report = howdah.load([path], dsn=dsn, table="raw.t", columns=INTO_COLUMNS)

    assert (report.records, report.rejects) == (2, 0)
    assert dict(ask(TYPES, "raw.t")) == {
        "i": "bigint",
        "n": "numeric",
        "d": "double precision",
        "b": "boolean",
        "t": "text",
        "l": "jsonb",
        "day": "date",
        "z": "timestamp with time zone",
        "o": "jsonb",
        "new": "numeric",
    }
    assert ask("SELECT n::text, l, new::text FROM raw.t ORDER BY i") == [
        ("1.50", [1], None),
        (None, None, "12345678901234567890"),
    ]


NUMBERS = st.integers() | st.decimals(allow_nan=False, allow_infinity=False, places=3)
CELLS = NUMBERS.map(str) | st.text(st.characters(codec="utf-8", exclude_characters="\0"))


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.lists(st.lists(CELLS | NUMBERS.map(str), min_size=1), min_size=1, max_size=3))
def test_whatever_is_loaded_is_read_back_with_every_digit(dsn, ask, tmp_path, files):
    """One source after the other: the first makes the table, the others widen it."""
    ask("DROP TABLE IF EXISTS digits")
    for number, values in enumerate(files):
        path = tmp_path / f"{number}.csv"
        quoted = (value.replace('"', '""') for value in values)
        path.write_text("x,n\n" + "".join(f'"{q}",{n}\n' for n, q in enumerate(quoted)), newline="")
        report = howdah.load([path], dsn=dsn, table="digits", columns=INTO_COLUMNS, again=False)
        assert (report.records, report.rejects) == (len(values), 0)

    found = sorted(text or "" for text in ask("SELECT x::text FROM digits"))
    # An exponent's number is written out: the same digits.
    assert found == sorted(value for values in files for value in values)


@pytest.mark.parametrize(
    "name",
    [
        "Größe",
        "two words",
        'a"b',
        "100%",
        "%s",
        "{}",
        "select",
        "x" * 80,
        "é" * 60,
        "ctid",
        "",
        "\0",
    ],
)
def test_any_attribute_can_be_a_column_and_is_found_again(dsn, ask, tmp_path, name):
    first = write(tmp_path / "a.ndjson", {name: 1, "other": 1}, {name: 2, "other": 2})
    second = write(tmp_path / "b.ndjson", {name: "three", "other": 3})

    for path in (first, second):
        report = howdah.load([path], dsn=dsn, table='"T %s"', columns=INTO_COLUMNS)
        assert report.rejects == 0

    assert [types for types, _ in ask(TYPES, '"T %s"')] == [column_name(name), "other"]
    assert ask('SELECT count(*) FROM "T %s"') == [3]


def test_long_names_that_differ_at_their_end_alone_are_two_columns(dsn, ask, tmp_path):
    path = write(tmp_path / "a.ndjson", {"x" * 70 + "1": 1, "x" * 70 + "2": 2})

    howdah.load([path], dsn=dsn, table="t", columns=INTO_COLUMNS)

    assert ask("SELECT * FROM t") == [(1, 2)]


def test_names_match_exactly_or_by_the_only_column_of_another_case():
    assert matched(["ID", "name"], ["id", "name"]) == {"ID": "id", "name": "name"}
    assert matched(["ID", "id"], ["id"]) == {"id": "id"}
    assert matched(["Id"], ["id", "ID"]) == {}
    assert matched(["a", "A"], ["A", "a"]) == {"a": "a", "A": "A"}


def test_dry_run_plans_the_table_that_the_load_makes(dsn, ask, tmp_path):
    path = write(tmp_path / "a.ndjson", *({"n": n, "word": "x" * n} for n in range(50)))

    planned = plan([path], table="raw.t", columns=howdah.Columns(key=("n",), extra="rest"))
    howdah.load([path], dsn=dsn, table="raw.t", columns=howdah.Columns(key=("n",), extra="rest"))

    assert planned.create == (
        'CREATE TABLE "raw"."t" (\n    "n" bigint,\n    "word" text,\n    "rest" jsonb,\n'
        '    PRIMARY KEY ("n")\n);'
    )
    assert planned.columns == ("n", "word", "rest")
    assert len(planned.rows) == 10
    assert planned.rows[3] == ("3", "xxx", None)
    assert [name for name, _ in ask(TYPES, "raw.t")] == ["n", "word", "rest"]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (howdah.Columns(key=("nosuch",)), "no attribute nosuch"),
        (howdah.Columns(key=("n",), updates_only=True), "no table t whose rows"),
    ],
)
def test_table_that_cannot_be_made_is_refused(dsn, tmp_path, columns, message):
    path = write(tmp_path / "a.ndjson", {"n": 1})

    with pytest.raises(Refused, match=message):
        howdah.load([path], dsn=dsn, table="t", columns=columns)


def test_sources_without_records_make_no_table(dsn, tmp_path):
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "noise.ndjson").write_text("{bad\n" * 3)

    with pytest.raises(Refused, match="No record could be read"):
        howdah.load([tmp_path], dsn=dsn, table="t", columns=INTO_COLUMNS)


def test_more_attributes_than_a_table_has_columns_are_refused(dsn, tmp_path):
    path = write(tmp_path / "a.ndjson", {f"c{n}": n for n in range(1601)}, {})

    with pytest.raises(Refused, match=r"1,601 attributes.*1,600"):
        howdah.load([path], dsn=dsn, table="t", columns=INTO_COLUMNS)


def test_ten_thousand_columns_are_attributes_of_a_record_but_no_table(dsn, ask, tmp_path):
    names = [f"column {number}" for number in range(10_000)]
    rows = [names, *([str(number)] * 10_000 for number in range(3))]
    path = tmp_path / "wide.csv"
    path.write_text("".join(",".join(row) + "\n" for row in rows))

    assert howdah.load([path], dsn=dsn).records == 3
    attributes = ask("SELECT attributes FROM documents WHERE record = 2")[0]
    assert attributes == dict.fromkeys(names, "1")
    with pytest.raises(Refused, match=r"10,000 attributes.*1,600"):
        howdah.load([path], dsn=dsn, table="t", columns=INTO_COLUMNS)


# ---- tables that grow


def test_columns_are_added_and_widened_far_behind_the_sample(dsn, ask, tmp_path):
    path = tmp_path / "a.ndjson"
    with path.open("w") as file:
        for n in range(200_000):
            file.write(
                f'{{"n": {n}, "code": "{n:08}", "when": "2024-01-02", "pad": "{"x" * 60}"}}\n'
            )
        file.write('{"n": 1.5, "code": [1], "when": "2024-01-02 03:04", "late": true}\n')

    report = howdah.load([path], dsn=dsn, table="t", columns=INTO_COLUMNS, workers=2)

    assert (report.records, report.rejects) == (200_001, 0)
    assert dict(ask(TYPES, "t")) == {
        "n": "numeric",  # a bigint may have more digits than a double
        "code": "jsonb",
        "when": "timestamp without time zone",
        "pad": "text",
        "late": "boolean",
    }
    assert ask("SELECT count(*), count(DISTINCT n), sum(n) FROM t") == [
        (200_001, 200_001, sum(range(200_000)) + 1.5)
    ]
    assert ask("SELECT code FROM t WHERE n IN (7, 1.5) ORDER BY n") == [[1], "00000007"]


@pytest.mark.long
@pytest.mark.parametrize("suffix", ["csv", "ndjson"])
def test_many_workers_that_widen_at_once_lose_nothing(dsn, ask, tmp_path, suffix):
    """Every chunk holds what the table has no room for yet."""
    path = tmp_path / f"a.{suffix}"
    with path.open("w") as file:
        if suffix == "csv":
            file.write("n,x\n")
        for n in range(300_000):
            odd = {0: "text", 1: 0.25, 2: True}.get(n // 10_000 % 4) if n % 5_000 == 4_999 else n
            row = {"n": n, "x": odd, f"c{n // 15_000}": n} if suffix == "ndjson" else None
            file.write(f"{json.dumps(row)}\n" if row else f"{n},{odd}{',1' * (n % 9_999 == 0)}\n")

    report = howdah.load([path], dsn=dsn, table="t", columns=INTO_COLUMNS, workers=4)

    assert (report.records, report.rejects) == (300_000, 0)
    assert ask("SELECT count(DISTINCT n) FROM t") == [300_000]
    assert dict(ask(TYPES, "t"))["x"] == "text"


def test_value_that_the_server_would_change_widens_the_column(dsn, ask, tmp_path):
    first = tmp_path / "a.csv"
    first.write_text("i,f,day,at,flag\n1,0.5,2024-01-02,2024-01-02 03:04,true\n")
    second = tmp_path / "b.csv"
    second.write_text("i,f,day,at,flag\n007,0.10,2024-01-02 03:04,2024-01-02 03:04Z,1\n")
    for path in (first, second):
        howdah.load([path], dsn=dsn, table="t", columns=INTO_COLUMNS)

    assert [found for _, found in ask(TYPES, "t")] == [
        "text",
        "numeric",
        "timestamp without time zone",
        "text",
        "text",
    ]
    assert ask("SELECT i, f::text, day::text, flag FROM t ORDER BY i") == [
        ("007", "0.10", "2024-01-02 03:04:00", "1"),
        ("1", "0.5", "2024-01-02 00:00:00", "true"),
    ]


def test_widened_values_do_not_depend_on_the_settings_of_the_role(dsn, ask, tmp_path):
    ask("""
        DO $$ BEGIN
            EXECUTE format('ALTER DATABASE %I SET DateStyle = ''German''', current_database());
            EXECUTE format('ALTER DATABASE %I SET extra_float_digits = -5', current_database());
        END $$
    """)
    for number, row in enumerate(["2024-01-02,0.1234567890123457", "never,none"]):
        (tmp_path / f"{number}.csv").write_text(f"day,f\n{row}\n")
        howdah.load([tmp_path / f"{number}.csv"], dsn=dsn, table="t", columns=INTO_COLUMNS)

    assert ask("SELECT * FROM t ORDER BY day") == [
        ("2024-01-02", "0.1234567890123457"),
        ("never", "none"),
    ]


def test_table_whose_mark_is_gone_stays_as_it_is(dsn, ask, tmp_path):
    howdah.load([write(tmp_path / "a.ndjson", {"n": 1})], dsn=dsn, table="t", columns=INTO_COLUMNS)
    ask("COMMENT ON TABLE t IS NULL")

    report = howdah.load([write(tmp_path / "b.ndjson", {"n": "x"}, {"new": 1})], dsn=dsn, table="t")

    assert (report.records, report.rejects) == (0, 2)
    assert ask(TYPES, "t") == [("n", "bigint")]


@pytest.mark.parametrize(
    "obstacle",
    [
        "CREATE VIEW v AS SELECT n FROM t",
        "ALTER TABLE t ADD twice bigint GENERATED ALWAYS AS (n * 2) STORED",
        "ALTER TABLE t ADD CHECK (n > 0)",
        "CREATE UNIQUE INDEX ON t (abs(n))",
    ],
)
def test_column_that_something_depends_on_is_refused_and_the_load_goes_on_later(
    dsn, ask, tmp_path, obstacle
):
    howdah.load([write(tmp_path / "a.ndjson", {"n": 1})], dsn=dsn, table="t", columns=INTO_COLUMNS)
    ask(obstacle)
    path = write(tmp_path / "b.ndjson", {"n": 2}, {"n": "x"})

    with pytest.raises(Refused, match="do not fit t") as refused:
        howdah.load([path], dsn=dsn, table="t")

    assert 'ALTER COLUMN "n" TYPE text' in str(refused.value)
    assert ask("SELECT n FROM t") == [1]
    ask("DROP TABLE t CASCADE")
    assert howdah.load([path], dsn=dsn, table="t", columns=INTO_COLUMNS).records == 2


def test_reader_of_the_table_does_not_hold_the_widening_up_for_ever(howdah, dsn, ask, tmp_path):
    howdah("load", write(tmp_path / "a.ndjson", {"n": 1}), "--as", "columns", "--table", "t")
    with psycopg.connect(dsn) as reader:
        reader.execute("SELECT * FROM t")
        loading = howdah.start("load", write(tmp_path / "b.ndjson", {"n": "x"}), "--table", "t")
        waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
        wait_until(lambda: ask(waiting) == [1])
        wait_until(lambda: ask(waiting) == [0])  # others are let through in between
        assert ask("SELECT n FROM t") == [1]
    _, errors = loading.communicate(timeout=60)

    assert loading.returncode == 0, errors
    assert ask("SELECT n FROM t ORDER BY n") == ["1", "x"]


# ---- tables of others


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
    assert "No record could be read" in done.stderr
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
