"""What crosses the pipes: exceptions, large values, events."""

from __future__ import annotations

import os
import pickle
import signal
import sys
import time

import pytest

from howdah.loading.forkjoin import ForkJoinPool, Unpicklable, emit, fork
from tests.loading.forkjoin.tasks import PATIENCE_S, fail, length, pid, square

BIG = 20_000_000


def catch_in_parent():
    try:
        fork(fail, "in the child").join()
    except ValueError as exc:
        return str(exc)


def run_elsewhere(notes, fn, *args):
    """Have the other worker steal a call, and join it."""
    child = fork(note_and_call, notes, fn, *args)
    notes.wait_for(1)
    return child.join()


def note_and_call(notes, fn, *args):
    notes.add("stolen")
    return fn(*args)


def fail_with(exc):
    raise exc


def fail_in_child():
    fork(fail, "in the child").join()


def leave():
    sys.exit(3)


def unpicklable(_=None):
    return lambda: None


def join_unpicklable():
    return fork(unpicklable).join()


def fork_lambda():
    fork(lambda: None)


def raise_needing_two():
    raise NeedsTwoError("one", "two")


class NeedsTwoError(Exception):
    """Can be pickled and not unpickled: its __init__ wants what its args do not hold."""

    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")


class Unwelcome:
    """Can be pickled and not unpickled."""

    def __reduce__(self):
        return fail, ("at unpickling",)


def unwelcome():
    return Unwelcome()


def echo(data):
    return data


def echo_forked(data):
    parts = [fork(echo, data) for _ in range(2)]
    return [part.join() for part in parts][1]


def emit_many(name, count):
    for number in range(count):
        emit((name, number))
    return name


def emit_unpicklable():
    emit(lambda: None)


def test_an_exception_brings_the_workers_traceback():
    with ForkJoinPool(1) as pool:
        future = pool.submit(fail_in_child)
        with pytest.raises(ValueError, match="in the child") as raised:
            future.result()
        assert "in fail_in_child" in str(raised.value.__cause__)
        assert "in fail\n" in str(raised.value.__cause__)
        assert pool.submit(catch_in_parent).result() == "in the child"


def test_a_stolen_childs_exception_is_raised_in_the_join(notes):
    with ForkJoinPool(2) as pool, pytest.raises(ValueError, match="far away"):
        pool.submit(run_elsewhere, notes, fail, "far away").result()


def test_sys_exit_ends_the_task_and_not_the_worker():
    with ForkJoinPool(1) as pool:
        before = pool.submit(pid).result()
        assert isinstance(pool.submit(leave).exception(), SystemExit)
        assert pool.submit(pid).result() == before


def test_arguments_that_cannot_be_pickled_are_refused_where_they_are_given():
    with ForkJoinPool(1) as pool:
        with pytest.raises((pickle.PicklingError, AttributeError), match="lambda"):
            pool.submit(lambda: None)
        with pytest.raises((pickle.PicklingError, AttributeError), match="lambda"):
            pool.submit(fork_lambda).result()
        assert pool.await_quiescence(PATIENCE_S)


def test_an_event_that_cannot_be_pickled_is_refused_in_its_task():
    refused = pytest.raises((pickle.PicklingError, AttributeError), match="lambda")
    with ForkJoinPool(1, on_event=print) as pool, refused:
        pool.submit(emit_unpicklable).result()


@pytest.mark.parametrize("call", [unpicklable, join_unpicklable])
def test_a_result_that_cannot_be_pickled_is_an_error_that_says_so(call):
    with ForkJoinPool(2) as pool:
        with pytest.raises(Unpicklable, match="result of unpicklable cannot be pickled"):
            pool.submit(call).result(PATIENCE_S)
        assert pool.submit(square, 2).result() == 4


def test_an_exception_that_cannot_be_unpickled_is_described():
    with ForkJoinPool(1) as pool:
        future = pool.submit(raise_needing_two)
        with pytest.raises(Unpicklable, match=r"NeedsTwoError.*one and two") as raised:
            future.result(PATIENCE_S)
        assert "in raise_needing_two" in str(raised.value.__cause__)
        assert isinstance(pool.submit(fail_with, ValueError(1)).exception(PATIENCE_S), ValueError)


def test_a_result_that_cannot_be_unpickled_is_an_error_that_says_so(notes):
    with ForkJoinPool(2) as pool:
        with pytest.raises(Unpicklable, match=r"cannot be unpickled.*at unpickling"):
            pool.submit(unwelcome).result(PATIENCE_S)
        with pytest.raises(Unpicklable, match="at unpickling"):
            pool.submit(run_elsewhere, notes, unwelcome).result(PATIENCE_S)


def test_20_megabytes_go_both_ways_at_once(start):
    data = os.urandom(BIG)
    with ForkJoinPool(2) as pool:
        futures = [pool.submit(echo, data) for _ in range(4)]
        assert pool.submit(length, data).result() == BIG
        assert all(future.result() == data for future in futures)


def test_20_megabytes_go_to_forked_tasks_and_back():
    data = os.urandom(BIG)
    with ForkJoinPool(2) as pool:
        assert pool.submit(echo_forked, data).result() == data


def test_20_megabytes_to_a_worker_that_was_killed_are_sent_again(notes):
    data = bytes(BIG)
    with ForkJoinPool(1) as pool:
        worker = pool.submit(pid).result()
        os.kill(worker, signal.SIGSTOP)
        future = pool.submit(length, data)
        time.sleep(0.3)
        os.kill(worker, signal.SIGKILL)
        assert future.result(PATIENCE_S) == BIG


# Events


def test_events_arrive_in_order_and_before_the_result():
    events = []
    with ForkJoinPool(2, on_event=events.append) as pool:
        for name in pool.map(emit_fifty, "abcdef", ordered=False):
            assert events.count((name, 49)) == 1
    for name in "abcdef":
        assert [n for who, n in events if who == name] == list(range(50))


def emit_fifty(name):
    return emit_many(name, 50)


def test_events_that_nobody_wants_are_dropped():
    with ForkJoinPool(1) as pool:
        assert pool.submit(emit_many, "a", 3).result() == "a"


def test_an_on_event_that_raises_is_logged_and_harms_no_task(caplog):
    def refuse(event):
        raise ValueError(f"no {event}")

    with ForkJoinPool(1, on_event=refuse) as pool:
        assert pool.submit(emit_many, "a", 2).result() == "a"
    assert caplog.text.count("on_event failed") == 2
