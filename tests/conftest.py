"""Fixtures by subject, from tests/fixtures/."""

pytest_plugins = [
    "tests.fixtures.server",
    "tests.fixtures.commands",
    "tests.fixtures.django_project",
]
