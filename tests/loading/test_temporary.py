"""Folders for temporary files: those of killed processes are removed, and no others."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from howdah.loading.temporary import temporary_folder

HOLDS = """
import os, sys
from pathlib import Path
from howdah.loading.temporary import temporary_folder

with temporary_folder() as folder:
    Path(folder, "chunk").write_bytes(b"x")
    if not sys.argv[1:] or os.fork() == 0:
        print(folder, flush=True)
        sys.stdin.read()
    else:
        os.kill(os.getpid(), 9)
"""


@pytest.fixture(autouse=True)
def place(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@pytest.fixture
def holder(place):
    """Return what starts a process that has a folder; with an argument, its child has."""
    started = []

    def start(*arguments):
        process = subprocess.Popen(
            [sys.executable, "-c", HOLDS, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"TMPDIR": str(place)},
            text=True,
        )
        started.append(process)
        return process, Path(process.stdout.readline().strip())

    yield start
    for process in started:
        process.kill()
        process.communicate()


def made_and_removed():
    with temporary_folder() as folder:
        Path(folder, "chunk").write_bytes(b"x")
    return Path(folder)


def test_folder_is_gone_behind_the_block(place):
    made_and_removed()

    assert list(place.iterdir()) == []


@pytest.mark.parametrize("arguments", [(), ("forked",)])
def test_folder_of_a_process_that_lives_is_kept_and_of_a_killed_one_removed(holder, arguments):
    process, folder = holder(*arguments)
    if arguments:
        assert process.wait() == -9  # the one that it has forked holds the folder

    made_and_removed()
    assert (folder / "chunk").exists()

    process.kill()
    process.communicate()  # the end of its output is that of its child too
    made_and_removed()
    assert not folder.exists()


def test_what_is_no_folder_of_ours_stays(place):
    (place / "howdah-load-file").write_bytes(b"")
    (place / "elsewhere").mkdir()
    (place / "howdah-load-link").symlink_to(place / "elsewhere")
    (place / "howdah-other").mkdir()
    before = set(place.iterdir())
    if os.geteuid() == 0:
        theirs = place / "howdah-load-theirs"
        theirs.mkdir()
        os.chown(theirs, 65534, 65534)
        before.add(theirs)

    made_and_removed()

    assert set(place.iterdir()) == before


def test_many_at_once_have_a_folder_each_until_they_are_done():
    lost = []

    def work():
        for _ in range(50):
            with temporary_folder() as folder:
                chunk = Path(folder, "chunk")
                chunk.write_bytes(b"x")
                made_and_removed()
                lost.append(not chunk.exists())

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(lost) == 200
    assert not any(lost)
