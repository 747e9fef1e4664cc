"""Bad records and sources are found, and kept with reason and bytes; the others are loaded."""

from __future__ import annotations

import gzip
import os

import pytest

import howdah
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
