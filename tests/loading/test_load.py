"""`howdah.load` in a program: what ends up in the table."""

from __future__ import annotations

import dataclasses
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

import howdah
from howdah.errors import NoDatabase, Refused, UsageError
from howdah.loading import Outcome, Planned
from howdah.loading.chunks import CHUNK_BYTES
from tests.loading.records import PAIRS, digest, write_ndjson

DOCUMENTS = Path(__file__).parents[1] / "data" / "documents"


@pytest.fixture(autouse=True)
def _two_workers(monkeypatch):
    monkeypatch.setattr("howdah.loading.run.cpus", lambda: range(2))


def test_each_record_becomes_a_row_with_its_place(dsn, ask, tmp_path):
    path = tmp_path / "events.ndjson"
    path.write_text('{"a": 1}\n\n{"a": 2, "ünï": "cödé"}\n')

    report = howdah.load([path], dsn=dsn)

    assert (report.sources, report.records, report.rejects) == (1, 2, 0)
    rows = ask("SELECT source, record, attributes, loaded_at <= now() FROM documents ORDER BY id")
    assert rows == [(str(path), 1, {"a": 1}, True), (str(path), 3, {"a": 2, "ünï": "cödé"}, True)]


def test_records_of_any_length_keep_their_numbers_and_texts(dsn, ask, tmp_path):
    """Through the blocks, and the 256 numbers, that share the beginning of a header."""
    lengths = [0, 4_080, 4_085, 4_086, 4_087, 4_088, 4_089, 4_090, 70_000, *range(1_500)]
    path = tmp_path / "events.ndjson"
    path.write_text(
        "".join(f'{{"n": {n}, "p": "{"x" * size}"}}\n' for n, size in enumerate(lengths))
    )

    howdah.load([path], dsn=dsn)

    rows = ask("""
        SELECT record, (attributes->>'n')::int, length(attributes->>'p') FROM documents ORDER BY 1
    """)
    assert rows == [(n + 1, n, size) for n, size in enumerate(lengths)]


def test_table_is_made_as_documented(dsn, ask, tmp_path):
    howdah.load([write_ndjson(tmp_path / "a.ndjson", 1)], dsn=dsn)

    columns = ask("""
        SELECT attname::text, format_type(atttypid, atttypmod), attidentity::text
          FROM pg_attribute
         WHERE attrelid = 'documents'::regclass AND attnum > 0
         ORDER BY attnum
    """)
    assert columns == [
        ("id", "bigint", "a"),
        ("source", "text", ""),
        ("record", "bigint", ""),
        ("attributes", "jsonb", ""),
        ("loaded_at", "timestamp with time zone", ""),
    ]


def test_ledger_of_an_earlier_version_gets_what_is_new_with_the_next_load(dsn, ask, tmp_path):
    old = write_ndjson(tmp_path / "a.ndjson", 3)
    howdah.load([old], dsn=dsn)
    ask("ALTER TABLE howdah.sources DROP COLUMN properties, DROP COLUMN options")

    report = howdah.load([old, DOCUMENTS / "test.xlsx"], dsn=dsn)

    assert (report.skipped, report.sources) == (1, 1)
    properties = "SELECT properties->>'creator' FROM howdah.sources ORDER BY id"
    assert ask(properties) == [None, "Adam Fourney"]


@pytest.mark.parametrize(
    "table", ["raw.events", '"Raw Data"."Ev.""ents"', "größe", '"; DROP TABLE x; --"."%s {}"']
)
def test_any_name_of_a_table_is_made_and_found_again(dsn, ask, tmp_path, table):
    path = write_ndjson(tmp_path / "a.ndjson", 3)

    first = howdah.load([path], dsn=dsn, table=table)
    second = howdah.load([path], dsn=dsn, table=table)

    assert (first.records, second.records, second.skipped) == (3, 0, 1)
    assert ask(f"SELECT count(*) FROM {table.replace('%', '%')}") == [3]


def test_table_with_other_columns_is_refused_and_left_alone(dsn, ask, tmp_path):
    ask("CREATE TABLE documents (source text, attributes jsonb)")

    with pytest.raises(Refused, match=r"has no column loaded_at timestamp.*, record bigint"):
        howdah.load([write_ndjson(tmp_path / "a.ndjson", 1)], dsn=dsn)

    assert ask("SELECT count(*) FROM documents") == [0]


def test_role_that_may_not_create_is_told_so(dsn, ask, tmp_path):
    ask("CREATE ROLE plain LOGIN PASSWORD 'plain'")
    try:
        with pytest.raises(Refused, match="may not create the schema howdah"):
            howdah.load(
                [write_ndjson(tmp_path / "a.ndjson", 1)],
                dsn=psycopg.conninfo.make_conninfo(dsn, user="plain", password="plain"),
            )
    finally:
        ask("DROP ROLE plain")


def test_refusal_is_one_sentence_without_the_statement(dsn, ask, tmp_path):
    howdah.load([write_ndjson(tmp_path / "a.ndjson", 1)], dsn=dsn, table="other")
    ask("CREATE ROLE plain LOGIN PASSWORD 'plain'")
    ask("GRANT USAGE ON SCHEMA howdah TO plain")
    ask("GRANT ALL ON ALL TABLES IN SCHEMA howdah TO plain")
    ask("REVOKE CREATE ON SCHEMA public FROM public")
    try:
        with pytest.raises(Refused) as refused:
            howdah.load(
                [tmp_path / "a.ndjson"],
                dsn=psycopg.conninfo.make_conninfo(dsn, user="plain", password="plain"),
            )
    finally:
        ask("DROP OWNED BY plain")
        ask("DROP ROLE plain")

    assert refused.value.message.endswith("permission denied for schema public.")


def test_large_file_is_cut_and_every_record_has_its_line(dsn, ask, tmp_path):
    path = write_ndjson(tmp_path / "large.ndjson", 60_000)
    assert path.stat().st_size > CHUNK_BYTES

    report = howdah.load([path], dsn=dsn)

    assert (report.sources, report.records) == (1, 60_000)
    assert report.chunks > 1
    assert report.bytes == path.stat().st_size
    assert digest(ask(PAIRS)) == digest([(n + 1, n) for n in range(60_000)])
    assert ask("SELECT count(*) FROM howdah.chunks") == [0]
    assert ask("SELECT finished, records FROM howdah.sources") == [(True, 60_000)]


def test_unchanged_source_is_skipped(dsn, ask, tmp_path):
    small = write_ndjson(tmp_path / "small.ndjson", 10)
    large = write_ndjson(tmp_path / "large.ndjson", 60_000)
    howdah.load([tmp_path], dsn=dsn)

    report = howdah.load([small, large], dsn=dsn)

    assert (report.sources, report.skipped, report.records) == (0, 2, 0)
    assert ask("SELECT count(*) FROM documents") == [60_010]


@pytest.mark.parametrize(
    "counts",
    [
        (10, 7),
        (60_000, 7),
        (7, 60_000),
        pytest.param((60_000, 56_000), marks=pytest.mark.long),
    ],
)
def test_changed_source_takes_the_place_of_its_old_rows(dsn, ask, tmp_path, counts):
    path, other = tmp_path / "a.ndjson", write_ndjson(tmp_path / "b.ndjson", 5, start=900_000)
    howdah.load([write_ndjson(path, counts[0]), other], dsn=dsn)

    report = howdah.load([write_ndjson(path, counts[1], start=100_000), other], dsn=dsn)

    assert (report.sources, report.skipped, report.records) == (1, 1, counts[1])
    expected = [(n + 1, 100_000 + n) for n in range(counts[1])]
    expected += [(n + 1, 900_000 + n) for n in range(5)]
    assert digest(ask(PAIRS)) == digest(expected)


def test_again_loads_an_unchanged_source_in_place(dsn, ask, tmp_path):
    paths = [write_ndjson(tmp_path / "a.ndjson", 10), write_ndjson(tmp_path / "b.ndjson", 60_000)]
    howdah.load(paths, dsn=dsn)

    report = howdah.load(paths, dsn=dsn, again=True)

    assert (report.sources, report.skipped, report.records) == (2, 0, 60_010)
    assert ask("SELECT count(*), count(DISTINCT loaded_at) FROM documents") == [(60_010, 1)]


@pytest.mark.parametrize("emptied", ["TRUNCATE documents", "DROP TABLE documents"])
def test_emptied_table_is_loaded_again(dsn, ask, tmp_path, emptied):
    path = write_ndjson(tmp_path / "a.ndjson", 10)
    howdah.load([path], dsn=dsn)
    ask(emptied)

    report = howdah.load([path], dsn=dsn)

    assert (report.skipped, report.records) == (0, 10)
    assert ask("SELECT count(*) FROM documents") == [10]


@pytest.mark.parametrize("files", [1, 3])  # by this process, by workers
def test_what_is_known_of_a_dropped_table_is_forgotten(dsn, ask, tmp_path, files):
    for number in range(files):
        path = write_ndjson(tmp_path / f"{number}.ndjson", 10)
        path.write_bytes(path.read_bytes() + b"{bad\n")
    assert howdah.load([tmp_path], dsn=dsn, table="before").rejects == files
    ask("DROP TABLE before")

    assert howdah.load([tmp_path], dsn=dsn).records == 10 * files

    for known, rows in (("sources", files), ("rejects", files), ("loads", 1)):
        assert ask(f"SELECT target::text, count(*) FROM howdah.{known} GROUP BY 1") == [
            ("documents", rows)
        ]


def test_each_table_has_its_own_ledger(dsn, ask, tmp_path):
    path = write_ndjson(tmp_path / "a.ndjson", 10)

    for table in ("one", "two"):
        assert howdah.load([path], dsn=dsn, table=table).records == 10
    assert ask("SELECT count(*) FROM one, two") == [100]


def test_folder_is_loaded_but_for_hidden_files(dsn, ask, tmp_path):
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / ".git").mkdir()
    for place in ("a.ndjson", "deep/er/b.ndjson", ".hidden.ndjson", ".git/c.ndjson"):
        write_ndjson(tmp_path / place, 1)

    howdah.load([tmp_path], dsn=dsn)

    found = ask("SELECT source FROM documents ORDER BY source")
    assert found == [str(tmp_path / "a.ndjson"), str(tmp_path / "deep/er/b.ndjson")]


def test_file_named_twice_is_loaded_once(dsn, tmp_path, monkeypatch):
    write_ndjson(tmp_path / "a.ndjson", 3)
    monkeypatch.chdir(tmp_path)

    report = howdah.load(["a.ndjson", tmp_path, "*.ndjson", "./a.ndjson"], dsn=dsn)

    assert (report.sources, report.records) == (1, 3)


@pytest.mark.parametrize("path", ["no/such/file", "no-such-*.csv"])
def test_path_that_leads_to_nothing_is_a_usage_error(dsn, path):
    with pytest.raises(UsageError, match=r"no-such|no/such"):
        howdah.load([path], dsn=dsn)


def test_unreachable_server_is_an_error_of_its_own(tmp_path):
    with pytest.raises(NoDatabase, match="does not answer"):
        howdah.load([write_ndjson(tmp_path / "a.ndjson", 1)], dsn="host=127.0.0.1 port=1")


def test_events_add_up_to_the_report(dsn, tmp_path):
    write_ndjson(tmp_path / "large.ndjson", 60_000)
    write_ndjson(tmp_path / "small.ndjson", 10)
    (tmp_path / "bad.ndjson").write_text("{}\n{bad\n")
    events: list[Planned | Outcome] = []

    report = howdah.load([tmp_path], dsn=dsn, on_event=events.append)

    planned, *outcomes = events
    assert planned == Planned("documents", 3, 0, report.bytes)
    total = sum((one for one in outcomes if isinstance(one, Outcome)), Outcome())
    shared = {field.name for field in dataclasses.fields(Outcome)}
    assert dataclasses.asdict(total) == {
        name: value for name, value in dataclasses.asdict(report).items() if name in shared
    }


def test_named_pipe_is_loaded_as_a_stream(dsn, ask, tmp_path):
    import os
    import threading

    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=write_ndjson, args=(pipe, 60_000))
    writer.start()

    report = howdah.load([pipe], dsn=dsn)

    writer.join()
    assert (report.sources, report.records) == (1, 60_000)
    assert digest(ask(PAIRS)) == digest([(n + 1, n) for n in range(60_000)])


def test_file_that_changes_while_it_is_loaded_is_noted_and_loaded_anew(dsn, ask, tmp_path):
    path = write_ndjson(tmp_path / "growing.ndjson", 60_000)

    def grow(event):
        if isinstance(event, Planned):
            with path.open("a") as file:
                file.write('{"n": 60000}\n')

    first = howdah.load([path], dsn=dsn, on_event=grow)
    second = howdah.load([path], dsn=dsn)

    assert first.rejects == 1
    assert second.records == 60_001
    assert digest(ask(PAIRS)) == digest([(n + 1, n) for n in range(60_001)])
    assert ask("SELECT count(*) FROM howdah.rejects") == [0]


def test_numbers_keep_every_digit(dsn, ask, tmp_path):
    text = '{"n": 12345678901234567890123, "x": 0.1000000000000000055511151231257827}'
    path = tmp_path / "numbers.ndjson"
    path.write_text(f"{text}\n{text}\n")

    howdah.load([path], dsn=dsn)

    assert ask("SELECT DISTINCT attributes::text FROM documents") == [text]


def test_report_is_plain_data(dsn, tmp_path):
    report = howdah.load([write_ndjson(tmp_path / "a.ndjson", 10)], dsn=dsn)

    assert json.loads(json.dumps(dataclasses.asdict(report)))["table"] == "documents"
    assert report.records_per_second == pytest.approx(10 / report.seconds, rel=0.1)


def test_sources_are_absolute_paths(dsn, ask, tmp_path, monkeypatch):
    write_ndjson(tmp_path / "a.ndjson", 1)
    monkeypatch.chdir(tmp_path)

    howdah.load(["a.ndjson"], dsn=dsn)

    assert ask("SELECT source FROM documents") == [str(Path("a.ndjson").absolute())]


def test_path_that_is_no_utf8_is_loaded(dsn, ask, tmp_path):
    write_ndjson(Path(bytes(tmp_path).decode() + "/caf\udce9.ndjson"), 1)

    howdah.load([tmp_path], dsn=dsn)

    assert ask("SELECT source FROM documents") == [f"{tmp_path}/caf\\xe9.ndjson"]


@pytest.mark.parametrize("chosen", [None, "pglz"])
def test_long_texts_are_compressed_by_lz4_unless_something_else_was_chosen(
    dsn, ask, tmp_path, chosen
):
    if ask("""
        SELECT NOT 'lz4' = ANY(enumvals) FROM pg_settings WHERE name = 'default_toast_compression'
    """) == [True]:
        pytest.skip("this server is built without lz4")
    if chosen:
        name = psycopg.conninfo.conninfo_to_dict(dsn)["dbname"]
        ask(f'ALTER DATABASE "{name}" SET default_toast_compression = {chosen}')
    (tmp_path / "long.txt").write_text("one line of many\n" * 10_000)

    howdah.load([tmp_path], dsn=dsn)

    assert ask("SELECT pg_column_compression(attributes) FROM documents") == [chosen or "lz4"]


def test_threads_of_one_program_load_at_the_same_time(dsn, ask, tmp_path):
    paths = [write_ndjson(tmp_path / f"{n}.ndjson", 300, start=300 * n) for n in range(24)]

    def load(path):
        return howdah.load([path], dsn=dsn, workers=1)

    with ThreadPoolExecutor(4) as pool:
        reports = list(pool.map(load, paths))

    assert [(report.sources, report.records) for report in reports] == [(1, 300)] * 24
    assert ask("SELECT count(*), count(DISTINCT attributes->'n') FROM documents") == [(7200, 7200)]
