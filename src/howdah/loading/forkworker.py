"""The worker's side of a fork-join pool: runs tasks, forks, joins, emits.

A worker talks with its pool through one pipe, in tuples:

```
to the worker        ("run", joined, payload)        a task; joined: it is the one being joined
                     ("outcome", failed, payload)    answers ("join", ...)
                     ("stop",)
from the worker      ("ready",) or ("broken", payload)
                     ("fork", number, name, payload)
                     ("join", number)
                     ("event", payload)
                     ("done", failed, payload)       ends the newest task on the worker's stack
```

The pool sends only to a worker that has nothing to do but to receive: one that
is idle or in `join`. So neither side ever waits for the other to read while
the other waits in the same way, however large the messages are.
"""

# ruff: noqa: S301 - the pickles come from our own pool, through a private pipe

from __future__ import annotations

import fcntl
import gc
import itertools
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import traceback
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar

from howdah.errors import HowdahError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from multiprocessing.connection import Connection

__all__ = ["ForkedTask", "Unpicklable", "emit", "fork"]

T = TypeVar("T")

_PROTOCOL = pickle.HIGHEST_PROTOCOL

# The worker whose task the calling thread runs. A thread that a task starts
# has none: the pipe's answers could not be told apart.
_inside = threading.local()


class Unpicklable(HowdahError):
    """Raised in place of a result or an exception that cannot be sent to another process."""


class ForkedTask(Generic[T]):
    """A task forked by the running task, which alone may join it."""

    __slots__ = ("_number", "_outcome", "_owner")

    def __init__(self, number: int, owner: object) -> None:
        self._number = number
        self._owner = owner
        self._outcome: tuple[bool, Any] | None = None

    def join(self) -> T:
        """Return the task's result, or raise its exception.

        Until the task is done, the worker runs it itself, or others meanwhile.

        Raises:
            UsageError: Another task than the one that forked it joins it.
            WorkerDied: The task lost its worker twice.
        """
        if self._outcome is None:
            self._outcome = _worker("join").join(self._number, self._owner)
        failed, value = self._outcome
        if failed:
            raise value
        result: T = value
        return result

    def __reduce__(self) -> NoReturn:
        raise UsageError(
            "A forked task can be joined only by the task that forked it, not sent elsewhere.",
            next_step="Join it, and send the result.",
        )


def fork(fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> ForkedTask[T]:
    """Hand a part of the running task to the pool.

    An idle worker may steal it; if none does, this worker runs it in `join`.
    A forked task that nobody joins is run all the same, unless its parent fails.

    Raises:
        UsageError: Called elsewhere than in the thread of a task.
    """
    return _worker("fork").fork(fn, args, kwargs)


def emit(event: object) -> None:
    """Hand an event to the pool's `on_event`, which gets it before the task's result is set.

    A task that is run once more emits once more.

    Raises:
        UsageError: Called elsewhere than in the thread of a task.
    """
    _worker("emit").emit(event)


def encoded_call(fn: Callable[..., object], args: Iterable[Any], kwargs: dict[str, Any]) -> bytes:
    """Return a call as bytes for a worker."""
    return pickle.dumps((fn, args, kwargs), _PROTOCOL)


def encoded_failure(exc: BaseException, remote_traceback: str = "") -> bytes:
    """Return an exception as bytes; one that would not arrive whole is described instead."""
    try:
        payload = pickle.dumps(_Failure(exc, remote_traceback), _PROTOCOL)
        # Many exceptions can be pickled and not be unpickled: those whose
        # __init__ takes other arguments than it hands to Exception.
        pickle.loads(payload)
    except Exception:  # noqa: BLE001 - whatever the user's __reduce__ raises
        substitute = Unpicklable(
            f"A task raised {exc!r}, which cannot be pickled.",
            next_step=f"Give {type(exc).__qualname__} a __reduce__.",
        )
        return pickle.dumps(_Failure(substitute, remote_traceback), _PROTOCOL)
    return payload


def decoded(payload: bytes) -> Any:
    """Return a result or an exception from its bytes.

    Raises:
        Unpicklable: The bytes mean nothing in this process.
    """
    try:
        return pickle.loads(payload)
    except Exception as exc:
        raise Unpicklable(
            f"A result was pickled and cannot be unpickled: {exc!r}.",
            next_step="Return an instance of a module-level class that can be pickled.",
        ) from exc


def task_name(fn: Callable[..., object]) -> str:
    """Return a function's name for messages."""
    return str(getattr(fn, "__qualname__", None) or type(fn).__qualname__)


def serve(
    connection: Connection[Any, Any],
    initializer: bytes | None,
    inherited: tuple[Connection[Any, Any], ...],
    *,
    wants_events: bool,
    cpu: int | None,
) -> None:
    """Be a worker until told to stop.

    Args:
        connection: This worker's end of its pipe.
        initializer: What to call first, from `encoded_call`.
        inherited: Ends of pipes that a fork copied into this process.
        wants_events: Whether the pool has a use for events.
        cpu: Which CPU to stay on; None: on any.
    """
    for other in inherited:
        # A copy of the pool's end would keep its reader from seeing the end.
        other.close()
    _set_signals()
    _die_with_parent()
    if cpu is not None:
        _stay_on(cpu)
    gc.freeze()  # what the parent has made is no garbage; looking at it would copy its pages
    worker = _Worker(connection, wants_events=wants_events)
    if worker.initialize(initializer):
        worker.serve()


class _Worker:
    def __init__(self, connection: Connection[Any, Any], *, wants_events: bool) -> None:
        self._connection = connection
        self._wants_events = wants_events
        self._numbers = itertools.count()
        self._task: object = None

    def initialize(self, initializer: bytes | None) -> bool:
        if initializer is not None:
            failed, _, payload = _outcome(initializer)
            if failed:
                self._send("broken", payload)
                return False
        self._send("ready")
        return True

    def serve(self) -> None:
        _inside.worker = self
        try:
            while True:
                message = self._receive()
                if message[0] == "stop":
                    return
                self._run(message[2], joined=False)
        except (EOFError, ConnectionError):
            return  # the pool is gone, and with it whoever wanted the result

    def fork(self, fn: Callable[..., T], args: Any, kwargs: dict[str, Any]) -> ForkedTask[T]:
        number = next(self._numbers)
        self._send("fork", number, task_name(fn), encoded_call(fn, args, kwargs))
        return ForkedTask(number, self._task)

    def emit(self, event: object) -> None:
        if self._wants_events:
            self._send("event", pickle.dumps(event, _PROTOCOL))

    def join(self, number: int, owner: object) -> tuple[bool, Any]:
        if owner is not self._task:
            raise UsageError("A forked task can be joined only by the task that forked it.")
        self._send("join", number)
        while True:
            kind, flag, payload = self._receive()
            if kind == "outcome":
                return _received(flag, payload)
            outcome = self._run(payload, joined=flag)
            if flag:
                return outcome

    def _run(self, payload: bytes, *, joined: bool) -> tuple[bool, Any]:
        outer, self._task = self._task, object()
        try:
            failed, value, encoded = _outcome(payload)
        finally:
            self._task = outer
        # The result of a joined task has arrived: it is wanted on this stack
        # alone, and if this worker dies, so does the task that wants it.
        self._send("done", failed, b"" if joined else encoded)
        return failed, value

    def _send(self, *message: object) -> None:
        self._connection.send_bytes(pickle.dumps(message, _PROTOCOL))

    def _receive(self) -> tuple[Any, ...]:
        message: tuple[Any, ...] = pickle.loads(self._connection.recv_bytes())
        return message


def _outcome(payload: bytes) -> tuple[bool, Any, bytes]:
    """Call what the payload says; return whether it failed, the value, and the value as bytes."""
    try:
        fn, args, kwargs = pickle.loads(payload)
        value = fn(*args, **kwargs)
    except BaseException as exc:  # noqa: BLE001 - the top of a worker; sys.exit() ends a task only
        return _failed(exc)
    try:
        # Also where only this process wants it: whether a result is accepted
        # must not depend on who stole what.
        return False, value, pickle.dumps(value, _PROTOCOL)
    except Exception as exc:  # noqa: BLE001 - whatever the user's __reduce__ raises
        error = Unpicklable(
            f"The result of {task_name(fn)} cannot be pickled: {exc}.",
            next_step="Return plain data.",
        )
        error.__cause__ = exc
        return _failed(error)


def _failed(exc: BaseException) -> tuple[bool, Any, bytes]:
    encoded = encoded_failure(exc, "".join(traceback.format_exception(exc)))
    return True, pickle.loads(encoded), encoded


def _received(failed: bool, payload: bytes) -> tuple[bool, Any]:
    try:
        return failed, decoded(payload)
    except Unpicklable as exc:
        return True, exc


def _worker(verb: str) -> _Worker:
    worker: _Worker | None = getattr(_inside, "worker", None)
    if worker is None or worker._task is None:  # noqa: SLF001 - the same module
        raise UsageError(f"{verb}() works only inside a task of a ForkJoinPool, in its own thread.")
    return worker


class _RemoteTraceback(Exception):
    """Carries a worker's traceback as the cause of what the caller sees."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f'\n"""\n{self.text}"""'


class _Failure:
    """Pickles an exception together with the text of its traceback, which pickle drops."""

    def __init__(self, exc: BaseException, remote_traceback: str) -> None:
        self._parts = (exc, remote_traceback)

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuilt, self._parts


def _rebuilt(exc: BaseException, remote_traceback: str) -> BaseException:
    if remote_traceback:
        exc.__cause__ = _RemoteTraceback(remote_traceback)
    return exc


def _set_signals() -> None:
    # Ctrl-C reaches the whole process group; what it means is the parent's business.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # After a fork this is the write end of the parent's event loop.
    signal.set_wakeup_fd(-1)


def _die_with_parent() -> None:
    """End this process when its parent is gone, also in the middle of a task."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    if sys.platform == "linux":
        _die_with_forker()
        # PR_SET_PDEATHSIG watches whoever forked us: under the fork server not
        # the parent. So the kernel also sends SIGKILL when the pipe closes that
        # the parent holds open; unlike a thread, it needs no GIL for that.
        # F_SETOWN first: a signal without an owner goes nowhere.
        fcntl.fcntl(parent.sentinel, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(parent.sentinel, fcntl.F_SETSIG, signal.SIGKILL)
        flags = fcntl.fcntl(parent.sentinel, fcntl.F_GETFL)
        fcntl.fcntl(parent.sentinel, fcntl.F_SETFL, flags | os.O_ASYNC)
        if not parent.is_alive():
            os._exit(1)
    else:
        threading.Thread(target=_exit_after, args=(parent,), daemon=True).start()


def _die_with_forker() -> None:
    import ctypes

    pr_set_pdeathsig = 1  # Source: linux/prctl.h
    ctypes.CDLL(None, use_errno=True).prctl(pr_set_pdeathsig, signal.SIGKILL, 0, 0, 0)


def _stay_on(cpu: int) -> None:
    """Bind this process, and the threads that libraries start in it, to a CPU.

    A library that hands each task to a thread of its own, as rayon's do, sleeps until
    the thread is done. The kernel may wake that thread on another worker's CPU, where
    it waits for its turn while ours is idle: a tenth of a load of documents.
    """
    if sys.platform == "linux":
        with suppress(OSError):  # the CPU was taken from us meanwhile, or seccomp forbids it
            os.sched_setaffinity(0, {cpu})


def _exit_after(parent: Any) -> None:
    parent.join()
    os.kill(os.getpid(), signal.SIGKILL)
