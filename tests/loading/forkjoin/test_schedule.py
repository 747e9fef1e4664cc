"""The rules of the schedule alone, without processes."""

from __future__ import annotations

from concurrent.futures import Future

from howdah.loading.forkschedule import Schedule, Task
from tests.loading.forkjoin.tasks import running


def test_the_owner_takes_its_newest_and_a_thief_the_oldest():
    schedule = Schedule(2)
    owner, thief = schedule.seats
    schedule.submit(Task("root", b"root"))
    assert running(schedule, owner) == (owner, b"root")
    for number in range(4):
        schedule.fork(owner, number, "part", b"%d" % number)
    assert running(schedule, thief) == (thief, b"0")
    schedule.join(owner, 0)
    assert schedule.next_order() == (owner, ("run", False, b"3"))
    schedule.finish(thief, False, b"")
    assert schedule.next_order() == (thief, ("run", False, b"1"))


def test_a_joined_task_that_nobody_began_is_run_by_its_joiner():
    schedule = Schedule(1)
    (seat,) = schedule.seats
    schedule.submit(Task("root", b"root"))
    running(schedule, seat)
    for number in range(3):
        schedule.fork(seat, number, "part", b"%d" % number)
    schedule.join(seat, 1)
    assert schedule.next_order() == (seat, ("run", True, b"1"))


def test_a_worker_in_a_join_begins_no_submitted_task():
    schedule = Schedule(2)
    owner, thief = schedule.seats
    schedule.submit(Task("root", b"root"))
    running(schedule, owner)
    schedule.fork(owner, 0, "part", b"part")
    running(schedule, thief)
    schedule.submit(Task("fresh", b"fresh"))
    schedule.join(owner, 0)
    assert schedule.next_order() is None
    schedule.finish(thief, False, b"result")
    assert schedule.next_order() == (owner, ("outcome", False, b"result"))
    assert schedule.next_order() == (thief, ("run", False, b"fresh"))


def test_a_worker_in_a_join_steals_when_it_has_forked_nothing_else():
    schedule = Schedule(3)
    owner, thief, third = schedule.seats
    for seat in (owner, third):
        schedule.submit(Task("root", b"root", Future()))
        running(schedule, seat)
    schedule.fork(owner, 0, "part", b"part")
    running(schedule, thief)
    schedule.fork(third, 0, "foreign", b"foreign")
    schedule.join(owner, 0)
    assert schedule.next_order() == (owner, ("run", False, b"foreign"))


def test_an_idle_worker_begins_submitted_tasks_before_it_steals():
    schedule = Schedule(2)
    owner, other = schedule.seats
    schedule.submit(Task("root", b"root"))
    running(schedule, owner)
    schedule.fork(owner, 0, "part", b"part")
    schedule.submit(Task("fresh", b"fresh"))
    assert running(schedule, other) == (other, b"fresh")


def test_a_thief_robs_the_longest_queue():
    schedule = Schedule(3)
    short, long, thief = schedule.seats
    for seat, parts in ((short, [b"s1"]), (long, [b"l1", b"l2"])):
        schedule.submit(Task("root", b"root"))
        running(schedule, seat)
        for number, part in enumerate(parts):
            schedule.fork(seat, number, "part", part)
    assert running(schedule, thief) == (thief, b"l1")


def test_a_loss_for_anothers_sake_is_not_counted():
    schedule = Schedule(1)
    (seat,) = schedule.seats
    schedule.submit(task := Task("root", b"root", Future()))
    running(schedule, seat)
    schedule.lose(seat, "was killed", counted=False)
    assert (task.losses, list(schedule.submitted)) == (0, [task])
    running(schedule, seat)
    schedule.lose(seat, "was killed")
    assert task.losses == 1


def test_a_submitted_task_that_lost_its_worker_is_the_next_to_begin():
    schedule = Schedule(1)
    (seat,) = schedule.seats
    for name in (b"first", b"second"):
        schedule.submit(Task("root", name, Future()))
    running(schedule, seat)
    schedule.lose(seat, "was killed")
    assert running(schedule, seat) == (seat, b"first")


def test_a_child_that_lost_its_worker_returns_to_its_joiner():
    schedule = Schedule(2)
    owner, thief = schedule.seats
    schedule.submit(Task("root", b"root", Future()))
    running(schedule, owner)
    schedule.fork(owner, 0, "joined", b"joined")
    running(schedule, thief)
    schedule.fork(owner, 1, "later", b"later")
    schedule.lose(thief, "was killed")
    assert len(owner.queue) == 2
    schedule.join(owner, 0)
    assert schedule.next_order() == (owner, ("run", True, b"joined"))
