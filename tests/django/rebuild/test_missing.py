"""Databases that the settings name and the server does not have."""

from __future__ import annotations

from psycopg import sql


def exists(small) -> bool:
    query = "SELECT count(*) FROM pg_database WHERE datname = %s"
    [count] = small.ask(query, small.main, database="postgres")
    return bool(count)


def drop(small) -> None:
    with small.connect("postgres") as conn:
        conn.execute(sql.SQL("DROP DATABASE {}").format(sql.Identifier(small.main)))


def test_database_that_does_not_exist_is_made(small):
    drop(small)

    small.rebuild()

    assert small.ask("SELECT count(*) FROM store.shelf") == [1]


def test_plan_of_a_database_that_does_not_exist_makes_none(small):
    drop(small)

    said = small.rebuild("--plan", code=1)

    assert f"{small.main!r} does not exist yet" in said
    assert not exists(small)


def test_database_that_is_not_declared_disposable_is_not_made(small):
    drop(small)
    small.configure(allow=[])

    assert f"--allow {small.main}" in small.rebuild(code=2)
    assert not exists(small)

    small.rebuild("--allow", small.main)
    assert exists(small)


def test_database_made_for_a_rebuild_that_fails_is_gone(small):
    drop(small)
    small.write("rows.json", "[", "[[")

    small.rebuild(code=1)

    assert not exists(small)


def test_role_that_may_not_create_databases_is_told_what_to_ask_for(small):
    drop(small)
    role = f"plain_{small.main}"
    with small.connect("postgres") as conn:
        conn.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'plain'").format(sql.Identifier(role)))
    try:
        said = small.rebuild(code=2, PGUSER=role, PGPASSWORD="plain")
        assert "may not create it" in said
        assert "CREATEDB" in said
    finally:
        with small.connect("postgres") as conn:
            conn.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))
