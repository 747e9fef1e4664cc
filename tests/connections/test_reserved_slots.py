"""reserved_connections and the role pg_use_reserved_connections (PostgreSQL 16 and newer)."""

from __future__ import annotations

import json
from contextlib import ExitStack

import psycopg
import pytest

from howdah import pg
from howdah.connections.refusal import refusal
from howdah.connections.usage import usage
from howdah.server import find
from howdah.server.binaries import installed


def newest(least):
    """Return a PostgreSQL of at least this major, the tests' own where it is one."""
    found = [find(), *reversed(installed())]
    binaries = next((each for each in found if each.major >= least), None)
    if binaries is None:
        pytest.skip(f"no PostgreSQL {least} or newer here")
    return binaries


@pytest.fixture
def running(make_cluster):
    settings = (
        "max_connections = 12\nsuperuser_reserved_connections = 2\nreserved_connections = 3\n"
    )
    running = make_cluster(binaries=newest(16), settings=settings)
    with psycopg.connect(running.conninfo(), autocommit=True) as conn:
        conn.execute("CREATE ROLE plain LOGIN PASSWORD 'x'")
        conn.execute("CREATE ROLE may LOGIN PASSWORD 'x' IN ROLE pg_use_reserved_connections")
    return running


def as_role(running, role):
    return running.conninfo().replace("user=postgres", f"user={role} password=x")


def fill(stack, conninfo):
    """Open connections until the server has none for the role; return how many."""
    count = 0
    while True:
        try:
            stack.enter_context(psycopg.connect(conninfo))
        except psycopg.OperationalError:
            return count
        count += 1


def slots(conninfo):
    with pg.connect(conninfo) as conn:
        return usage(conn).slots


def test_each_kind_of_role_is_told_what_it_can_open(running):
    plain, may = as_role(running, "plain"), as_role(running, "may")
    left = {who: slots(dsn).left for who, dsn in (("plain", plain), ("may", may))}
    assert left == {"plain": 12 - 2 - 3 - 1, "may": 12 - 2 - 1}  # the one that asks holds one
    assert (slots(may).reserved, slots(may).may_use_reserved) == (3, True)
    assert not slots(plain).may_use_reserved

    with ExitStack() as stack:
        assert fill(stack, plain) == left["plain"] + 1
        refused = refusal(plain)
        assert (refused.sqlstate, refused.limit) == ("53300", "reserved")
        assert slots(may).left == 2
        assert fill(stack, may) == 3
        assert refusal(may).limit == "reserved"
        assert slots(running.conninfo()).left == 1
        assert fill(stack, running.conninfo()) == 2
        assert refusal(running.conninfo()).limit == "all"


def test_command_says_over_which_slots_its_answer_came(running, howdah):
    with ExitStack() as stack:
        fill(stack, as_role(running, "plain"))
        told = howdah("connections", "--dsn", as_role(running, "may"))
        refused = howdah("connections", "--dsn", as_role(running, "plain"), "--json")

    assert told.returncode == 0
    assert "reserved for members of pg_use_reserved_connections: 3" in told.stdout
    assert "NO SLOT IS LEFT for ordinary roles; this answer came over the reserved slots" in (
        told.stdout
    )
    assert refused.returncode == 3
    assert json.loads(refused.stdout)["refused"]["limit"] == "reserved"
