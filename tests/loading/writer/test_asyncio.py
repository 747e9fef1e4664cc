"""AsyncWriter, and futures of threads in asyncio."""

from __future__ import annotations

import asyncio

import psycopg
import pytest

import howdah
from howdah.errors import Refused, UsageError
from tests.loading.writer.posting import in_threads


def test_tasks_post_and_wait_for_their_commit(dsn, ask, events):
    async def main():
        async with howdah.AsyncWriter(dsn, "events", max_pending=100, batch_rows=20) as writer:
            posts = [writer.post({"k": n if n != 7 else "x"}) for n in range(1000)]
            return await asyncio.gather(*posts, return_exceptions=True)

    outcomes = asyncio.run(main())

    assert [n for n, outcome in enumerate(outcomes) if outcome is not None] == [7]
    assert isinstance(outcomes[7], Refused)
    assert ask("SELECT count(DISTINCT k) FROM events") == [999]


def test_full_writer_does_not_hold_up_the_loop(dsn, ask, events):
    async def main():
        turns = 0
        async with howdah.AsyncWriter(dsn, "events", max_pending=2) as writer:
            with psycopg.connect(dsn) as slow:
                slow.execute("LOCK TABLE events IN SHARE MODE")
                tasks = [asyncio.create_task(writer.post({"k": n})) for n in range(10)]
                for _ in range(20):
                    await asyncio.sleep(0.005)
                    turns += 1
                assert not any(task.done() for task in tasks)
                tasks[1].cancel()  # posted: it takes nothing back
                tasks[9].cancel()  # waits for room: never posted
                flushing = asyncio.create_task(writer.flush())
                await asyncio.sleep(0.01)
                assert not flushing.done()
            await asyncio.gather(*tasks, flushing, return_exceptions=True)
            return turns, [task.cancelled() for task in tasks]

    turns, cancelled = asyncio.run(main())

    assert turns == 20
    assert cancelled == [n in {1, 9} for n in range(10)]
    assert ask("SELECT k FROM events ORDER BY k") == list(range(9))


def test_one_async_writer_serves_several_loops(dsn, ask, events):
    writer = howdah.AsyncWriter(dsn, "events")

    async def post(thread):
        await writer.open()
        await asyncio.gather(*(writer.post({"k": thread * 100 + n}) for n in range(100)))

    asyncio.run(post(0))
    in_threads(4, lambda thread: asyncio.run(post(thread + 1)))
    asyncio.run(writer.close())

    assert ask("SELECT count(*), count(DISTINCT k) FROM events") == [(500, 500)]


def test_async_writer_that_is_not_open_says_how_to_open_it(dsn):
    with pytest.raises(UsageError, match="async with"):
        asyncio.run(howdah.AsyncWriter(dsn, "events").post({"k": 1}))


def test_futures_of_threads_can_be_awaited(dsn, ask, events):
    async def main():
        await asyncio.wrap_future(writer.post({"k": 1}))
        with pytest.raises(Refused):
            await asyncio.wrap_future(writer.post({"k": "x"}))

    with howdah.Writer(dsn, "events") as writer:
        asyncio.run(main())

    assert ask("SELECT k FROM events") == [1]
