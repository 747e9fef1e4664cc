"""Pools side by side: how fast, and what each does when something is wrong.

    python bench/pools.py [--requests 4000] [--rounds 5]

howdah.Pool and AsyncPool, psycopg_pool (with and without its check), SQLAlchemy's
QueuePool with psycopg (with and without pre-ping), asyncpg's, and Django's, in one run
on a server of its own. Speed: one thread or task takes a connection, does SELECT 1, gives
it back; figures are ratios of medians to psycopg_pool without a check. Faults, each with
a pool of two: both idle connections are dead; the pool is empty (a wait of one second);
two connections are taken and forgotten. Each fault meets a fresh pool.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import shutil
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import psycopg
import psycopg_pool
import sqlalchemy
from django.conf import settings

import django
import howdah
from howdah import server

KILL = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
     WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'
"""


@dataclass
class Side:
    """A pool: how it is opened, a connection taken, used, given back, the pool closed."""

    name: str
    open: Callable[[], Any]
    take: Callable[[Any], Any]
    use: Callable[[Any], Any]
    give: Callable[[Any, Any], Any]
    close: Callable[[Any], Any]


def psycopg_side(name: str, make: Callable[[], Any]) -> Side:
    return Side(
        name,
        make,
        lambda pool: pool.getconn(timeout=1),
        lambda conn: conn.execute("SELECT 1").fetchone(),
        lambda pool, conn: (conn.rollback(), pool.putconn(conn)),
        lambda pool: pool.close(),
    )


def alchemy_side(name: str, url: str, **options: Any) -> Side:
    return Side(
        name,
        lambda: sqlalchemy.create_engine(
            url, pool_size=2, max_overflow=0, pool_timeout=1, **options
        ),
        lambda engine: engine.raw_connection(),
        lambda conn: conn.cursor().execute("SELECT 1").fetchone(),
        lambda _, conn: conn.close(),
        lambda engine: engine.dispose(),
    )


def django_side(running: server.Running) -> Side:
    parts = psycopg.conninfo.conninfo_to_dict(running.conninfo())
    options = {"passfile": parts["passfile"]} if "passfile" in parts else {}
    settings.configure(
        DATABASES={
            "default": {
                "ENGINE": "django.db.backends.postgresql",
                "NAME": parts["dbname"],
                "USER": parts["user"],
                "HOST": parts["host"],
                "PORT": parts["port"],
                "CONN_HEALTH_CHECKS": True,
                "OPTIONS": options | {"pool": {"min_size": 1, "max_size": 2, "timeout": 1}},
            }
        }
    )
    django.setup()
    from django.db import connections

    def take(_: Any) -> Any:
        # What each thread has: a wrapper of its own over one pool.
        wrapper = connections.create_connection("default")
        wrapper.inc_thread_sharing()
        wrapper.ensure_connection()
        return wrapper

    def use(wrapper: Any) -> Any:
        with wrapper.cursor() as cursor:
            cursor.execute("SELECT 1")
            return cursor.fetchone()

    return Side(
        "Django (pool option, health checks)",
        lambda: connections["default"],
        take,
        use,
        lambda _, wrapper: wrapper.close(),
        lambda wrapper: wrapper.close_pool(),
    )


def async_sides(dsn: str, loop: asyncio.AbstractEventLoop) -> list[Side]:
    run = loop.run_until_complete
    parts = psycopg.conninfo.conninfo_to_dict(dsn)

    async def opened() -> Any:
        pool = howdah.AsyncPool(dsn, size=2, timeout=1)
        await pool.open()
        return pool

    async def use(conn: Any) -> Any:
        return await (await conn.execute("SELECT 1")).fetchone()

    async def give(pool: Any, conn: Any) -> None:
        await conn.rollback()
        await pool.putconn(conn)

    async def asyncpg_opened() -> Any:
        return await asyncpg.create_pool(
            host=parts["host"],
            port=int(parts["port"]),
            user=parts["user"],
            database=parts["dbname"],
            passfile=parts.get("passfile"),
            min_size=1,
            max_size=2,
        )

    async def asyncpg_give(pool: Any, conn: Any) -> None:
        await pool.release(conn)

    return [
        Side(
            "howdah.AsyncPool",
            lambda: run(opened()),
            lambda pool: run(pool.getconn()),
            lambda conn: run(use(conn)),
            lambda pool, conn: run(give(pool, conn)),
            lambda pool: run(pool.close()),
        ),
        Side(
            "asyncpg",
            lambda: run(asyncpg_opened()),
            lambda pool: run(pool.acquire(timeout=1)),
            lambda conn: run(conn.fetchval("SELECT 1")),
            lambda pool, conn: run(asyncpg_give(pool, conn)),
            lambda pool: pool.terminate(),
        ),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    folder = Path(tempfile.mkdtemp(prefix="howdah-bench-"))
    folder.chmod(0o755)  # the server may run as another user
    try:
        running = server.start(folder / "server" / "cluster")
        try:
            compare(running, options.requests, options.rounds)
        finally:
            server.stop(running.data_dir)
    finally:
        shutil.rmtree(folder)


def compare(running: server.Running, requests: int, rounds: int) -> None:
    dsn = running.conninfo()
    parts = psycopg.conninfo.conninfo_to_dict(dsn)
    query = {k: str(v) for k, v in parts.items() if k not in {"dbname", "user"}}
    url = sqlalchemy.URL.create(
        "postgresql+psycopg", username=parts["user"], database=parts["dbname"], query=query
    )
    check = psycopg_pool.ConnectionPool.check_connection

    def plain(**more: Any) -> Any:
        return psycopg_pool.ConnectionPool(
            dsn, min_size=1, max_size=2, timeout=1, open=True, **more
        )

    loop = asyncio.new_event_loop()
    base = psycopg_side("psycopg_pool", plain)
    sides = [
        base,
        psycopg_side("psycopg_pool, check", lambda: plain(check=check)),
        psycopg_side("howdah.Pool", lambda: howdah.Pool(dsn, size=2, timeout=1)),
        alchemy_side("SQLAlchemy", url),
        alchemy_side("SQLAlchemy, pool_pre_ping", url, pool_pre_ping=True),
        *async_sides(dsn, loop),
        django_side(running),
    ]
    seconds: dict[str, list[float]] = {side.name: [] for side in sides}
    pools = {side.name: side.open() for side in sides}
    for _ in range(rounds):
        for side in sides:
            pool = pools[side.name]
            started = time.perf_counter()
            for _ in range(requests):
                conn = side.take(pool)
                side.use(conn)
                side.give(pool, conn)
            seconds[side.name].append(time.perf_counter() - started)
    for side in sides:
        side.close(pools[side.name])
    floor = statistics.median(seconds[base.name])
    print("| pool | time | dead connections | no connection left | two forgotten |")
    print("| --- | ---: | --- | --- | --- |")
    for side in sides:
        cells = [f"{statistics.median(seconds[side.name]) / floor:.2f}"]
        cells += [tried(one, side, dsn) for one in (dead, empty, forgotten)]
        print(f"| {side.name} | {' | '.join(cells)} |", flush=True)


def tried(fault: Callable[..., str], side: Side, dsn: str) -> str:
    """Return what a pool does about a fault; each fault has a pool of its own."""
    pool = side.open()
    try:
        return fault(side, pool, dsn)
    except Exception as exc:  # noqa: BLE001  it is the result
        return f"{type(exc).__name__}"
    finally:
        with suppress(Exception):
            side.close(pool)


def dead(side: Side, pool: Any, dsn: str) -> str:
    conns = [side.take(pool) for _ in range(2)]
    for conn in conns:
        side.use(conn)
        side.give(pool, conn)
    del conns, conn
    with psycopg.connect(dsn, autocommit=True) as killer:
        killer.execute(KILL)
    time.sleep(0.2)
    errors, started = 0, time.perf_counter()
    for _ in range(6):
        try:
            conn = side.take(pool)
        except Exception:  # noqa: BLE001  counted
            errors += 1
            continue
        try:
            side.use(conn)
        except Exception:  # noqa: BLE001  counted
            errors += 1
        with suppress(Exception):
            side.give(pool, conn)
    return f"{errors} of 6 requests fail, {time.perf_counter() - started:.2f} s"


def empty(side: Side, pool: Any, _: str) -> str:
    conns = [side.take(pool) for _ in range(2)]
    try:
        side.take(pool)
    except Exception as exc:  # noqa: BLE001  it is the result
        text = " ".join(str(exc).split())
        return f"{type(exc).__name__}: {text[:160]}"
    finally:
        for conn in conns:
            side.give(pool, conn)
    return "one more was given"


def forgotten(side: Side, pool: Any, _: str) -> str:
    conns = [side.take(pool) for _ in range(2)]
    del conns
    gc.collect()
    conn = side.take(pool)
    side.give(pool, conn)
    return "come back"


if __name__ == "__main__":
    main()
