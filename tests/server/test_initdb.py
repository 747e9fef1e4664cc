import fcntl
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import psycopg
import pytest

from howdah.errors import ServerFailed
from howdah.server import initdb, start, status
from howdah.server.initdb import _locales

START = """
import sys
from pathlib import Path
from howdah.server import start
start(Path(sys.argv[1]))
"""
# Runs in a mount namespace of its own: what it mounts goes with it.
IN_SMALL_FILE_SYSTEM = """
import json, shutil, subprocess, sys
from pathlib import Path
from howdah.errors import HowdahError
from howdah.server import init, start, stop, status

folder, scenario = Path(sys.argv[1]), sys.argv[2]
size = "20m" if scenario == "init" else "120m"
subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=0755", "none", folder], check=True)
data = folder / "cluster"
told = None
try:
    if scenario == "start":
        init(data)
        with (folder / "filler").open("wb", buffering=0) as filler:
            try:
                while filler.write(bytes(4096)):
                    pass
            except OSError:
                pass
    start(data)
except HowdahError as error:
    told = [type(error).__name__, error.message, error.next_step]
left = sorted(path.name for path in folder.iterdir())
recovered = None
if scenario == "start":
    (folder / "filler").unlink()
    start(data)
    recovered = status(data).state
    stop(data)
print(json.dumps([told, left, recovered]))
"""


@pytest.mark.parametrize("scenario", ["init", "start"])
def test_full_disk_is_named_with_its_free_bytes_and_nothing_breaks(base, scenario):
    told, left, recovered = in_small_file_system(base, scenario)
    assert told is not None
    kind, message, next_step = told
    assert kind == "ServerFailed"
    assert f"the file system {base} is full" in message
    assert "bytes free" in message
    assert str(base) in next_step
    assert [name for name in left if name.startswith(".")] == []
    assert ("cluster" in left) == (scenario == "start")
    assert recovered == ("running" if scenario == "start" else None)


@pytest.mark.parametrize("victim", ["howdah", "initdb"])
def test_kill_in_the_middle_leaves_nothing_that_blocks_the_next_start(base, victim):
    data = base / "cluster"
    command = subprocess.Popen([sys.executable, "-c", START, str(data)], stderr=subprocess.DEVNULL)
    child = wait_for_initdb(command, base)
    if victim == "howdah":
        child.suspend()
        command.kill()
        assert command.wait(30) != 0
        try:
            # Nobody sweeps away what the orphaned initdb still writes to.
            assert is_locked(base / "cluster.lock")
        finally:
            child.resume()
    else:
        child.kill()
        assert command.wait(30) != 0
    assert status(data).state == "absent"
    with psycopg.connect(start(data).conninfo()) as conn:
        assert conn.info.dbname == "howdah"
    assert not [path for path in base.iterdir() if path.name.startswith(".")]
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


def test_initdb_that_fails_leaves_nothing_and_says_why(base, monkeypatch):
    monkeypatch.setattr(initdb, "ROLE", "pg_reserved")
    with pytest.raises(ServerFailed, match='superuser name "pg_reserved" is disallowed'):
        start(base / "cluster")
    assert [path.name for path in base.iterdir()] == ["cluster.lock"]


def test_system_without_the_utf8_locale_gets_plain_c(base, monkeypatch):
    monkeypatch.setattr(
        initdb, "_locales", lambda _: [["--locale", "xx_XX.UTF-8"], ["--locale", "C"]]
    )
    with psycopg.connect(start(base / "cluster").conninfo()) as conn:
        assert conn.info.encoding == "utf-8"
        shown = conn.execute(
            "SELECT datcollate FROM pg_database WHERE datname = 'howdah'"
        ).fetchone()
    assert shown == ("C",)


@pytest.mark.parametrize("major", [14, 15, 16, 17, 18])
def test_locales_end_with_one_that_every_system_has(major):
    last = _locales(major)[-1]
    assert last[-2:] == ["--locale", "C"]
    assert ("builtin" in last) == (major >= 17)


def in_small_file_system(folder: Path, scenario: str):
    unshare = ["unshare", "--mount"]
    if os.geteuid() != 0:
        unshare += ["--user", "--map-root-user"]
    if subprocess.run([*unshare, "true"], check=False, capture_output=True).returncode != 0:
        pytest.skip("neither root nor user namespaces here, so no small file system can be mounted")
    done = subprocess.run(
        [*unshare, sys.executable, "-c", IN_SMALL_FILE_SYSTEM, str(folder), scenario],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def is_locked(path: Path) -> bool:
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def wait_for_initdb(command: subprocess.Popen, base: Path) -> psutil.Process:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if any(path.parent.name == "data" for path in base.rglob("PG_VERSION")):
            for child in psutil.Process(command.pid).children():
                if child.name() == "initdb":
                    return child
        time.sleep(0.001)
    raise AssertionError("initdb was not seen")
