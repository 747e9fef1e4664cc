"""Rejects retried: each record once, read as its load was told to."""

from __future__ import annotations

import os
import random
import threading
import time

import psycopg
import pytest

import howdah
from howdah.loading import Chosen, export_rejects, retry_rejects
from tests.loading.records import write_ndjson


@pytest.mark.long
def test_two_that_retry_at_once_and_are_killed_load_each_record_once(
    howdah_command, ask, dsn, tmp_path
):
    howdah.load([write_ndjson(tmp_path / "first.ndjson", 1)], dsn=dsn)
    ask("ALTER TABLE documents ADD CONSTRAINT few CHECK ((attributes->>'n')::int < 1)")
    path = write_ndjson(tmp_path / "many.ndjson", 6_000)
    howdah.load([path], dsn=dsn)
    ask("ALTER TABLE documents DROP CONSTRAINT few")
    before = ask("SELECT count(*) FROM howdah.rejects")[0]
    once = "SELECT count(*), count(DISTINCT record) FROM documents WHERE source = %s"

    killed = 0
    for most_s in (0.3, 0.5, 0.7, 0.9):  # the first of them before it can be done
        both = [howdah_command.start("rejects", "retry") for _ in range(2)]
        time.sleep(random.uniform(most_s - 0.2, most_s))
        for one in both:
            killed += one.poll() is None
            one.kill()
            one.communicate()
        rows = ask(once, str(path))
        left = ask("SELECT count(*) FROM howdah.rejects")[0]
        assert rows == [(6_000 - left, 6_000 - left)]
    done = howdah_command("rejects", "retry")

    assert before == 5_999
    assert killed
    assert done.returncode == 0, done.stdout + done.stderr
    assert ask(once, str(path)) == [(6_000, 6_000)]


def test_retry_beside_a_load_that_replaces_the_source_leaves_one_content(dsn, ask, tmp_path):
    path = tmp_path / "a.ndjson"
    path.write_text('{"n": 1}\n{"n": 2\n')
    howdah.load([path], dsn=dsn)
    chosen = ask("SELECT id FROM howdah.rejects")
    (tmp_path / "mended.ndjson").write_text('{"n": 2}\n')
    path.write_text('{"n": 10}\n{"n": 20}\n')

    with psycopg.connect(dsn) as holder:  # both wait for the source's row, and then race
        holder.execute("SELECT FROM howdah.sources FOR UPDATE")
        both = [
            threading.Thread(target=howdah.load, args=([path],), kwargs={"dsn": dsn}),
            threading.Thread(
                target=retry_rejects,
                args=(dsn, Chosen(ids=chosen)),
                kwargs={"mended": tmp_path / "mended.ndjson"},
            ),
        ]
        for thread in both:
            thread.start()
        time.sleep(1)
    for thread in both:
        thread.join()

    assert sorted(ask("SELECT (attributes->>'n')::int FROM documents")) == [10, 20]
    assert ask("SELECT count(*) FROM howdah.rejects") == [0]


def test_truncated_table_takes_its_rejects_with_it(dsn, ask, tmp_path):
    path = tmp_path / "a.ndjson"
    path.write_text('{"n": 1}\n{bad\n')
    howdah.load([path], dsn=dsn)
    ask("TRUNCATE documents")

    report = howdah.load([path], dsn=dsn)

    assert (report.records, report.rejects) == (1, 1)
    assert ask("SELECT count(*) FROM howdah.rejects") == [1]


def test_retried_row_of_csv_fits_the_columns_that_its_load_has_found(dsn, ask, tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("id,day\n1,2024-05-06\n2,2024-05-07\n1,2024-05-08\n")
    columns = howdah.Columns(key=("id",))
    assert howdah.load([path], dsn=dsn, table="t", columns=columns).rejects == 1
    ask("DELETE FROM t WHERE id = 1")

    assert retry_rejects(dsn).records == 1

    assert ask("SELECT id, day::text, pg_typeof(id)::text FROM t ORDER BY id") == [
        (1, "2024-05-08", "bigint"),
        (2, "2024-05-07", "bigint"),
    ]


def test_retry_reads_a_record_as_its_load_was_told_to(dsn, ask, tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"1|10\n2|x\n3|30\n")
    ask("CREATE TABLE t (id int, n int)")
    options = howdah.ReaderOptions(format="csv", delimiter="|", header=("id", "n"))
    howdah.load([path], dsn=dsn, table="t", options=options)
    assert ask("SELECT * FROM t") == [(1, 10), (3, 30)]
    ask("ALTER TABLE t ALTER n TYPE text")

    report = retry_rejects(dsn)

    assert (report.records, report.refused) == (1, ())
    assert ask("SELECT * FROM t ORDER BY id") == [(1, "10"), (2, "x"), (3, "30")]


def test_retry_merges_by_the_key_that_its_load_was_told(dsn, ask, tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(b"id,n\n1,10\n2,x\n")
    ask("CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t VALUES (2, 0)")
    columns = howdah.Columns(key=("id",), on_conflict="update")
    howdah.load([path], dsn=dsn, table="t", columns=columns)
    ask("ALTER TABLE t ALTER n TYPE text")

    report = retry_rejects(dsn)

    assert (report.records, report.refused) == (1, ())
    assert ask("SELECT * FROM t ORDER BY id") == [(1, "10"), (2, "x")]


def test_source_that_is_retried_as_a_whole_is_read_as_its_load_was_told_to(dsn, ask, tmp_path):
    path = tmp_path / "a.xml"
    path.write_bytes(b"<all><one><n>1</n></one><one><n>2</n></one>")
    howdah.load([path], dsn=dsn, options=howdah.ReaderOptions(element="one"))
    path.write_bytes(b"<all><one><n>1</n></one><one><n>2</n></one></all>")

    report = retry_rejects(dsn)

    assert (report.sources, report.rejects) == (1, 0)
    assert ask("SELECT attributes FROM documents ORDER BY record") == [{"n": "1"}, {"n": "2"}]


def test_rejects_of_an_earlier_ledger_are_shown_and_retried(howdah_command, ask, tmp_path):
    (tmp_path / "a.ndjson").write_bytes(b'{"n": 1}\n{"n"\n')
    howdah_command("load", tmp_path)
    ask("ALTER TABLE howdah.sources DROP COLUMN options")
    (number,) = ask("SELECT id FROM howdah.rejects")

    shown = howdah_command("rejects", "show", number)
    retried = howdah_command("rejects", "retry")

    assert shown.returncode == 0, shown.stderr
    assert retried.returncode == 3, retried.stderr
    assert "invalid JSON" in retried.stdout


def test_mended_file_is_retried_again_when_some_of_its_records_are_loaded(dsn, ask, tmp_path):
    path = tmp_path / "a.ndjson"
    path.write_text('{"n": 1\n{"n": 2\n')
    howdah.load([path], dsn=dsn)
    export_rejects(dsn, tmp_path / "out")
    mended = tmp_path / "out" / "records.ndjson"

    mended.write_text('{"n": 1}\n{"n": 2\n')
    first = retry_rejects(dsn, mended=mended)
    mended.write_text('{"n": 1}\n{"n": 2}\n')
    second = retry_rejects(dsn, mended=mended)

    assert (first.records, len(first.refused), first.gone) == (1, 1, 0)
    assert (second.records, len(second.refused), second.gone) == (1, 0, 1)
    assert ask("SELECT (attributes->>'n')::int FROM documents ORDER BY 1") == [1, 2]


@pytest.mark.parametrize("name", [b"a\nb.ndjson", b"\x1b[31m\xe9.ndjson", b"\\xe9.ndjson"])
def test_rejects_of_a_source_of_any_name_are_mended(dsn, ask, tmp_path, name):
    folder = tmp_path / "now!"  # ends as the name of an archive does before its members
    folder.mkdir()
    path = folder / os.fsdecode(name)
    path.write_text('{"n": 1}\n{"n": 2\n')
    (folder / os.fsdecode(b"empty" + name)).touch()
    howdah.load([folder], dsn=dsn)
    export_rejects(dsn, tmp_path / "out")
    mended = tmp_path / "out" / "records.ndjson"
    mended.write_text('{"n": 2}\n')
    (folder / os.fsdecode(b"empty" + name)).write_text('{"n": 3}\n')

    retry_rejects(dsn, mended=mended)
    retry_rejects(dsn)

    assert ask("SELECT (attributes->>'n')::int FROM documents ORDER BY 1") == [1, 2, 3]
    assert ask("SELECT count(*) FROM howdah.rejects") == [0]
