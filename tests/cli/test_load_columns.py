"""`howdah load` into columns, as people type it: options, what is printed, refusals."""

from __future__ import annotations

import json

import pytest

from tests.fixtures.commands import Howdah


@pytest.fixture
def people(tmp_path):
    path = tmp_path / "people.csv"
    path.write_text("id,name,born\n1,Ann,1990-01-02\n2,[/b]ob,\n")
    return path


def test_dry_run_prints_the_table_and_rows_and_touches_no_database(howdah: Howdah, people, ask):
    done = howdah("load", people, "--as", "columns", "--key", "id", "--dry-run")

    assert done.returncode == 0
    assert done.stdout == (
        'CREATE TABLE "documents" (\n'
        '    "id" bigint,\n'
        '    "name" text,\n'
        '    "born" date,\n'
        '    PRIMARY KEY ("id")\n'
        ");\n"
        "\n"
        "id  name    born\n"
        "1   Ann     1990-01-02\n"
        "2   [/b]ob\n"
    )
    assert ask("SELECT to_regclass('documents'), to_regclass('howdah.sources')") == [(None, None)]


def test_dry_run_shortens_what_is_long(howdah: Howdah, tmp_path):
    path = tmp_path / "a.ndjson"
    path.write_text(json.dumps({"text": "line\n" * 20, "list": [1, 2]}) + "\n")

    rows = howdah("load", path, "--dry-run").stdout.splitlines()[-2:]

    assert [len(row) for row in rows] == [46, 48]
    assert rows[1].startswith("line line")
    assert rows[1].endswith("...  [1, 2]")


def test_dry_run_needs_no_server(people):
    done = Howdah("host=127.0.0.1 port=1")("load", people, "--as", "columns", "--dry-run")

    assert (done.returncode, done.stderr) == (0, "")


def test_options_of_a_merge(howdah: Howdah, people, ask):
    load = ["load", people, "--table", "people", "--as", "columns", "--json"]
    made = howdah(*load, "--key", "id", "--on-conflict", "update", "--extra", "rest")
    assert made.returncode == 0, made.stderr
    people.write_text('id,name,color\n1,Anne,red\n3,Cid,"bl,ue"\n')

    skipped = json.loads(
        howdah(*load, "--key", "id", "--on-conflict", "skip", "--extra", "rest").stdout
    )
    updated = json.loads(howdah(*load, "--update-on", " id ", "--extra", "rest", "--again").stdout)

    assert (skipped["records"], skipped["rows"]) == (2, 1)
    assert (updated["records"], updated["rows"]) == (2, 1)
    assert ask("SELECT id, name, born::text, rest FROM people ORDER BY id") == [
        (1, "Anne", "1990-01-02", {"color": "red"}),
        (2, "[/b]ob", None, None),
        (3, "Cid", None, {"color": "bl,ue"}),
    ]


def test_rows_that_a_merge_did_not_change_are_told(howdah: Howdah, people):
    merge = ["--table", "p", "--key", "id", "--on-conflict", "update", "--again"]
    for _ in range(2):
        done = howdah("load", people, *merge)

    assert "0 rows added or changed; the others changed nothing" in done.stdout


def test_truncate_and_replace(howdah: Howdah, people, ask):
    for option in ([], ["--truncate"], ["--replace"]):
        done = howdah("load", people, "--table", "p", "--as", "columns", *option)
        assert done.returncode == 0, done.stderr
        assert ask("SELECT count(*) FROM p") == [2]


def test_defer_and_restore_indexes(howdah: Howdah, people, ask):
    howdah("load", people, "--table", "p", "--as", "columns")
    ask("CREATE INDEX by_name ON p (name)")

    done = howdah("load", people, "--table", "p", "--truncate", "--defer-indexes")
    nothing = howdah("load", "--restore-indexes", "--table", "p", "--json")

    assert "building 1 index of p" in done.stderr
    assert ask("SELECT to_regclass('by_name')::text") == ["by_name"]
    assert json.loads(nothing.stdout) == {"table": "p", "indexes": []}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--as", "json", "--key", "id"], "--key is for --as columns"),
        (["--as", "json", "--extra", "x"], "--extra is for --as columns"),
        (["--update-on", "id", "--key", "id"], "--key and --on-conflict do not apply"),
        (["--update-on", "id", "--on-conflict", "skip"], "--key and --on-conflict do not apply"),
        (["--on-conflict", "update"], "--on-conflict update needs --key A,B"),
        (["--on-conflict", "sometimes"], "is not one of"),
        (["--truncate", "--replace"], "two ways to the same"),
        (["--replace", "--key", "id", "--on-conflict", "skip"], "no rows to merge with"),
        (["--replace", "--defer-indexes"], "builds indexes last anyway"),
        (["--restore-indexes"], "name no PATH"),
        (["--update-on", "id", "--table", "nosuch"], "no table nosuch whose rows"),
        (["--as", "columns", "--key", "nosuch", "--table", "nosuch"], "no attribute nosuch"),
        (["--as", "columns", "--key", "id,,"], "A,B"),
    ],
)
def test_options_that_make_no_sense_are_exit_code_2_and_a_sentence(
    howdah: Howdah, people, arguments, message
):
    done = howdah("load", people, *arguments)

    assert done.returncode == 2
    assert message in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_restoring_needs_a_table_that_is_there(howdah: Howdah):
    done = howdah("load", "--restore-indexes", "--table", "nosuch")

    assert done.returncode == 2
    assert "There is no table nosuch." in done.stderr
