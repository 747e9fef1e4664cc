"""map: in order or as they are done, a window ahead."""

from __future__ import annotations

import functools
import itertools
import time

import pytest

from howdah.errors import UsageError
from howdah.loading.forkjoin import ForkJoinPool
from tests.loading.forkjoin.tasks import PATIENCE_S, fail, note_and_nap, square


def test_map_takes_from_an_endless_iterable_only_a_window_ahead():
    taken = []
    numbers = (taken.append(n) or n for n in itertools.count())
    with ForkJoinPool(2) as pool:
        results = pool.map(square, numbers)
        assert taken == []
        assert [next(results) for _ in range(100)] == [n * n for n in range(100)]
        assert len(taken) <= 100 + 8
        results.close()
        assert pool.await_quiescence(PATIENCE_S)


def test_map_takes_a_window_from_its_caller():
    taken = []
    with ForkJoinPool(2) as pool:
        results = pool.map(square, (taken.append(n) or n for n in range(100)), window=3)
        next(results)
        assert len(taken) == 3
        assert sum(results) == sum(n * n for n in range(100))
        with pytest.raises(UsageError, match="at least 1, not 0"):
            pool.map(square, [], window=0)


def test_map_unordered_yields_what_is_done_first():
    with ForkJoinPool(2) as pool:
        assert [*pool.map(nap_and_return, [0.6, 0.01, 0.01, 0.01], ordered=False)] == [
            0.01,
            0.01,
            0.01,
            0.6,
        ]
        assert [*pool.map(nap_and_return, [0.2, 0.01])] == [0.2, 0.01]


def nap_and_return(seconds):
    time.sleep(seconds)
    return seconds


@pytest.mark.parametrize("ordered", [True, False])
def test_map_raises_what_a_task_raises_and_cancels_those_ahead(ordered):
    with ForkJoinPool(1) as pool:
        results = pool.map(square_or_fail, itertools.count(), ordered=ordered)
        with pytest.raises(ValueError, match="seven"):
            sum(results)
        assert pool.await_quiescence(PATIENCE_S)


def test_map_that_is_left_cancels_those_ahead(notes):
    with ForkJoinPool(1) as pool:
        results = pool.map(functools.partial(note_and_nap, notes, seconds=0.1), itertools.count())
        next(results)
        results.close()
        assert pool.await_quiescence(PATIENCE_S)
    assert len(notes.lines()) <= 3


def square_or_fail(number):
    if number == 7:
        fail("seven")
    time.sleep(0.005)
    return number * number
