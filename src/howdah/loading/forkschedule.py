"""Who runs what in a fork-join pool: the rules, without processes and pipes.

A seat is a worker's place, which outlives the process in it. It has a queue of
the tasks forked there, and a stack of those that run there: the newest runs,
each below waits in `join`. Of the queues, the owner takes the newest, a thief
the oldest, which in a recursion is the largest piece of work.

A task stays here until it is done, so a worker that dies costs its tasks one
more run and nobody else anything. No join waits for ever: a joined task that
nobody has begun is run by the joiner, and one that runs was begun after its
joiner, so that of all waiting tasks the newest never waits for another.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import time
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from howdah.errors import HowdahError
from howdah.loading.forkworker import encoded_failure

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

__all__ = ["PoolBroken", "TaskTimedOut", "WorkerDied"]

logger = logging.getLogger(__name__)

_RUNS = 2

# A worker that helps while it joins puts tasks of others on its own stack; far
# from Python's limit of recursion (some five frames each) it rather waits.
_HELP_DEPTH = 64


class WorkerDied(HowdahError):
    """Raised when a task lost its worker twice: most likely it is to blame."""


class PoolBroken(HowdahError):
    """Raised for each task of a pool that cannot keep workers at all: no task is to blame."""


class TaskTimedOut(HowdahError):
    """Raised when a task ran longer than its `timeout_s`; its worker was killed."""


@dataclass(eq=False, slots=True)
class Task:
    """A call and how far it is.

    Attributes:
        future: Where the result goes; None for a forked task.
        parent: The task that forked it and may still join it.
        number: What the worker calls it, unique among its parent's children.
        children: What it has forked and not joined, by their numbers.
        seat: Where it runs; None while it waits or once it is done.
        queue: The forked tasks among which it waits; None for a submitted one.
        joins: The child whose outcome it waits for.
        outcome: Of a forked task: whether it failed, and the value as bytes.
        orphan: It runs although nobody wants its result any more.
        losses: How many workers it has lost.
        deadline: When to kill it, on the clock of the schedule.
        error: What ended it from outside.
    """

    name: str
    payload: bytes
    future: Future[Any] | None = None
    timeout_s: float | None = None
    parent: Task | None = None
    number: int = 0
    children: dict[int, Task] = field(default_factory=dict)
    seat: Seat | None = None
    queue: OrderedDict[Task, None] | None = None
    joins: Task | None = None
    outcome: tuple[bool, bytes] | None = None
    orphan: bool = False
    losses: int = 0
    deadline: float | None = None
    error: HowdahError | None = None


@dataclass(eq=False, slots=True)
class Seat:
    """A worker's place: the tasks forked there and those that run there, newest last."""

    number: int
    queue: OrderedDict[Task, None] = field(default_factory=OrderedDict)
    stack: list[Task] = field(default_factory=list)


class Schedule:
    """The tasks of a pool, and the next order for each worker that waits for one.

    Attributes:
        seats: The workers' places.
        submitted: Tasks that nobody has begun, oldest first.
        forks: Number of forked tasks that are not done.
        resolved: Futures to be set: (future, failed, value as bytes), in order.
    """

    def __init__(self, seats: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.seats = [Seat(number) for number in range(seats)]
        self.submitted: deque[Task] = deque()
        self.forks = 0
        self.resolved: deque[tuple[Future[Any], bool, bytes]] = deque()
        self._clock = clock
        self._queued = 0
        # Dicts for their order and their cheap removal.
        self._idle: dict[Seat, None] = {}
        self._joining: dict[Seat, None] = {}
        self._answerable: dict[Seat, None] = {}
        self._deadlines: list[tuple[float, int, Task]] = []
        self._ties = itertools.count()

    def submit(self, task: Task) -> None:
        """Add a task that has a future."""
        self.submitted.append(task)

    def await_order(self, seat: Seat) -> None:
        """Note that the worker does nothing but receive: it is idle or in a join."""
        if not seat.stack:
            self._idle[seat] = None
            return
        joined = seat.stack[-1].joins
        done = joined is not None and joined.outcome is not None
        (self._answerable if done else self._joining)[seat] = None

    def fork(self, seat: Seat, number: int, name: str, payload: bytes) -> None:
        """Add a child of the task that runs on the seat."""
        parent = seat.stack[-1]
        task = parent.children[number] = Task(name, payload, parent=parent, number=number)
        self.forks += 1
        self._enqueue(task, seat)

    def join(self, seat: Seat, number: int) -> None:
        """Note that the task that runs on the seat waits for its child."""
        parent = seat.stack[-1]
        parent.joins = parent.children[number]
        self.await_order(seat)

    def finish(self, seat: Seat, failed: bool, payload: bytes) -> None:
        """Note that the newest task on the seat has ended."""
        task = seat.stack.pop()
        self._leave_children(task, wanted=not failed and not task.orphan)
        task.seat = task.deadline = None
        parent = seat.stack[-1] if seat.stack else None
        if parent is not None and parent.joins is task:
            # Run in the join itself: the worker has the value and goes on.
            self.forks -= 1
            self._forget_joined(parent)
            return
        self._end(task, failed, payload)
        self.await_order(seat)

    def lose(self, seat: Seat, why: str, *, counted: bool = True) -> None:
        """Take back what a dead worker held, to be run once more or to fail.

        Args:
            seat: Its seat.
            why: What ended the worker, as the end of a sentence.
            counted: False where the worker was killed for another's task.
        """
        for waiting in (self._idle, self._joining, self._answerable):
            waiting.pop(seat, None)
        lost, seat.stack = seat.stack, []
        running = lost[-1].name if lost else ""
        for task in lost:
            # Upwards: a task whose parent is lost, too, becomes an orphan here
            # and is dropped, for the parent's next run forks it again.
            self._leave_children(task, wanted=False)
            task.seat = task.joins = task.deadline = None
            task.losses += counted
            if task.orphan:
                self.forks -= 1
            elif task.error is not None:
                self._end(task, True, encoded_failure(task.error))
            elif task.losses >= _RUNS:
                self._end(task, True, encoded_failure(_died(task, running, why)))
            else:
                logger.debug("task %r lost its worker, which %s, and waits again", task.name, why)
                self._again(task, seat)

    def expire(self) -> set[Seat]:
        """Return the seats of tasks over their time.

        Once these are lost, what the tasks have forked is over its time, too.
        """
        seats = set[Seat]()
        while self._deadlines and self._deadlines[0][0] <= self._clock():
            deadline, _, task = heapq.heappop(self._deadlines)
            if task.deadline != deadline:
                continue
            task.error = TaskTimedOut(
                f"Task {task.name!r} ran longer than {task.timeout_s} s; its worker was killed.",
                next_step="Allow it more time, or submit smaller pieces.",
            )
            if task.seat is not None:
                seats.add(task.seat)
        return seats

    def patience(self) -> float | None:
        """Return the seconds until the next deadline; None if there is none."""
        while self._deadlines and self._deadlines[0][2].deadline != self._deadlines[0][0]:
            heapq.heappop(self._deadlines)
        return max(0.0, self._deadlines[0][0] - self._clock()) if self._deadlines else None

    def next_order(self) -> tuple[Seat, tuple[object, ...]] | None:
        """Return what to send to which worker, and count it as sent; None if all are served."""
        if self._answerable:
            return self._answer(next(iter(self._answerable)))
        if self._queued:
            for seat in self._joining:
                if task := _own_task(seat):
                    return self._start(seat, task)
        if self._idle:
            seat = next(reversed(self._idle))
            if task := _newest(seat.queue) or self._next_submitted() or self._oldest():
                return self._start(seat, task)
        if self._queued:
            for seat in self._joining:
                if len(seat.stack) < _HELP_DEPTH and (task := self._oldest()):
                    return self._start(seat, task)
        return None

    def _answer(self, seat: Seat) -> tuple[Seat, tuple[object, ...]]:
        del self._answerable[seat]
        parent = seat.stack[-1]
        joined = self._forget_joined(parent)
        return seat, ("outcome", *(joined.outcome or ()))

    def _start(self, seat: Seat, task: Task) -> tuple[Seat, tuple[object, ...]]:
        self._idle.pop(seat, None)
        self._joining.pop(seat, None)
        self._dequeue(task)
        joined = bool(seat.stack) and seat.stack[-1].joins is task
        seat.stack.append(task)
        task.seat = seat
        if task.timeout_s is not None:
            self._set_deadline(task, self._clock() + task.timeout_s)
        return seat, ("run", joined, task.payload)

    def _next_submitted(self) -> Task | None:
        while self.submitted:
            task = self.submitted.popleft()
            future = task.future
            # On a second run the future runs already.
            if future is None or future.running() or future.set_running_or_notify_cancel():
                return task
        return None

    def _oldest(self) -> Task | None:
        if not self._queued:
            return None
        return next(iter(max(self.seats, key=lambda seat: len(seat.queue)).queue))

    def _again(self, task: Task, seat: Seat) -> None:
        if task.future is not None:
            # First in the line: a long one that began again last would be waited for.
            self.submitted.appendleft(task)
        else:
            home = task.parent.seat if task.parent is not None else None
            self._enqueue(task, home or seat)

    def _end(self, task: Task, failed: bool, payload: bytes) -> None:
        task.payload = b""
        if task.future is not None:
            self.resolved.append((task.future, failed, payload))
            return
        self.forks -= 1
        parent = task.parent
        if parent is not None:
            task.outcome = failed, payload
            if parent.joins is task and parent.seat in self._joining and _runs(parent):
                del self._joining[parent.seat]
                self._answerable[parent.seat] = None
        elif failed and not task.orphan:
            logger.warning("forked task %r failed, and nobody joined it", task.name)

    def _leave_children(self, task: Task, *, wanted: bool) -> None:
        """Cut off the children of a task that will not join them any more."""
        deadline = None if wanted else _deadline(task)
        for child in task.children.values():
            child.parent = None
            if wanted or child.outcome is not None:
                continue
            if child.seat is None:
                self._dequeue(child)
                self.forks -= 1
                continue
            child.orphan = True
            if deadline is not None:
                # It may hang, and nobody is left who would be over its time for it.
                self._set_deadline(child, deadline)
        task.children = {}

    def _forget_joined(self, parent: Task) -> Task:
        joined = parent.joins
        assert joined is not None  # noqa: S101 - the worker is in a join
        del parent.children[joined.number]
        parent.joins = None
        return joined

    def _set_deadline(self, task: Task, deadline: float) -> None:
        task.deadline = deadline
        heapq.heappush(self._deadlines, (deadline, next(self._ties), task))

    def _enqueue(self, task: Task, seat: Seat) -> None:
        task.queue = seat.queue
        task.queue[task] = None
        self._queued += 1

    def _dequeue(self, task: Task) -> None:
        if task.queue is not None:
            del task.queue[task]
            task.queue = None
            self._queued -= 1


def _own_task(seat: Seat) -> Task | None:
    """Return what a joining worker runs before it helps others: the joined task, or its newest."""
    joined = seat.stack[-1].joins
    return joined if joined is not None and joined.queue is not None else _newest(seat.queue)


def _newest(queue: OrderedDict[Task, None]) -> Task | None:
    return next(reversed(queue), None)


def _runs(task: Task) -> bool:
    return task.seat is not None and task.seat.stack[-1] is task


def _deadline(task: Task) -> float | None:
    while task.parent is not None:
        task = task.parent
    return task.deadline


def _died(task: Task, running: str, why: str) -> WorkerDied:
    inside = "" if running == task.name else f" in {running!r}"
    return WorkerDied(
        f"Task {task.name!r} lost its worker {task.losses} times; the last one {why}{inside}.",
        next_step="Run it alone to see why: often memory, or a crash in a C extension.",
    )
