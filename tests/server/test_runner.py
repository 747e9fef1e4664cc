"""What runs a server, told from the marks that it leaves: made here where they can be."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from howdah import pg
from howdah.server import find, stop
from howdah.server.runner import runner_of
from tests.connections.conftest import until
from tests.fixtures.server import end

ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="namespaces and cgroups need root")


@pytest.fixture
def cluster(make_cluster):
    return make_cluster()


def howdah(dsn, *arguments, inside=()):
    return subprocess.run(
        [*inside, sys.executable, "-m", "howdah", *arguments, "--dsn", dsn],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def kind(conninfo):
    with pg.connect(conninfo) as conn:
        return runner_of(conn).kind


def test_patroni_is_known_by_what_it_keeps_beside_the_data(cluster):
    assert kind(cluster.conninfo()) == "howdah"
    (cluster.data_dir / "patroni.dynamic.json").write_text("{}")

    done = howdah(cluster.conninfo(), "config", "set", "max_connections", "60", "--restart")

    assert done.returncode == 4
    assert "the server is run by Patroni" in done.stdout
    assert "patronictl restart CLUSTER" in done.stdout


def test_patroni_is_known_by_its_sessions(cluster):
    with psycopg.connect(cluster.conninfo(), application_name="Patroni heartbeat"):
        assert kind(cluster.conninfo()) == "patroni"
    until(lambda: kind(cluster.conninfo()) == "howdah")


@ROOT_ONLY
def test_systemd_is_known_by_the_servers_cgroup(cluster):
    """A unit's cgroup is made, and /run/systemd/system is there for the command alone."""
    groups = [p for p in (Path("/sys/fs/cgroup/pids"), Path("/sys/fs/cgroup")) if p.is_dir()]
    unit = groups[0] / f"howdah{os.getpid()}.slice" / "postgresql@15-main.service"
    try:
        unit.mkdir(parents=True)
        (unit / "cgroup.procs").write_text(str(cluster.pid))
    except OSError as exc:
        pytest.skip(f"no cgroup can be made here: {exc}")
    try:
        not_ours(cluster)
        booted = ["unshare", "--mount", "sh", "-c"]
        booted += ['mount -t tmpfs tmpfs /run && mkdir -p /run/systemd/system && exec "$@"', "sh"]
        plan = json.loads(
            howdah(
                cluster.conninfo(),
                *("config", "set", "max_connections", "60", "--plan", "--json"),
                inside=booted,
            ).stdout
        )
        assert plan["runner"]["label"] == "systemd (postgresql@15-main.service)"
        assert plan["runner"]["restart"] == ["systemctl", "restart", "postgresql@15-main.service"]
        assert kind(cluster.conninfo()) == "pg_ctl"  # where systemd has not booted the machine
    finally:
        end(cluster.data_dir)
        until(lambda: not (unit / "cgroup.procs").read_text())
        unit.rmdir()
        unit.parent.rmdir()


def not_ours(running):
    """Take away what says that the cluster is ours."""
    ours, main = running.data_dir / "howdah.conf", running.data_dir / "postgresql.conf"
    main.write_text(main.read_text().replace("include = 'howdah.conf'", ours.read_text()))
    ours.unlink()


@contextmanager
def contained(running):
    """Start the server as PID 1 of a PID namespace, as in a container; yield its pid out here."""
    stop(running.data_dir)
    owner = running.data_dir.stat()
    if owner.st_uid == 0 or shutil.which("nsenter") is None:
        pytest.skip("needs an OS user for PostgreSQL, and nsenter")
    running.socket_dir.mkdir(mode=0o700)
    os.chown(running.socket_dir, owner.st_uid, owner.st_gid)
    as_owner = ["setpriv", f"--reuid={owner.st_uid}", f"--regid={owner.st_gid}", "--clear-groups"]
    namespace = ["unshare", "--pid", "--fork", "--mount-proc"]
    server = subprocess.Popen(
        [*namespace, *as_owner, find().program("postgres"), "-D", running.data_dir],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
    )
    try:
        until(lambda: answers(running.conninfo()))
        yield str(children(server.pid)[0])
    finally:
        for pid in children(server.pid):  # PID 1 in there: with it all the others go
            os.kill(pid, signal.SIGKILL)
        server.wait()


def children(pid):
    return list(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))


def answers(conninfo):
    try:
        psycopg.connect(conninfo, connect_timeout=1).close()
    except psycopg.OperationalError:
        return False
    return True


SET = ("config", "set", "max_connections", "60", "--restart")


@ROOT_ONLY
def test_container_is_known_from_inside_and_from_outside(cluster):
    with contained(cluster) as pid:
        inside = ["nsenter", "--target", pid, "--pid", "--mount"]
        within = howdah(cluster.conninfo(), *SET, inside=inside)
        assert within.returncode == 4
        assert "the server is run by a container\n" in within.stdout
        assert "docker restart CONTAINER" in within.stdout

        outside = howdah(cluster.conninfo(), *SET[:-2], "70", "--restart")
        assert outside.returncode == 4
        assert "run by a container, or a process hidden from us" in outside.stdout


@ROOT_ONLY
@pytest.mark.parametrize(
    ("role", "words"),
    [
        ("rds_superuser", "aws rds modify-db-parameter-group"),
        ("cloudsqlsuperuser", "gcloud sql instances patch"),
        ("azure_pg_admin", "az postgres flexible-server parameter set"),
    ],
)
def test_managed_service_is_known_by_its_roles(cluster, role, words):
    """The provider's role is real here, the server's processes are hidden as the provider's are."""
    with contained(cluster):
        with psycopg.connect(cluster.conninfo(), autocommit=True) as conn:
            conn.execute(psycopg.sql.SQL("CREATE ROLE {}").format(psycopg.sql.Identifier(role)))
            conn.execute("CREATE ROLE plain LOGIN PASSWORD 'x'")
        plain = cluster.conninfo().replace("user=postgres", "user=plain password=x")

        for dsn in (cluster.conninfo(), plain):
            done = howdah(dsn, *SET)
            assert done.returncode == 4, done.stderr
            assert words in done.stdout + done.stderr
