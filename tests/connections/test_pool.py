from __future__ import annotations

import asyncio
import os
import threading
import time
from contextlib import ExitStack

import psycopg
import psycopg_pool
import pytest

import howdah
from howdah.errors import Refused, UsageError
from tests.connections.conftest import until


@pytest.fixture
def pool(dsn):
    with howdah.Pool(dsn, size=4, name="web", timeout=10) as pool:
        yield pool


def test_it_takes_the_place_of_psycopg_pools(pool):
    assert isinstance(pool, psycopg_pool.ConnectionPool)
    with pool.connection() as conn:
        assert conn.execute("SELECT 1").fetchone() == (1,)
    conn = pool.getconn()
    pool.putconn(conn)
    assert pool.stats().in_use == 0


def test_it_opens_with_the_first_request(dsn):
    pool = howdah.Pool(dsn, size=1)
    try:
        with pool.connection() as conn:
            assert conn.execute("SELECT 1").fetchone() == (1,)
    finally:
        pool.close()


def test_so_many_at_once_or_none(pool):
    with pool.reserve(3, purpose="report") as conns:
        assert len({conn.info.backend_pid for conn in conns}) == 3
        with pytest.raises(howdah.PoolTimeout) as caught, pool.reserve(2, timeout=0.2):
            pass
        with pool.connection():  # the one that is left was not held by the request in vain
            pass
    text = str(caught.value)
    assert "pool 'web': 3 of its 4 are in use" in text
    assert "(report)" in text
    assert "test_pool.py:" in text
    assert isinstance(caught.value, psycopg.OperationalError)


def test_small_requests_do_not_overtake_a_large_one(pool):
    order = []

    def ask(count):
        with pool.reserve(count):
            order.append(count)

    threads = []
    with pool.reserve(3):
        for waiting, count in enumerate([4, 1, 1], 1):
            threads.append(threading.Thread(target=ask, args=(count,)))
            threads[-1].start()
            until(lambda waiting=waiting: pool.stats().waiting == waiting)
        assert order == []
    for thread in threads:
        thread.join(10)
    assert order == [4, 1, 1]


def test_each_of_the_reserved_is_committed_or_rolled_back(pool, ask):
    ask("CREATE TABLE t (x int)")
    with pool.reserve(2) as conns:
        for conn in conns:
            conn.execute("INSERT INTO t VALUES (1)")
    with pytest.raises(psycopg.errors.DivisionByZero), pool.reserve(2) as conns:
        conns[0].execute("INSERT INTO t VALUES (2); SELECT 1 / 0")
    assert ask("SELECT x FROM t") == [1, 1]


def test_more_than_the_pool_is_refused(pool):
    with pytest.raises(Refused, match="5 connections never come from the pool 'web' of 4"):
        pool.reserve(5).__enter__()


def test_dead_connections_are_not_handed_out(pool, ask):
    with pool.reserve(4) as conns:
        pids = [conn.info.backend_pid for conn in conns]
    for pid in pids:
        ask("SELECT pg_terminate_backend(%s, 10000)", pid)  # and wait until it has ended
    for _ in range(4):
        with pool.connection() as conn:
            assert conn.execute("SELECT 1").fetchone() == (1,)
    assert pool.stats().lost == 4


def test_forgotten_connections_come_back_with_a_warning(pool, caplog):
    for _ in range(4):
        pool.getconn()
    with pool.reserve(4):
        pass
    assert pool.stats().leaked == 4
    assert "was never given back" in caplog.text
    assert "test_pool.py:" in caplog.text


def test_why_it_cannot_connect_is_told():
    with (
        howdah.Pool("host=127.0.0.1 port=1 password=s3cret", size=1, name="web") as pool,
        pytest.raises(
            howdah.PoolTimeout, match=r"could not connect in 0\.5 s: connection"
        ) as caught,
        pool.connection(timeout=0.5),
    ):
        pass
    assert "s3cret" not in str(caught.value)


def test_a_pool_in_a_budget_holds_its_slots_while_it_is_open(budget, dsn, backends):
    with howdah.Pool(dsn, size=40, budget=budget, name="web") as pool:
        assert budget.use().held == 40
        with pool.reserve(5):
            assert budget.use().holders[0].backends == 5
        second = howdah.Pool(dsn, size=30, budget=budget)
        with pytest.raises(howdah.BudgetTimeout, match=r"40 by process .* \(web\)"):
            second.open(timeout=0.2)
        with pytest.raises(Refused, match="keeps its size"):
            pool.resize(1, 50)
    assert (budget.use().held, backends()) == (0, 0)


def test_a_pool_under_a_reservation_stays_within_it(budget, dsn):
    with budget.reserve(3) as reservation:
        with howdah.Pool(dsn, reservation=reservation) as pool, pool.reserve(3):
            assert pool.max_size == 3
        with pytest.raises(Refused, match="does not fit in a reservation of 3"):
            howdah.Pool(dsn, size=4, reservation=reservation)


def test_replaced_connections_never_exceed_the_reservation(budget, dsn, backends):
    seen, over = [0], threading.Event()

    def count():
        while not over.is_set():
            seen[0] = max(seen[0], backends())

    counting = threading.Thread(target=count)
    counting.start()
    with howdah.Pool(dsn, size=2, budget=budget, kwargs={"application_name": "job"}) as pool:
        for _ in range(20):
            with pool.reserve(2) as conns:
                for conn in conns:
                    conn.close()
    over.set()
    counting.join()
    assert 1 <= seen[0] <= 2


def test_the_size_may_come_from_the_environment(dsn, monkeypatch):
    monkeypatch.setenv("HOWDAH_POOL_SIZE", "7")
    assert howdah.Pool(dsn).stats().size == 7
    monkeypatch.setenv("HOWDAH_POOL_SIZE", "many")
    with pytest.raises(UsageError, match="not a number"):
        howdah.Pool(dsn)


def test_a_pool_without_a_size_takes_its_share_of_the_servers_slots(dsn, monkeypatch):
    monkeypatch.setenv("HOWDAH_NODES", "12")
    monkeypatch.setenv("WEB_CONCURRENCY", "3")
    with psycopg.connect(dsn) as conn:
        limit = int(conn.execute("SHOW max_connections").fetchone()[0])
    with howdah.Pool(dsn) as pool:
        with pool.connection():
            pass
        stats = pool.stats()
        assert stats.size == pool.max_size == (limit - 3 - 5) // 36
        assert stats.size_from.endswith("divided by 12 nodes x 3 processes, 10 at most")
        with pytest.raises(Refused), pool.reserve(stats.size + 1):
            pass
    with howdah.Pool(dsn, size=howdah.Share(threads=4)) as pool:
        assert pool.stats().size == 4  # more would be of no use


def test_a_share_is_of_the_least_limit_that_binds_the_role(dsn, ask, server):
    role = f"share_{os.getpid()}"
    ask(f"CREATE ROLE {role} LOGIN PASSWORD 'x' CONNECTION LIMIT 17")
    plain = psycopg.conninfo.make_conninfo(
        dsn, host="127.0.0.1", port=server.port, user=role, password="x"
    )
    try:
        pools = [howdah.Pool(plain, size=howdah.Share(2, 2)) for _ in range(4)]
        with ExitStack() as stack:
            for pool in pools:
                stack.enter_context(pool)
            for pool in pools:  # all that they have, together
                stack.enter_context(pool.reserve(pool.stats().size))
            assert [pool.stats().connections for pool in pools] == [3] * 4
            database = psycopg.conninfo.conninfo_to_dict(dsn)["dbname"]
            ask(f"ALTER DATABASE {database} CONNECTION LIMIT 14")
            with howdah.Pool(plain, size=howdah.Share(3, 1)) as one:
                assert one.stats().size == 3
    finally:
        ask(f"DROP ROLE {role}")


def test_a_share_under_a_budget_is_of_the_budget(budget, dsn):
    with howdah.Pool(dsn, size=howdah.Share(8, 1, threads=20), budget=budget) as pool:
        assert (pool.stats().size, budget.use().held) == (7, 7)
        assert "60 slots in the budget 'etl'" in pool.stats().size_from


def test_more_pools_than_slots_have_one_each_and_a_warning(dsn, caplog):
    with howdah.Pool(dsn, size=howdah.Share(500, 4)) as pool:
        assert pool.stats().size == 1
    assert "a pooler is due" in caplog.text


def test_a_share_of_a_server_that_is_not_there_is_an_error_that_says_why():
    pool = howdah.Pool("host=127.0.0.1 port=1", timeout=0.5)
    with pytest.raises(howdah.PoolTimeout, match="could not connect"), pool.connection():
        pass


def test_a_forked_process_is_told_to_open_its_own(pool):
    with pool.connection():
        pass
    pid = os.fork()
    if pid == 0:
        try:
            pool.getconn()
        except UsageError:
            os._exit(7)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7


def test_tasks_have_the_same(dsn, budget):
    async def main():
        async with (
            howdah.AsyncPool(dsn, size=howdah.Share(10, 2)) as pool,
            pool.reserve(4, timeout=10) as conns,
        ):
            assert (len(conns), pool.stats().size) == (4, 4)
        async with howdah.AsyncPool(dsn, size=4, budget=budget, name="tasks") as pool:
            async with pool.connection() as conn:
                assert await (await conn.execute("SELECT 1")).fetchone() == (1,)
            async with pool.reserve(3, purpose="report") as conns:
                assert len(conns) == 3
                assert (await asyncio.to_thread(budget.use)).held == 4
                with pytest.raises(howdah.PoolTimeout, match="3 of its 4 are in use"):
                    async with pool.reserve(2, timeout=0.2):
                        pass
                waiting = asyncio.create_task(pool.getconn())
                second = asyncio.create_task(pool.getconn())
                await asyncio.sleep(0.2)
                second.cancel()
                await pool.putconn(await waiting)
            started = time.monotonic()
            async with pool.reserve(4):
                assert time.monotonic() - started < 10
            assert pool.stats().in_use == 0

    asyncio.run(main())
    assert budget.use().held == 0
