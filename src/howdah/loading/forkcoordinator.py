"""The pool's own thread: starts the workers, carries messages, buries the dead.

One thread waits on every worker's pipe and sentinel, and on a pipe of its own
through which other threads wake it. It alone touches the schedule; the others
leave their tasks in the inbox. It sends only what `next_order` tells it to, so
only to workers that receive, and it receives whenever a worker sends: it never
waits for one that waits for it.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import itertools
import logging
import os
import selectors
import threading
import time
import weakref
from collections import deque
from concurrent.futures import CancelledError, Future
from typing import TYPE_CHECKING, Any

from howdah.errors import HowdahError, UsageError
from howdah.loading.forkprocess import Worker, cpus, start_worker
from howdah.loading.forkschedule import PoolBroken, Schedule, Seat, Task
from howdah.loading.forkworker import decoded

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Coordinator"]

logger = logging.getLogger(__name__)

# How often, beyond once for each worker, starts may fail in a row before the
# start itself must be at fault, and not whatever kills processes here.
_FAILED_STARTS = 4

# What an idle worker may take to end by itself: its libraries' exit handlers,
# and threads that it should not have left behind.
_GRACE_S = 5.0

# From a closed pipe to an exit code: the kernel's work only.
_BURIAL_S = 1.0

_names = itertools.count(1)
_living: weakref.WeakSet[Coordinator] = weakref.WeakSet()


class Coordinator:
    """Runs submitted tasks on worker processes until it is told to end.

    Args:
        workers: Number of processes.
        initializer: What each calls first, from `encoded_call`; None for nothing.
        on_event: Called in the coordinator's thread with what tasks emit.
        one_cpu_each: As in `ForkJoinPool`.

    Attributes:
        name: Of its thread and processes, and in its log lines.
    """

    def __init__(
        self,
        workers: int,
        initializer: bytes | None,
        on_event: Callable[[Any], object] | None,
        *,
        one_cpu_each: bool = False,
    ) -> None:
        self.name = f"forkjoin-{next(_names)}"
        self._initializer = initializer
        self._on_event = on_event
        self._owner = os.getpid()
        self._schedule = Schedule(workers)
        may_use = cpus()
        self._cpus = may_use if one_cpu_each and len(may_use) == workers else None
        self._workers: dict[Seat, Worker] = {}
        self._failed_starts = 0
        self._changed = threading.Condition()
        self._inbox: deque[Task] = deque()
        self._futures: set[Future[Any]] = set()
        self._closing = self._killing = self._ended = False
        self._broken: PoolBroken | None = None
        self._cut_off = 0
        self._start_all()

    def submit(self, task: Task, future: Future[Any]) -> None:
        """Add a task; that of a broken pool fails at once."""
        with self._changed:
            if self._broken is not None:
                future.set_exception(self._broken)
                return
            if self._closing:
                raise UsageError(
                    "The pool is shut down and takes no more tasks.",
                    next_step="Open a new ForkJoinPool.",
                )
            self._futures.add(future)
            self._inbox.append(task)
            self._wake()
        future.add_done_callback(self._future_done)

    def quiescent(self) -> bool:
        """Tell whether no task is queued, running or held."""
        # In this order: what a submitted task leaves behind is counted before it is done.
        return not self._futures and not self._schedule.forks

    def active(self) -> int:
        """Return the number of workers with a task."""
        return sum(bool(seat.stack) for seat in self._schedule.seats)

    def await_quiescence(self, timeout_s: float | None) -> bool:
        """Wait until quiescent; return whether it is."""
        with self._changed:
            return self._changed.wait_for(self.quiescent, timeout_s)

    def close(self) -> None:
        """Take no more tasks, and end once the present ones are done."""
        if os.getpid() != self._owner:
            return  # a fork of the process has a copy of us, and not our thread
        with self._changed:
            self._closing = True
            self._wake()

    def kill(self) -> None:
        """Take no more tasks, and end now."""
        if os.getpid() != self._owner:
            return
        with self._changed:
            self._closing = self._killing = True
            self._wake()
        # From here: the thread may be in the middle of a message from one of them.
        for worker in list(self._workers.values()):
            worker.process.kill()

    def join(self) -> int:
        """Wait for the end; return how many tasks were cut off."""
        if threading.current_thread() is self._thread:
            return len(self._futures)  # called back by ourselves: the end comes after
        self._thread.join()
        return self._cut_off

    def _start_all(self) -> None:
        try:
            for seat in self._schedule.seats:
                self._start(seat)
        except BaseException:
            for worker in self._workers.values():
                worker.process.kill()
            raise
        # After the forks, so that no worker has copies; and the thread after
        # all, since a process with two threads can no longer be forked safely.
        self._selector = selectors.DefaultSelector()
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_write, False)
        self._selector.register(self._wake_read, selectors.EVENT_READ, self._awake)
        for worker in self._workers.values():
            self._watch(worker)
        self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)
        self._thread.start()
        _living.add(self)
        _kill_all_at_exit()

    def _start(self, seat: Seat) -> Worker:
        worker = self._workers[seat] = start_worker(
            seat,
            f"{self.name}-{seat.number}",
            self._initializer,
            wants_events=self._on_event is not None,
            cpu=self._cpus[seat.number] if self._cpus else None,
            others=[worker.connection for worker in self._workers.values()],
        )
        logger.debug("pool %r: worker %d started", self.name, worker.process.pid)
        return worker

    # The methods below run in the coordinator's thread alone.

    def _run(self) -> None:
        try:
            while not self._over():
                self._turn()
        except BaseException as exc:
            self._broken = PoolBroken(f"The pool {self.name!r} failed: {exc!r}.")
            raise
        finally:
            self._end()

    def _over(self) -> bool:
        done = self._closing and self.quiescent()
        return self._killing or done or self._broken is not None

    def _turn(self) -> None:
        for key, _ in self._selector.select(self._schedule.patience()):
            key.data()
        while self._inbox:
            self._schedule.submit(self._inbox.popleft())
        for seat in self._schedule.expire():
            self._bury(self._workers[seat], counted=False)
        # Work first, results second: workers wait for the one, a person for the other.
        self._give_orders()
        self._resolve()
        if self.quiescent():
            with self._changed:
                self._changed.notify_all()

    def _give_orders(self) -> None:
        while (order := self._schedule.next_order()) is not None:
            seat, message = order
            if not self._workers[seat].send(message):
                self._bury(self._workers[seat])

    def _resolve(self) -> None:
        while self._schedule.resolved:
            future, failed, payload = self._schedule.resolved.popleft()
            try:
                value = decoded(payload)
            except HowdahError as exc:
                failed, value = True, exc
            if failed:
                future.set_exception(value)
            else:
                future.set_result(value)

    def _read(self, worker: Worker) -> None:
        if self._workers.get(worker.seat) is not worker:
            return  # buried since the selector saw it
        try:
            message = worker.receive()
        except (EOFError, OSError):
            self._bury(worker)
        else:
            self._take(worker, message)

    def _take(self, worker: Worker, message: tuple[Any, ...]) -> None:
        match message:
            case ("done", failed, payload):
                self._schedule.finish(worker.seat, failed, payload)
            case ("fork", number, name, payload):
                self._schedule.fork(worker.seat, number, name, payload)
            case ("join", number):
                self._schedule.join(worker.seat, number)
            case ("event", payload):
                self._pass_on(payload)
            case ("ready",):
                worker.ready = True
                self._failed_starts = 0
                self._schedule.await_order(worker.seat)
            case ("broken", payload):
                exc = decoded(payload)
                self._break(f"its initializer raised {exc!r}", exc)

    def _pass_on(self, payload: bytes) -> None:
        if self._on_event is None:
            return
        try:
            self._on_event(decoded(payload))
        except Exception:
            # A broken progress bar must not take the tasks with it.
            logger.exception("pool %r: on_event failed", self.name)

    def _mourn(self, worker: Worker) -> None:
        """Bury a worker whose process has ended, after its last words."""
        while self._workers.get(worker.seat) is worker:
            if worker.connection.poll():
                self._read(worker)
            else:
                self._bury(worker)

    def _bury(self, worker: Worker, *, counted: bool = True) -> None:
        del self._workers[worker.seat]
        self._selector.unregister(worker.process.sentinel)
        self._selector.unregister(worker.connection)
        # One that died by itself has an exit code, which a kill could forestall.
        why = worker.end(_BURIAL_S if counted else 0.0)
        self._schedule.lose(worker.seat, why, counted=counted)
        if not self._killing:
            logger.warning("pool %r: worker %d %s", self.name, worker.process.pid, why)
            self._replace(worker, why)

    def _replace(self, worker: Worker, why: str) -> None:
        seat = worker.seat
        self._failed_starts += not worker.ready
        while self._failed_starts < _FAILED_STARTS + len(self._schedule.seats):
            try:
                self._watch(self._start(seat))
            except (OSError, EOFError) as exc:
                self._failed_starts += 1
                why = f"could not be started: {exc!r}"
            else:
                return
        logger.warning("pool %r: worker %d has no successor", self.name, seat.number)
        if not self._workers:
            self._break(f"its workers cannot start: the last one {why}")

    def _break(self, reason: str, cause: BaseException | None = None) -> None:
        if self._broken is None:
            self._broken = PoolBroken(
                f"The pool is broken: {reason}.",
                next_step="Mend the initializer; a script that is run needs"
                " `if __name__ == '__main__':` around what opens the pool.",
            )
            self._broken.__cause__ = cause

    def _watch(self, worker: Worker) -> None:
        register = self._selector.register
        register(worker.connection, selectors.EVENT_READ, functools.partial(self._read, worker))
        register(
            worker.process.sentinel, selectors.EVENT_READ, functools.partial(self._mourn, worker)
        )

    def _end(self) -> None:
        with self._changed:
            self._closing = True
        kill = self._killing or self._broken is not None
        for worker in self._workers.values():
            if kill:
                worker.process.kill()
            else:
                worker.send(("stop",))
        deadline = time.monotonic() + _GRACE_S
        for worker in self._workers.values():
            worker.end(max(0.0, deadline - time.monotonic()))
        self._settle()
        with self._changed:
            self._ended = True
            self._selector.close()
            os.close(self._wake_read)
            os.close(self._wake_write)
            self._changed.notify_all()
        _living.discard(self)
        logger.debug("pool %r: ended", self.name)

    def _settle(self) -> None:
        """Resolve what will not be run any more."""
        self._resolve()
        left = list(self._futures)
        self._cut_off = len(left)
        for task in (*self._schedule.submitted, *self._inbox):
            if task.future is None or task.future.running():
                continue
            # One that a user has cancelled still owes its waiters a notice.
            if self._broken is None:
                task.future.cancel()
            task.future.set_running_or_notify_cancel()
        for future in left:
            if not future.done():
                future.set_exception(self._broken or CancelledError("The pool was shut down."))
        self._schedule = Schedule(len(self._schedule.seats))

    def _future_done(self, future: Future[Any]) -> None:
        with self._changed:
            self._futures.discard(future)
            if not self._futures:
                self._changed.notify_all()
                if self._closing:
                    # A task that was cancelled may be the last before the end.
                    self._wake()

    def _wake(self) -> None:
        if not self._ended:
            # A full pipe wakes as well as one byte more would.
            with contextlib.suppress(BlockingIOError):
                os.write(self._wake_write, b"\0")

    def _awake(self) -> None:
        os.read(self._wake_read, 65536)


@functools.cache
def _kill_all_at_exit() -> None:
    # Once, and after the first worker has started, so that multiprocessing has
    # registered its own handler and ours comes before it: that one would end
    # the workers, and we would replace them.
    atexit.register(_kill_all)


def _kill_all() -> None:
    for coordinator in list(_living):
        coordinator.kill()
        coordinator.join()
