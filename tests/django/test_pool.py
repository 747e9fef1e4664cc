from __future__ import annotations

import subprocess
import sys

import pytest

import howdah

PROJECT = """
import sys, django, psycopg
from django.conf import settings
parts = psycopg.conninfo.conninfo_to_dict(sys.argv[1])
settings.configure(INSTALLED_APPS=["howdah.django"], DATABASES={"default": {
    "ENGINE": "howdah.django.postgresql", "NAME": parts["dbname"], "USER": parts["user"],
    "HOST": parts["host"], "PORT": parts["port"],
    "OPTIONS": {"passfile": parts.get("passfile", ""), "pool": {
        "size": 2, "budget": "web", "limit": int(sys.argv[2]), "timeout": 1}}}})
django.setup()
from django.db import connection
with connection.cursor() as cursor:
    cursor.execute("SELECT 1")
    print(cursor.fetchone(), type(connection.connection._pool).__name__, flush=True)
connection.close()
sys.stdin.read()
"""


SHARE = """
import sys, django, psycopg
from django.conf import settings
parts = psycopg.conninfo.conninfo_to_dict(sys.argv[1])
settings.configure(INSTALLED_APPS=["howdah.django"], DATABASES={"default": {
    "ENGINE": "howdah.django.postgresql", "NAME": parts["dbname"], "USER": parts["user"],
    "HOST": parts["host"], "PORT": parts["port"],
    "OPTIONS": {"passfile": parts.get("passfile", ""), "pool": {"nodes": 15, "processes": 2}}}})
django.setup()
from django.db import connection
with connection.cursor() as cursor:
    cursor.execute("SHOW max_connections")
    print(cursor.fetchone()[0], connection.connection._pool.stats().size)
"""


def test_pool_of_a_project_takes_its_share(dsn):
    import django

    if django.VERSION < (5, 1):
        pytest.skip("Django has the option pool since 5.1")
    said = subprocess.run(
        [sys.executable, "-c", SHARE, dsn], capture_output=True, text=True, check=True
    ).stdout
    limit, size = map(int, said.split())
    assert size == (limit - 3 - 5) // 30


def start(dsn, limit):
    return subprocess.Popen(
        [sys.executable, "-c", PROJECT, dsn, str(limit)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_processes_of_a_project_stay_inside_a_budget(dsn):
    import django

    if django.VERSION < (5, 1):
        pytest.skip("Django has the option pool since 5.1")
    first = start(dsn, 3)
    try:
        assert first.stdout.readline() == "(1,) Pool\n"
        use = howdah.Budget("web", dsn=dsn).use()
        assert (use.held, use.limit, use.holders[0].purpose) == (2, 3, "Django's default")
        second = start(dsn, 3)
        _, said = second.communicate(timeout=60)
        assert "2 slots of the budget 'web' were not to be had" in said
    finally:
        first.communicate()
        from howdah.connections.control import close_all

        close_all()
