from __future__ import annotations

import json
import re

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from howdah.errors import Refused, UsageError
from howdah.tuning.catalogue import WORKLOADS
from howdah.tuning.compare import compared
from howdah.tuning.measure import measure
from howdah.tuning.scratch import scratch_schema
from howdah.tuning.statement import Statement, statement_workload, target_of
from howdah.tuning.workloads import built_in, run

pytestmark = pytest.mark.long

TABLES = """
    CREATE TABLE customers (id int PRIMARY KEY);
    INSERT INTO customers SELECT generate_series(1, 100);
    CREATE TABLE orders (
        id serial PRIMARY KEY, customer int NOT NULL REFERENCES customers,
        former int REFERENCES orders, total numeric CHECK (total > 0), note text UNIQUE,
        twice numeric GENERATED ALWAYS AS (total * 2) STORED
    );
    CREATE INDEX ON orders (total);
    CREATE TABLE audit (what text);
    CREATE FUNCTION rounded() RETURNS trigger LANGUAGE plpgsql AS
        $$BEGIN new.total = round(new.total); RETURN new; END$$;
    CREATE FUNCTION audited() RETURNS trigger LANGUAGE plpgsql AS
        $$BEGIN INSERT INTO audit VALUES (new.note); RETURN new; END$$;
    CREATE TRIGGER rounded BEFORE INSERT ON orders FOR EACH ROW EXECUTE FUNCTION rounded();
    INSERT INTO orders (customer, total, note) SELECT 1, n, n::text FROM generate_series(1, 50) AS n
"""
INSERT = "INSERT INTO public.orders (customer, total, note) VALUES (7, 1.4, 'n' || %(n)s)"


@pytest.fixture
def orders(dsn):
    return _with_tables(dsn)


def _with_tables(dsn):
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute(TABLES)
    return dsn


def _facts_of(ask, table):
    constraints = "SELECT contype::text, count(*) FROM pg_constraint WHERE conrelid = %s::regclass"
    return (
        ask(constraints + " AND contype <> 'n' GROUP BY 1 ORDER BY 1", table),
        ask("SELECT count(*) FROM pg_index WHERE indrelid = %s::regclass", table),
        ask(
            "SELECT tgname FROM pg_trigger WHERE tgrelid = %s::regclass AND NOT tgisinternal", table
        ),
    )


def test_a_copy_on_the_newest_major_is_measured_too(make_cluster, binaries):
    dsn = _with_tables(make_cluster(binaries=binaries).conninfo())
    with scratch_schema(dsn) as (conn, schema):
        workload, scratch = statement_workload(conn, schema, Statement(INSERT), connections=2)
        done = run(dsn, workload, {"synchronous_commit": "off"}, seconds=0.2)

        assert scratch.triggers == ("rounded",)
        assert done.rows == conn.execute(f"SELECT count(*) - 50 FROM {schema}.orders").fetchone()[0]


def test_a_copy_has_the_tables_rows_indexes_constraints_and_triggers(orders, ask):
    with scratch_schema(orders) as (conn, schema):
        _, scratch = statement_workload(conn, schema, Statement(INSERT))
        copy = f"{schema}.orders"

        assert _facts_of(ask, copy) == _facts_of(ask, "public.orders")
        assert ask(f"SELECT count(*) FROM {copy}") == [50]
        assert scratch.triggers == ("rounded",)


def test_the_table_itself_and_its_sequence_are_left_alone(orders, ask):
    before = (
        ask("SELECT count(*), max(total) FROM orders"),
        ask("SELECT last_value FROM orders_id_seq"),
    )

    with scratch_schema(orders) as (conn, schema):
        workload, _ = statement_workload(conn, schema, Statement(INSERT), connections=2)
        done = run(orders, workload, {}, seconds=0.2)
        totals = ask(f"SELECT DISTINCT total FROM {schema}.orders WHERE note LIKE 'n%'")

    assert done.rows > 0
    assert totals == [1]  # the trigger rounded them
    assert done.wal_bytes > 0
    assert before == (
        ask("SELECT count(*), max(total) FROM orders"),
        ask("SELECT last_value FROM orders_id_seq"),
    )
    assert ask("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'howdah_tune%'") == []


def test_a_statement_that_writes_elsewhere_is_refused_by_the_tables_name(orders, ask):
    ask("CREATE TRIGGER audited AFTER INSERT ON orders FOR EACH ROW EXECUTE FUNCTION audited()")

    with (
        scratch_schema(orders) as (conn, schema),
        pytest.raises(Refused, match=r"public\.audit as well"),
    ):
        statement_workload(conn, schema, Statement(INSERT))

    assert ask("SELECT count(*) FROM audit") == [0]


def test_without_its_triggers_it_is_measured(orders, ask):
    ask("CREATE TRIGGER audited AFTER INSERT ON orders FOR EACH ROW EXECUTE FUNCTION audited()")

    with scratch_schema(orders) as (conn, schema):
        workload, _ = statement_workload(conn, schema, Statement(INSERT), triggers=False)
        run(orders, workload, {}, seconds=0.1)

    assert ask("SELECT count(*) FROM audit") == [0]


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("INSERT INTO orders (customer, total, note) VALUES (7, 1, 'same')", "done twice"),
        ("INSERT INTO orders (customer, total) VALUES (7, -1)", "fails on a copy"),
        ("INSERT INTO nowhere VALUES (1)", "no table nowhere"),
        ("SELECT 1", "neither an INSERT nor an UPDATE"),
    ],
)
def test_a_statement_that_cannot_be_measured_says_why(orders, statement, says):
    with scratch_schema(orders) as (conn, schema), pytest.raises(UsageError, match=says):
        statement_workload(conn, schema, Statement(statement))


@pytest.mark.parametrize(
    ("text", "table"),
    [
        ("insert into Orders values (1)", "orders"),
        ('INSERT INTO "Sales"."Orders" (a) VALUES (1)', "Sales.Orders"),
        ("-- insert into wrong\nUPDATE ONLY sales . orders SET a = 1", "sales.orders"),
        ("WITH x AS (SELECT 'update y set') INSERT INTO orders SELECT * FROM x", "orders"),
    ],
)
def test_the_table_of_a_statement_is_found(text, table):
    assert str(target_of(text)[0]) == table


def test_what_a_killed_measurement_left_is_swept_by_the_next(dsn, ask):
    ask("CREATE SCHEMA howdah_tune_0123456789ab CREATE TABLE left_behind (n int)")

    with scratch_schema(dsn) as (_, schema):
        assert ask("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'howdah_tune%'") == [schema]


def test_a_measurement_that_runs_is_not_swept(dsn, ask):
    with scratch_schema(dsn) as (_, first), scratch_schema(dsn) as (_, second):
        found = ask("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'howdah_tune%'")

        assert set(found) == {first, second}


def test_each_built_in_workload_is_measured_on_both_sides(make_cluster, binaries):
    dsn = make_cluster(binaries=binaries).conninfo()
    sides = {"before": {}, "after": {"synchronous_commit": "off"}}
    with scratch_schema(dsn) as (conn, schema):
        workloads = [built_in(conn, schema, name) for name in WORKLOADS]
        measured = measure(dsn, workloads, sides, rounds=2, seconds=0.1)

    assert [one.workload for one in measured] == list(WORKLOADS)
    for one in measured:
        for figures in (one.before, one.after):
            assert len(figures.rows_per_second) == 2
            assert 0 < figures.p50_s <= figures.p99_s
            assert figures.wal_bytes_per_row > 0
        assert one.comparison.verdict == "no difference"  # two rounds prove nothing


def test_a_difference_beyond_the_noise_is_told_from_one_within_it():
    slow, fast = [100.0, 104, 98, 101, 97, 103], [200.0, 207, 195, 203, 190, 206]
    noise = [104.0, 97, 101, 98, 103, 100]

    assert compared(slow, fast).verdict == "better"
    assert compared(fast, slow).verdict == "worse"
    assert compared(slow, noise).verdict == "no difference"
    assert compared(slow, fast).low < compared(slow, fast).ratio < compared(slow, fast).high


def test_measuring_by_command_changes_nothing_of_the_server(howdah, orders, tmp_path, ask):
    (tmp_path / "insert.sql").write_text(INSERT + ";\n")
    chart = tmp_path / "chart.svg"
    before = ask("SELECT name, setting, source FROM pg_settings ORDER BY 1")

    done = howdah(
        *("tune", "inserts", "--allow", "lose-last-moments", "--measure", "--rounds", 5),
        *("--seconds", 0.1, "--statement", tmp_path / "insert.sql", "--chart", chart),
    )

    assert done.returncode == 0, done.stderr
    assert re.search(r"statement on orders|statement on public\.orders", done.stdout)
    assert "not measured, since a session cannot set it here: " in done.stdout
    assert chart.read_text().startswith("<svg")
    assert ask("SELECT name, setting, source FROM pg_settings ORDER BY 1") == before


def test_a_plain_role_measures_what_it_may_set(howdah, orders, tmp_path, ask):
    ask("CREATE ROLE measurer LOGIN PASSWORD 'x'")
    ask(
        "DO $$BEGIN EXECUTE format('GRANT CREATE ON DATABASE %I TO measurer', "
        "current_database()); END$$"
    )
    ask("GRANT ALL ON ALL TABLES IN SCHEMA public TO measurer")
    ask("GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO measurer")
    (tmp_path / "insert.sql").write_text(INSERT)
    try:
        done = howdah(
            *("tune", "inserts", "--allow", "lose-last-moments", "--measure", "--rounds", 5),
            *("--seconds", 0.1, "--statement", tmp_path / "insert.sql", "--json"),
            *("--dsn", make_conninfo(orders, host="127.0.0.1", user="measurer", password="x")),
        )
    finally:
        ask("DROP OWNED BY measurer; DROP ROLE measurer")

    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert "synchronous_commit" in [change["setting"] for change in told["plan"]["changes"]]
    assert "wal_compression" in told["not_measured"]
