"""Which errors pass, how long to wait, when to give up."""

from __future__ import annotations

import random

import psycopg
import pytest
from psycopg import errors

from howdah.errors import HowdahError, NoDatabase, Refused
from howdah.loading import Limits, Waiting
from howdah.loading.retrying import LONGEST_WAIT_S, Patience, is_passing, waits


@pytest.mark.parametrize(
    ("exc", "passes"),
    [
        (psycopg.OperationalError("the connection is lost"), True),
        (NoDatabase("PostgreSQL does not answer."), True),
        (errors.AdminShutdown(), True),
        (errors.CrashShutdown(), True),
        (errors.CannotConnectNow(), True),
        (errors.TooManyConnections(), True),
        (errors.SerializationFailure(), True),
        (errors.DeadlockDetected(), True),
        (errors.LockNotAvailable(), True),
        (errors.ConnectionFailure(), True),
        (errors.DiskFull(), False),
        (errors.QueryCanceled(), False),
        (errors.InsufficientPrivilege(), False),
        (errors.ReadOnlySqlTransaction(), False),
        (errors.CheckViolation(), False),
        (Refused("no"), False),
        (ValueError("ours"), False),
    ],
)
def test_only_what_may_succeed_in_a_moment_is_tried_again(exc, passes):
    assert is_passing(exc) is passes


def test_waits_grow_to_a_cap_and_differ_between_workers():
    one, other = waits(random.Random(1)), waits(random.Random(2))
    first, second = [next(one) for _ in range(100)], [next(other) for _ in range(100)]

    assert first != second
    assert all(0.125 * 2**n <= first[n] <= 0.25 * 2**n for n in range(5))
    assert all(LONGEST_WAIT_S / 2 <= wait <= LONGEST_WAIT_S for wait in first[6:])


def test_patience_ends_at_its_limit_and_begins_anew_after_a_success():
    now, said = [0.0], []

    def say(event: Waiting) -> None:
        said.append(event)
        now[0] += 0.4

    patience = Patience(Limits(retry_for_s=1), say, clock=lambda: now[0], chance=random.Random(3))
    lost = psycopg.OperationalError("gone")
    for _ in range(2):
        patience.bear(lost, "load")
        patience.reward()
    while now[0] < 1.6:  # two successes at 0.4 and 0.8 s, and then none
        patience.bear(lost, "load")
    with pytest.raises(HowdahError, match="could not load \\(tried for 1 s\\): gone"):
        patience.bear(lost, "load")

    assert len(said) == 4
    assert {event.reason for event in said} == {"the server is away"}


def test_no_patience_gives_up_at_once_and_other_errors_are_not_borne():
    patience = Patience(Limits(retry_for_s=0), lambda _: pytest.fail("it waits"))

    with pytest.raises(HowdahError, match="could not load"):
        patience.bear(psycopg.OperationalError("gone"), "load")
    with pytest.raises(errors.DiskFull):
        patience.bear(errors.DiskFull(), "load")
