"""The pytest plugin: with pytest-django, test databases are copies of a kept result.

It is at work where the settings say `TEST_RUNNER = "howdah.django.test.Runner"`
(or a subclass of it) and pytest-django is there; anywhere else it does nothing
and imports nothing. Each worker of pytest-xdist gets copies of its own. What
pytest-django offers to change databases (fixtures such as
`django_db_modify_db_settings`, options such as `--reuse-db`) goes on to hold;
a project's own `django_db_setup` wins.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import Any

import pytest

_BEGAN = pytest.StashKey[str]()


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """Take the place of pytest-django's fixture: after it, and before those of conftest files."""
    plugins = session.config.pluginmanager
    if plugins.hasplugin("django") and _is_asked_for():
        from howdah.django import testfixtures

        plugins.register(testfixtures, "howdah-databases")


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell pytest-xdist's workers when the run began: what one has built is new to all."""
    node.workerinput["howdah_began"] = node.config.stash.setdefault(
        _BEGAN, datetime.now(UTC).isoformat()
    )


def _is_asked_for() -> bool:
    conf = sys.modules.get("django.conf")
    if conf is None or not conf.settings.configured:
        return False
    if conf.settings.TEST_RUNNER == "django.test.runner.DiscoverRunner":
        return False
    from django.test.utils import get_runner

    from howdah.django.test import Runner

    return issubclass(get_runner(conf.settings), Runner)
