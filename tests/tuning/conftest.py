"""PostgreSQL for the tests of tuning: the one of all tests, and the newest."""

from __future__ import annotations

import pytest

from howdah.errors import ServerFailed
from howdah.server import Binaries, find

NEWEST = 18


@pytest.fixture(params=["the server of the tests", f"PostgreSQL {NEWEST}"])
def binaries(request: pytest.FixtureRequest) -> Binaries:
    """Each of the two; the second only where it is another one, and on this machine."""
    chosen = find()
    if request.param == "the server of the tests":
        return chosen
    if chosen.major == NEWEST:
        pytest.skip(f"the server of the tests is PostgreSQL {NEWEST} already")
    try:
        return find(NEWEST)
    except ServerFailed:
        pytest.skip(f"PostgreSQL {NEWEST} is not on this machine")
