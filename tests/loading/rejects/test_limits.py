"""How many rejects a load may have."""

from __future__ import annotations

import pytest

import howdah
from howdah.errors import HowdahError
from tests.loading.records import write_ndjson


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
