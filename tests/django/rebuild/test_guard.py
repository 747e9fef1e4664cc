"""What a rebuild refuses, and what it carries over."""

from __future__ import annotations

import json
import shutil

import pytest


def test_database_that_is_not_declared_disposable_is_refused(small):
    small.configure(allow=[])

    said = small.rebuild(code=2)

    assert f"'{small.main}' is not declared disposable" in said
    assert f"--allow {small.main}" in said
    small.rebuild("--allow", small.main)


def test_database_above_the_size_limit_is_refused_unless_it_is_typed_in_full(small):
    small.configure(max_size_bytes=1)

    assert "more than the limit" in small.rebuild(code=2)

    small.rebuild("--allow", small.main)


def test_view_elsewhere_that_would_be_lost_is_named(small):
    small.rebuild()
    small.ask("CREATE SCHEMA other")
    small.ask("CREATE VIEW other.items AS SELECT name FROM shop.shop_item")

    said = small.rebuild(code=2)

    assert "other.items is not rebuilt, and its view uses shop.shop_item" in said


def test_plan_names_what_goes_and_changes_nothing(small):
    small.rebuild()
    small.ask("CREATE TABLE shop.strange (a int)")
    before = small.digest()

    plan = json.loads(small.rebuild("--plan", "--json"))

    [database] = plan["databases"]
    assert database["schemas"] == ["shop", "store", "public"]
    assert database["shared"] == ["public"]
    unknown = [one["name"] for one in database["drops"] if not one["is_known"]]
    assert unknown == ["strange"]
    assert "shop.strange" in small.rebuild("--plan")
    assert small.digest() == before


def test_what_people_gave_the_old_objects_the_new_ones_have(small):
    small.rebuild()
    role = f"reader_{small.main}"
    small.ask(f"CREATE ROLE {role}")
    try:
        small.ask(f"GRANT USAGE ON SCHEMA store TO {role}")
        small.ask(f"GRANT SELECT ON store.shelf TO {role}")
        small.ask(f"GRANT UPDATE (price) ON shop.shop_item TO {role}")
        small.ask(f"ALTER DEFAULT PRIVILEGES IN SCHEMA shop GRANT SELECT ON TABLES TO {role}")
        small.ask("COMMENT ON COLUMN shop.shop_item.name IS 'as printed'")
        small.ask("CREATE PUBLICATION goods FOR TABLE store.shelf, shop.shop_item")

        small.rebuild()

        assert small.ask("SELECT has_table_privilege(%s, 'store.shelf', 'SELECT')", role) == [True]
        assert small.ask("SELECT has_schema_privilege(%s, 'store', 'USAGE')", role) == [True]
        column = "SELECT has_column_privilege(%s, 'shop.shop_item', 'price', 'UPDATE')"
        assert small.ask(column, role) == [True]
        comment = "SELECT col_description('shop.shop_item'::regclass, 2)"
        assert small.ask(comment) == ["as printed"]
        published = "SELECT schemaname FROM pg_publication_tables ORDER BY 1"
        assert small.ask(published) == ["shop", "store"]
        small.ask("CREATE TABLE shop.later ()")
        assert small.ask("SELECT has_table_privilege(%s, 'shop.later', 'SELECT')", role) == [True]
    finally:
        small.ask(f"DROP OWNED BY {role}")
        small.ask(f"DROP ROLE {role}")


def test_rows_of_tables_to_keep_are_carried_over(small):
    small.rebuild()
    small.configure(keep_tables=["store.shelf"])
    small.ask("INSERT INTO store.shelf (name) VALUES ('mine')")
    small.ask("UPDATE store.shelf SET name = 'renamed' WHERE id = 1")

    small.rebuild()

    assert small.ask("SELECT name FROM store.shelf ORDER BY id") == ["renamed", "mine"]
    assert small.ask("SELECT count(*) FROM shop.shop_item") == [2]
    small.ask("INSERT INTO store.shelf (name) VALUES ('next')")  # the sequence goes on


@pytest.mark.parametrize(
    "way",
    [
        pytest.param((), id="aside"),
        pytest.param(("--in-place",), id="in place", marks=pytest.mark.long),
    ],
)
def test_undo_brings_the_rows_of_before_back(small, way):
    small.rebuild()
    small.ask("UPDATE shop.shop_item SET name = 'mine' WHERE id = 1")
    small.ask("UPDATE public.note SET text = 'mine'")
    small.rebuild("--keep-old", "1", *way)
    assert small.ask("SELECT name FROM shop.shop_item WHERE id = 1") == ["cup"]

    small.rebuild("--undo")

    assert small.ask("SELECT name FROM shop.shop_item WHERE id = 1") == ["mine"]
    assert small.ask("SELECT text FROM public.note") == ["mine"]


def test_role_without_createdb_rebuilds_in_place(small):
    role = f"plain_{small.main}"
    small.ask(f"CREATE ROLE {role} LOGIN PASSWORD 'x'")
    small.ask(f'ALTER DATABASE "{small.main}" OWNER TO {role}')
    small.ask("CREATE EXTENSION IF NOT EXISTS hstore")
    small.server |= {"user": role, "password": "x"}
    try:
        plan = json.loads(small.rebuild("--plan", "--json"))
        assert plan["databases"][0]["strategy"] == "in place"
        assert "CREATEDB" in plan["databases"][0]["reason"]

        small.rebuild()

        assert small.ask("SELECT name FROM shop.shop_item ORDER BY id") == ["cup", "plate"]
    finally:
        small.server.pop("password")
        small.server["user"] = "postgres"


def test_remade_migrations_leave_a_copy_and_refuse_what_a_person_wrote(small):
    small.write(
        "shop/migrations/0001_initial.py",
        "    operations = [",
        "    operations = [migrations.RunSQL('SELECT 1'),",
    )

    said = small.rebuild("--remake-migrations", code=2)

    assert "0001_initial.py of shop holds RunSQL" in said
    small.rebuild("--remake-migrations", "--drop-migrations", "shop")
    assert "RunSQL" not in (small.folder / "shop/migrations/0001_initial.py").read_text()
    [copy] = (small.folder / ".howdah").glob("*/shop/0001_initial.py")
    assert "RunSQL" in copy.read_text()
    assert small.ask("SELECT count(*) FROM shop.shop_item") == [2]


def test_models_without_migration_files_are_built_too(small):
    (small.folder / "shop/migrations/0001_initial.py").unlink()

    small.rebuild("--from-models")

    assert small.ask("SELECT name FROM shop.shop_item ORDER BY id") == ["cup", "plate"]


@pytest.mark.long
def test_migrations_that_say_the_same_are_not_written_anew(small):
    small.rebuild("--remake-migrations", "--drop-migrations", "shop")
    files = small.folder / "shop" / "migrations"
    before = {path.name: path.read_text() for path in files.glob("*.py")}
    [copy] = (small.folder / ".howdah").glob("migrations-*")

    again = small.report("--remake-migrations")

    assert {path.name: path.read_text() for path in files.glob("*.py")} == before
    assert list((small.folder / ".howdah").glob("migrations-*")) == [copy]
    assert again["databases"][0]["was_kept"]
    assert small.report()["databases"][0]["was_kept"]


def test_models_ahead_of_their_migrations_are_told(small):
    small.write("shop/models.py", "    price = ", "    origin = models.TextField()\n    price = ")

    assert "Perhaps it is that the models of shop have" in small.rebuild(code=1)
    small.configure(fixtures=[])
    for said in (small.rebuild("--plan"), small.rebuild()):
        assert "the models of shop have what no migration makes (Add field origin to item;" in said
    [drift] = small.report()["drift"]
    assert drift["app"] == "shop"
    assert "Add field origin to item" in drift["changes"]
    assert "note:" not in small.rebuild("--from-models")


@pytest.mark.long
def test_app_without_a_migrations_folder_is_told(small):
    shutil.rmtree(small.folder / "shop" / "migrations")
    small.configure(fixtures=[])

    assert "shop has models and no migrations folder" in small.rebuild("--plan")
    assert "note:" not in small.rebuild("--from-models", "--plan")
