from __future__ import annotations

import json

import pytest
from psycopg import sql


@pytest.fixture
def installed(project):
    with (project.folder / "depot/settings/embedded.py").open("a") as settings:
        settings.write("INSTALLED_APPS += ['howdah.django']\n")
    return project


def test_report_is_that_of_the_command_and_told_once_for_aliases_of_one_database(installed):
    with installed.connect(application_name="shop"):
        objects = [
            json.loads(line)
            for line in installed.manage("connections", "--json").split("\n")
            if line
        ]
        text = installed.manage("connections")
        own = json.loads(
            installed.run("-m", "howdah", "connections", "--database", "data", "--json")
        )

    assert [each.pop("aliases") for each in objects] == [["default", "data"]]
    assert objects[0].keys() == own.keys()
    assert objects[0]["slots"] == own["slots"]
    assert [s["application"] for s in objects[0]["sessions"]].count("shop") == 1
    assert text.startswith("alias default, data\n[")
    assert " shop " in text


def test_aliases_of_other_databases_and_roles_are_told_apart_and_one_can_be_named(installed):
    with (installed.folder / "depot/settings/embedded.py").open("a") as settings:
        settings.write(
            "DATABASES['admin'] = DATABASES['default'] | {'NAME': 'postgres'}\n"
            "DATABASES['lite'] = {'ENGINE': 'django.db.backends.sqlite3', 'NAME': ':memory:'}\n"
        )

    lines = installed.manage("connections", "--json").splitlines()
    one = json.loads(installed.manage("connections", "--database", "admin", "--json"))

    assert [json.loads(line)["aliases"] for line in lines] == [["default", "data"], ["admin"]]
    assert (one["aliases"], one["slots"]["database"]) == (["admin"], "postgres")
    said = installed.manage("connections", "--database", "lite", code=2)
    assert "no PostgreSQL alias 'lite'" in said


def test_alias_without_a_slot_is_told_which_limit_it_was(installed):
    role = f"full_{installed.main}"
    with installed.connect() as conn:
        conn.execute(
            sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'x' CONNECTION LIMIT 0").format(
                sql.Identifier(role)
            )
        )
    with (installed.folder / "depot/settings/embedded.py").open("a") as settings:
        settings.write(f"DATABASES['data'] |= {{'USER': {role!r}, 'PASSWORD': 'x'}}\n")
    try:
        said = installed.manage("connections", code=3)
        refused = json.loads(
            installed.manage("connections", "--database", "data", "--json", code=3)
        )
    finally:
        installed.ask(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))

    assert "alias default\n[" in said
    assert "ALTER ROLE name CONNECTION LIMIT" in said
    assert (refused["aliases"], refused["refused"]["limit"]) == (["data"], "role")
