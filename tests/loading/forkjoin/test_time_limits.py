"""Tasks that take longer than they may."""

from __future__ import annotations

import time

import pytest

from howdah.errors import UsageError
from howdah.loading.forkjoin import ForkJoinPool, TaskTimedOut, fork
from tests.loading.forkjoin.tasks import (
    PATIENCE_S,
    die_on_first_run,
    nap,
    note_and_nap,
    note_pid_and_nap,
    square,
)


def wait_for_hanging_child(notes):
    child = fork(note_pid_and_nap, notes, 1000)
    notes.wait_for(1)
    child.join()


def test_a_task_over_its_time_is_killed_and_not_retried(start, notes):
    with ForkJoinPool(1) as pool:
        future = pool.submit(note_and_nap, notes, "slow", 1000, timeout_s=1.0)
        after = pool.submit(square, 4)
        with pytest.raises(TaskTimedOut, match=r"'note_and_nap' ran longer than 1\.0 s"):
            future.result(PATIENCE_S)
        assert after.result(PATIENCE_S) == 16
    assert notes.lines() == ["slow"]


def test_waiting_for_a_worker_does_not_count_as_time():
    with ForkJoinPool(1) as pool:
        first = pool.submit(nap, 1.0)
        second = pool.submit(nap, 0.01, "in time", timeout_s=0.9)
        assert second.result(PATIENCE_S) == "in time"
        assert first.done()


def test_a_limit_that_is_kept_does_no_harm():
    with ForkJoinPool(2) as pool:
        assert [pool.submit(square, n, timeout_s=1.0).result() for n in range(20)]
        time.sleep(1.2)
        assert pool.submit(square, 3).result() == 9


def test_the_stolen_child_of_a_task_over_its_time_is_killed_too(notes):
    with ForkJoinPool(2) as pool:
        future = pool.submit(wait_for_hanging_child, notes, timeout_s=1.5)
        with pytest.raises(TaskTimedOut):
            future.result(PATIENCE_S)
        assert pool.await_quiescence(PATIENCE_S)
        assert len(notes.lines()) == 1


def test_a_task_killed_for_anothers_time_may_still_lose_its_worker_once(notes):
    # One worker joins what the other runs, and helps it meanwhile: so the
    # child of `patient` is on the stack of `hurried` when that is killed.
    with ForkJoinPool(2) as pool:
        hurried = pool.submit(join_slow, notes, timeout_s=1.5)
        notes.wait_for(1)
        patient = pool.submit(fork_one_that_dies_once, notes)
        with pytest.raises(TaskTimedOut):
            hurried.result(PATIENCE_S)
        assert patient.result(PATIENCE_S) == 7


def join_slow(notes):
    child = fork(nap, 1000)
    notes.add("forked")
    child.join()


def fork_one_that_dies_once(notes):
    return fork(die_on_first_run, notes, "child", 7).join()


def test_a_time_limit_must_be_positive():
    with ForkJoinPool(1) as pool, pytest.raises(UsageError, match="positive, not 0"):
        pool.submit(square, 1, timeout_s=0)
