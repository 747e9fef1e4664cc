"""Tasks for the pool of these tests, and what they leave behind."""

from __future__ import annotations

import os
import signal
import time

import psutil

from howdah.loading.forkjoin import fork

# Long enough for any machine: reached only where something hangs.
PATIENCE_S = 30


class Notes:
    """Lines that tasks leave behind, whatever becomes of their worker."""

    def __init__(self, path):
        self.path = path
        self.path.touch()

    def add(self, line):
        with self.path.open("a") as file:
            file.write(f"{line}\n")

    def lines(self):
        return self.path.read_text().split()

    def wait_for(self, count):
        wait_until(lambda: len(self.lines()) >= count)
        return self.lines()


def wait_until(true):
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)


def gone(pid):
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def square(number):
    return number * number


def pid(_=None):
    return os.getpid()


def nap(seconds, result=None):
    time.sleep(seconds)
    return result


def note_and_nap(notes, line, seconds):
    notes.add(line)
    time.sleep(seconds)
    return line


def note_pid_and_nap(notes, seconds):
    notes.add(os.getpid())
    time.sleep(seconds)


def fib(number):
    if number < 2:
        return number
    parts = [fork(fib, number - 1), fork(fib, number - 2)]
    return sum(part.join() for part in parts)


def die(signum=signal.SIGKILL):
    os.kill(os.getpid(), signum)


def die_on_first_run(notes, line, result):
    notes.add(line)
    if notes.lines().count(line) == 1:
        die()
    return result


def fail(message):
    raise ValueError(message)


def length(data):
    return len(data)


def join_anothers(handles):
    return handles[0].join()


kept = []


def all_workers(pool, notes, workers):
    """Return the workers' pids: one task for each, none of which ends before all have begun."""
    count = len(notes.lines()) + workers
    return {future.result() for future in [pool.submit(meet, notes, count) for _ in range(workers)]}


def meet(notes, count):
    notes.add("met")
    notes.wait_for(count)
    return os.getpid()


def running(schedule, seat):
    schedule.await_order(seat)
    order = schedule.next_order()
    return order and (order[0], order[1][-1])
