"""What tasks return, from many threads, over many workers."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from howdah.errors import UsageError
from howdah.loading import forkjoin
from howdah.loading.forkjoin import ForkJoinPool
from tests.loading.forkjoin.tasks import all_workers, fib, kept, nap, square


def remember(value):
    kept.append(value)


def remembered():
    return kept[-1]


def test_the_public_names_are_these():
    assert sorted(forkjoin.__all__) == [
        "ForkJoinPool",
        "ForkedTask",
        "PoolBroken",
        "TaskTimedOut",
        "Unpicklable",
        "WorkerDied",
        "emit",
        "fork",
    ]
    assert all(hasattr(forkjoin, name) for name in forkjoin.__all__)


def test_submitted_calls_return_their_results(start):
    with ForkJoinPool(2) as pool:
        futures = [pool.submit(square, number) for number in range(100)]
        assert [future.result() for future in futures] == [n * n for n in range(100)]
        assert pool.submit(nap, 0, result="by keyword").result() == "by keyword"


def test_every_worker_is_a_process_of_its_own(notes):
    with ForkJoinPool(3) as pool:
        pids = all_workers(pool, notes, 3)
    assert len(pids) == 3
    assert os.getpid() not in pids


def test_one_worker_is_enough_to_fork_and_join():
    with ForkJoinPool(1) as pool:
        assert pool.submit(fib, 8).result() == 21


def test_a_pool_without_workers_is_refused():
    with pytest.raises(UsageError, match="at least one worker, not 0"):
        ForkJoinPool(0)


def test_calls_from_many_threads_each_get_their_own_result():
    with ForkJoinPool(2) as pool, ThreadPoolExecutor(8) as threads:
        submitted = threads.map(
            lambda base: [pool.submit(square, base + n) for n in range(100)], range(0, 8000, 1000)
        )
        results = [[future.result() for future in futures] for futures in submitted]
    assert results == [[(base + n) ** 2 for n in range(100)] for base in range(0, 8000, 1000)]


def test_an_initializer_runs_in_each_worker_before_its_first_task(start):
    with ForkJoinPool(2, initializer=remember, initargs=("prepared",)) as pool:
        assert set(pool.map(call_remembered, range(20))) == {"prepared"}


def call_remembered(_):
    return remembered()
