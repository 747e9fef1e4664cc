import json

import psycopg
import pytest
from click.testing import CliRunner

from howdah.cli.server import server as command
from howdah.errors import HowdahError
from howdah.server import find, psql, status


def run(*arguments):
    result = CliRunner().invoke(command, [str(each) for each in arguments], catch_exceptions=False)
    assert result.exit_code == 0
    return result.output


def test_a_day_of_a_server_in_words_and_in_json(base):
    data = base / "cluster"
    assert run("status", "--data", data) == (
        f"There is no server yet; `howdah server start` makes one in {data}\n"
    )
    assert json.loads(run("stop", "--data", data, "--json"))["state"] == "absent"
    binaries = find()
    lines = run("start", "--data", data, "--version-of", binaries.bindir).splitlines()
    running = status(data).running
    assert lines == [
        (
            f"PostgreSQL {binaries.version} runs on port {running.port} as {running.account}, "
            f"data in {data}"
        ),
        f"connect: {psql()} '{running.conninfo()}'",
    ]
    assert run("status", "--data", data).splitlines() == lines
    shown = json.loads(run("status", "--data", data, "--json"))
    assert shown["state"] == "running"
    assert shown["running"]["pid"] == running.pid
    restarted = json.loads(run("restart", "--data", data, "--json"))
    assert restarted["pid"] != running.pid
    assert restarted["passfile"] == f"{data}.pgpass"
    with psycopg.connect(restarted["conninfo"]) as conn:
        assert conn.info.port == running.port
    assert run("stop", "--data", data) == (
        f"PostgreSQL {binaries.major} is stopped, data in {data}\n"
    )
    moved = json.loads(run("start", "--data", data, "--port", 0, "--json"))
    assert status(data).port == moved["port"]


def test_errors_pass_through_to_the_top(base):
    (base / "file").write_text("")
    with pytest.raises(HowdahError, match="is a file"):
        run("start", "--data", base / "file")
