"""Test databases as copies of what is kept."""

from __future__ import annotations

TESTS = """
from django.test import TestCase
from shop.models import Shelf


class One(TestCase):
    def test_tables_are_there_and_empty(self):
        Shelf.objects.create(name="x")
        self.assertEqual(Shelf.objects.count(), 1)


class Two(TestCase):
    def test_other_process(self):
        self.assertEqual(Shelf.objects.count(), 0)
"""
COUNT = "SELECT count(*) FROM shop.django_migrations"


def test_runner_copies_what_is_kept_and_drops_it(small):
    (small.folder / "shop/tests.py").write_text(TESTS)
    with (small.folder / "settings.py").open("a") as settings:
        settings.write('TEST_RUNNER = "howdah.django.test.Runner"\n')

    small.manage("test", "--parallel", "2")
    kept = small.ask("SELECT count(*) FROM pg_database WHERE datname LIKE 'howdah_kept%'")
    # A migration that fails would show it: with nothing changed, none runs.
    small.manage("test", "--parallel", "2")

    assert small.ask("SELECT count(*) FROM pg_database WHERE datname LIKE 'howdah_kept%'") == kept
    left = "SELECT datname FROM pg_database WHERE datname LIKE %s"
    assert small.ask(left, f"test_{small.main}%") == []
