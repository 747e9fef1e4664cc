"""Single rows: howdah.Writer against the ways a web application has, in turn, in one run.

    python bench/writer.py [--rows 10000] [--threads 16] [--rounds 5]

A server of its own (the machine's newest PostgreSQL, or the embedded one) is
started for the run, with its default settings. Each round runs every side once,
into an empty table after a checkpoint; the figure is the ratio of the medians to
autocommit INSERTs on one connection. Two tables: the one that `howdah load`
makes, and one with a primary key and columns of integer, text, numeric,
timestamptz and jsonb.

A side of Writer ends when every future is done, each looked at. "request by
request" is a web server under load: each thread waits for its row's commit
before it posts the next.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime as dt
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
from common import in_threads
from psycopg.types.json import Jsonb

import howdah
from howdah import server

JSON = "attributes, as howdah load"
TYPED = "typed columns"
TABLES = {
    JSON: """
        CREATE TABLE events (
            id bigint GENERATED ALWAYS AS IDENTITY (CACHE 1000), source text NOT NULL,
            record bigint NOT NULL, attributes jsonb NOT NULL,
            loaded_at timestamptz NOT NULL DEFAULT now()
        )
    """,
    TYPED: """
        CREATE TABLE events (
            id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, customer int NOT NULL,
            kind text NOT NULL, amount numeric(10, 2), at timestamptz, data jsonb
        )
    """,
}
COLUMNS = {JSON: "source, record, attributes", TYPED: "customer, kind, amount, at, data"}
KEY = {JSON: "attributes->'customer'", TYPED: "customer"}
INSERT = {
    JSON: "INSERT INTO events (source, record, attributes) VALUES (%s, %s, %s)",
    TYPED: "INSERT INTO events (customer, kind, amount, at, data) VALUES (%s, %s, %s, %s, %s)",
}
BASE = "INSERT, autocommit, 1 connection"
NOW = dt.datetime.now(dt.UTC)

Row = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """Rows for one of the tables, for the Writer and for SQL."""

    dsn: str
    table: str
    rows: list[Row]
    values: list[tuple[Any, ...]]


def main() -> None:
    arguments = _arguments()
    folder = Path(tempfile.mkdtemp(prefix="howdah-bench-"))
    folder.chmod(0o755)  # the server may run as another user
    try:
        running = server.start(folder / "server" / "cluster")
        try:
            _measure(running, arguments.rows, arguments.threads, arguments.rounds)
        finally:
            server.stop(running.data_dir)
    finally:
        shutil.rmtree(folder)


def _measure(running: server.Running, count: int, threads: int, rounds: int) -> None:
    print(f"PostgreSQL {running.version}, {count:,} rows, {threads} threads, {rounds} rounds")
    for table in TABLES:
        print(f"\n{table}")
        _compare(_case(running.conninfo(), table, count), threads, rounds)


def _case(dsn: str, table: str, count: int) -> Case:
    rows = [_row(number) for number in range(count)]
    if table == TYPED:
        return Case(dsn, table, rows, [(*list(r.values())[:-1], Jsonb(r["data"])) for r in rows])
    rows = [row["data"] | {"customer": row["customer"], "kind": row["kind"]} for row in rows]
    return Case(dsn, table, rows, [("app", n, Jsonb(row)) for n, row in enumerate(rows)])


def _row(number: int) -> Row:
    return {
        "customer": number,
        "kind": "page viewed",
        "amount": Decimal(number) / 100,
        "at": NOW,
        "data": {"path": f"/shop/{number}", "referrer": "https://example.com/", "ms": number % 97},
    }


def _compare(case: Case, threads: int, rounds: int) -> None:
    sides: dict[str, Callable[[], float]] = {
        BASE: lambda: _inserts(case, 1),
        f"INSERT, autocommit, {threads} connections": lambda: _inserts(case, threads),
        "executemany, one transaction": lambda: _executemany(case),
        "COPY, one transaction": lambda: _copy(case),
        f"Writer, {threads} threads": lambda: _writer(case, threads),
        f"Writer, {threads} threads, request by request": lambda: _requests(case, threads),
        "AsyncWriter, a task for each row": lambda: _tasks(case),
    }
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    for _ in range(rounds):
        for side, run in sides.items():
            _clean(case)
            seconds[side].append(run())
            _check(case)
    count, base = len(case.rows), statistics.median(seconds[BASE])
    print(f"{'side':<42} {'median s':>9} {'rows/s':>9} {'times faster':>13}   all, s")
    for side, taken in seconds.items():
        median = statistics.median(taken)
        shown = " ".join(f"{one:.3f}" for one in taken)
        print(f"{side:<42} {median:9.3f} {count / median:9,.0f} {base / median:13.1f}   {shown}")
    _clean(case)
    print(f"post() itself, one thread: {_post_alone(case):.1f} microseconds")


def _inserts(case: Case, threads: int) -> float:
    connections = [psycopg.connect(case.dsn, autocommit=True) for _ in range(threads)]

    def work(number: int) -> None:
        for values in case.values[number::threads]:
            connections[number].execute(INSERT[case.table], values)

    try:
        return in_threads(threads, work)
    finally:
        for conn in connections:
            conn.close()


def _executemany(case: Case) -> float:
    with psycopg.connect(case.dsn) as conn, conn.cursor() as cursor:
        started = time.perf_counter()
        cursor.executemany(INSERT[case.table], case.values)
        conn.commit()
        return time.perf_counter() - started


def _copy(case: Case) -> float:
    with psycopg.connect(case.dsn) as conn, conn.cursor() as cursor:
        started = time.perf_counter()
        with cursor.copy(f"COPY events ({COLUMNS[case.table]}) FROM STDIN") as copy:
            for values in case.values:
                copy.write_row(values)
        conn.commit()
        return time.perf_counter() - started


def _writer(case: Case, threads: int) -> float:
    with howdah.Writer(case.dsn, "events") as writer:

        def work(number: int) -> None:
            for future in [writer.post(row) for row in case.rows[number::threads]]:
                future.result()

        return in_threads(threads, work)


def _requests(case: Case, threads: int) -> float:
    with howdah.Writer(case.dsn, "events") as writer:

        def work(number: int) -> None:
            for row in case.rows[number::threads]:
                writer.post(row).result()

        return in_threads(threads, work)


def _tasks(case: Case) -> float:
    async def run() -> float:
        async with howdah.AsyncWriter(case.dsn, "events") as writer:
            started = time.perf_counter()
            await asyncio.gather(*(writer.post(row) for row in case.rows))
            return time.perf_counter() - started

    return asyncio.run(run())


def _post_alone(case: Case) -> float:
    """Return what one call of post costs its thread, in microseconds of CPU; nothing is sent."""
    more = len(case.rows) + 1
    with howdah.Writer(
        case.dsn, "events", linger_s=60, batch_rows=more, max_pending=more
    ) as writer:
        started = time.thread_time()
        for row in case.rows:
            writer.post(row)
        return (time.thread_time() - started) / len(case.rows) * 1e6


def _clean(case: Case) -> None:
    with psycopg.connect(case.dsn, autocommit=True) as conn:
        for statement in ("DROP TABLE IF EXISTS events", TABLES[case.table], "CHECKPOINT"):
            conn.execute(statement)
    os.sync()


def _check(case: Case) -> None:
    query = f"SELECT count(*), count(DISTINCT {KEY[case.table]}) FROM events"
    with psycopg.connect(case.dsn) as conn:
        found = conn.execute(query).fetchone()
    if found != (len(case.rows), len(case.rows)):
        raise SystemExit(f"the table has (rows, customers) {found}, not {len(case.rows)} of each")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--threads", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    return parser.parse_args()


if __name__ == "__main__":
    main()
