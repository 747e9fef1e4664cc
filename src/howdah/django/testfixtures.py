"""The fixture of pytest-django that sets test databases up, as copies."""

from __future__ import annotations

from collections.abc import Generator
from datetime import UTC, datetime
from typing import Any

import pytest
from pytest_django import fixtures

from howdah.django.test import setup_databases, teardown_databases
from howdah.errors import HowdahError


@pytest.fixture(scope="session")
def django_db_setup(
    request: pytest.FixtureRequest,
    django_test_environment: None,  # noqa: ARG001 - what they change is to be in force
    django_db_blocker: Any,
    django_db_use_migrations: bool,
    django_db_keepdb: bool,
    django_db_createdb: bool,
    django_db_modify_db_settings: None,  # noqa: ARG001
) -> Generator[None]:
    """Set the test databases up as copies, and take them down."""
    if not django_db_use_migrations:
        fixtures._disable_migrations()
    aliases, serialized = fixtures._get_databases_for_setup(request.session.items)
    verbosity = request.config.option.verbose
    with django_db_blocker.unblock():
        try:
            made = setup_databases(
                verbosity,
                interactive=False,
                aliases=aliases,
                serialized_aliases=serialized,
                keepdb=django_db_keepdb and not django_db_createdb,
                migrate=django_db_use_migrations,
                built_since=_began(request.config) if django_db_createdb else None,
            )
        except HowdahError as exc:
            pytest.fail(str(exc), pytrace=False)
    yield
    with django_db_blocker.unblock():
        teardown_databases(made, verbosity, keepdb=django_db_keepdb)


def _began(config: pytest.Config) -> datetime:
    """Return when the run began: what one worker has built since is new to all of them."""
    given = getattr(config, "workerinput", {}).get("howdah_began")
    return datetime.fromisoformat(given) if given else datetime.now(UTC)
