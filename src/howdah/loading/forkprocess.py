"""One worker process of a fork-join pool, as the pool sees it."""

# ruff: noqa: S301 - the pickles come from our own workers, through a private pipe

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from howdah.loading.forkworker import serve

if TYPE_CHECKING:
    from collections.abc import Sequence
    from multiprocessing.connection import Connection
    from multiprocessing.context import ForkContext, ForkServerContext
    from multiprocessing.process import BaseProcess

    from howdah.loading.forkschedule import Seat

__all__ = ["Worker", "cpus", "start_worker"]

# From SIGKILL to an exit code.
_KILL_S = 1.0

# A thread that was joined, such as the last pool's, takes a moment more to
# leave the kernel's list.
_LINGERS, _LINGER_S = 5, 0.001


@dataclass(eq=False, slots=True)
class Worker:
    """A process and the pool's end of its pipe.

    Attributes:
        seat: Its place in the schedule.
        ready: It has passed its initializer.
    """

    seat: Seat
    process: BaseProcess
    connection: Connection[Any, Any]
    ready: bool = False

    def send(self, message: tuple[object, ...]) -> bool:
        """Send a message; return False if the worker is gone."""
        try:
            self.connection.send_bytes(pickle.dumps(message, pickle.HIGHEST_PROTOCOL))
        except OSError:
            return False
        return True

    def receive(self) -> tuple[Any, ...]:
        """Return the next message.

        Raises:
            EOFError: The worker is gone.
            OSError: It went in the middle of the message.
        """
        message: tuple[Any, ...] = pickle.loads(self.connection.recv_bytes())
        return message

    def end(self, grace_s: float) -> str:
        """Wait for the process to end, kill it after that, and return how it ended.

        Args:
            grace_s: Seconds before it is killed.
        """
        self.process.join(grace_s)
        self.process.kill()
        self.process.join(_KILL_S)
        self.connection.close()
        return _ending(self.process.exitcode)


def start_worker(
    seat: Seat,
    name: str,
    initializer: bytes | None,
    *,
    wants_events: bool,
    cpu: int | None,
    others: Sequence[Connection[Any, Any]],
) -> Worker:
    """Start a worker process.

    Args:
        seat: Its place in the schedule.
        name: Its name.
        initializer: What it calls first, from `encoded_call`.
        wants_events: Whether it is to send events.
        cpu: Which CPU it is bound to; None: to none.
        others: The pool's ends of the other workers' pipes, of which a fork has copies.

    Raises:
        OSError: The system allows no further process.
        EOFError: The fork server died, perhaps of importing the main script.
    """
    context = _context()
    ours, theirs = context.Pipe()
    inherited = (*others, ours) if context.get_start_method() == "fork" else ()
    process = context.Process(
        target=serve,
        args=(theirs, initializer, inherited),
        kwargs={"wants_events": wants_events, "cpu": cpu},
        name=name,
        daemon=True,
    )
    try:
        process.start()
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
    return Worker(seat, process, ours)


def cpus() -> list[int]:
    """Return the numbers of the CPUs that this process may use."""
    if sys.platform == "linux":
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def _context() -> ForkContext | ForkServerContext:
    """Return how to start a process: by fork, six times faster, only while that is safe."""
    if sys.platform == "linux" and _has_one_thread():
        return multiprocessing.get_context("fork")
    return multiprocessing.get_context("forkserver")


def _has_one_thread() -> bool:
    for _ in range(_LINGERS):
        # The kernel's list, since threads of C libraries count as well.
        if len(list(Path("/proc/self/task").iterdir())) == 1:
            return True
        if threading.active_count() > 1:
            return False
        time.sleep(_LINGER_S)
    return False


def _ending(exitcode: int | None) -> str:
    """Return how a process ended, as the end of a sentence."""
    if exitcode is None:
        return "does not end"
    if exitcode >= 0:
        return f"ended with exit code {exitcode}"
    try:
        return f"was killed by {signal.Signals(-exitcode).name}"
    except ValueError:
        return f"was killed by signal {-exitcode}"
