from __future__ import annotations

import json
import os
import pwd
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psycopg
import pytest

from howdah import pg
from howdah.errors import HowdahError, NeedsPerson, Refused, ServerFailed, UsageError
from howdah.server import init, start
from howdah.server.change import Change, apply_change, history, plan_change, plan_undo
from howdah.server.includefile import INCLUDE_NAME
from tests.fixtures.server import reachable_folder

BAD = [
    ("shared_buffers", "900GB"),
    ("shared_buffers", "1kB"),
    ("shared_buffers", "128XB"),
    ("max_connections", "0"),
    ("max_connections", "2"),  # not more than superuser_reserved_connections
    ("max_connections", "262144"),
    ("max_connections", "lots"),
    ("max_connections", "100; DROP TABLE x"),
    ("max_conections", "100"),
    ("wal_level", "minimal"),  # max_wal_senders > 0
    ("wal_level", "maximal"),
    ("listen_addresses", "999.1.1.1"),
    ("port", "0x"),
    ("port", "70000"),
    ("port", "taken"),
    ("shared_preload_libraries", "no_such_library"),
    ("unix_socket_directories", "/no/such/folder"),
    ("huge_pages", "on"),
    ("hba_file", "/no/such/file"),
    ("data_directory", "/tmp"),
    ("block_size", "4096"),
    ("max_locks_per_transaction", "5"),
    ("max_worker_processes", "-1"),
    ("max_wal_size", "banana"),
    ("TimeZone", "Mars/Phobos"),
    ("lc_messages", "xx_YY"),
    ("dynamic_shared_memory_type", "posixx"),
    ("bonjour", "on"),
    ("log_destination", "nowhere"),
    ("log_min_duration_statement", "1\n2"),
]


@pytest.fixture(scope="module")
def own():
    with reachable_folder() as base:
        init(base / "cluster")
        yield start(base / "cluster")


@pytest.fixture
def conn(own):
    with pg.connect(own.conninfo()) as conn:
        yield conn


def set_value(conninfo, name, value, **options):
    with pg.connect(conninfo) as conn:
        plan = plan_change(conn, [Change(name, value)], reason="a test")
        return apply_change(conn, plan, **options)


def show(conninfo, name):
    with psycopg.connect(conninfo) as conn:
        return conn.execute("SELECT current_setting(%s)", [name]).fetchone()[0]


def auto_conf(own):
    return (own.data_dir / "postgresql.auto.conf").read_text()


@pytest.mark.parametrize(("name", "value"), BAD, ids=[f"{n}={v!r:.24}" for n, v in BAD])
def test_server_is_up_as_before_after_a_bad_value(own, name, value):
    before = auto_conf(own), show(own.conninfo(), "max_connections")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        value = str(taken.getsockname()[1]) if value == "taken" else value

        with pytest.raises(HowdahError):
            set_value(own.conninfo(), name, value, restart=True)

    assert (auto_conf(own), show(own.conninfo(), "max_connections")) == before


@pytest.mark.parametrize(
    "line",
    [
        "max_conections = 5\n",
        "include 'missing.conf'\n",
        "include 'unreadable.conf'\n",
        "work_mem = '4MB\n",
        "shared_buffers = 900PB\n",
    ],
)
def test_error_in_the_files_is_found_before_the_server_is_stopped(own, line):
    main = own.data_dir / "postgresql.conf"
    text = main.read_text()
    unreadable = own.data_dir / "unreadable.conf"
    unreadable.touch(mode=0)
    begun = show(own.conninfo(), "port"), started_at(own)
    main.write_text(text + line)
    try:
        with pytest.raises(Refused, match="would not start"):
            set_value(own.conninfo(), "max_connections", "60", restart=True)
    finally:
        main.write_text(text)

    assert (show(own.conninfo(), "port"), started_at(own)) == begun


def test_error_in_pg_hba_conf_is_found_before_the_server_is_stopped(own):
    hba = own.data_dir / "pg_hba.conf"
    text = hba.read_text()
    hba.write_text(text + "local all all nonsense\n")
    try:
        with pytest.raises(Refused, match="pg_hba"):
            set_value(own.conninfo(), "max_connections", "60", restart=True)
    finally:
        hba.write_text(text)


def test_change_of_somebody_else_that_does_not_start_is_held_back(own):
    main = own.data_dir / "postgresql.conf"
    text = main.read_text()
    main.write_text(text + "listen_addresses = '999.1.1.1'\n")
    try:
        with pytest.raises(ServerFailed, match="runs with it again"):
            set_value(own.conninfo(), "max_connections", "60", restart=True)
        assert show(own.conninfo(), "listen_addresses") == "127.0.0.1"
    finally:
        main.write_text(text)
    set_value(own.conninfo(), "listen_addresses", None)


def started_at(own):
    with psycopg.connect(own.conninfo()) as conn:
        return conn.execute("SELECT pg_postmaster_start_time()").fetchone()[0]


def test_value_is_in_force_after_the_restart_and_undone_by_the_undo(own):
    before = show(own.conninfo(), "max_connections")

    result = set_value(own.conninfo(), "max_connections", "77", restart=True)

    assert result.state == "done"
    assert show(own.conninfo(), "max_connections") == "77"
    with pg.connect(own.conninfo()) as conn:
        plan, entry = plan_undo(conn)
        assert entry.number == result.number
        apply_change(conn, plan, restart=True, undoes=entry.number)
    assert show(own.conninfo(), "max_connections") == before


def test_without_restart_the_value_waits_and_a_person_is_told(own):
    result = set_value(own.conninfo(), "max_connections", "78")

    assert result.state == "pending restart"
    assert "restart" in result.next_step
    undone = set_value(own.conninfo(), "max_connections", None)
    assert undone.state == "done"  # what was in force all the time needs no restart


def test_setting_of_a_reload_is_in_force_at_once(own):
    assert set_value(own.conninfo(), "work_mem", "9MB").state == "done"
    assert show(own.conninfo(), "work_mem") == "9MB"
    assert set_value(own.conninfo(), "work_mem", "9216kB").state == "nothing"


def test_several_settings_are_one_change_and_none_where_one_is_bad(own, conn):
    before = auto_conf(own)
    plan = plan_change(conn, [Change("work_mem", "7MB"), Change("lc_messages", "xx_YY")])

    with pytest.raises(HowdahError):
        apply_change(conn, plan)

    assert auto_conf(own) == before


def test_list_of_names_is_written_as_a_list(own):
    set_value(own.conninfo(), "search_path", 'app, "$user", public')

    assert show(own.conninfo(), "search_path") == 'app, "$user", public'
    set_value(own.conninfo(), "search_path", None)


def test_history_tells_what_was_rolled_back(own):
    with pytest.raises(ServerFailed):
        set_value(own.conninfo(), "listen_addresses", "999.1.1.1", restart=True)

    with pg.connect(own.conninfo()) as conn:
        newest = history(conn)[0]
    assert (newest.state, newest.steps[0].name) == ("rolled back", "listen_addresses")
    journal = (own.data_dir / "howdah.changes.jsonl").read_text().splitlines()
    assert json.loads(journal[-1])["state"] == "rolled back"


def test_running_transaction_is_waited_for(own):
    busy = psycopg.connect(own.conninfo())
    busy.execute("SELECT 1")
    events = []

    result = set_value(
        own.conninfo(),
        "max_connections",
        "79",
        restart=True,
        drain_s=0.5,
        on_event=events.append,
    )
    busy.close()

    assert any(event.step == "drain" for event in events)
    assert result.restarted.ended_transactions == 1
    set_value(own.conninfo(), "max_connections", None, restart=True)


@pytest.mark.parametrize("moment", ["drain", "down", "verify"])
def test_ctrl_c_leaves_the_server_up_and_as_before(own, moment):
    before, limit = auto_conf(own), show(own.conninfo(), "max_connections")
    busy = psycopg.connect(own.conninfo())
    busy.execute("SELECT 1")
    drain = "60" if moment == "drain" else "0"
    command = ["config", "set", "max_connections", "81", "--restart", "--drain", drain]
    process = subprocess.Popen(
        [sys.executable, "-m", "howdah", *command, "--dsn", own.conninfo()],
        stderr=subprocess.PIPE,
        text=True,
    )
    word = "transactions run" if moment == "drain" else "restart"
    while word not in process.stderr.readline():
        assert process.poll() is None
    if moment != "drain":
        wait_until_gone(own, back=moment == "verify")
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=60)[1]
    busy.close()

    assert process.returncode != 0, said
    assert auto_conf(own) == before
    assert show(own.conninfo(), "max_connections") == limit
    with pg.connect(own.conninfo()) as conn:
        assert history(conn)[0].state == "rolled back"
        assert not conn.execute("SELECT name FROM pg_settings WHERE pending_restart").fetchall()


def wait_until_gone(own, *, back):
    first = (own.data_dir / "postmaster.pid").read_text().splitlines()[0]
    while True:
        try:
            now = (own.data_dir / "postmaster.pid").read_text().splitlines()[0]
        except (FileNotFoundError, IndexError):
            now = None
        if now != first and (now or not back):
            return
        time.sleep(0.001)


def test_plain_role_writes_our_include_file_where_it_runs_as_the_server_does(own, conn):
    conn.execute("CREATE ROLE plain LOGIN PASSWORD 'x'")
    plain = own.conninfo().replace("user=postgres", "user=plain password=x")

    result = set_value(plain, "max_connections", "81", restart=True)

    assert result.state == "done"
    assert show(own.conninfo(), "max_connections") == "81"
    assert (own.data_dir / INCLUDE_NAME).exists()
    assert set_value(plain, "max_connections", None, restart=True).state == "done"
    assert show(own.conninfo(), "max_connections") != "81"


def test_command_line_wins_and_only_a_person_can_change_it(base):
    init(base / "cluster")
    running = start(base / "cluster")
    subprocess.run(
        [*_as_owner(running), *_pg_ctl(running, "restart", "-o", "-c max_connections=50")],
        check=True,
        stdout=subprocess.DEVNULL,
        cwd="/",
    )

    with pytest.raises(NeedsPerson, match="command line"):
        set_value(running.conninfo(), "max_connections", "60")


def test_foreign_cluster_is_restarted_by_pg_ctl_with_its_own_options(base):
    init(base / "cluster")
    running = start(base / "cluster")
    # Not ours any more: what says so is gone, and its text stands in postgresql.conf.
    ours = running.data_dir / "howdah.conf"
    main = running.data_dir / "postgresql.conf"
    main.write_text(main.read_text().replace("include = 'howdah.conf'", ours.read_text()))
    ours.unlink()
    subprocess.run(
        [*_as_owner(running), *_pg_ctl(running, "restart", "-o", "-c work_mem=5MB")],
        check=True,
        stdout=subprocess.DEVNULL,
        cwd="/",
    )

    with pg.connect(running.conninfo()) as conn:
        plan = plan_change(conn, [Change("max_connections", "61")])
        assert plan.runner.kind == "pg_ctl"
        apply_change(conn, plan, restart=True)

    assert show(running.conninfo(), "max_connections") == "61"
    assert show(running.conninfo(), "work_mem") == "5MB"
    with pytest.raises(ServerFailed, match="runs with it again"):
        set_value(running.conninfo(), "listen_addresses", "999.1.1.1", restart=True)
    assert show(running.conninfo(), "max_connections") == "61"


def _pg_ctl(running, *arguments):
    program = Path(f"/proc/{running.pid}/exe").readlink().parent / "pg_ctl"
    return [program, "--wait", "--pgdata", running.data_dir, "-l", "/dev/null", *arguments]


def _as_owner(running):
    owner = running.data_dir.stat().st_uid
    if os.geteuid() != 0:
        return []
    if owner == 0:
        return ["unshare", "--user", "--map-user=65534", "--map-group=65534"]
    return [
        "setpriv",
        f"--reuid={owner}",
        f"--regid={pwd.getpwuid(owner).pw_gid}",
        "--clear-groups",
    ]


@pytest.mark.parametrize(
    ("name", "value"), [("max_connections", "1000000"), ("wal_level", "x"), ("fsync", "maybe")]
)
def test_error_tells_what_would_be_allowed(conn, name, value):
    with pytest.raises(UsageError) as caught:
        plan_change(conn, [Change(name, value)])

    assert "from 1 to" in str(caught.value) or "one of" in str(caught.value)
