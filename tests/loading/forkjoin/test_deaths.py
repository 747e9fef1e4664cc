"""Workers that are killed: each task runs once more, and then fails."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from howdah.loading.forkjoin import ForkJoinPool, PoolBroken, WorkerDied, emit, fork
from tests.loading.forkjoin.tasks import (
    PATIENCE_S,
    all_workers,
    die,
    die_on_first_run,
    fail,
    gone,
    note_and_nap,
    note_pid_and_nap,
    square,
    wait_until,
)


def exit_hard(code):
    os._exit(code)


def fork_and_die(fn, *args):
    return fork(fn, *args).join()


def die_after_joins(notes):
    """Join half of the children, then lose the worker, the first time."""
    notes.add("parent")
    children = [fork(note_and_nap, notes, f"child{number}", 0.01) for number in range(6)]
    results = [child.join() for child in children[:3]]
    if notes.lines().count("parent") == 1:
        die()
    return results + [child.join() for child in children[3:]]


def join_stolen_that_dies_once(notes):
    notes.add("parent")
    child = fork(die_on_first_run, notes, "child", 7)
    wait_until(lambda: "child" in notes.lines())
    return child.join()


@pytest.mark.parametrize("start", ["forked"], indirect=True)
def test_a_task_whose_worker_is_killed_runs_once_more(start, notes):
    with ForkJoinPool(2) as pool:
        future = pool.submit(note_pid_and_nap, notes, 0.5)
        others = [pool.submit(square, number) for number in range(50)]
        os.kill(int(notes.wait_for(1)[0]), signal.SIGKILL)
        assert future.result() is None
        assert [other.result() for other in others] == [n * n for n in range(50)]
        first, second = notes.lines()
        assert first != second


def test_a_task_that_kills_its_worker_fails_and_the_others_succeed(start):
    with ForkJoinPool(2) as pool:
        before = [pool.submit(square, number) for number in range(25)]
        poison = pool.submit(die)
        after = [pool.submit(square, number) for number in range(25)]
        with pytest.raises(WorkerDied, match=r"'die' lost its worker 2 times.*killed by SIGKILL"):
            poison.result()
        assert [f.result() for f in before + after] == [n * n for n in range(25)] * 2


def test_a_worker_that_exits_is_reported_with_its_exit_code():
    with ForkJoinPool(1) as pool:
        with pytest.raises(WorkerDied, match="ended with exit code 5"):
            pool.submit(exit_hard, 5).result()
        with pytest.raises(WorkerDied, match="was killed by SIGSEGV"):
            pool.submit(die, signal.SIGSEGV).result()


def test_a_death_under_a_parent_names_the_child_that_ran():
    with ForkJoinPool(1) as pool, pytest.raises(WorkerDied, match=r"'fork_and_die'.* in 'die'"):
        pool.submit(fork_and_die, die).result()


def test_a_parent_that_dies_after_joins_is_run_again_as_a_whole(notes):
    with ForkJoinPool(2) as pool:
        assert pool.submit(die_after_joins, notes).result() == [f"child{n}" for n in range(6)]
        assert pool.await_quiescence(PATIENCE_S)
    assert notes.lines().count("parent") == 2
    assert all(notes.lines().count(f"child{n}") == 2 for n in range(3))


def test_a_stolen_child_that_dies_is_run_again_without_its_parent(notes):
    with ForkJoinPool(2) as pool:
        assert pool.submit(join_stolen_that_dies_once, notes).result() == 7
    assert sorted(notes.lines()) == ["child", "child", "parent"]


def test_a_stolen_child_that_always_dies_fails_in_its_parents_join():
    with ForkJoinPool(2) as pool, pytest.raises(WorkerDied, match=r"'die'|'fork_and_die'"):
        pool.submit(fork_and_die, die).result()


def test_workers_killed_while_idle_are_replaced(notes):
    with ForkJoinPool(2) as pool:
        for _ in range(3):
            pids = all_workers(pool, notes, 2)
            for worker in pids:
                os.kill(worker, signal.SIGKILL)
            wait_until(lambda pids=pids: all(gone(worker) for worker in pids))
        assert pool.submit(square, 3).result() == 9


def test_random_kills_lose_no_task_but_those_hit_twice(notes):
    with ForkJoinPool(2) as pool:
        futures = [pool.submit(tree_noting, notes, 3) for _ in range(8)]
        for _ in range(4):
            time.sleep(0.15)
            wait_until(lambda: notes.lines() and not gone(int(notes.lines()[-1])))
            os.kill(int(notes.lines()[-1]), signal.SIGKILL)
        outcomes = [future.exception(PATIENCE_S) or future.result() for future in futures]
        assert pool.await_quiescence(PATIENCE_S)
    assert all(outcome == 8 or isinstance(outcome, WorkerDied) for outcome in outcomes)
    assert outcomes.count(8) >= 6


def tree_noting(notes, depth):
    notes.add(os.getpid())
    if depth == 0:
        time.sleep(0.02)
        return 1
    halves = [fork(tree_noting, notes, depth - 1) for _ in range(2)]
    return sum(half.join() for half in halves)


def test_a_result_that_was_sent_before_the_death_counts(notes):
    def dawdle(event):
        time.sleep(0.5)  # meanwhile the worker sends the rest and dies

    with ForkJoinPool(1, on_event=dawdle) as pool:
        assert pool.submit(emit_and_die_after, notes).result() == "done"
        assert pool.await_quiescence(PATIENCE_S)
    assert notes.lines() == ["run"]


def emit_and_die_after(notes):
    notes.add("run")
    threading.Timer(0.2, exit_hard, [1]).start()
    emit("first")
    emit("second")
    return "done"


def test_an_initializer_that_raises_breaks_the_pool(start):
    with ForkJoinPool(2, initializer=fail, initargs=("no licence",)) as pool:
        future = pool.submit(square, 2)
        with pytest.raises(PoolBroken, match=r"initializer raised ValueError.*no licence"):
            future.result(PATIENCE_S)
        with pytest.raises(PoolBroken, match="no licence"):
            pool.submit(square, 2).result(PATIENCE_S)


def test_an_initializer_that_kills_the_worker_breaks_the_pool():
    with ForkJoinPool(2, initializer=exit_hard, initargs=(4,)) as pool:
        future = pool.submit(square, 2)
        with pytest.raises(PoolBroken, match="cannot start: the last one ended with exit code 4"):
            future.result(PATIENCE_S)


def test_workers_killed_before_they_are_ready_are_replaced_as_well(notes):
    slow_start = {"initializer": note_pid_and_nap, "initargs": (notes, 0.5)}
    with ForkJoinPool(1, **slow_start) as pool:
        future = pool.submit(square, 3)
        for count in range(1, 4):
            os.kill(int(notes.wait_for(count)[-1]), signal.SIGKILL)
        assert future.result(PATIENCE_S) == 9
        assert len(notes.lines()) == 4
