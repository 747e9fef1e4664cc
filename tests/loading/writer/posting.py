"""What the tests of Writer share."""

from __future__ import annotations

import concurrent.futures
import time

import psycopg

EVENTS = """
    CREATE TABLE events (
        id    bigint  GENERATED ALWAYS AS IDENTITY,
        k     integer,
        kind  text    NOT NULL DEFAULT 'seen',
        twice integer GENERATED ALWAYS AS (k * 2) STORED,
        data  jsonb
    )
"""


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


def as_role(dsn, role) -> str:
    return psycopg.conninfo.make_conninfo(dsn, options=f"-c role={role}")
