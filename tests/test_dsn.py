from pathlib import Path

import pytest

from howdah.dsn import Dsn, choose
from howdah.errors import UsageError

SETTINGS = """
DATABASES = {
    "default": {"ENGINE": "django.db.backends.postgresql", "NAME": "shop", "USER": "ann",
                "PASSWORD": "s3cret", "HOST": "db", "PORT": 5433,
                "OPTIONS": {"sslmode": "require", "pool": True, "isolation_level": 1}},
    "gis": {"ENGINE": "django.contrib.gis.db.backends.postgis", "NAME": "maps"},
    "files": {"ENGINE": "django.db.backends.sqlite3", "NAME": "x.sqlite3"},
}
SECRET_KEY = "x"
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"settings_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(SETTINGS)
    monkeypatch.chdir(tmp_path)
    return name


@pytest.mark.parametrize(
    ("environ", "origin"),
    [
        ({}, None),
        ({"PGHOST": "h"}, "libpq's variables (PGHOST is set)"),
        ({"PGSERVICE": "s", "PGHOST": "h"}, "libpq's variables (PGSERVICE is set)"),
        ({"PGHOST": "h", "DATABASE_URL": "postgres://h/d"}, "the variable DATABASE_URL"),
        ({"DATABASE_URL": "postgres://h/d", "HOWDAH_DSN": "dbname=d"}, "the variable HOWDAH_DSN"),
        ({"HOWDAH_DSN": "", "PGDATABASE": "d"}, "libpq's variables (PGDATABASE is set)"),
    ],
)
def test_first_of_the_environment_wins(environ, origin):
    found = choose(environ=environ)

    assert (found and found.origin) == origin


def test_option_wins_over_environment():
    found = choose("dbname=a", environ={"HOWDAH_DSN": "dbname=b", "PGHOST": "c"})

    assert found is not None
    assert (found.origin, found.public()) == ("--dsn", "dbname=a")


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgis", "postgresql+psycopg"])
def test_urls_of_other_tools_are_understood(scheme):
    found = choose(f"{scheme}://ann:pa%20ss@db:5433/shop")

    assert found is not None
    assert found.public() == "user=ann dbname=shop host=db port=5433"


def test_password_is_never_shown():
    found = Dsn("host=db password=s3cret sslpassword=s4cret dbname=shop", origin="--dsn")

    assert "cret" not in found.public() + repr(found) + str(found)
    assert "s3cret" in found.conninfo


@pytest.mark.parametrize(
    "dsn",
    ["postgresql://ann:s3@cret@db:5432/shop", "postgresql://ann:s3cret/x@db:5432/shop", "s3cret"],
)
def test_connection_string_that_cannot_be_read_is_not_echoed(dsn):
    with pytest.raises(UsageError) as caught:
        choose(dsn)

    assert "cret" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_other_databases_are_refused():
    with pytest.raises(UsageError, match="'mysql', not PostgreSQL"):
        choose(environ={"DATABASE_URL": "mysql://u:p@h/d"})


def test_two_databases_at_once_are_refused(project):
    with pytest.raises(UsageError, match="two databases"):
        choose("dbname=a", settings=project)


def test_django_settings_are_taken(project):
    found = choose(settings=project, environ={"PGHOST": "elsewhere"})

    assert found is not None
    assert found.public() == "user=ann dbname=shop host=db port=5433 sslmode=require"
    assert "s3cret" in found.conninfo
    assert found.origin == f"Django's settings {project}, alias 'default'"


def test_django_settings_of_the_environment_come_last(project):
    environ = {"DJANGO_SETTINGS_MODULE": project}

    assert "Django" in (choose(environ=environ) or Dsn("", "")).origin
    assert "PGHOST" in (choose(environ={**environ, "PGHOST": "h"}) or Dsn("", "")).origin
    assert (
        "maps" in (choose(alias="gis", environ={**environ, "PGHOST": "h"}) or Dsn("", "")).public()
    )


@pytest.mark.parametrize(
    ("alias", "message"),
    [("nosuch", "has no alias 'nosuch'"), ("files", "which is not PostgreSQL")],
)
def test_wrong_alias_is_refused(project, alias, message):
    with pytest.raises(UsageError, match=message):
        choose(settings=project, alias=alias)


def test_missing_settings_module_is_refused():
    with pytest.raises(UsageError, match="cannot be imported"):
        choose(settings="no.such.settings")


def test_alias_without_settings_is_refused():
    with pytest.raises(UsageError, match="needs Django's settings"):
        choose(alias="gis", environ={})
