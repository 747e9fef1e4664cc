import os
import pwd
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import psycopg
import pytest

from howdah.errors import NeedsPerson
from howdah.server import account, restart, start, status, stop
from howdah.server.binaries import installed

each_postgresql = pytest.mark.parametrize("binaries", installed(), ids=lambda each: str(each.major))
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root chooses an account")


def has_postgres_user():
    return any(entry.pw_name == "postgres" for entry in pwd.getpwall())


def namespaces_allowed():
    probe = ["unshare", "--user", "--map-user=65534", "--map-group=65534", "true"]
    return subprocess.run(probe, check=False, capture_output=True).returncode == 0


@as_root
@pytest.mark.skipif(not has_postgres_user(), reason="there is no OS user postgres")
def test_root_runs_it_as_the_os_user_postgres(make_cluster):
    running = make_cluster()
    assert running.account == "postgres"
    assert running.data_dir.owner() == "postgres"
    process = psutil.Process(running.pid)
    assert process.username() == "postgres"
    assert process.gids().real == pwd.getpwnam("postgres").pw_gid
    groups = [line for line in proc_status(running.pid) if line.startswith("Groups:")]
    assert groups[0].split()[1:] == []


@as_root
@pytest.mark.skipif(not namespaces_allowed(), reason="user namespaces are not allowed here")
@each_postgresql
def test_root_runs_it_in_a_user_namespace_where_postgres_cannot_reach(base, binaries):
    (base / "closed").mkdir(mode=0o700)
    data = base / "closed" / "cluster"
    running = start(data, binaries=binaries)
    assert running.account == "root (user namespace)"
    assert running.data_dir.stat().st_uid == 0
    with psycopg.connect(running.conninfo()) as conn:
        conn.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    assert "CapEff:\t0000000000000000" in proc_status(running.pid)
    # Where postgres could reach it now, it is root's still.
    (base / "closed").chmod(0o755)
    again = restart(data)
    assert again.account == running.account
    psutil.Process(again.pid).kill()
    while status(data).state == "running":
        time.sleep(0.02)
    with psycopg.connect(start(data).conninfo()) as conn:
        assert conn.execute("SELECT answer FROM kept").fetchone() == (42,)
    assert stop(data).state == "stopped"


@as_root
def test_root_without_any_account_is_told_to_be_somebody_else(base, monkeypatch):
    (base / "closed").mkdir(mode=0o700)
    monkeypatch.setattr(account, "_NAMESPACE", ("false",))
    with pytest.raises(NeedsPerson, match="does not run as root") as caught:
        start(base / "closed" / "cluster")
    assert "su - someone -c 'howdah server start'" in caught.value.next_step
    assert [path.name for path in (base / "closed").iterdir()] == ["cluster.lock"]


@as_root
def test_cluster_of_another_user_is_refused(make_cluster):
    data = make_cluster().data_dir
    said = as_nobody(
        f"""
        for act in (server.start, server.stop, server.status, server.restart):
            try:
                act(Path({str(data)!r}))
            except Refused as error:
                print(error)
        """
    )
    assert said.count("may not be read or written") + said.count("belongs to") == 4
    assert status(data).state == "running"


@as_root
def test_ordinary_user_runs_it_as_himself_in_his_own_folder(base):
    home = base / "home"
    home.mkdir()
    os.chown(home, 65534, 65534)
    said = as_nobody(
        f"""
        os.environ["HOME"] = {str(home)!r}
        running = server.ensure_running()
        print(running.account, running.data_dir)
        psycopg.connect(running.conninfo()).close()
        print(server.restart().port == running.port)
        print(server.stop().state)
        """
    )
    data = home / ".local/share/howdah/cluster"
    assert said.splitlines() == [f"{pwd.getpwuid(65534).pw_name} {data}", "True", "stopped"]
    assert data.parent.stat().st_mode & 0o777 == 0o700


@as_root
def test_folder_that_may_not_be_written_is_told(base):
    said = as_nobody(
        f"""
        try:
            server.start(Path({str(base)!r}) / "cluster")
        except Refused as error:
            print(error)
        """
    )
    assert f"{base}/cluster.lock may not be read or written" in said
    assert list(base.iterdir()) == []


def as_nobody(code):
    # Imports first: the interpreter itself may lie where only root reads.
    first = (
        "import os, platformdirs, psycopg; from pathlib import Path; from howdah import server\n"
        "from howdah.errors import Refused\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", first + textwrap.dedent(code)],
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def proc_status(pid):
    return Path(f"/proc/{pid}/status").read_text().splitlines()
