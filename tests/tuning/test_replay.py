"""--replay on servers with pg_stat_statements: what it measures, and on what."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from howdah.errors import Refused
from howdah.tuning.replay import replayed
from howdah.tuning.scratch import scratch_schema
from howdah.tuning.workloads import run
from tests.fixtures.commands import Howdah

pytestmark = pytest.mark.long

LOADED = "shared_preload_libraries = 'pg_stat_statements'\n"
TABLES = """
    CREATE EXTENSION pg_stat_statements;
    CREATE SCHEMA shop;
    CREATE TYPE shop.kind AS ENUM ('small', 'large');
    CREATE TABLE shop.customers (id int PRIMARY KEY);
    INSERT INTO shop.customers SELECT generate_series(1000, 1100);
    CREATE TABLE shop.orders (
        id serial PRIMARY KEY, customer int NOT NULL REFERENCES shop.customers,
        code varchar(6) UNIQUE, total numeric CHECK (total > 0), kind shop.kind NOT NULL, day date
    );
    CREATE TABLE shop.empty (LIKE shop.orders INCLUDING ALL);
    ALTER TABLE shop.empty ADD FOREIGN KEY (customer) REFERENCES shop.customers;
    INSERT INTO shop.orders (customer, code, total, kind)
    SELECT 1000 + n % 100, 'c' || n, n, 'small' FROM generate_series(1, 300) AS n
"""
INSERT = "INSERT INTO shop.orders (customer, code, total, kind) VALUES (1001, 'new', 7, 'small')"
STATEMENTS = {
    "returning": f"{INSERT} RETURNING shop.orders.id",
    "many rows": f"{INSERT}, (1002, 'newer', 8, 'large')",
    "conflict": "INSERT INTO shop.orders (id, customer, code, total, kind) "
    "VALUES (1, 1001, 'x', 1, 'small') ON CONFLICT (id) DO UPDATE SET total = excluded.total + 1",
    "nothing": f"{INSERT} ON CONFLICT DO NOTHING",
    "typed constant": "INSERT INTO shop.orders (customer, code, kind, day) "
    "VALUES (1001, 'y', 'large', date '2024-02-29')",
    "arrays": "INSERT INTO shop.orders (customer, total, kind) SELECT * FROM "
    "UNNEST(('{1001,1002,1003}')::int[], ('{1,2,3}')::numeric[], "
    "('{small,large,small}')::shop.kind[])",
    "empty table": INSERT.replace("shop.orders", "shop.empty"),
    "update": "UPDATE shop.orders SET total = 9 WHERE shop.orders.id = 7",
    "update of several": "UPDATE shop.orders SET total = total + 1 WHERE id IN (1, 2, 3)",
}
ROWS = {"many rows": 2, "arrays": 3, "update of several": 3}


@pytest.fixture
def shop(binaries, make_cluster) -> str:
    conninfo = make_cluster("shop", binaries=binaries, settings=LOADED).conninfo()
    with psycopg.connect(conninfo, autocommit=True) as conn:
        conn.execute(TABLES)
    return str(conninfo)


def _rows(conninfo: str) -> list[Any]:
    with psycopg.connect(conninfo) as conn:
        tables = "SELECT 'o', * FROM shop.orders UNION ALL SELECT 'e', * FROM shop.empty ORDER BY 1"
        return [*conn.execute(tables + ", 2"), *conn.execute("TABLE shop.orders_id_seq")]


def test_each_kind_of_statement_is_replayed_on_a_copy_and_the_table_left_alone(shop):
    with psycopg.connect(shop, autocommit=True) as conn:
        for name, statement in STATEMENTS.items():
            conn.execute("SELECT pg_stat_statements_reset()")
            with conn.transaction(force_rollback=True):  # it is told all the same
                conn.execute(statement)
            before = _rows(shop)

            with scratch_schema(shop) as (own, schema):
                workload = replayed(own, schema)
                done = run(shop, workload, {}, seconds=0.2)

            assert done.rows >= len(done.latencies_s) / 2 > 0, name
            if name in ROWS:
                assert done.rows == ROWS[name] * len(done.latencies_s), name
            assert _rows(shop) == before, name
            assert workload.about.startswith(f"replayed: {' '.join(statement.split()[:3])}"), name


def test_an_upsert_meets_a_row_every_second_time(shop):
    with psycopg.connect(shop, autocommit=True) as conn:
        conn.execute("SELECT pg_stat_statements_reset()")
        conn.execute(STATEMENTS["conflict"])
        with scratch_schema(shop) as (own, schema):
            workload = replayed(own, schema)
            size = f"SELECT count(*) FROM {schema}.orders"
            before = own.execute(size).fetchone()
            executed = sum(workload.transaction(own, number) for number in range(20))
            after = own.execute(size).fetchone()

    assert executed == 20
    assert after[0] - before[0] == 10


def test_what_cannot_be_done_on_a_copy_is_passed_over_and_told(shop):
    with psycopg.connect(shop, autocommit=True) as conn:
        conn.execute("CREATE TABLE gone (n int)")
        conn.execute("SELECT pg_stat_statements_reset()")
        conn.execute("INSERT INTO gone SELECT generate_series(1, 300000)")  # costs most
        conn.execute("DROP TABLE gone")
        conn.execute(INSERT)

    told = Howdah(shop)("tune", "inserts", "--replay", "--measure", "--rounds", 5, "--seconds", 0.1)

    assert told.returncode == 0, told.stderr
    assert "statement on shop.orders" in told.stdout
    assert "passed over: INSERT INTO gone" in told.stdout


def test_without_a_statement_to_replay_it_says_how_to_get_one(shop, dsn):
    for conninfo in (shop, dsn):  # the extension knows none; there is no extension
        with psycopg.connect(conninfo, autocommit=True) as conn:
            if conninfo == shop:
                conn.execute("SELECT pg_stat_statements_reset()")
        with scratch_schema(conninfo) as (own, schema), pytest.raises(Refused, match="knows no"):
            replayed(own, schema)
