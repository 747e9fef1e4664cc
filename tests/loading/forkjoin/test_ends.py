"""The ends of a pool, and its rests."""

from __future__ import annotations

import threading
from concurrent.futures import CancelledError, ThreadPoolExecutor, wait

import pytest

from howdah.errors import UsageError
from howdah.loading.forkjoin import ForkedTask, ForkJoinPool, Unpicklable, emit, fork
from tests.loading.forkjoin.tasks import (
    PATIENCE_S,
    fail,
    gone,
    kept,
    meet,
    nap,
    note_and_nap,
    note_pid_and_nap,
    square,
    wait_until,
)


def fork_and_leave(notes):
    fork(note_and_nap, notes, "left", 0.3)
    return "parent done"


def fork_and_fail(notes):
    for number in range(20):
        fork(note_and_nap, notes, f"part{number}", 0.05)
    fail("after forking")


def fork_in_thread():
    with ThreadPoolExecutor(1) as threads:
        return threads.submit(fork, square, 2).exception()


def open_pool():
    ForkJoinPool(1)


def return_handle():
    return fork(square, 2)


def keep_handle():
    kept.append(fork(square, 2))


def join_kept():
    return kept[0].join()


def test_shutdown_finishes_what_was_submitted_and_takes_no_more(notes):
    pool = ForkJoinPool(2)
    futures = [pool.submit(note_and_nap, notes, str(n), 0.05) for n in range(10)]
    pool.shutdown()
    assert all(future.done() for future in futures)
    assert sorted(notes.lines(), key=int) == [str(n) for n in range(10)]
    with pytest.raises(UsageError, match="shut down"):
        pool.submit(square, 1)
    assert pool.shutdown_now() == 0


def test_shutdown_without_waiting_still_finishes(notes):
    pool = ForkJoinPool(1)
    future = pool.submit(nap, 0.3, "finished")
    pool.shutdown(wait=False)
    assert not future.done()
    assert future.result(PATIENCE_S) == "finished"
    pool.shutdown()


def test_shutdown_now_leaves_no_process_and_counts_the_rest(start, notes):
    pool = ForkJoinPool(2)
    running = [pool.submit(note_pid_and_nap, notes, 1000) for _ in range(2)]
    queued = [pool.submit(square, n) for n in range(5)]
    queued[0].cancel()
    pids = [int(line) for line in notes.wait_for(2)]
    assert pool.shutdown_now() == 6
    assert all(gone(worker) for worker in pids)
    assert all(future.cancelled() for future in queued)
    for future in running:
        with pytest.raises(CancelledError):
            future.result(0)
    assert wait(running + queued, PATIENCE_S).not_done == set()
    assert pool.is_quiescent()
    assert pool.active_count() == 0


def test_an_exception_in_the_block_kills_the_workers(notes):
    with pytest.raises(KeyboardInterrupt):
        interrupt_block(notes)
    assert gone(int(notes.lines()[0]))


def interrupt_block(notes):
    with ForkJoinPool(1) as pool:
        pool.submit(note_pid_and_nap, notes, 1000)
        notes.wait_for(1)
        raise KeyboardInterrupt


def test_shutdown_from_a_callback_does_not_wait_for_itself():
    pool = ForkJoinPool(1)
    pool.submit(square, 1).add_done_callback(lambda _: pool.shutdown())
    pool.await_quiescence(PATIENCE_S)
    pool.shutdown()
    pool = ForkJoinPool(1)
    pool.submit(square, 1).add_done_callback(lambda _: pool.shutdown_now())
    pool.shutdown()


def test_a_lost_pool_finishes_its_tasks():
    future = ForkJoinPool(1).submit(nap, 0.3, "finished")
    assert future.result(PATIENCE_S) == "finished"
    wait_until(lambda: not any(t.name.startswith("forkjoin") for t in threading.enumerate()))


def test_a_pool_is_quiescent_between_loads_and_takes_the_next():
    with ForkJoinPool(2) as pool:
        assert pool.is_quiescent()
        for _ in range(3):
            futures = [pool.submit(nap, 0.02) for _ in range(10)]
            assert not pool.is_quiescent()
            assert not pool.await_quiescence(0.01)
            assert pool.await_quiescence(PATIENCE_S)
            assert all(future.done() for future in futures)
            assert pool.is_quiescent()
            assert pool.active_count() == 0


def test_active_count_is_the_number_of_busy_workers(notes):
    with ForkJoinPool(3) as pool:
        futures = [pool.submit(meet, notes, 3) for _ in range(2)]
        notes.wait_for(2)
        assert pool.active_count() == 2
        notes.add("go")
        wait(futures)
        pool.await_quiescence()
        assert pool.active_count() == 0


def test_a_task_can_be_cancelled_until_a_worker_begins_it(notes):
    with ForkJoinPool(1) as pool:
        running = pool.submit(note_and_nap, notes, "running", 0.3)
        queued = pool.submit(note_and_nap, notes, "queued", 0)
        notes.wait_for(1)
        assert not running.cancel()
        assert queued.cancel()
        assert running.result() == "running"
        assert pool.await_quiescence(PATIENCE_S)
    assert wait([queued], PATIENCE_S).done == {queued}
    assert notes.lines() == ["running"]


# Forked tasks that nobody joins


def test_a_forked_task_that_nobody_joins_is_run_before_the_pool_is_quiescent(notes):
    with ForkJoinPool(1) as pool:
        assert pool.submit(fork_and_leave, notes).result() == "parent done"
        assert not pool.is_quiescent()
        assert pool.await_quiescence(PATIENCE_S)
        assert notes.lines() == ["left"]


def test_shutdown_waits_for_forked_tasks_that_nobody_joins(notes):
    with ForkJoinPool(2) as pool:
        pool.submit(fork_and_leave, notes)
    assert notes.lines() == ["left"]


def test_what_a_failed_task_has_forked_is_dropped(notes):
    with ForkJoinPool(1) as pool:
        with pytest.raises(ValueError, match="after forking"):
            pool.submit(fork_and_fail, notes).result()
        assert pool.await_quiescence(PATIENCE_S)
    assert notes.lines() == []


def test_a_forked_task_that_fails_unheard_is_logged(caplog):
    with ForkJoinPool(1) as pool:
        pool.submit(fork, fail, "unheard").exception()
        pool.await_quiescence(PATIENCE_S)
        pool.submit(keep_failing).result()
        pool.await_quiescence(PATIENCE_S)
    assert "forked task 'fail' failed, and nobody joined it" in caplog.text


def keep_failing():
    fork(fail, "unheard")


# Misuse


@pytest.mark.parametrize("call", [lambda: fork(square, 1), lambda: emit(1)])
def test_fork_and_emit_outside_a_task_are_refused(call):
    with pytest.raises(UsageError, match="only inside a task"):
        call()


def test_fork_in_another_thread_of_a_task_is_refused():
    with ForkJoinPool(1) as pool:
        assert isinstance(pool.submit(fork_in_thread).result(), UsageError)


def test_a_forked_task_can_be_joined_by_its_forker_alone():
    with ForkJoinPool(1) as pool:
        with pytest.raises(Unpicklable, match="only by the task that forked it"):
            pool.submit(return_handle).result()
        pool.submit(keep_handle).result()
        with pytest.raises(UsageError, match="only by the task that forked it"):
            pool.submit(join_kept).result()


def test_a_pool_inside_a_worker_is_refused():
    with ForkJoinPool(1) as pool, pytest.raises(UsageError, match="may not open a pool"):
        pool.submit(open_pool).result()


def test_an_unknown_handle_cannot_be_made_up():
    with pytest.raises(UsageError, match="only inside a task"):
        ForkedTask(0, None).join()
