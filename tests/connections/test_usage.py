from __future__ import annotations

import json
import os
import pty
import resource
import select
import time
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from howdah import pg
from howdah.cli.watch import Asked, State, handle, lines, shown
from howdah.connections.limit import facts, plan_limit
from howdah.connections.refusal import NO_SLOT, refusal
from howdah.connections.usage import usage
from howdah.server import restart


@pytest.fixture
def make_role(dsn):
    made = []

    def make(name, *options):
        name = f"{name}_{os.getpid()}"
        with psycopg.connect(dsn, autocommit=True) as conn:
            statement = sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'x' {}")
            conn.execute(
                statement.format(sql.Identifier(name), sql.SQL(" ").join(map(sql.SQL, options)))
            )
        made.append(name)
        return dsn.replace("user=postgres", f"user={name} password=x")

    yield make
    with psycopg.connect(dsn, autocommit=True) as conn:
        for name in made:
            conn.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))


def seen(conninfo):
    with pg.connect(conninfo, application_name="looker") as conn:
        return usage(conn)


def test_plain_role_sees_the_count_and_how_to_see_more(dsn, make_role):
    plain = make_role("plain")
    with psycopg.connect(dsn, application_name="hidden"):
        found = seen(plain)

    assert found.is_partial
    assert found.grant.startswith("GRANT pg_monitor TO")
    assert found.slots.used >= 2
    hidden = next(each for each in found.sessions if each.application == "hidden")
    assert (hidden.state, hidden.client, hidden.query) == (None, None, None)


@pytest.mark.parametrize("options", [["IN ROLE pg_monitor"], ["SUPERUSER"]])
def test_monitor_and_superuser_see_all(dsn, make_role, options):
    sees = make_role("monitor", *options)
    with psycopg.connect(dsn, application_name="plainly seen") as idle:
        idle.execute("SELECT 1")
        found = seen(sees)

    assert not found.is_partial
    holder = next(each for each in found.holders if each.application == "plainly seen")
    assert (holder.sessions, holder.idle_in_transaction) == (1, 1)
    assert any(each.kind == "checkpointer" for each in found.background)


def test_slots_left_respect_the_roles_own_limit(make_role):
    slots = seen(make_role("limited", "CONNECTION LIMIT 3")).slots

    assert (slots.left, slots.binding) == (2, "role")


def test_slots_left_respect_the_databases_own_limit(dsn, make_role):
    plain = make_role("plain")
    with psycopg.connect(dsn, autocommit=True) as conn:
        name = sql.Identifier(conn.info.dbname)
        conn.execute(sql.SQL("ALTER DATABASE {} CONNECTION LIMIT 5").format(name))
    slots = seen(plain).slots

    assert (slots.left, slots.binding) == (4, "database")


def test_slots_left_are_as_many_as_can_be_opened(make_cluster):
    running = make_cluster()
    with psycopg.connect(running.conninfo(), autocommit=True) as conn:
        conn.execute("ALTER SYSTEM SET max_connections = 12")
        conn.execute("CREATE ROLE plain LOGIN PASSWORD 'x'")
    restart(running.data_dir)
    plain = running.conninfo().replace("user=postgres", "user=plain password=x")
    with ExitStack() as stack:
        left = seen(plain).slots.left + 1  # the one that asked is gone
        for _ in range(left):
            stack.enter_context(psycopg.connect(plain))
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(plain)

        refused = refusal(plain)
        assert (refused.sqlstate, refused.limit) == (NO_SLOT, "reserved")
        assert seen(running.conninfo()).slots.left == 2  # a superuser's, over the reserved ones


@pytest.mark.parametrize("limit", ["role", "database"])
def test_refused_connection_tells_which_limit_it_was(dsn, make_role, limit):
    plain = make_role("none", *(["CONNECTION LIMIT 0"] if limit == "role" else []))
    if limit == "database":
        with psycopg.connect(dsn, autocommit=True) as conn:
            name = sql.Identifier(conn.info.dbname)
            conn.execute(sql.SQL("ALTER DATABASE {} CONNECTION LIMIT 0").format(name))

    assert refusal(plain).limit == limit
    assert refusal(dsn) is None


def test_memory_of_backends_is_measured_where_we_may_look(dsn):
    with ExitStack() as stack:
        for _ in range(5):
            stack.enter_context(psycopg.connect(dsn))
        with pg.connect(dsn) as conn:
            plan = plan_limit(facts(conn))

    assert plan.facts.backend.measured >= 5
    assert 500_000 < plan.facts.backend.private_bytes < plan.facts.backend.rss_bytes
    assert plan.affordable > 100


def test_command_answers_from_the_error_where_no_slot_is_left(howdah, make_role):
    plain = make_role("none", "CONNECTION LIMIT 0")

    for words in ([], ["limit", "300"], ["plan", "--nodes", "3"], ["--watch"]):
        done = howdah("connections", *words, "--dsn", plain)

        assert done.returncode == 3
        assert "ALTER ROLE" in done.stdout
        assert "53300" in done.stdout


def test_json_has_what_the_table_has(howdah):
    found = json.loads(howdah("connections", "--json").stdout)

    assert found["slots"]["left"] == found["slots"]["limit"] - found["slots"]["used"]
    assert found["sessions"]


def test_limit_command_shows_a_sum_that_is_true(howdah):
    found = json.loads(howdah("connections", "limit", "50", "--json").stdout)
    room = sum(term["bytes"] for term in found["have"])

    assert found["left_bytes"] == room - 50 * found["one_bytes"]
    assert found["fits"]
    assert howdah("connections", "limit", "9999999").returncode == 3
    assert howdah("connections", "limit", "9999999", "--apply").returncode == 2


def test_limit_of_files_is_the_postmasters_own_where_that_is_less(make_cluster, howdah):
    own = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (400, own[1]))  # what is started inherits it
    try:
        running = make_cluster()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, own)

    found = json.loads(howdah("connections", "limit", "--json", "--dsn", running.conninfo()).stdout)
    text = howdah("connections", "limit", "200", "--dsn", running.conninfo()).stdout

    checks = {each["name"]: each for each in found["checks"]}
    file_max = int(Path("/proc/sys/fs/file-max").read_text())
    assert (checks["files"]["each"], checks["files"]["limit"]) == (400, file_max)
    needed = (200 + checks["files"]["others"]) * 400
    line = next(line for line in text.splitlines() if line.startswith("files "))
    assert f"{file_max:,}  >=  {needed:,}" in line
    assert "x 400 files at most (the postmaster's RLIMIT_NOFILE)" in line


@pytest.mark.skipif(os.geteuid() != 0, reason="to set huge pages aside needs root")
def test_huge_pages_that_are_set_aside_are_no_memory_for_backends(howdah):
    pages = Path("/proc/sys/vm/nr_hugepages")
    before = pages.read_text()
    try:
        pages.write_text(str(int(before) + 8))
        if int(pages.read_text()) < int(before) + 8:
            pytest.skip("the kernel has no memory in one piece for huge pages")
        found = json.loads(howdah("connections", "limit", "--json").stdout)
    finally:
        pages.write_text(before)
    terms = {term["name"]: term for term in found["have"]}
    assert terms["huge pages"]["bytes"] <= -8 * 2 * 1024 * 1024
    assert "no backend can" in terms["huge pages"]["how"]


def test_keys_select_filter_and_ask_before_they_end_a_session(dsn):
    with psycopg.connect(dsn, application_name="victim"):
        found = seen(dsn)
    state = State()
    for key in ["/", *"victim", "enter"]:
        state = handle(state, key, shown(state, found.sessions))
    rows = shown(state, found.sessions)
    assert [row.application for row in rows] == ["victim"]

    asked = handle(state, "t", rows)
    assert handle(asked, "n", rows).confirmed is None
    assert handle(asked, "y", rows).confirmed == Asked("terminate", rows[0].pid)
    assert all(len(line) <= 70 for line in lines(found, state, 70, 10))
    assert handle(state, "q", rows).done


def test_watch_ends_the_session_that_was_confirmed(howdah, dsn):
    with psycopg.connect(dsn, application_name="victim") as victim:
        pid, screen = pty.fork()
        if pid == 0:
            os.execve(
                howdah.command()[0], howdah.command("connections", "--watch"), howdah.environment()
            )
        _until(screen, b"victim")
        for key in (b"/victim\r", b"t", b"y"):
            os.write(screen, key)
        _until(screen, b"terminated")
        os.write(screen, b"q")
        os.waitpid(pid, 0)
        os.close(screen)
        with pytest.raises(psycopg.OperationalError):
            victim.execute("SELECT 1")


def _until(screen, text):
    seen = b""
    deadline = time.monotonic() + 20
    while text not in seen:
        assert time.monotonic() < deadline, seen
        if select.select([screen], [], [], 1)[0]:
            seen += os.read(screen, 4096)
