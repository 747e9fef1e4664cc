"""Where the usual way is not possible: the next best one, named in the plan, or a refusal."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg
import pytest

from tests.fixtures.django_project import Project

pytestmark = pytest.mark.long

NAMES = "SELECT name FROM shop.shop_item ORDER BY id"
# PgBouncer knows no search_path at the start of a session: the database has it.
PATHLESS = ("-c search_path=shop,public", "")


@contextmanager
def role(project: Project, *options: str) -> Iterator[str]:
    """Have a role with a password, as the owner of the project's database, rebuild it."""
    name = f"role_{secrets.token_hex(4)}"
    project.ask(f"CREATE ROLE {name} LOGIN PASSWORD 'secret' {' '.join(options)}")
    project.ask(f'ALTER DATABASE "{project.main}" OWNER TO {name}')
    project.ask(f"ALTER SCHEMA public OWNER TO {name}")
    before = dict(project.server)
    project.server |= {"user": name, "password": "secret"}
    try:
        yield name
    finally:
        project.server = before
        project.rebuild("--clean")  # results are databases of the role's
        project.ask(f"REASSIGN OWNED BY {name} TO postgres; DROP OWNED BY {name}")
        project.ask(f"DROP ROLE {name}")


@pytest.fixture
def pooled(small: Project, make_pooler: Callable[..., int]) -> Callable[..., dict[str, str]]:
    """Put a pooler in front of the small project; return how its server is reached."""

    def put(user: str = "postgres") -> dict[str, str]:
        [port] = small.ask("SHOW port")
        password = "secret"
        with small.connect() as conn:
            if user == "postgres":
                password = conn.info.password
        small.ask(f'ALTER DATABASE "{small.main}" SET search_path = shop, public')
        small.write("settings.py", *PATHLESS)
        before = dict(small.server)
        small.server["host"] = "127.0.0.1"
        target = f"host=127.0.0.1 port={port} user={user} password={password}"
        small.server["port"] = str(make_pooler(target, users=["front", user]))
        return before

    return put


def test_pooler_is_gone_around(small, pooled):
    direct = pooled()

    [plan] = json.loads(small.rebuild("--plan", "--json"))["databases"]
    small.rebuild()

    assert plan["strategy"] == "aside"
    assert f"around the pooler, at 127.0.0.1 port {direct['port']}" in plan["reason"]
    assert small.ask(NAMES) == ["cup", "plate"]
    small.write("rows.json", '"cup"', '"mug"')
    small.rebuild("--keep-old", "1")
    small.rebuild("--undo")
    assert small.ask(NAMES) == ["cup", "plate"]
    held = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
    assert small.ask(held) == [0]


def test_behind_a_pooler_that_alone_is_let_in_it_is_done_in_place(small, pooled):
    """The role of the application is the pooler's; the server does not know it."""
    with role(small) as owner:
        direct = pooled(owner)
        small.server |= {"user": "front", "password": "x"}

        [plan] = json.loads(small.rebuild("--plan", "--json"))["databases"]
        small.rebuild()
        small.write("rows.json", '"cup"', '"mug"')
        small.rebuild("--keep-old", "1")

        assert plan["strategy"] == "in place"
        assert "a pooler is in front" in plan["reason"]
        assert "not atomic" in plan["cost"]
        assert small.ask(NAMES) == ["mug", "plate"]
        small.rebuild("--undo")
        assert small.ask(NAMES) == ["cup", "plate"]
        small.rebuild("--clean")
        assert small.leftovers() == []
        with psycopg.connect(dbname=small.main, **direct) as conn:
            conn.execute("SELECT pg_advisory_lock(hashtextextended('howdah rebuild', 0))")
            assert "Another rebuild" in small.rebuild(code=2)


def test_direct_way_of_the_settings_is_taken_and_must_lead_to_the_same_database(small, pooled):
    direct = pooled()
    small.configure(direct={"*": f"host={direct['host']} port={direct['port']}"})
    [plan] = json.loads(small.rebuild("--plan", "--json"))["databases"]
    assert f"at {direct['host']} port {direct['port']}" in plan["reason"]
    small.rebuild()

    small.configure(direct=f"host=127.0.0.1 port={small.server['port']}")  # the pooler itself

    assert "does not lead to the server behind" in small.rebuild(code=1)


def test_too_little_disk_for_a_database_beside_is_told_and_it_is_done_in_place(
    small, make_tablespace
):
    small.rebuild()
    result_bytes = _room(small)["in_place_bytes"]
    make_tablespace(small, "narrow", f"{result_bytes * 3 // 2048}k")
    small.ask(f'ALTER DATABASE "{small.main}" SET default_tablespace = narrow')

    [plan] = json.loads(small.rebuild("--plan", "--json", "--fresh"))["databases"]
    small.rebuild("--fresh")

    assert plan["strategy"] == "in place"
    assert "too little disk" in plan["reason"]
    assert result_bytes < plan["room"]["free_bytes"] < plan["room"]["aside_bytes"]
    assert small.ask(NAMES) == ["cup", "plate"]
    in_it = "SELECT count(*) FROM pg_tables WHERE tablename = 'shop_item' AND tablespace = 'narrow'"
    assert small.ask(in_it) == [1]


def _room(project: Project) -> dict[str, int]:
    [plan] = json.loads(project.rebuild("--plan", "--json", "--fresh"))["databases"]
    return plan["room"]


def test_too_little_disk_for_any_way_is_refused(small, make_tablespace):
    small.rebuild()
    before = small.digest()
    make_tablespace(small, "narrow", "100k")
    small.ask(f'ALTER DATABASE "{small.main}" SET default_tablespace = narrow')

    said = small.rebuild("--fresh", code=2)

    assert "MB of disk, and 0 MB are free" in said
    assert f"--allow {small.main}" in said
    assert small.digest() == before


def test_managed_service_without_superuser_is_rebuilt_aside(small):
    """As the owner of a database on a managed service: CREATEDB, and no superuser."""
    with role(small, "CREATEDB", "CREATEROLE"):
        [plan] = json.loads(small.rebuild("--plan", "--json"))["databases"]
        small.rebuild()
        small.write("rows.json", '"cup"', '"mug"')
        small.rebuild()

        assert plan["strategy"] == "aside"
        assert small.ask(NAMES) == ["mug", "plate"]


def test_setting_of_the_database_that_only_a_superuser_sets_is_no_hindrance(small):
    small.ask(f'ALTER DATABASE "{small.main}" SET log_min_duration_statement = 1000')
    small.ask(f"ALTER DATABASE \"{small.main}\" SET work_mem = '5MB'")
    with role(small, "CREATEDB"):
        small.rebuild()

        assert small.ask(NAMES) == ["cup", "plate"]
        kept = small.ask(
            "SELECT datname FROM pg_database WHERE datname LIKE 'howdah_kept%'"
            " AND pg_has_role(datdba, 'USAGE')"
        )
        assert small.ask("SHOW work_mem", database=kept[0]) == ["5MB"]


def test_extension_that_only_a_superuser_installs_has_it_done_in_place(small):
    small.ask("CREATE EXTENSION IF NOT EXISTS pageinspect")
    with role(small, "CREATEDB"):
        [plan] = json.loads(small.rebuild("--plan", "--json"))["databases"]
        small.rebuild()

        assert plan["strategy"] == "in place"
        assert "only a superuser may install pageinspect" in plan["reason"]
        assert small.ask(NAMES) == ["cup", "plate"]


def test_role_that_may_not_create_schemas_is_told_what_to_grant(small):
    with role(small) as name:
        with psycopg.connect(dbname=small.main, **small.server) as conn:
            conn.execute(f'REVOKE CREATE ON DATABASE "{small.main}" FROM {name}')
            conn.commit()

        said = small.rebuild(code=2)

        assert f"The role '{name}' may not create schemas in '{small.main}'" in said
        assert f"GRANT CREATE ON DATABASE {small.main} TO {name}" in said


def test_two_aliases_that_lead_to_one_place_fill_it_once(small):
    small.write(
        "settings.py", "HOWDAH = ", 'DATABASES["again"] = DATABASES["default"] | {}\nHOWDAH = '
    )

    small.rebuild()
    assert small.ask(NAMES) == ["cup", "plate"]
    small.rebuild("--from-models")
    assert small.ask(NAMES) == ["cup", "plate"]
    small.rebuild("--in-place")
    assert small.ask(NAMES) == ["cup", "plate"]
