"""Fixtures of these tests."""

from __future__ import annotations

import uuid

import psycopg
import pytest

from tests.loading.writer.posting import EVENTS


@pytest.fixture
def events(ask) -> None:
    ask(EVENTS)


@pytest.fixture
def a_role(dsn):
    role = f"role_{uuid.uuid4().hex[:8]}"
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute(f"CREATE ROLE {role}")
        yield role
        conn.execute(f"DROP OWNED BY {role}")
        conn.execute(f"DROP ROLE {role}")
