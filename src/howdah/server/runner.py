"""What runs a server: found out, never assumed; and how it is restarted by that.

A server is on this machine only where the backend that serves our connection is
a process here, started at the very second that the server says. A forwarded
port, a container or a pooler in between fail that test.
"""

from __future__ import annotations

import os
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import psutil  # type: ignore[import-untyped]
from psycopg import Connection, errors

from howdah.server import configuration

__all__ = ["LocalServer", "Runner", "local_server", "runner_of"]

Kind = Literal[
    "howdah", "pg_ctl", "pg_ctlcluster", "systemd", "patroni", "container", "managed", "elsewhere"
]

_CLOCK_SLACK_S = 3.0
_DEBIAN = re.compile(r"/etc/postgresql/(\d+)/([^/]+)/postgresql\.conf")
_UNIT = re.compile(r"/([^/]+\.service)$", re.MULTILINE)
_UNIT_NAMES = re.compile(r"postgres|pgsql|patroni", re.IGNORECASE)
_CONFIG_OPTION = re.compile(r"(?:--config[-_]file=|(?:-c\s*)?config_file=)(.+)")
# Settings that only a provider's PostgreSQL has, and what to type there.
_PROVIDERS = {
    "rds.": (
        "Amazon RDS or Aurora",
        (
            "change it in the parameter group: aws rds modify-db-parameter-group "
            "--db-parameter-group-name GROUP --parameters "
            "ParameterName=NAME,ParameterValue=VALUE,ApplyMethod=pending-reboot; "
            "then: aws rds reboot-db-instance --db-instance-identifier INSTANCE"
        ),
    ),
    "cloudsql.": (
        "Google Cloud SQL",
        (
            "run: gcloud sql instances patch INSTANCE --database-flags=NAME=VALUE "
            "(it replaces all flags: name the others too; the instance restarts)"
        ),
    ),
    "azure.": (
        "Azure Database for PostgreSQL",
        (
            "run: az postgres flexible-server parameter set --resource-group GROUP "
            "--server-name SERVER --name NAME --value VALUE; "
            "then: az postgres flexible-server restart --resource-group GROUP --name SERVER"
        ),
    ),
    "neon.": ("Neon", "the limit follows the compute size: change that in Neon's console"),
    "supautils.": (
        "Supabase",
        "run: supabase --experimental postgres-config update --config NAME=VALUE",
    ),
    "aiven.": ("Aiven", "run: avn service update SERVICE -c pg.NAME=VALUE"),
}


@dataclass(frozen=True, slots=True)
class LocalServer:
    """A server whose processes are on this machine.

    Attributes:
        pid: The postmaster's.
        program: Its executable.
        arguments: Its command line after the program.
        data: The data directory.
        config_file: The main configuration file.
        owner: The OS user's number that it runs as.
        may_control: We are root or that user: we may read its files and signal it.
    """

    pid: int
    program: Path
    arguments: tuple[str, ...]
    data: Path
    config_file: Path
    owner: int
    may_control: bool


@dataclass(frozen=True, slots=True)
class Runner:
    """What runs the server.

    Attributes:
        kind: "howdah" is a cluster of our own; "elsewhere" is another host.
        label: For people: "systemd (postgresql@15-main.service)".
        restart: The command that restarts it; empty for our own cluster, which
            needs none, and where we cannot restart it.
        can_restart: We can restart it from here, and put things back if it fails.
        words: What a person types to restart it, or to change a setting there.
        local: Its processes; None where they are not on this machine, or hidden.
    """

    kind: Kind
    label: str
    restart: tuple[str, ...]
    can_restart: bool
    words: str
    local: LocalServer | None


_BACKEND = """
    SELECT pid, extract(epoch FROM backend_start)::float8
      FROM pg_catalog.pg_stat_activity
     WHERE pid = pg_catalog.pg_backend_pid()
"""


def local_server(conn: Connection[Any]) -> LocalServer | None:
    """Return the server's processes where they are on this machine, and may be looked at."""
    row = conn.execute(_BACKEND).fetchone()
    if row is None or row[1] is None:
        return None
    try:
        backend = psutil.Process(row[0])
        if abs(backend.create_time() - row[1]) > _CLOCK_SLACK_S:
            return None
        main = backend.parent()
        if main is None or not main.name().startswith(("postgres", "postmaster")):
            return None
        return _described(conn, main)
    except psutil.Error:
        return None


def _described(conn: Connection[Any], main: Any) -> LocalServer | None:
    owner = int(main.uids().real)
    data = _shown(conn, "data_directory")
    arguments = tuple(main.cmdline()[1:])
    may_control = os.geteuid() in (0, owner)
    if may_control:
        data, program = main.cwd(), Path(main.exe())
    else:
        program = Path(main.cmdline()[0])
    if not data:
        return None
    named = [m[1] for m in map(_CONFIG_OPTION.fullmatch, arguments) if m]
    config = _shown(conn, "config_file") or (named[-1] if named else f"{data}/postgresql.conf")
    return LocalServer(
        pid=main.pid,
        program=program,
        arguments=arguments,
        data=Path(data),
        config_file=Path(data, config),
        owner=owner,
        may_control=may_control,
    )


def _shown(conn: Connection[Any], name: str) -> str:
    try:
        with conn.transaction():
            row = conn.execute("SELECT current_setting(%s)", [name]).fetchone()
    except errors.InsufficientPrivilege:
        return ""
    return "" if row is None else str(row[0])


def runner_of(conn: Connection[Any]) -> Runner:
    """Find out what runs the server."""
    local = local_server(conn)
    if _has_patroni(conn, local):
        words = (
            "Patroni owns the configuration. Run: patronictl edit-config --pg NAME=VALUE, "
            "and: patronictl restart CLUSTER."
        )
        return Runner("patroni", "Patroni", (), False, words, local)
    return _not_here(conn) if local is None else _here(local)


_PATRONIS = """
    SELECT EXISTS (SELECT FROM pg_catalog.pg_stat_activity
                    WHERE application_name IN ('Patroni heartbeat', 'Patroni restapi'))
"""
_PATRONIS_CACHE = "patroni.dynamic.json"


def _has_patroni(conn: Connection[Any], local: LocalServer | None) -> bool:
    """Say whether Patroni runs the server: from its sessions, or what it keeps beside the data.

    The postmaster is no child of its (but where Patroni is PID 1), and the name of a parent
    says nothing. Seen with Patroni 4.1.
    """
    row = conn.execute(_PATRONIS).fetchone()
    if row is not None and row[0]:
        return True
    if local is None:
        return False
    if "patroni" in _parent_command(local.pid):
        return True
    return local.may_control and (local.data / _PATRONIS_CACHE).is_file()


# Roles that a provider makes in each of its servers, for one that is not on this machine.
_PROVIDERS_ROLES = {
    "rds_superuser": "rds.",
    "cloudsqlsuperuser": "cloudsql.",
    "azure_pg_admin": "azure.",
    "neon_superuser": "neon.",
    "supabase_admin": "supautils.",
}
_ROLES = "SELECT rolname FROM pg_catalog.pg_roles WHERE rolname = ANY (%s)"
_OWN_SETTINGS = "SELECT DISTINCT split_part(name, '.', 1) || '.' FROM pg_catalog.pg_settings"


def _not_here(conn: Connection[Any]) -> Runner:
    prefixes = {str(row[0]) for row in conn.execute(_OWN_SETTINGS)}
    roles = conn.execute(_ROLES, [list(_PROVIDERS_ROLES)])
    prefixes |= {_PROVIDERS_ROLES[str(row[0])] for row in roles}
    for prefix, (name, words) in _PROVIDERS.items():
        if prefix in prefixes:
            return Runner("managed", name, (), False, f"On {name}, {words}.", None)
    host = conn.info.host
    if host.startswith("/") or host in ("localhost", "127.0.0.1", "::1"):
        words = (
            "It answers on this host, and its processes are not to be seen: most likely a "
            "container. Run: docker restart CONTAINER (docker ps shows its name); in Compose: "
            "docker compose restart SERVICE."
        )
        return Runner(
            "container", "a container, or a process hidden from us", (), False, words, None
        )
    words = (
        f"On {host}, run what runs it there: systemctl restart postgresql, or pg_ctlcluster "
        "VERSION NAME restart, or pg_ctl restart -D DATA; a managed service has a console for it."
    )
    return Runner("elsewhere", f"another host, {host}", (), False, words, None)


def _here(local: LocalServer) -> Runner:
    if local.pid == 1 or _in_container(local.pid):
        words = (
            "The container ends with the server in it. Restart it from outside: docker restart "
            "CONTAINER, docker compose restart SERVICE, or kubectl rollout restart "
            "statefulset/NAME."
        )
        return Runner("container", "a container", (), False, words, local)
    if local.may_control and (local.data / configuration.NAME).is_file():
        command = f"howdah server restart --data {shlex.quote(str(local.data))}"
        return Runner("howdah", "Howdah's own cluster", (), True, f"Run: {command}", local)
    return _by_service(local)


def _by_service(local: LocalServer) -> Runner:
    is_root = os.geteuid() == 0
    unit = _systemd_unit(local.pid)
    if unit:
        command: tuple[str, ...] = ("systemctl", "restart", unit)
        words = f"Run: {'' if is_root else 'sudo '}{shlex.join(command)}"
        return Runner("systemd", f"systemd ({unit})", command, is_root, words, local)
    debian = _DEBIAN.fullmatch(str(local.config_file))
    if debian and Path("/usr/bin/pg_ctlcluster").exists():
        command = ("pg_ctlcluster", debian[1], debian[2], "restart")
        words = f"Run as root: {shlex.join(command)}"
        label = f"pg_ctlcluster ({debian[1]}/{debian[2]})"
        return Runner("pg_ctlcluster", label, command, local.may_control, words, local)
    command = _pg_ctl(local)
    words = f"Run as the OS user that owns {local.data}: {shlex.join(command)}"
    return Runner("pg_ctl", "pg_ctl", command, local.may_control, words, local)


def _pg_ctl(local: LocalServer) -> tuple[str, ...]:
    """Return the command that restarts it with the options it was started with."""
    program = str(local.program.parent / "pg_ctl")
    command = (program, "restart", "--wait", "--mode=fast", "--pgdata", str(local.data))
    try:
        output = Path(f"/proc/{local.pid}/fd/1").resolve(strict=True)
    except OSError:
        return command
    # A file that pg_ctl --log made: without it the log would end here.
    return (*command, "--log", str(output)) if output.is_file() else command


def _parent_command(pid: int) -> str:
    try:
        parent = psutil.Process(pid).parent()
        return " ".join(parent.cmdline()) if parent else ""
    except psutil.Error:
        return ""


def _in_container(pid: int) -> bool:
    """Say whether the server is the main work of the container we are in: its parent is PID 1."""
    try:
        parent = psutil.Process(pid).ppid()
        entry = " ".join(psutil.Process(1).cmdline())
    except psutil.Error:
        return False
    return parent == 1 and Path("/.dockerenv").exists() and "postgres" in entry


def _systemd_unit(pid: int) -> str | None:
    if not Path("/run/systemd/system").is_dir():
        return None
    try:
        text = Path(f"/proc/{pid}/cgroup").read_text()
    except OSError:
        return None
    units = [unit for unit in _UNIT.findall(text) if _UNIT_NAMES.search(unit)]
    return units[-1] if units else None
