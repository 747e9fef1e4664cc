"""What cannot be loaded: found, kept with its reason and bytes, and never in the way."""

from __future__ import annotations

import gzip
import json
import os
import random
import threading
import time
import zipfile

import psycopg
import pytest

import howdah
from howdah.errors import HowdahError
from howdah.loading import Chosen, retry_rejects
from tests.loading.records import write_ndjson

REJECTS = "SELECT record, reason, content FROM howdah.rejects ORDER BY record"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"a": 1', "invalid JSON at character 7"),
        (b"{'a': 1}", "invalid JSON at character 1"),
        (b'{"a": NaN}', "NaN"),
        (b'{"a": -Infinity}', "Infinity"),
        (b'{"a": "\xff"}', "invalid UTF-8"),
        (b'{"a": "\x00"}', "control character"),
        (b'{"a": 1e999999}', "numeric"),
        (b"[" * 100_000, ""),
    ],
)
def test_bad_line_is_found_among_good_ones_and_kept(dsn, ask, tmp_path, line, reason):
    path = write_ndjson(tmp_path / "mixed.ndjson", 500)
    lines = path.read_bytes().splitlines()
    path.write_bytes(b"\n".join([*lines[:321], line, *lines[321:]]))

    report = howdah.load([path], dsn=dsn)

    assert (report.sources, report.records, report.rejects) == (1, 500, 1)
    [(record, found, content)] = ask(REJECTS)
    assert (record, content) == (322, line)
    assert reason in found
    assert ask("SELECT count(DISTINCT attributes->'n') FROM documents") == [500]


@pytest.mark.parametrize(
    ("line", "stored"),
    [
        (rb'{"a": "x\u0000y"}', {"a": "x\ufffdy"}),
        (rb'{"a": "\ud800", "n": 12345678901234567890.10}', None),
        (rb'{"a\udfff": "\ud83d\ude00"}', {"a\ufffd": "\U0001f600"}),
    ],
)
def test_valid_json_that_jsonb_cannot_hold_is_repaired_and_counted(
    dsn, ask, tmp_path, line, stored
):
    path = tmp_path / "odd.ndjson"
    path.write_bytes(b'{"n": 1}\n' + line + b'\n{"n": 3}\n')

    report = howdah.load([path], dsn=dsn)

    assert (report.records, report.rejects, report.repaired) == (3, 0, 1)
    [(attributes, text)] = ask(
        "SELECT attributes, attributes::text FROM documents WHERE record = 2"
    )
    assert "\ufffd" in text
    assert stored is None or attributes == stored
    assert stored is not None or "12345678901234567890.10" in text


def test_many_bad_lines_are_all_found(dsn, ask, tmp_path):
    path = tmp_path / "half.ndjson"
    path.write_text("".join(f'{{"n": {n}{"}" if n % 3 else ""}\n' for n in range(9_000)))

    report = howdah.load([path], dsn=dsn)

    assert (report.records, report.rejects) == (6_000, 3_000)
    assert ask("SELECT count(*) FROM howdah.rejects WHERE (record - 1) % 3 = 0") == [3_000]


def test_record_that_only_the_server_refuses_is_found_by_halving(dsn, ask, tmp_path):
    path = write_ndjson(tmp_path / "large.ndjson", 30_000)
    howdah.load([write_ndjson(tmp_path / "first.ndjson", 1)], dsn=dsn)
    ask("ALTER TABLE documents ADD CHECK ((attributes->>'n')::int % 7919 <> 1)")

    report = howdah.load([path], dsn=dsn)

    assert (report.sources, report.rejects, report.records) == (1, 4, 29_996)
    assert ask("SELECT record FROM howdah.rejects ORDER BY 1") == [2, 7_921, 15_840, 23_759]
    assert "check constraint" in ask("SELECT reason FROM howdah.rejects")[0]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("empty.csv", b"", "empty"),
        ("noise.bin", bytes(range(256)) * 9, "no reader knows its format"),
        ("broken.docx", b"PK\3\4" + b"\0" * 99, "cut off"),
        ("broken.pdf", b"%PDF-1.4\nnothing else", ""),
    ],
)
def test_source_that_cannot_be_read_is_kept_with_its_reason(
    dsn, ask, tmp_path, name, content, reason
):
    (tmp_path / name).write_bytes(content)
    good = write_ndjson(tmp_path / "good.ndjson", 5)

    report = howdah.load([tmp_path], dsn=dsn)

    assert (report.sources, report.records, report.rejects) == (2, 5, 1)
    [(source, record, place, found)] = ask(
        "SELECT source, record, place, reason FROM howdah.rejects"
    )
    assert (source, record, place) == (str(tmp_path / name), None, "the whole source")
    assert reason in found
    assert howdah.load([tmp_path], dsn=dsn).skipped == 2
    assert ask("SELECT count(*) FROM documents WHERE source = %s", str(good)) == [5]


def test_truncated_stream_keeps_what_could_be_read_of_it(dsn, ask, tmp_path):
    whole = gzip.compress(write_ndjson(tmp_path / "a.ndjson", 100_000).read_bytes())
    (tmp_path / "a.ndjson").unlink()
    path = tmp_path / "cut.ndjson.gz"
    path.write_bytes(whole[: len(whole) // 2])

    report = howdah.load([path], dsn=dsn)

    assert 0 < report.records < 100_000
    [(place, reason)] = ask("SELECT place, reason FROM howdah.rejects WHERE record IS NULL")
    assert place.startswith("after record ")
    assert "end-of-stream" in reason


def test_file_that_may_not_be_read_is_tried_again_next_time(dsn, ask, tmp_path, monkeypatch):
    path = write_ndjson(tmp_path / "late.ndjson", 3)
    hidden = tmp_path / "hidden"

    def vanish(event):
        if hasattr(event, "table") and not hidden.exists():
            path.rename(hidden)

    first = howdah.load([path], dsn=dsn, on_event=vanish)
    hidden.rename(path)
    second = howdah.load([path], dsn=dsn)

    assert (first.records, first.rejects) == (0, 1)
    assert (second.records, second.rejects) == (3, 0)
    assert ask("SELECT count(*) FROM howdah.rejects") == [0]


def test_mended_source_loses_its_rejects(dsn, ask, tmp_path):
    path = tmp_path / "a.ndjson"
    path.write_text('{"n": 1}\n{bad\n')
    howdah.load([path], dsn=dsn)
    path.write_text('{"n": 1}\n{"n": 2}\n')

    report = howdah.load([path], dsn=dsn)

    assert (report.records, report.rejects) == (2, 0)
    assert ask("SELECT count(*) FROM howdah.rejects") == [0]
    assert ask("SELECT count(*) FROM documents") == [2]


def test_reader_that_crashes_its_process_costs_one_source(dsn, ask, tmp_path):
    for number in range(5):
        (tmp_path / f"{number}.txt").write_text("a text")
    (tmp_path / "3.txt").write_text("crash the process")

    report = _with_reader(
        """
        import os
        from howdah.loading import Match, Reader

        class Crashing(Reader):
            name = "crashing"
            def recognise(self, head):
                return Match.CERTAIN if b"crash" in head.data else Match.NO
            def read(self, file, name):
                os.kill(os.getpid(), 11)
                yield {}
        """,
        tmp_path,
        dsn,
    )

    assert '"records": 4,' in report
    assert '"rejects": 1,' in report
    [(source, reason)] = ask("SELECT source, reason FROM howdah.rejects")
    assert source == str(tmp_path / "3.txt")
    assert "SIGSEGV" in reason


def test_reader_that_hangs_costs_one_source(dsn, ask, tmp_path):
    for number in range(5):
        (tmp_path / f"{number}.txt").write_text("a text")
    (tmp_path / "3.txt").write_text("hang for ever")

    report = _with_reader(
        """
        import time
        from howdah.loading import Match, Reader

        class Hanging(Reader):
            name = "hanging"
            def recognise(self, head):
                return Match.CERTAIN if b"hang" in head.data else Match.NO
            def read(self, file, name):
                time.sleep(3600)
                yield {}
        """,
        tmp_path,
        dsn,
        "import howdah.loading.rounds as rounds; rounds.TIME_LIMIT_S = 1.5",
    )

    assert '"records": 4,' in report
    assert ask("SELECT source FROM howdah.rejects") == [str(tmp_path / "3.txt")]


def _with_reader(code, folder, dsn, setup="pass"):
    """Load a folder with a third party's reader, installed as such."""
    import os
    import subprocess
    import sys
    import textwrap

    site = folder.parent / f"{folder.name}-site"
    info = site / "third_party-1.0.dist-info"
    info.mkdir(parents=True)
    source = textwrap.dedent(code)
    (site / "third_party.py").write_text(source)
    cls = source.partition("class ")[2].partition("(")[0]
    (info / "entry_points.txt").write_text(f"[howdah.readers]\nthird = third_party:{cls}\n")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: third-party\nVersion: 1.0\n")
    (site / "start.py").write_text(
        f"{setup}\nfrom howdah.cli.main import main\nif __name__ == '__main__':\n    main()\n"
    )
    done = subprocess.run(
        [sys.executable, site / "start.py", "load", "--json", "--dsn", dsn, str(folder)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(site), *sys.path])},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 3, done.stderr
    return done.stdout


def test_stop_at_the_first_reject_keeps_what_is_committed_and_says_how_to_go_on(
    howdah_command, ask, tmp_path
):
    write_ndjson(tmp_path / "a.ndjson", 10)
    (tmp_path / "b.ndjson").write_text('{"n": 1}\n{bad\n')

    stopped = howdah_command("load", tmp_path, "--on-reject", "stop")
    going_on = howdah_command("load", tmp_path, "--max-rejects", 1)

    assert stopped.returncode == 1
    assert "Stopped at 1 reject: no more than 0 are allowed." in stopped.stderr
    assert "howdah rejects list" in stopped.stderr
    assert going_on.returncode == 0
    assert ask("SELECT count(*) FROM documents") == [11]
    assert ask("SELECT record FROM howdah.rejects") == [2]


def test_too_many_rejects_stop_a_large_load_on_its_way(dsn, ask, tmp_path):
    bad = b"".join(b'{"n": %d\n' % n if n % 9999 == 0 else b'{"n": %d}\n' % n for n in range(10**6))
    (tmp_path / "a.ndjson").write_bytes(bad * 4)

    with pytest.raises(HowdahError, match="no more than 10 are allowed"):
        howdah.load([tmp_path], dsn=dsn, max_rejects=10, workers=1)

    assert 0 < ask("SELECT count(*) FROM documents")[0] < 4 * 999_899
    assert ask("SELECT count(*) FROM howdah.sources WHERE finished") == [0]


def test_stream_with_too_many_rejects_leaves_nothing(howdah_command, ask):
    done = howdah_command("load", "-", "--max-rejects", 1, input="{}\n{bad\n{bad\n{}\n")

    assert done.returncode == 1
    assert "Stopped at 2 rejects" in done.stderr
    assert ask("SELECT count(*) FROM documents") == [0]


@pytest.fixture
def howdah_command(request):
    """The fixture `howdah`, whose name the package has here."""
    return request.getfixturevalue("howdah")


@pytest.fixture
def mixed(dsn, tmp_path):
    """Two loaded sources with three bad records between them, and one whole reject."""
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.ndjson").write_bytes(b'{"n": 1}\n{"n": 2\n{"n": 3}\n{"n": \xff}\n')
    (folder / "b.csv").write_bytes(b'n,word,more\n1,a,x\n2,"b\0",y\n3,c,z\n')
    (folder / "c.docx").write_bytes(b"PK\3\4" + b"\0" * 99)
    report = howdah.load([folder], dsn=dsn)
    assert (report.records, report.rejects) == (4, 4)
    return folder


def test_rejects_are_listed_by_source_and_reason_newest_first(howdah_command, mixed):
    text = howdah_command("rejects", "list").stdout
    groups = json.loads(howdah_command("rejects", "list", "--json").stdout)
    one = json.loads(
        howdah_command("rejects", "list", "--json", "--source", mixed / "b.csv").stdout
    )

    assert len(groups) == 4
    assert [g["latest_id"] for g in groups] == sorted(
        (g["latest_id"] for g in groups), reverse=True
    )
    assert "NUL" in one[0]["reason"]
    assert (len(one), one[0]["rejects"], one[0]["table"]) == (1, 1, "documents")
    assert f"documents  {mixed / 'c.docx'}: " in text


def test_list_of_no_rejects_is_a_sentence_also_before_the_first_load(howdah_command):
    assert howdah_command("rejects", "list").stdout == "no rejects\n"
    assert howdah_command("rejects", "show", 1).returncode == 2


def test_reject_is_shown_as_text_or_in_hexadecimal(howdah_command, ask, mixed):
    text, binary = ask(
        "SELECT id FROM howdah.rejects WHERE source LIKE '%a.ndjson' ORDER BY record"
    )

    assert howdah_command("rejects", "show", text).stdout.endswith('\n\n{"n": 2\n')
    assert "7b 22 6e 22 3a 20 ff 7d" in howdah_command("rejects", "show", binary).stdout
    assert json.loads(howdah_command("rejects", "show", binary, "--json").stdout)["hex"] == (
        b'{"n": \xff}'.hex()
    )
    assert "record 2" in howdah_command("rejects", "show", text).stdout


def test_exported_rejects_are_mended_with_an_editor_and_loaded_in_place(
    howdah_command, ask, mixed, tmp_path
):
    out = tmp_path / "out"
    exporting = howdah_command("rejects", "export", "--out", out)
    assert sorted(path.name for path in out.iterdir()) == [
        "1-b.csv",
        "1-b.csv.ids",
        "records.ndjson",
        "records.ndjson.ids",
        "sources.txt",
    ]
    assert (out / "records.ndjson").read_bytes() == b'{"n": 2\n{"n": \xff}\n'
    assert (out / "1-b.csv").read_bytes() == b'n,word,more\n2,"b\0",y\n'
    assert (out / "sources.txt").read_text() == f"{mixed / 'c.docx'}\n"
    (out / "records.ndjson").write_bytes(b'{"n": 2}\n\n')  # and the other one left alone
    (out / "1-b.csv").write_bytes(b"n,word,more\n2,b,y\n")

    lines = howdah_command("rejects", "retry", "--from", out / "records.ndjson")
    rows = howdah_command("rejects", "retry", "--from", out / "1-b.csv")

    assert exporting.stdout.startswith("3 records, 1 whole source\n")
    assert (lines.returncode, rows.returncode) == (0, 0), lines.stderr + rows.stderr
    assert ask(
        "SELECT source, record, attributes FROM documents WHERE record = 2 ORDER BY source"
    ) == [
        (str(mixed / "a.ndjson"), 2, {"n": 2}),
        (str(mixed / "b.csv"), 2, {"n": "2", "word": "b", "more": "y"}),
    ]
    assert ask("SELECT record FROM howdah.rejects WHERE record IS NOT NULL") == [4]
    assert ask("SELECT records, rejects FROM howdah.sources ORDER BY name") == [
        (3, 1),
        (3, 0),
        (0, 1),
    ]
    assert ask("SELECT count(DISTINCT loaded_at) FROM documents") == [1]
    assert howdah_command("load", mixed, "--json").returncode == 0  # they are known, and skipped
    assert ask("SELECT count(*) FROM documents") == [6]


def test_mended_file_that_lost_a_line_is_refused(howdah_command, ask, mixed, tmp_path):
    howdah_command("rejects", "export", "--out", tmp_path / "out")
    path = tmp_path / "out" / "records.ndjson"
    path.write_bytes(b'{"n": 2}\n')

    done = howdah_command("rejects", "retry", "--from", path)

    assert done.returncode == 2
    assert "has 1 records, and there are 2 ids for them" in done.stderr
    assert ask("SELECT count(*) FROM howdah.rejects") == [4]


def test_mended_records_may_be_named_by_their_ids(howdah_command, ask, mixed, tmp_path):
    [number] = ask("SELECT id FROM howdah.rejects WHERE source LIKE '%a.ndjson' AND record = 4")
    (tmp_path / "one.ndjson").write_text('{"n": 4}\n')

    done = howdah_command("rejects", "retry", "--from", tmp_path / "one.ndjson", number)

    assert done.stdout == "loaded 1 rejected record\n"
    assert ask("SELECT attributes FROM documents WHERE record = 4") == [{"n": 4}]


def test_rejects_are_exported_to_standard_output(howdah_command, mixed):
    done = howdah_command("rejects", "export", "--out", "-", "--table", "documents", text=False)

    assert done.stdout == b'{"n": 2\n{"n": \xff}\n2,"b\0",y\n'


def test_records_that_the_table_takes_now_are_loaded_as_they_were_kept(
    howdah_command, dsn, ask, tmp_path
):
    howdah.load([write_ndjson(tmp_path / "first.ndjson", 1)], dsn=dsn)
    ask("ALTER TABLE documents ADD CONSTRAINT few CHECK ((attributes->>'n')::int < 5)")
    (tmp_path / "b.csv").write_text("n,a,b\n" + "".join(f"{n},x,y\n" for n in range(10)))
    howdah.load([tmp_path / "b.csv"], dsn=dsn)
    refused = howdah_command("rejects", "retry")
    ask("ALTER TABLE documents DROP CONSTRAINT few")
    done = howdah_command("rejects", "retry", "--json")

    assert refused.returncode == 3
    assert "5 rejects left as before:" in refused.stdout
    assert "check constraint" in refused.stdout
    assert json.loads(done.stdout) == {
        "records": 5,
        "sources": 0,
        "rejects": 0,
        "refused": [],
    }
    assert ask("SELECT record FROM documents WHERE source LIKE '%b.csv' ORDER BY 1") == [
        *range(1, 11)
    ]
    assert ask("SELECT count(*) FROM howdah.rejects") == [0]


def test_whole_source_is_loaded_again_from_its_path(howdah_command, ask, dsn, tmp_path):
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
        archive.writestr("good.ndjson", '{"n": 1}\n{"n": 2}\n')
        archive.writestr("bad.docx", b"PK\3\4" + b"\0" * 99)
    path = tmp_path / "a.bin"
    path.write_bytes(bytes(range(256)))
    howdah.load([tmp_path], dsn=dsn)
    facts = path.stat()
    path.write_bytes((b'{"n": 1}\n' * 40)[:256])
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))  # a load would not look at it
    assert howdah.load([tmp_path], dsn=dsn).records == 0

    done = howdah_command("rejects", "retry", "--json")

    assert (done.returncode, json.loads(done.stdout)["rejects"]) == (3, 2)
    assert json.loads(done.stdout)["sources"] == 2, done.stderr
    assert ask("SELECT count(*) FROM documents WHERE source LIKE '%a.bin'") == [28]
    assert ask(
        "SELECT count(*), count(DISTINCT record) FROM documents WHERE source LIKE '%good%'"
    ) == [(2, 2)]
    assert len(ask("SELECT id FROM howdah.rejects WHERE source LIKE '%bad.docx'")) == 1


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
