from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from howdah.connections.fleet import Fleet, fleet_of_django, parse_pool, pgbouncer_ini, plan_fleet
from howdah.connections.limit import Backend, Facts, plan_limit
from howdah.errors import UsageError

MIB = 1 << 20
FACTS = Facts(
    ram_bytes=8192 * MIB,
    ram_from="RAM of this host",
    cores=4,
    processes_limit=None,
    max_connections=100,
    shared_bytes=2200 * MIB,
    shared_buffers_bytes=2048 * MIB,
    work_mem_bytes=4 * MIB,
    hash_mem_multiplier=2.0,
    maintenance_bytes=64 * MIB,
    autovacuum_workers=3,
    background_processes=29,
    backend=Backend(4 * MIB, 16 * MIB, 50, "measured"),
)


@given(wish=st.integers(1, 20_000), private=st.integers(1, 64), work=st.integers(1, 512))
def test_what_is_affordable_fits_and_one_more_does_not(wish, private, work):
    facts = replace(
        FACTS,
        work_mem_bytes=work * MIB,
        backend=replace(FACTS.backend, private_bytes=private * MIB),
    )

    plan = plan_limit(facts, wish, active=1)

    assert plan.fits == (plan.left_bytes >= 0)
    room = sum(term.bytes for term in plan.have)
    assert plan.affordable * plan.one_bytes <= max(0, room)
    assert (plan.affordable + 1) * plan.one_bytes > room


def test_each_remedy_alone_makes_the_wish_fit():
    plan = plan_limit(FACTS, 1150, active=64)
    found = {remedy.what: remedy.value for remedy in plan.remedies}

    assert not plan.fits
    assert set(found) == {"work_mem", "shared_buffers", "RAM"}
    work_mem = int(found["work_mem"].removesuffix("kB")) << 10
    assert plan_limit(replace(FACTS, work_mem_bytes=work_mem), 1150, active=64).fits
    ram = int(found["RAM"].removesuffix(" MiB").replace(",", "")) * MIB
    assert plan_limit(replace(FACTS, ram_bytes=ram), 1150, active=64).fits


def test_limit_of_processes_binds_where_it_is_less_than_the_memory():
    plan = plan_limit(replace(FACTS, processes_limit=129), 300)

    assert (plan.affordable, plan.bound, plan.fits) == (100, "processes", False)


@given(files=st.integers(64, 5000), limit=st.integers(10_000, 10_000_000))
def test_files_of_all_processes_fit_the_kernels_limit_and_one_more_does_not(files, limit):
    plan = plan_limit(replace(FACTS, files_per_process=files, files_limit=limit), 10_000)
    check = next(each for each in plan.checks if each.name == "files")

    assert check.needed == (10_000 + 29) * files
    assert (check.affordable + 29) * files <= max(limit, 29 * files)
    assert (check.affordable + 1 + 29) * files > limit
    assert plan.affordable <= check.affordable
    if plan.bound == "files":
        for remedy in plan.remedies:
            value = int(remedy.value.split()[0])
            name = {"fs.file-max": "files_limit"}.get(remedy.what, "files_per_process")
            mended = replace(FACTS, files_per_process=files, files_limit=limit)
            wish = plan_limit(replace(mended, **{name: value}), 10_000)
            assert wish.bound == "memory" or wish.fits


def test_idle_huge_pages_are_taken_from_the_memory_and_swap_is_not_added():
    huge = replace(FACTS, huge_pages_bytes=1024 * MIB, swap_bytes=8192 * MIB)
    terms = {term.name: term for term in plan_limit(huge).have}

    assert terms["huge pages"].bytes == -1024 * MIB
    assert (terms["swap"].bytes, "8,192 MiB, not counted" in terms["swap"].how) == (0, True)
    one = plan_limit(FACTS).one_bytes
    difference = plan_limit(FACTS).affordable - plan_limit(huge).affordable
    assert abs(difference - 1024 * MIB // one) <= 1


@pytest.mark.parametrize(
    ("fleet", "slots", "verdict", "fitting"),
    [
        (Fleet(12, 1, 8, 2, 4), 197, "fits", 4),
        (Fleet(12, 4, 8, 10, 20), 97, "pooler", 1),
        (Fleet(12, 1, 8, 4, 20), 197, "smaller pools fit", 16),
        (Fleet(1, 1, 1, 0, 1), 6, "fits", 1),
        (Fleet(200, 4, 1, 0, 1), 97, "pooler", 0),
    ],
)
def test_fleet_fits_or_what_does_is_told(fleet, slots, verdict, fitting):
    plan = plan_fleet(fleet, slots)

    assert (plan.verdict, plan.fitting_pool) == (verdict, fitting)


def test_limit_that_is_named_has_a_connection_for_every_thread():
    fleet = Fleet(12, 4, 8, 10, 20)
    needed = plan_fleet(fleet, 97, reserved=3).needed_limit

    assert plan_fleet(fleet, needed - 3).fitting_pool == fleet.threads
    assert plan_fleet(fleet, needed - 4).fitting_pool == fleet.threads - 1


@pytest.mark.parametrize("poolers", [1, 12])
def test_pgbouncer_never_takes_more_slots_than_there_are(poolers):
    plan = plan_fleet(Fleet(12, 4, 8, 10, 20), 97)
    ini = pgbouncer_ini(plan, host="db", port=5432, database="app", poolers=poolers)
    values = dict(line.split(" = ", 1) for line in ini.splitlines() if " = " in line)

    assert int(values["max_db_connections"]) * poolers <= plan.available
    assert int(values["max_client_conn"]) * poolers >= plan.at_peak


@pytest.mark.parametrize(
    ("version", "works"), [(None, True), ((1, 21), True), ((1, 24), True), ((1, 18), False)]
)
def test_pgbouncer_that_has_no_prepared_statements_is_not_given_them(version, works):
    plan = plan_fleet(Fleet(12, 4, 8, 10, 20), 97)
    ini = pgbouncer_ini(plan, host="db", port=5432, database="app", version=version)

    assert ("max_prepared_statements = 200" in ini.splitlines()) == works


@pytest.mark.parametrize("text", ["", "x", "10..", "10-20", "-3"])
def test_pool_that_is_no_size_is_refused(text):
    with pytest.raises(UsageError):
        parse_pool(text)


def test_django_settings_and_gunicorn_arguments_make_the_fleet():
    entry = {"OPTIONS": {"pool": {"min_size": 2, "max_size": 6}}}
    environ = {"GUNICORN_CMD_ARGS": "--workers=3 --threads 8", "CELERY_CONCURRENCY": "2"}

    assert fleet_of_django(entry, 12, environ=environ) == Fleet(12, 5, 8, 2, 6)
    assert fleet_of_django({}, 2, environ={}) == Fleet(2, 1, 1, 0, 1)
