"""The command as people and scripts meet it."""

from __future__ import annotations

import gzip
import io
import json
import os
import pty
import resource
import subprocess
import sys
import zipfile

import pytest

from tests.fixtures.commands import Howdah
from tests.loading.records import write_ndjson

REPORT_KEYS = [
    "table",
    "sources",
    "skipped",
    "records",
    "rows",
    "rejects",
    "repaired",
    "chunks",
    "bytes",
    "seconds",
    "records_per_second",
]


@pytest.mark.parametrize("module", ["howdah", "howdah.cli.main", "howdah.cli.load"])
def test_import_of_the_command_brings_neither_django_nor_readers(module):
    heavy = ("django", "psycopg", "rich", "orjson", "kreuzberg", "howdah.loading", "psutil")
    code = f"import sys, {module}; print([m for m in {heavy} if m in sys.modules])"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout == "[]\n"


@pytest.mark.parametrize("option", ["--version", "--help"])
def test_help_is_answered_without_heavy_imports(option):
    code = "import sys; from howdah.cli.main import main\ntry: main()\nfinally: print(*sys.modules)"

    done = subprocess.run(
        [sys.executable, "-c", code, option], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0
    assert not {"django", "psycopg", "rich", "howdah.loading"} & set(done.stdout.split())


def test_where_says_what_was_chosen_and_why_without_a_password(howdah: Howdah):
    text = howdah("where").stdout
    facts = json.loads(howdah("where", "--json").stdout)

    assert "the variable HOWDAH_DSN" in text
    assert facts["database"] in text
    assert facts["role"] == "postgres"
    assert "password=" not in text + json.dumps(facts)


def test_where_takes_an_option_first(howdah: Howdah):
    done = howdah("where", "--dsn", howdah.dsn, "--json")

    assert json.loads(done.stdout)["chosen"] == "--dsn"


def test_load_prints_what_it_did(howdah: Howdah, tmp_path):
    path = write_ndjson(tmp_path / "a.ndjson", 1234)

    first, second = howdah("load", path), howdah("load", path)

    assert first.stdout.startswith("1,234 records from 1 source into documents in ")
    assert second.stdout == (
        "nothing to load into documents\nskipped 1 source: loaded before and unchanged\n"
    )
    assert (first.returncode, second.returncode) == (0, 0)


def test_load_as_json_prints_one_object(howdah: Howdah, tmp_path):
    done = howdah("load", write_ndjson(tmp_path / "a.ndjson", 5), "--json", "--table", "raw.events")

    report = json.loads(done.stdout)
    assert list(report) == REPORT_KEYS
    assert (report["table"], report["records"]) == ("raw.events", 5)
    assert done.stderr == ""


def test_quiet_load_prints_nothing(howdah: Howdah, tmp_path):
    done = howdah("load", write_ndjson(tmp_path / "a.ndjson", 5), "--quiet")

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_rejects_are_shown_and_are_exit_code_3(howdah: Howdah, tmp_path):
    path = tmp_path / "a.ndjson"
    path.write_text('{"n": 1}\n{bad}\n')

    done = howdah("load", path)

    assert done.returncode == 3
    assert "1 reject, kept in howdah.rejects:" in done.stdout
    assert "record 2: invalid JSON at character 1" in done.stdout


def test_names_are_shown_by_terminals_of_any_encoding_and_obeyed_by_none(
    howdah: Howdah, tmp_path, monkeypatch
):
    (tmp_path / "ä😀\x1b[2J\n.ndjson").write_text("{bad}\n")
    monkeypatch.setenv("PYTHONIOENCODING", "latin-1")

    loaded = howdah("load", tmp_path, encoding="latin-1")
    listed = howdah("rejects", "list", encoding="latin-1")

    assert (loaded.returncode, listed.returncode) == (3, 0)
    assert loaded.stdout.count("\n") == 3
    for done in (loaded, listed):
        assert r"/ä\U0001f600\x1b[2J\n.ndjson" in done.stdout


def test_archive_without_room_for_temporary_files_is_loaded_when_there_is(
    howdah: Howdah, ask, tmp_path
):
    """A limit on the size of files does for a disk that is full."""
    stored = io.BytesIO()
    with zipfile.ZipFile(stored, "w") as archive:
        archive.writestr("a.csv", "n,text\n" + f"1,{'x' * 100}\n" * 200_000)
    path = tmp_path / "in.zip.gz"
    path.write_bytes(gzip.compress(stored.getvalue(), 1))
    few = (1 << 20, 1 << 20)

    full = howdah("load", path, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, few))
    again = howdah("load", path)

    assert full.returncode == 1
    assert "There is no room for temporary files in" in full.stderr
    assert again.returncode == 0
    assert ask("SELECT count(*) FROM documents") == [200_000]


@pytest.mark.parametrize("stream", ["stdin", "stdout"])
def test_closed_stream_is_no_traceback(howdah: Howdah, tmp_path, stream):
    closing = {"stdin": "<&-", "stdout": ">&-"}[stream]
    source = {"stdin": "-", "stdout": write_ndjson(tmp_path / "a.ndjson", 1)}[stream]

    done = subprocess.run(
        ["sh", "-c", f'exec "$@" {closing}', "sh", *howdah.command("load", source)],
        env=howdah.environment(),
        capture_output=True,
        text=True,
        check=False,
    )

    if stream == "stdin":
        assert (done.returncode, "Standard input is closed." in done.stderr) == (2, True)
    else:
        assert (done.returncode, done.stderr) == (0, "")


def test_standard_input_is_loaded_under_its_name(howdah: Howdah, ask):
    for text in ('{"n": 1}\n', '{"n": 2}\n'):
        done = howdah("load", "-", "--name", "today", input=text)
        assert done.returncode == 0, done.stderr
    howdah("load", "-", input='{"n": 3}\n')
    howdah("load", "-", input='{"n": 3}\n')

    rows = ask("SELECT source, attributes->>'n' FROM documents ORDER BY id")
    assert rows[0] == ("today", "2")
    assert [n for _, n in rows] == ["2", "3", "3"]
    assert rows[1][0].startswith("stdin 20")
    assert rows[1][0] != rows[2][0]


def test_archive_on_standard_input_replaces_what_its_name_held(howdah: Howdah, ask, tmp_path):
    import zipfile

    for members in (("a.csv", "b.csv"), ("b.csv", "c.csv")):
        with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
            for member in members:
                archive.writestr(member, f"n,word\n1,{members}\n")
        with (tmp_path / "in.zip").open() as file:
            assert howdah("load", "-", "--name", "daily", stdin=file).returncode == 0

    assert ask("SELECT source FROM documents ORDER BY 1") == ["daily!/b.csv", "daily!/c.csv"]
    assert ask("SELECT DISTINCT attributes->>'word' FROM documents") == ["('b.csv'"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["load", "no/such/path"], "There is no file or folder 'no/such/path'."),
        (["load"], "Missing argument 'PATH...'"),
        (["load", ".", "--table", "a.b.c"], "'a.b.c' is not the name of a table."),
        (["nosuch"], "No such command 'nosuch'"),
        (["where", "--dsn", "mysql://u:s3cret@h/d"], "not PostgreSQL"),
    ],
)
def test_wrong_usage_is_exit_code_2_and_a_sentence(howdah: Howdah, tmp_path, arguments, message):
    done = howdah(*arguments, cwd=tmp_path)

    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert "s3cret" not in done.stderr


def test_unreachable_server_is_exit_code_1_and_says_what_to_type(howdah: Howdah):
    done = howdah("where", "--dsn", "host=127.0.0.1 port=1 password=s3cret")

    assert done.returncode == 1
    assert "PostgreSQL does not answer" in done.stderr
    assert "howdah where" in done.stderr
    assert "s3cret" not in done.stderr + done.stdout


def test_traceback_is_for_debug_alone(howdah: Howdah):
    done = howdah("--debug", "where", "--dsn", "host=127.0.0.1 port=1")

    assert "Traceback" in done.stderr


def test_password_reaches_no_process_list(howdah: Howdah, server, tmp_path):
    import psutil

    password = server.passfile.read_text().strip().rpartition(":")[2]
    write_ndjson(tmp_path / "a.ndjson", 60_000)
    url = f"postgresql://postgres:{password}@127.0.0.1:{server.port}/{howdah.dsn.split('dbname=')[1].split()[0]}"
    loading = Howdah(url).start("load", tmp_path, "--json")
    seen = []
    while loading.poll() is None:
        for process in [psutil.Process(loading.pid), *psutil.Process(loading.pid).children()]:
            try:
                seen.append(" ".join(process.cmdline()))
            except psutil.Error:
                continue
    output, errors = loading.communicate()

    assert loading.returncode == 0
    assert len(seen) > 2
    assert password not in " ".join(seen) + output + errors


def test_progress_is_a_bar_on_a_terminal(howdah: Howdah, tmp_path):
    write_ndjson(tmp_path / "a.ndjson", 40_000)
    ours, theirs = pty.openpty()
    loading = subprocess.Popen(
        howdah.command("load", tmp_path),
        env=howdah.environment() | {"TERM": "xterm", "COLUMNS": "120"},
        stdout=subprocess.PIPE,
        stderr=theirs,
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            block = os.read(ours, 65536)
        except OSError:  # the terminal's other end is closed
            break
        if not block:
            break
        shown += block
    os.close(ours)
    output, _ = loading.communicate()

    assert b"Loading into documents" in shown
    assert b"of 1 files" in shown
    assert output.startswith(b"40,000 records from 1 source into documents")


def test_server_of_our_own_is_started_when_no_database_is_named(base):
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PG", "HOWDAH"))}
    environment["HOWDAH_DATA"] = str(base / "cluster")
    path = write_ndjson(base / "a.ndjson", 7)

    def howdah(*arguments: object) -> str:
        command = [sys.executable, "-m", "howdah", *map(str, arguments)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        return done.stdout

    assert json.loads(howdah("load", path, "--json"))["records"] == 7
    facts = json.loads(howdah("where", "--json"))
    assert facts["chosen"] == "none is named, so a server of our own"
    assert "running" in howdah("server", "status", "--json")
    howdah("server", "stop")
    assert "is stopped" in howdah("server", "status")
