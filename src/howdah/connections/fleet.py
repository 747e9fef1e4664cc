"""Will a fleet of nodes fit the connection slots: a calculation, without a server."""

from __future__ import annotations

import itertools
import math
import os
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from howdah.errors import UsageError

__all__ = [
    "Fleet",
    "FleetPlan",
    "fleet_of_django",
    "parse_pool",
    "pgbouncer_ini",
    "plan_fleet",
    "workers_of",
]

Verdict = Literal["fits", "smaller pools fit", "pooler"]

KEPT = 5
"""Slots that stay free for psql, migrations, monitoring: a choice."""

_POOLER_HEADROOM = 2
_PREPARED_SINCE = (1, 21)
_POOL = re.compile(r"(\d+)(?:\.\.(\d+))?")
_DJANGO_POOL = (4, 4)
"""psycopg_pool's min_size; max_size is the same where it is not given."""


@dataclass(frozen=True, slots=True)
class Fleet:
    """The programs that share one database.

    Attributes:
        nodes: Hosts, or containers.
        processes: Of each node: gunicorn or uvicorn workers, celery's.
        threads: Of each process: how many connections it can use at once.
        pool_min: Connections that a process's pool holds always; 0 without a pool.
        pool_max: At most; `threads` without a pool.
    """

    nodes: int
    processes: int
    threads: int
    pool_min: int
    pool_max: int

    @property
    def processes_in_all(self) -> int:
        """Over all nodes."""
        return self.nodes * self.processes

    @property
    def useful_max(self) -> int:
        """What a process can use at once: a pool beyond its threads only holds slots."""
        return min(self.pool_max, self.threads)


@dataclass(frozen=True, slots=True)
class FleetPlan:
    """Whether a fleet fits, and what does.

    Attributes:
        fleet: What was asked for.
        slots: For the role: max_connections less both reserves, or its own limit.
        kept: Slots that stay free.
        available: What the fleet may have: `slots` less `kept`.
        at_rest: Slots that it holds when nothing happens.
        at_peak: Slots that it wants when all processes use their pools whole.
        useful: Slots that all threads at once can use.
        fitting_pool: The largest pool of each process that fits; 0: not even one.
        verdict: "fits" as asked for; "smaller pools fit" and every thread
            still has a connection, or the least pool asked for; "pooler" where
            not even that fits.
        server_side: Connections that a pooler would hold to the server.
        reserved: Slots of max_connections that are for others.
    """

    fleet: Fleet
    slots: int
    kept: int
    available: int
    at_rest: int
    at_peak: int
    useful: int
    fitting_pool: int
    verdict: Verdict
    server_side: int
    reserved: int = 0

    @property
    def needed_limit(self) -> int:
        """The max_connections with which every thread of the fleet has a connection."""
        return self.useful + self.kept + self.reserved


def plan_fleet(fleet: Fleet, slots: int, *, kept: int = KEPT, reserved: int = 0) -> FleetPlan:
    """Work out whether a fleet fits.

    Args:
        fleet: The nodes and their pools.
        slots: For the role: max_connections less both reserves, or its own limit.
        kept: How many stay free.
        reserved: Slots of max_connections beyond `slots`.

    Raises:
        UsageError: A number is less than 1, or the pool's are in the wrong order.
    """
    if min(fleet.nodes, fleet.processes, fleet.threads, fleet.pool_max, slots) < 1:
        raise UsageError("Nodes, processes, threads, pool and slots are numbers from 1.")
    if fleet.pool_min > fleet.pool_max:
        raise UsageError(
            f"A pool of {fleet.pool_min} to {fleet.pool_max} has its numbers in the wrong order.",
            next_step="Write the lesser first: --pool 10..20",
        )
    available = max(0, slots - kept)
    fitting = available // fleet.processes_in_all
    at_peak = fleet.processes_in_all * fleet.pool_max
    needed = max(1, min(fleet.pool_min or fleet.threads, fleet.threads))
    verdict: Verdict = "pooler"
    if at_peak <= available:
        verdict = "fits"
    elif fitting >= needed:
        verdict = "smaller pools fit"
    return FleetPlan(
        fleet=fleet,
        slots=slots,
        kept=kept,
        available=available,
        at_rest=fleet.processes_in_all * fleet.pool_min,
        at_peak=at_peak,
        useful=fleet.processes_in_all * fleet.useful_max,
        fitting_pool=min(fitting, fleet.pool_max),
        verdict=verdict,
        server_side=min(available, fleet.processes_in_all * fleet.useful_max),
        reserved=reserved,
    )


def pgbouncer_ini(
    plan: FleetPlan,
    *,
    host: str,
    port: int,
    database: str,
    poolers: int = 1,
    version: tuple[int, int] | None = None,
) -> str:
    """Return a pgbouncer.ini with which the fleet fits.

    Transaction mode, so sessions' own state (SET, LISTEN, advisory locks,
    cursors WITH HOLD) does not survive a commit; prepared statements do, since
    PgBouncer 1.21 with max_prepared_statements, which older ones do not start with.
    Source: https://www.pgbouncer.org/config.html

    Args:
        plan: From `plan_fleet`.
        host: The server's, as the pooler reaches it.
        port: The server's.
        database: The database.
        poolers: How many PgBouncers share the slots: one, or one a node.
        version: PgBouncer's; None: 1.21 or newer.
    """
    fleet = plan.fleet
    clients = math.ceil(fleet.processes_in_all * fleet.pool_max / poolers)
    server = max(1, plan.server_side // poolers)
    reserve = min(_POOLER_HEADROOM, max(0, plan.available // poolers - server))
    prepared = "max_prepared_statements = 200"
    if version is not None and version < _PREPARED_SINCE:
        prepared = (
            f"; PgBouncer {version[0]}.{version[1]} loses prepared statements: psycopg needs "
            "prepare_threshold=None\n; (as Django has it); from 1.21 on: " + prepared
        )
    return f"""\
; {fleet.nodes} nodes x {fleet.processes} processes x pools of up to {fleet.pool_max} are \
{plan.at_peak:,} client connections,
; served over {server} connections to PostgreSQL of the {plan.available} that are to be had\
{f" by {poolers} poolers" if poolers > 1 else ""}.
[databases]
{database} = host={host} port={port} dbname={database}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = 6432
auth_type = scram-sha-256
auth_file = /etc/pgbouncer/userlist.txt
pool_mode = transaction
; one database and one role: with more of them, part these between them
default_pool_size = {server}
max_db_connections = {server + reserve}
reserve_pool_size = {reserve}
max_client_conn = {clients + 20}
{prepared}
query_wait_timeout = 30
server_idle_timeout = 600
ignore_startup_parameters = extra_float_digits,options
"""


def parse_pool(text: str) -> tuple[int, int]:
    """Read "10..20" or "20".

    Raises:
        UsageError: It is neither.
    """
    match = _POOL.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"{text!r} is no size of a pool.", next_step="Write 20, or 10..20.")
    low = int(match[1])
    return low, int(match[2] or low)


def fleet_of_django(
    entry: Mapping[str, Any], nodes: int, *, environ: Mapping[str, str] = os.environ
) -> Fleet:
    """Return the fleet that a Django project's settings and environment describe.

    Args:
        entry: The alias's entry in DATABASES: its OPTIONS["pool"] gives the pool.
        nodes: How many nodes run it, which no settings know.
        environ: WEB_CONCURRENCY and GUNICORN_CMD_ARGS, as gunicorn and uvicorn
            read them; CELERY_CONCURRENCY is added to the processes.
    """
    processes, known = workers_of(environ)
    threads = known or 1
    pool = (entry.get("OPTIONS") or {}).get("pool")
    if not pool:
        return Fleet(nodes, processes, threads, 0, threads)
    sizes = pool if isinstance(pool, Mapping) else {}
    low = int(sizes.get("min_size", _DJANGO_POOL[0]))
    return Fleet(nodes, processes, threads, low, int(sizes.get("max_size") or low))


def workers_of(environ: Mapping[str, str] = os.environ) -> tuple[int, int | None]:
    """Return a node's processes, and the threads of each where they are known.

    Args:
        environ: Where gunicorn, uvicorn and celery read them; see `fleet_of_django`.
    """
    arguments = _gunicorn(environ.get("GUNICORN_CMD_ARGS", ""))
    workers = arguments.get("workers") or int(environ.get("WEB_CONCURRENCY") or 1)
    return workers + int(environ.get("CELERY_CONCURRENCY") or 0), arguments.get("threads")


_GUNICORN = {"-w": "workers", "--workers": "workers", "--threads": "threads"}


def _gunicorn(text: str) -> dict[str, int]:
    words = [part for word in shlex.split(text) for part in word.split("=", 1)]
    found = {}
    for word, value in itertools.pairwise(words):
        if word in _GUNICORN and value.isdecimal():
            found[_GUNICORN[word]] = int(value)
    return found
