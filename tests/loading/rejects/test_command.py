"""`howdah rejects`: list, show, export and retry."""

from __future__ import annotations

import json
import os
import zipfile

import pytest

import howdah
from tests.loading.records import write_ndjson


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


def test_folder_that_cannot_be_written_is_named(howdah_command, mixed, tmp_path):
    (tmp_path / "file").touch()

    done = howdah_command("rejects", "export", "--out", tmp_path / "file" / "out")

    assert done.returncode == 2
    assert f"{tmp_path}/file/out cannot be written: Not a directory." in done.stderr


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
        "gone": 0,
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
