"""The process around the pool: its threads, its signals, its end."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest

from howdah.loading.forkjoin import ForkJoinPool
from tests.loading.forkjoin.tasks import (
    PATIENCE_S,
    all_workers,
    gone,
    note_pid_and_nap,
    pid,
    wait_until,
)


def run_script(tmp_path, source, **options):
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(source))
    return subprocess.Popen(
        [sys.executable, "-W", "error", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


SLEEPERS = """
    import os, sys, threading, time
    from howdah.loading.forkjoin import ForkJoinPool

    def sleep(_):
        os.write(1, f"{os.getpid()}\\n".encode())
        time.sleep(1000)

    def count(_):
        os.write(1, f"{os.getpid()}\\n".encode())
        sum(range(10**12))   # C code that never lets go of the GIL

    if __name__ == "__main__":
        if THREADED:
            threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()
        with ForkJoinPool(3) as pool:
            pool.submit(sleep, 0)
            pool.submit(count, 0)
            LAST
"""


@pytest.mark.parametrize("threaded", [True, False])
def test_workers_die_with_a_killed_parent_even_in_mid_task(tmp_path, threaded):
    source = SLEEPERS.replace("THREADED", str(threaded)).replace(
        "LAST", "pool.submit(os.getpid).result(); time.sleep(1000)"
    )
    with run_script(tmp_path, source) as script:
        pids = [int(script.stdout.readline()) for _ in range(2)]
        pids += [child.pid for child in psutil.Process(script.pid).children(recursive=True)]
        script.kill()
        try:
            wait_until(lambda: all(gone(worker) for worker in pids))
        finally:
            for worker in itertools.filterfalse(gone, pids):
                os.kill(worker, signal.SIGKILL)


def test_ctrl_c_ends_the_script_and_its_workers(tmp_path):
    source = SLEEPERS.replace("THREADED", "False").replace("LAST", "pass")
    with run_script(tmp_path, source, start_new_session=True) as script:
        pids = [int(script.stdout.readline()) for _ in range(2)]
        os.killpg(script.pid, signal.SIGINT)
        _, errors = script.communicate(timeout=PATIENCE_S)
        assert errors.count("Traceback") <= 2  # the script's own, not one of each worker
        assert "KeyboardInterrupt" in errors
        assert all(gone(worker) for worker in pids)


def test_a_worker_ignores_ctrl_c(notes):
    with ForkJoinPool(1) as pool:
        future = pool.submit(note_pid_and_nap, notes, 0.3)
        worker = int(notes.wait_for(1)[0])
        os.kill(worker, signal.SIGINT)
        assert future.result(PATIENCE_S) is None
        assert pool.submit(pid).result() == worker


@pytest.mark.parametrize("threaded", [True, False])
def test_a_script_that_forgets_its_pool_ends_all_the_same(tmp_path, threaded):
    source = (
        SLEEPERS.replace("THREADED", str(threaded))
        .replace("with ForkJoinPool(3) as pool:", "pool = ForkJoinPool(3)\n        if True:")
        .replace("LAST", "")
    )
    with run_script(tmp_path, source + "        time.sleep(0.5)\n") as script:
        output, errors = script.communicate(timeout=PATIENCE_S)
    assert (script.returncode, errors) == (0, "")
    assert all(gone(int(line)) for line in output.split())


def test_a_script_without_a_guard_does_not_run_twice_when_a_worker_dies(tmp_path):
    source = """
        import os, signal
        from howdah.loading.forkjoin import ForkJoinPool, PoolBroken

        def die():
            os.kill(os.getpid(), signal.SIGKILL)

        os.write(1, b"main\\n")
        with ForkJoinPool(1) as pool:
            try:
                pool.submit(die).result()
            except PoolBroken as exc:
                os.write(1, str(exc).encode())
    """
    with run_script(tmp_path, source) as script:
        output, _ = script.communicate(timeout=PATIENCE_S)
    first, _, second = output.partition("The pool is broken")
    assert "__name__" in second
    # Each worker imports the script, as far as the line that opens the pool.
    assert set(first.split()) == {"main"}


def test_functions_of_the_main_script_survive_a_replaced_worker(tmp_path):
    source = """
        import os, signal
        from howdah.loading.forkjoin import ForkJoinPool, WorkerDied, fork

        def die():
            os.kill(os.getpid(), signal.SIGKILL)

        def double(number):
            return number * 2

        def total(numbers):
            return sum(part.join() for part in [fork(double, n) for n in numbers])

        if __name__ == "__main__":
            with ForkJoinPool(1) as pool:
                print(type(pool.submit(die).exception()).__name__)
                print(pool.submit(total, [1, 2, 3]).result())
    """
    with run_script(tmp_path, source) as script:
        output, errors = script.communicate(timeout=PATIENCE_S)
    assert (output.split(), script.returncode) == (["WorkerDied", "12"], 0), errors


def test_a_process_with_threads_is_never_forked():
    done = threading.Event()
    with ThreadPoolExecutor(1) as threads:
        threads.submit(done.wait)
        with ForkJoinPool(2) as pool:
            parents = {f.result() for f in [pool.submit(parent_pid, 0.1) for _ in range(2)]}
        done.set()
    assert os.getpid() not in parents


def test_a_process_with_one_thread_is_forked_also_after_a_pool(tmp_path):
    source = """
        import os
        from howdah.loading.forkjoin import ForkJoinPool

        if __name__ == "__main__":
            for _ in range(10):
                with ForkJoinPool(2) as pool:
                    assert pool.submit(os.getppid).result() == os.getpid()
    """
    with run_script(tmp_path, source) as script:
        _, errors = script.communicate(timeout=PATIENCE_S)
    assert (script.returncode, errors) == (0, "")


def parent_pid(seconds):
    time.sleep(seconds)
    return os.getppid()


def may_use(_=None):
    return frozenset(os.sched_getaffinity(0))


@pytest.fixture
def two_cpus():
    """Let this process use two CPUs, or the one that it may."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(before)[:2])
    yield os.sched_getaffinity(0)
    os.sched_setaffinity(0, before)


@pytest.mark.usefixtures("start")
def test_each_worker_and_its_successor_stay_on_a_cpu_of_their_own(two_cpus, notes):
    def bound(pool):
        pids = all_workers(pool, notes, len(two_cpus))
        return {one: os.sched_getaffinity(one) for one in pids}

    with ForkJoinPool(len(two_cpus), one_cpu_each=True) as pool:
        before = bound(pool)
        for one in before:
            os.kill(one, signal.SIGKILL)
        wait_until(lambda: all(map(gone, before)))
        after = bound(pool)
    of_their_own = [{cpu} for cpu in sorted(two_cpus)]
    assert sorted(before.values(), key=min) == of_their_own
    assert sorted(after.values(), key=min) == of_their_own
    assert before.keys().isdisjoint(after)
    assert os.sched_getaffinity(0) == two_cpus, "the pool's own process stays free"


@pytest.mark.parametrize("asked", [False, True])
def test_workers_that_are_not_as_many_as_cpus_may_use_all(asked, two_cpus):
    workers = len(two_cpus) + asked  # not asked for, there may be as many
    with ForkJoinPool(workers, one_cpu_each=asked) as pool:
        assert pool.submit(may_use).result() >= two_cpus
