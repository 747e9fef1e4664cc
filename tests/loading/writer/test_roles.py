"""What a role needs to post rows."""

from __future__ import annotations

import psycopg
import pytest

import howdah
from howdah.errors import HowdahError, Refused
from tests.loading.writer.posting import as_role


def test_role_without_rights_in_the_schema_howdah_is_told_what_to_do(dsn, ask, events, a_role):
    ask(f"GRANT INSERT ON events TO {a_role}")
    with pytest.raises(Refused, match="exactly_once=False"):
        howdah.Writer(as_role(dsn, a_role), "events")

    howdah.Writer(dsn, "events").close()  # an administrator makes the table
    with pytest.raises(Refused, match="may not use the table"):
        howdah.Writer(as_role(dsn, a_role), "events")
    with howdah.Writer(as_role(dsn, a_role), "events", exactly_once=False) as writer:
        writer.post({"k": 1}).result(timeout=30)

    ask(f"GRANT USAGE ON SCHEMA howdah TO {a_role}")
    ask(f"GRANT SELECT, INSERT, DELETE ON howdah.writer_batches TO {a_role}")
    with howdah.Writer(as_role(dsn, a_role), "events") as writer:
        writer.post({"k": 2}).result(timeout=30)

    assert ask("SELECT k FROM events ORDER BY k") == [1, 2]


def test_role_that_may_not_insert_is_told_so(dsn, ask, events, a_role):
    with howdah.Writer(as_role(dsn, a_role), "events", exactly_once=False) as writer:
        future = writer.post({"k": 1})

    assert isinstance(future.exception(), HowdahError)
    assert isinstance(future.exception().__cause__, psycopg.errors.InsufficientPrivilege)


def test_marks_of_writers_that_were_killed_are_swept(dsn, ask, events):
    howdah.Writer(dsn, "events").close()
    ask("""
        INSERT INTO howdah.writer_batches
        VALUES (gen_random_uuid(), 0, 7, now() - interval '2 days'),
               (gen_random_uuid(), 0, 8, now() - interval '2 hours')
    """)
    howdah.Writer(dsn, "events").close()

    assert ask("SELECT batch FROM howdah.writer_batches") == [8]
