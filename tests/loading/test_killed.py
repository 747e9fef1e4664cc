"""Fifty kills at random moments: the load, its workers, the server and its backends."""

from __future__ import annotations

import secrets

from tests.soak import Chaos, write_input

KILLS = 50


def test_fifty_kills_leave_every_record_and_every_reject_once(make_cluster, base):
    (base / "in").mkdir()
    files = write_input(base / "in")
    seed = secrets.randbelow(1 << 32)
    say = print  # pytest shows it when the test fails
    say(f"seed {seed}: python -m tests.soak 10 {seed}")

    chaos = Chaos(make_cluster(), files, seed, say)
    chaos.run(lambda: chaos.kills.total() >= KILLS)

    assert chaos.kills.total() >= KILLS
    assert chaos.done >= 1
