"""Kills at random moments: of the load, its workers, the server and its backends."""

from __future__ import annotations

import secrets

import pytest

from tests.soak import Chaos, write_input


@pytest.mark.parametrize("kills", [10, pytest.param(50, marks=pytest.mark.long)])
def test_kills_leave_every_record_and_every_reject_once(make_cluster, base, kills):
    (base / "in").mkdir()
    files = write_input(base / "in")
    seed = secrets.randbelow(1 << 32)
    say = print  # pytest shows it when the test fails
    say(f"seed {seed}: python -m tests.soak 10 {seed}")

    chaos = Chaos(make_cluster(), files, seed, say)
    chaos.run(lambda: chaos.kills.total() >= kills)

    assert chaos.kills.total() >= kills
    assert chaos.done >= 1
