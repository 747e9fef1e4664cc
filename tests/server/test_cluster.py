import os
import re
import shutil
import socket
import stat
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import psutil
import psycopg
import pytest
from psycopg import sql

from howdah.errors import Refused, ServerFailed, UsageError
from howdah.server import ensure_running, init, restart, start, status, stop
from howdah.server.binaries import installed
from howdah.server.postmaster import processes

FOUND = installed()
each_postgresql = pytest.mark.parametrize("binaries", FOUND, ids=lambda each: str(each.major))
START = """
import sys
from pathlib import Path
from howdah.server import start
print(start(Path(sys.argv[1])).pid)
"""


def password(running):
    return running.passfile.read_text().strip().rpartition(":")[2]


@each_postgresql
def test_restart_keeps_the_data_and_stop_leaves_no_process(base, binaries):
    data = base / "cluster"
    assert status(data).state == "absent"
    running = start(data, binaries=binaries)
    assert (running.major, running.version) == (binaries.major, binaries.version)
    with psycopg.connect(running.conninfo()) as conn:
        assert conn.info.server_version // 10000 == binaries.major
        assert conn.info.dbname == "howdah"
        conn.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    again = restart(data)
    assert again.pid != running.pid
    assert again.port == running.port
    with psycopg.connect(again.conninfo()) as conn:
        assert conn.execute("SELECT answer FROM kept").fetchone() == (42,)
    assert ensure_running(data) == start(data) == again == status(data).running
    stopped = stop(data)
    assert (stopped.state, stopped.major, stopped.port) == (
        "stopped",
        binaries.major,
        running.port,
    )
    assert not processes(data)
    assert stop(data) == stopped


@each_postgresql
def test_server_is_as_promised(make_cluster, binaries):
    running = make_cluster(binaries=binaries)
    with psycopg.connect(running.conninfo()) as conn:
        shown = {
            name: conn.execute(sql.SQL("SHOW {}").format(sql.Identifier(name))).fetchone()[0]
            for name in (
                "cluster_name",
                "data_checksums",
                "listen_addresses",
                "password_encryption",
                "server_encoding",
                "unix_socket_directories",
            )
        }
        locale = conn.execute(
            "SELECT datcollate, datlocprovider::text FROM pg_database WHERE datname = 'howdah'"
        ).fetchone()
        methods = conn.execute(
            "SELECT DISTINCT auth_method FROM pg_hba_file_rules WHERE error IS NULL"
        ).fetchall()
    assert shown == {
        "cluster_name": "howdah",
        "data_checksums": "on",
        "listen_addresses": "127.0.0.1",
        "password_encryption": "scram-sha-256",
        "server_encoding": "UTF8",
        "unix_socket_directories": str(running.socket_dir),
    }
    assert locale[0] in ("C.UTF-8", "C")
    assert locale[1] == ("b" if binaries.major >= 17 else "c")
    assert methods == [("scram-sha-256",)]
    assert running.socket_dir.is_absolute()
    addresses = {
        held.laddr.ip
        for held in psutil.Process(running.pid).net_connections(kind="inet")
        if held.status == psutil.CONN_LISTEN
    }
    assert addresses == {"127.0.0.1"}


@pytest.mark.parametrize("host", [None, "127.0.0.1"], ids=["socket", "tcp"])
def test_the_password_is_asked_for_and_must_be_right(server, host, tmp_path):
    conninfo = server.conninfo(host=host)
    with psycopg.connect(conninfo) as conn:
        assert conn.pgconn.used_password
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(conninfo, password="wrong")
    with pytest.raises(psycopg.OperationalError, match="no password supplied"):
        psycopg.connect(conninfo, passfile=str(tmp_path / "none"))


def test_passfile_is_the_callers_alone_and_the_password_nowhere_else(server):
    facts = server.passfile.stat()
    assert stat.S_IMODE(facts.st_mode) == 0o600
    assert facts.st_uid == os.geteuid()
    assert len(password(server)) >= 32
    assert password(server) not in server.conninfo()
    assert password(server) not in repr(server)


def test_password_is_in_no_command_line_or_environment_while_the_cluster_is_made(base):
    seen = set()
    done = threading.Event()

    def watch():
        while not done.is_set():
            for folder in Path("/proc").glob("[0-9]*"):
                for name in ("cmdline", "environ"):
                    try:
                        seen.add((folder / name).read_bytes())
                    except OSError:
                        continue

    if not Path("/proc/self/cmdline").exists():
        pytest.skip("no /proc here to watch")
    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        running = start(base / "cluster")
    finally:
        done.set()
        watcher.join()
    assert any(b"--pwfile" in each for each in seen)
    assert not [each for each in seen if password(running).encode() in each]


def test_two_commands_at_once_end_with_one_server(base):
    data = base / "cluster"
    commands = [
        subprocess.Popen([sys.executable, "-c", START, str(data)], stdout=subprocess.PIPE)
        for _ in range(3)
    ]
    pids = {command.communicate(timeout=60)[0].strip() for command in commands}
    assert pids == {str(status(data).running.pid).encode()}
    assert [command.returncode for command in commands] == [0, 0, 0]


def test_server_holds_no_pipe_of_its_starter_and_outlives_ctrl_c(make_cluster):
    data = make_cluster().data_dir
    stop(data)
    # run() would wait for the end of a pipe that the server held.
    done = subprocess.run(
        [sys.executable, "-c", START, str(data)],
        capture_output=True,
        timeout=60,
        check=True,
        start_new_session=True,
    )
    pid = int(done.stdout)
    assert done.stderr == b""
    own_session = os.getsid(pid)
    assert own_session != os.getsid(0)
    assert psutil.Process(pid).terminal() is None
    targets = {link.readlink() for link in Path(f"/proc/{pid}/fd").glob("[012]")}
    assert Path("/dev/null") in targets
    assert not {target for target in targets if target.is_relative_to("/dev/pts")}


def test_killed_postmaster_is_recovered_by_the_next_start(make_cluster):
    running = make_cluster()
    with psycopg.connect(running.conninfo()) as conn:
        conn.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    psutil.Process(running.pid).kill()
    wait_until(lambda: status(running.data_dir).state == "stopped")
    again = start(running.data_dir)
    assert again.pid != running.pid
    with psycopg.connect(again.conninfo()) as conn:
        assert conn.execute("SELECT answer FROM kept").fetchone() == (42,)


def test_busy_backends_of_a_killed_postmaster_are_ended(make_cluster):
    running = make_cluster()
    with psycopg.connect(running.conninfo(), autocommit=True) as conn:
        # A busy backend sees its postmaster's death only when it next waits.
        busy = threading.Thread(target=burn, args=(conn,))
        busy.start()
        wait_until(lambda: psutil.Process(conn.info.backend_pid).cpu_times().user > 0.1)
        psutil.Process(running.pid).kill()
        wait_until(lambda: status(running.data_dir).state == "stopped")
        assert start(running.data_dir).pid != running.pid
        busy.join()


@pytest.mark.parametrize("kind", ["dead", "recycled"])
def test_stale_pid_file_does_not_stop_a_start(make_cluster, kind):
    running = make_cluster()
    stop(running.data_dir)
    # Of the server's own user: postgres refuses over no other living process.
    owner = running.data_dir.stat()
    other = (
        subprocess.Popen(["sleep", "60"], user=owner.st_uid)
        if os.geteuid() == 0
        else (subprocess.Popen(["sleep", "60"]))
    )
    try:
        if kind == "dead":
            other.kill()
            other.wait()
        text = f"{other.pid}\n{running.data_dir}\n1\n{running.port}\n/tmp\n127.0.0.1\n1 2\nready\n"
        running.socket_dir.mkdir()
        for stale in (
            running.data_dir / "postmaster.pid",
            running.socket_dir / f".s.PGSQL.{running.port}.lock",
        ):
            stale.write_text(text)
            os.chown(stale, owner.st_uid, owner.st_gid)
        os.chown(running.socket_dir, owner.st_uid, owner.st_gid)
        running.socket_dir.chmod(0o700)
        assert status(running.data_dir).state == "stopped"
        assert stop(running.data_dir).state == "stopped"
        assert start(running.data_dir).port == running.port
        assert other.poll() is None or kind == "dead"
    finally:
        other.kill()
        other.wait()


def test_taken_port_is_named_with_its_holder_and_nothing_breaks(make_cluster):
    running = make_cluster()
    data = running.data_dir
    stop(data)
    before = (data / "howdah.conf").read_text()
    with socket.create_server(("127.0.0.1", running.port)):
        with pytest.raises(ServerFailed) as caught:
            start(data)
        assert f"Port {running.port} " in caught.value.message
        assert f"(process {os.getpid()})" in caught.value.message
        assert "howdah server start --port 0" in caught.value.next_step
        moved = start(data, port=0)
        assert moved.port != running.port
        stop(data)
        with pytest.raises(ServerFailed, match=f"Port {running.port} "):
            start(data, port=running.port)
        assert status(data).port == moved.port
    assert start(data, port=running.port).port == running.port
    assert (data / "howdah.conf").read_text() == before
    with pytest.raises(Refused, match=f"runs already, on port {running.port}"):
        start(data, port=moved.port)


def test_taken_port_leaves_no_new_cluster(base):
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(ServerFailed, match="is taken"),
    ):
        start(base / "cluster", port=taken.getsockname()[1])
    assert status(base / "cluster").state == "absent"


@pytest.mark.parametrize("port", [-1, 80, 65536])
def test_port_that_no_ordinary_user_may_open_is_refused(base, port):
    with pytest.raises(UsageError, match=f"{port} is no port"):
        start(base / "cluster", port=port)
    assert list(base.iterdir()) == []


def test_data_directory_of_a_major_that_is_missing_names_both(make_cluster):
    running = make_cluster()
    stop(running.data_dir)
    missing = next(major for major in (16, 17, 14) if major not in {each.major for each in FOUND})
    version = running.data_dir / "PG_VERSION"
    version.write_text(f"{missing}\n")
    with pytest.raises(ServerFailed) as caught:
        start(running.data_dir)
    assert f"made by PostgreSQL {missing}" in caught.value.message
    assert FOUND[0].version in caught.value.message
    assert f"postgresql-{missing}" in caught.value.next_step
    with pytest.raises(ServerFailed, match=f"{missing}, and .* is PostgreSQL {FOUND[0].version}"):
        start(running.data_dir, binaries=FOUND[0])
    version.write_text(f"{running.major}\n")
    assert start(running.data_dir).major == running.major


@pytest.mark.skipif(len(FOUND) < 2, reason="needs two PostgreSQL majors")
def test_existing_cluster_is_started_by_its_own_major(make_cluster):
    running = make_cluster(binaries=FOUND[-1])
    assert restart(running.data_dir).major == FOUND[-1].major


def test_open_data_directory_is_refused_with_the_command_to_type(make_cluster):
    data = make_cluster("my cluster").data_dir
    data.chmod(0o750)
    with pytest.raises(Refused, match="mode 0750"):
        restart(data)
    assert status(data).state == "running"
    stop(data)
    with pytest.raises(Refused) as caught:
        start(data)
    assert caught.value.next_step == f"Run: chmod 0700 '{data}'"
    assert stat.S_IMODE(data.stat().st_mode) == 0o750
    data.chmod(0o700)
    assert start(data)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda data: data.write_text(""), "is a file"),
        (lambda data: (data / "photos").mkdir(parents=True), "is not empty and is no cluster"),
        (lambda data: data.parent.rmdir() or data.parent.write_text(""), "deeper is a file"),
    ],
    ids=["file", "other content", "parent is a file"],
)
def test_what_is_no_data_directory_is_refused_and_left_alone(base, make, said):
    data = base / "deeper" / "cluster"
    data.parent.mkdir()
    make(data)
    with pytest.raises(Refused, match=said):
        start(data)
    assert not list(base.rglob("PG_VERSION"))


def test_cluster_that_is_not_ours_is_refused(make_cluster):
    data = make_cluster().data_dir
    stop(data)
    (data / "howdah.conf").unlink()
    with pytest.raises(Refused, match="Howdah did not make"):
        start(data)


def test_lost_password_file_is_told_before_anything_starts(make_cluster):
    running = make_cluster()
    stop(running.data_dir)
    running.passfile.rename(running.passfile.with_suffix(".kept"))
    with pytest.raises(ServerFailed, match=re.escape(str(running.passfile))):
        start(running.data_dir)


@pytest.mark.parametrize("character", ['"', "$", "`", "\\", "\n"])
def test_path_that_a_shell_would_read_is_refused(base, character):
    with pytest.raises(UsageError, match="shell"):
        start(base / f"a{character}b")


@pytest.mark.parametrize("name", ["it's a cluster, yes", "x" * 120], ids=["odd", "long"])
def test_odd_and_long_paths_get_a_private_short_socket_directory(base, name):
    running = start(base / name)
    assert len(str(running.socket_dir / f".s.PGSQL.{running.port}")) <= 107
    assert running.socket_dir.parent != base
    assert stat.S_IMODE(running.socket_dir.stat().st_mode) == 0o700
    assert running.socket_dir.stat().st_uid == running.data_dir.stat().st_uid
    with psycopg.connect(running.conninfo()) as conn:
        assert conn.pgconn.host == str(running.socket_dir).encode()
    assert restart(running.data_dir).socket_dir == running.socket_dir
    stop(running.data_dir)
    assert not running.socket_dir.exists()


def test_socket_directory_that_others_may_enter_is_refused(make_cluster):
    running = make_cluster()
    stop(running.data_dir)
    running.socket_dir.mkdir(mode=0o755)
    with pytest.raises(Refused, match="mode 0755"):
        start(running.data_dir)
    running.socket_dir.rmdir()


def test_failed_start_tells_the_last_words_of_the_log(make_cluster):
    running = make_cluster()
    stop(running.data_dir)
    settings = running.data_dir / "howdah.conf"
    good = settings.read_text()
    settings.write_text(f"{good}shared_preload_libraries = 'no_such_library'\n")
    with pytest.raises(ServerFailed) as caught:
        start(running.data_dir, port=0)
    assert 'FATAL:  could not access file "no_such_library"' in caught.value.message
    log = caught.value.next_step.rpartition(" ")[2]
    assert "no_such_library" in Path(log).read_text()
    assert status(running.data_dir).port == running.port
    settings.write_text(good)
    assert start(running.data_dir).port == running.port


def test_restart_over_broken_settings_leaves_the_server_running(make_cluster):
    running = make_cluster()
    with (running.data_dir / "howdah.conf").open("a") as settings:
        settings.write("work_mem = 'much'\n")
    with pytest.raises(ServerFailed, match="work_mem"):
        restart(running.data_dir)
    assert status(running.data_dir).running == running


def test_alter_system_wins_over_our_file(make_cluster):
    running = make_cluster()
    with psycopg.connect(running.conninfo(), autocommit=True) as conn:
        conn.execute("ALTER SYSTEM SET cluster_name = 'another'")
    with psycopg.connect(restart(running.data_dir).conninfo()) as conn:
        assert conn.execute("SHOW cluster_name").fetchone() == ("another",)


def test_two_clusters_share_a_folder(make_cluster):
    one, two = make_cluster("one"), make_cluster("two")
    assert one.port != two.port
    stop(one.data_dir)
    assert status(two.data_dir).running == two
    with psycopg.connect(two.conninfo()) as conn:
        assert conn.info.port == two.port


def test_existing_parents_keep_their_modes(base):
    base.chmod(0o711)
    init(base / "made" / "cluster")
    assert stat.S_IMODE(base.stat().st_mode) == 0o711
    expected = 0o755 if os.geteuid() == 0 else 0o700
    assert stat.S_IMODE((base / "made").stat().st_mode) == expected


def test_default_data_directory_follows_the_variable(base, monkeypatch):
    monkeypatch.setenv("HOWDAH_DATA", str(base / "here"))
    assert status().data_dir == base / "here"
    assert init().state == "stopped"
    with pytest.raises(Refused, match="is a cluster already"):
        init()


def test_variables_of_the_caller_do_not_steer_the_server(make_cluster, monkeypatch):
    monkeypatch.setenv("PGDATA", "/nonexistent")
    monkeypatch.setenv("PGOPTIONS", "-c nonsense=1")
    monkeypatch.setenv("PGPORT", "1")
    monkeypatch.setenv("HOWDAH_TEST_SECRET", "hidden")
    running = make_cluster()
    assert "HOWDAH_TEST_SECRET" not in psutil.Process(running.pid).environ()


def test_moved_cluster_starts_in_its_new_place(make_cluster, base):
    running = make_cluster()
    stop(running.data_dir)
    (base / "elsewhere").mkdir()
    for path in list(base.glob("cluster*")):
        shutil.move(path, base / "elsewhere" / path.name)
    again = start(base / "elsewhere" / "cluster")
    with psycopg.connect(again.conninfo()) as conn:
        assert conn.info.dbname == "howdah"


def burn(conn):
    # 90 s if it were let alone.
    with suppress(psycopg.OperationalError):
        conn.execute(
            "SELECT count(*) FROM generate_series(1, 100000) AS a, generate_series(1, 9000)"
        )


def wait_until(condition, timeout_s=10):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
