"""Each step, made to fail: the live database is as before, and the next rebuild succeeds."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg
import pytest

from tests.fixtures.django_project import Project

# Runs in the live database, for a statement of the rebuild that matches.
TRIGGER = """
    CREATE SCHEMA fault;
    CREATE TABLE fault.seen (statement text);
    CREATE FUNCTION fault.strike() RETURNS event_trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF current_query() ~ '{statement}' THEN
            {strike};
        END IF;
    END $$;
    CREATE EVENT TRIGGER strike ON {when} EXECUTE FUNCTION fault.strike()
"""
CUT = "PERFORM pg_terminate_backend(pg_backend_pid())"


@dataclass
class Unchanged:
    """A project with live rows of its own, which a rebuild that fails may not touch."""

    project: Project
    before: str

    def is_as_before(self) -> None:
        assert self.project.digest() == self.before
        assert self.project.leftovers() == []

    def succeeds_next(self) -> None:
        self.is_as_before()
        self.project.rebuild()
        assert self.project.ask("SELECT name FROM shop.shop_item ORDER BY id") == ["cup", "plate"]
        assert self.project.leftovers() == []


@pytest.fixture
def live(small: Project) -> Unchanged:
    small.rebuild()
    small.ask("INSERT INTO store.shelf (name) VALUES ('live')")
    small.ask("INSERT INTO shop.shop_item (name, shelf_id, price) VALUES ('live', 2, 3)")
    return Unchanged(small, small.digest())


@contextmanager
def struck(project: Project, statement: str, strike: str, when: str) -> Iterator[None]:
    """Have something happen in the live database when a statement runs there."""
    project.ask(TRIGGER.format(statement=statement, strike=strike, when=when))
    try:
        yield
    finally:
        project.ask("DROP EVENT TRIGGER strike; DROP SCHEMA fault CASCADE")


def test_migration_that_raises_changes_nothing(live):
    path = "shop/migrations/0001_initial.py"
    good = "operations = ["
    bad = "operations = [migrations.RunSQL('SELECT 1/0'),"
    live.project.write(path, good, bad)

    said = live.project.rebuild(code=1)

    assert "shop.0001_initial failed: DataError: division by zero" in said
    live.project.write(path, bad, good)
    live.succeeds_next()


@pytest.mark.long
def test_failure_in_place_changes_nothing(live):
    live.project.write("rows.json", '"shelf": 1, "name": "plate"', '"shelf": 77, "name": "plate"')

    said = live.project.rebuild("--in-place", code=1)

    assert "The fixtures rows do not load" in said
    live.project.write("rows.json", '"shelf": 77', '"shelf": 1')
    live.succeeds_next()


def test_fixture_that_does_not_load_changes_nothing(live):
    live.project.write("rows.json", '"shelf": 1, "name": "plate"', '"shelf": 77, "name": "plate"')

    said = live.project.rebuild(code=1)

    assert "The fixtures rows do not load into 'default'" in said
    live.project.write("rows.json", '"shelf": 77', '"shelf": 1')
    live.succeeds_next()


@pytest.mark.long
def test_hook_that_raises_changes_nothing(live):
    live.project.configure(after="hooks.after")
    (live.project.folder / "hooks.py").write_text("def after(aliases): raise ValueError('no')\n")

    said = live.project.rebuild(code=1)

    assert "no" in said
    (live.project.folder / "hooks.py").write_text("def after(aliases): pass\n")
    live.succeeds_next()


@pytest.mark.parametrize("signal_number", [signal.SIGKILL, signal.SIGINT])
def test_rebuild_that_is_killed_while_it_builds_changes_nothing(live, signal_number):
    live.project.configure(after="hooks.after")
    hook = live.project.folder / "hooks.py"
    hook.write_text(
        "import time\ndef after(aliases):\n    print('here', flush=True)\n    time.sleep(60)\n"
    )
    process = live.project.start("-m", "howdah", "rebuild")
    assert process.stdout.readline() == "here\n"

    process.send_signal(signal_number)
    process.communicate()

    assert process.returncode == (-9 if signal_number == signal.SIGKILL else 130)
    left = live.project.leftovers()
    assert len(left) == (1 if signal_number == signal.SIGKILL else 0)
    if left:
        assert left[0] in live.project.rebuild("--clean", "--plan")
        assert f"removed the database {left[0]}" in live.project.rebuild("--clean")
    hook.write_text("def after(aliases): pass\n")
    live.succeeds_next()


@pytest.mark.long
def test_rebuild_that_is_killed_while_it_carries_over_changes_nothing(live):
    with struck(live.project, "CREATE TABLE shop__next", "PERFORM pg_sleep(60)", "ddl_command_end"):
        process = live.project.start("-m", "howdah", "rebuild", "--fresh")
        wait_for(live.project, "wait_event = 'PgSleep'")
        process.kill()
        process.communicate()
        end_sessions(live.project)
    live.succeeds_next()


@pytest.mark.parametrize(
    ("statement", "when"),
    [
        ("CREATE TABLE shop__next", "ddl_command_end"),
        pytest.param("ADD CONSTRAINT", "ddl_command_end", marks=pytest.mark.long),
        pytest.param('RENAME TO "shop__old1"', "ddl_command_end", marks=pytest.mark.long),
        ('RENAME TO "store"$', "ddl_command_end"),
    ],
    ids=["making tables", "making constraints", "between renames", "at the last rename"],
)
def test_connection_that_is_cut_changes_nothing(live, statement, when):
    with struck(live.project, statement, CUT, when):
        said = live.project.rebuild(code=1)

    assert "shut down" in said or "lost" in said
    live.succeeds_next()


@pytest.mark.long
def test_statement_that_is_refused_between_the_renames_changes_nothing(live):
    with struck(live.project, 'RENAME TO "shop"$', "RAISE 'no'", "ddl_command_end"):
        live.project.rebuild(code=1)
    live.succeeds_next()


def test_lock_that_another_session_holds_on_a_shared_table_changes_nothing(live):
    live.project.configure(lock_timeout_s=0.5)
    with live.project.connect() as conn, conn.transaction():
        conn.execute("SELECT * FROM public.note")

        said = live.project.rebuild(code=1)

    assert "public could not be locked" in said
    assert "SELECT * FROM public.note" in said
    live.succeeds_next()


def test_reader_of_a_renamed_table_holds_nothing_up(live):
    with live.project.connect() as conn, conn.transaction():
        conn.execute("SELECT * FROM shop.shop_item")

        report = live.project.report()

        assert sorted(report["databases"][0]["left"]) == [
            "public__old1",
            "shop__old1",
            "store__old1",
        ]
        assert conn.execute("SELECT count(*) FROM shop.shop_item").fetchone() == (2,)
    live.project.rebuild()
    assert live.project.leftovers() == []


def test_second_rebuild_at_once_is_refused_or_waits(live):
    with live.project.connect() as conn:
        conn.execute("SELECT pg_advisory_lock(hashtextextended('howdah rebuild', 0))")

        said = live.project.rebuild(code=2)

        assert f"Another rebuild of {live.project.main} is running" in said
        process = live.project.start("-m", "howdah", "rebuild", "--wait", "60")
        wait_for(
            live.project, "application_name = 'howdah rebuild' AND query LIKE '%try_advisory%'"
        )
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err


def test_full_disk_changes_nothing(live, make_tablespace):
    make_tablespace(live.project, "narrow", "100k")
    live.project.ask(f'ALTER DATABASE "{live.project.main}" SET default_tablespace = narrow')

    said = live.project.rebuild("--fresh", "--allow", live.project.main, code=1)

    assert "Check free disk space" in said
    live.project.ask(f'ALTER DATABASE "{live.project.main}" RESET default_tablespace')
    live.succeeds_next()


def test_server_that_is_killed_comes_back_as_before(make_cluster, small):
    """On a server of its own: killed while the result is carried over."""
    cluster = make_cluster("killed")
    small.server |= {"host": str(cluster.socket_dir), "port": str(cluster.port)}
    small.server["passfile"] = str(cluster.passfile)
    with psycopg.connect(cluster.conninfo(), autocommit=True) as conn:
        conn.execute(f'CREATE DATABASE "{small.main}"')
    small.ask("CREATE EXTENSION hstore SCHEMA public")
    small.rebuild()
    before = small.digest()
    with struck(small, "CREATE TABLE shop__next", "PERFORM pg_sleep(60)", "ddl_command_end"):
        process = small.start("-m", "howdah", "rebuild", "--fresh")
        wait_for(small, "wait_event = 'PgSleep'")
        os.kill(cluster.pid, signal.SIGKILL)
        _, err = process.communicate(timeout=60)
        assert process.returncode == 1, err

        make_cluster_again(cluster)
    assert small.digest() == before
    small.rebuild("--fresh")


def make_cluster_again(cluster: object) -> None:
    from howdah.server import start

    start(cluster.data_dir, port=cluster.port)


def wait_for(project: Project, condition: str) -> None:
    deadline = time.monotonic() + 30
    query = f"SELECT count(*) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND {condition}"
    while project.ask(query) == [0]:
        assert time.monotonic() < deadline, condition
        time.sleep(0.02)


def end_sessions(project: Project) -> None:
    condition = "application_name = 'howdah rebuild'"
    project.ask(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {condition}")
    deadline = time.monotonic() + 30
    query = f"SELECT count(*) FROM pg_stat_activity WHERE {condition}"
    while project.ask(query) != [0]:
        assert time.monotonic() < deadline
        time.sleep(0.02)
