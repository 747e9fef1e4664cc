"""Fixtures by subject, from tests/fixtures/."""

import signal

pytest_plugins = [
    "tests.fixtures.server",
    "tests.fixtures.commands",
    "tests.fixtures.django_project",
    "tests.fixtures.pgbouncer",
]


def pytest_configure() -> None:
    # A shell starts what runs in its background deaf to Ctrl-C, and so would be what we start.
    signal.signal(signal.SIGINT, signal.default_int_handler)
