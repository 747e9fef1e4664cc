"""The process around a Writer: its end, its forks, Ctrl-C, SIGKILL."""

from __future__ import annotations

import signal
import subprocess
import sys

import psycopg

from tests.loading.writer.posting import wait_until

COMMON = """
import os, sys, time, signal, howdah
from howdah.errors import UsageError
dsn = sys.argv[1]
"""


def python(dsn, script) -> subprocess.Popen[str]:
    return subprocess.Popen(
        # From 3.12 on Python warns of forks in programs with threads: the very thing to try.
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", COMMON + script, dsn],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_end_of_the_program_commits_what_a_writer_that_is_not_closed_has(dsn, ask, events):
    program = python(
        dsn,
        """
writer = howdah.Writer(dsn, "events", linger_s=60)
for n in range(100):
    writer.post({"k": n})
""",
    )
    _, errors = program.communicate(timeout=60)

    assert (program.returncode, errors) == (0, "")
    assert ask("SELECT count(*) FROM events") == [100]


def test_forked_child_is_told_and_its_parent_goes_on(dsn, ask, events):
    program = python(
        dsn,
        """
with howdah.Writer(dsn, "events", linger_s=0.2) as writer:
    future = writer.post({"k": 1})
    if os.fork() == 0:
        try:
            writer.post({"k": 2})
        except UsageError as exc:
            print("child:", exc)
        with howdah.Writer(dsn, "events") as own:
            own.post({"k": 3}).result()
        writer.close()
        sys.exit(0)
    assert os.wait()[1] == 0
    future.result(timeout=30)
    writer.post({"k": 4}).result(timeout=30)
""",
    )
    output, errors = program.communicate(timeout=60)

    assert (program.returncode, errors) == (0, "")
    assert "child: The row was not posted: this process was forked" in output
    assert ask("SELECT k FROM events ORDER BY k") == [1, 3, 4]


INTERRUPTED = """
with howdah.Writer(dsn, "events", linger_s=60) as writer:
    for n in range(10):
        writer.post({"k": n})
    print("posted", flush=True)
    time.sleep(60)
"""


def test_ctrl_c_commits_what_was_posted(dsn, ask, events):
    program = python(dsn, INTERRUPTED)
    assert program.stdout is not None
    program.stdout.readline()
    program.send_signal(signal.SIGINT)
    _, errors = program.communicate(timeout=30)

    assert "KeyboardInterrupt" in errors
    assert ask("SELECT count(*) FROM events") == [10]


def test_second_ctrl_c_ends_a_program_whose_rows_cannot_be_committed(dsn, ask, events):
    with psycopg.connect(dsn) as slow:
        program = python(dsn, INTERRUPTED)
        assert program.stdout is not None
        program.stdout.readline()
        slow.execute("LOCK TABLE events IN SHARE MODE")
        program.send_signal(signal.SIGINT)
        wait_until(lambda: ask("SELECT true FROM pg_locks WHERE NOT granted"))
        program.send_signal(signal.SIGINT)
        program.communicate(timeout=30)

    assert program.returncode != 0


def test_killed_process_loses_only_rows_whose_futures_were_not_done(dsn, ask, events):
    program = python(
        dsn,
        """
with howdah.Writer(dsn, "events") as writer:
    n = 0
    while True:
        waiting = [(k, writer.post({"k": k})) for k in range(n, n + 100)]
        n += 100
        for k, future in waiting:
            future.result()
            print(k, flush=True)
""",
    )
    assert program.stdout is not None
    for _ in range(1000):
        last = int(program.stdout.readline())
    program.kill()
    for line in program.communicate(timeout=30)[0].splitlines(keepends=True):
        if line.endswith("\n"):
            last = int(line)
    wait_until(
        lambda: not ask("SELECT pid FROM pg_stat_activity WHERE application_name ~ '^howdah wr'")
    )

    assert ask(f"SELECT count(*), count(DISTINCT k) FROM events WHERE k <= {last}") == [
        (last + 1, last + 1)
    ]
