"""A work-stealing pool of processes on one machine, after Java's ForkJoinPool.

It takes tasks of very different sizes and keeps every worker busy to the end:
no task is handed out before a worker is free, a task can `fork` parts of itself
which idle workers steal, and `join` works while it waits. A worker that dies
(memory, a crash in a C extension, SIGKILL) costs its tasks one more run: **a
task may run twice**, so what it does elsewhere must bear that. A task that
loses its worker twice fails with WorkerDied; the pool goes on. A pool that can
keep no worker at all fails every task with PoolBroken.

Functions, arguments and results are pickled. The pool knows nothing of
PostgreSQL.
"""

from __future__ import annotations

import multiprocessing
import queue
import weakref
from collections import deque
from concurrent.futures import Future
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from howdah.errors import UsageError
from howdah.loading.forkcoordinator import Coordinator
from howdah.loading.forkprocess import cpus
from howdah.loading.forkschedule import PoolBroken, Task, TaskTimedOut, WorkerDied
from howdah.loading.forkworker import (
    ForkedTask,
    Unpicklable,
    emit,
    encoded_call,
    fork,
    task_name,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import TracebackType
    from typing import Self

__all__ = [
    "ForkJoinPool",
    "ForkedTask",
    "PoolBroken",
    "TaskTimedOut",
    "Unpicklable",
    "WorkerDied",
    "emit",
    "fork",
]

T = TypeVar("T")

_WINDOW_PER_WORKER = 4


class ForkJoinPool:
    """Worker processes that share tasks, and the parts that tasks fork, by stealing.

    As a context manager it is shut down in order at the end of the block, and
    at once if the block raises, also on Ctrl-C.

    Args:
        workers: Number of processes; None for one per CPU that we may use.
        initializer: Called with `initargs` in each worker before its first task.
            If it raises, the pool is broken and its tasks fail with PoolBroken.
        initargs: Arguments of the initializer.
        on_event: Called with each object that a task emits, in a thread of the
            pool, which it should not keep waiting. What it raises is logged.
        one_cpu_each: Bind each worker, and the threads that libraries start in it,
            to a CPU of its own; only where there are as many workers as CPUs that we
            may use (Linux). It helps where tasks hand work to such threads and back.

    Raises:
        UsageError: Fewer than one worker, or opened inside a worker.
    """

    def __init__(
        self,
        workers: int | None = None,
        *,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        on_event: Callable[[Any], object] | None = None,
        one_cpu_each: bool = False,
    ) -> None:
        workers = len(cpus()) if workers is None else workers
        if workers < 1:
            raise UsageError(f"A pool needs at least one worker, not {workers}.")
        _refuse_in_worker()
        self._workers = workers
        call = None if initializer is None else encoded_call(initializer, initargs, {})
        self._coordinator = Coordinator(workers, call, on_event, one_cpu_each=one_cpu_each)
        # Whoever loses the pool may still hold its futures: finish them, then end.
        weakref.finalize(self, self._coordinator.close).atexit = False

    def submit(
        self, fn: Callable[..., T], /, *args: Any, timeout_s: float | None = None, **kwargs: Any
    ) -> Future[T]:
        """Have a function called by a worker.

        Args:
            fn: A function that can be pickled, so one of a module.
            *args: Its arguments.
            timeout_s: Seconds that it may run, waiting for a worker not counted;
                then its worker is killed and it fails with TaskTimedOut.
            **kwargs: Its keyword arguments.

        Returns:
            A future, which can be cancelled as long as no worker has begun.

        Raises:
            UsageError: The pool is shut down, or `timeout_s` is not positive.
        """
        if timeout_s is not None and timeout_s <= 0:
            raise UsageError(f"timeout_s must be positive, not {timeout_s}.")
        future: Future[T] = Future()
        call = encoded_call(fn, args, kwargs)
        self._coordinator.submit(Task(task_name(fn), call, future, timeout_s), future)
        return future

    def map(
        self,
        fn: Callable[..., T],
        iterable: Iterable[Any],
        *,
        ordered: bool = True,
        window: int | None = None,
    ) -> Iterator[T]:
        """Call a function for each item, and yield the results.

        It is lazy: nothing is submitted before the first result is asked for,
        and then at most `window` items are taken ahead of the results yielded,
        so that an endless iterable costs little memory. What a task raises is
        raised here and ends the iteration; the items ahead are cancelled.

        Args:
            fn: A function of one argument.
            iterable: The arguments.
            ordered: Yield in the order of the items. With False, in the order of
                completion: one slow task at the head then stops nothing.
            window: None for four per worker.

        Raises:
            UsageError: `window` is less than one.
        """
        window = _WINDOW_PER_WORKER * self._workers if window is None else window
        if window < 1:
            raise UsageError(f"window must be at least 1, not {window}.")
        futures = (self.submit(fn, item) for item in iterable)
        return _in_order(futures, window) if ordered else _as_completed(futures, window)

    def is_quiescent(self) -> bool:
        """Tell whether no task is queued, running or held."""
        return self._coordinator.quiescent()

    def active_count(self) -> int:
        """Return how many workers have a task right now."""
        return self._coordinator.active()

    def await_quiescence(self, timeout_s: float | None = None) -> bool:
        """Wait until the pool is quiescent; it can be used again afterwards.

        Args:
            timeout_s: Seconds; None to wait as long as it takes.

        Returns:
            False if the time was over first.
        """
        return self._coordinator.await_quiescence(timeout_s)

    def shutdown(self, wait: bool = True) -> None:
        """Take no more tasks, finish those submitted, then end the workers.

        Args:
            wait: Return only when the workers have ended.
        """
        self._coordinator.close()
        if wait:
            self._coordinator.join()

    def shutdown_now(self) -> int:
        """Kill the workers at once and cancel what is not done.

        A future that was running raises CancelledError, too. Processes that
        tasks have started themselves are not killed.

        Returns:
            How many submitted tasks never finished.
        """
        self._coordinator.kill()
        return self._coordinator.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if exc_type is not None:
            self.shutdown_now()
            return
        try:
            self.shutdown()
        except BaseException:
            self.shutdown_now()
            raise


def _in_order(futures: Iterator[Future[T]], window: int) -> Iterator[T]:
    ahead: deque[Future[T]] = deque()
    try:
        ahead.extend(islice(futures, window))
        while ahead:
            yield ahead.popleft().result()
            ahead.extend(islice(futures, 1))
    finally:
        for future in ahead:
            future.cancel()


def _as_completed(futures: Iterator[Future[T]], window: int) -> Iterator[T]:
    done: queue.SimpleQueue[Future[T]] = queue.SimpleQueue()
    ahead: set[Future[T]] = set()

    def take(number: int) -> None:
        for future in islice(futures, number):
            ahead.add(future)
            future.add_done_callback(done.put)

    try:
        take(window)
        while ahead:
            future = done.get()
            ahead.remove(future)
            yield future.result()
            take(1)
    finally:
        for future in ahead:
            future.cancel()


def _refuse_in_worker() -> None:
    process = multiprocessing.current_process()
    if process.daemon:
        raise UsageError(
            "A worker process may not open a pool of its own.",
            next_step="Inside a task of a ForkJoinPool use fork() and join().",
        )
    # Set while the fork server or a new worker imports the main script: a pool
    # opened there would run the script's tasks again, in secret.
    if getattr(process, "_inheriting", False):
        raise UsageError(
            "The main script opens a pool while a worker imports it.",
            next_step="Put what opens the pool under `if __name__ == '__main__':`.",
        )
