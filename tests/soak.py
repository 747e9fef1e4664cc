"""A load that is killed at random moments, again and again, and must leave every record once.

    python -m tests.soak [MINUTES] [SEED]

runs for ten minutes unless told otherwise and prints what it does; the same seed
kills the same victims after the same waits. tests/loading/test_killed.py is a
short run of it.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import random
import secrets
import signal
import subprocess
import sys
import time
import zipfile
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import psycopg

from howdah.server import Running, init, start
from howdah.server.postmaster import processes
from tests.fixtures.commands import Howdah

CHUNK_BYTES = 1 << 16
PADDING = "x" * 250
LONGEST_WAIT_S = 0.8
DONE = {0, 3}  # 3: with rejects

BACKENDS = """
    SELECT pid FROM pg_stat_activity
     WHERE application_name = 'howdah load' AND datname = current_database()
"""


class NotOnce(AssertionError):
    """Raised where a record or a reject is not there exactly once."""


@dataclass
class Input:
    """Files, and what they must give: (source, record, n) for each row; (source, record) else."""

    folder: Path
    rows: list[tuple[str, int, int]] = field(default_factory=list)
    rejects: list[tuple[str, int]] = field(default_factory=list)
    sources: int = 0

    def text(self, source: str, kind: str, count: int, *, bad: int) -> bytes:
        """Return `count` records, each `bad`-th of which cannot be read, and note what they are."""
        self.sources += 1
        lines = [b"n,word,pad\n"] if kind == "csv" else []
        for record in range(1, count + 1):
            if record % bad == 0:
                self.rejects.append((source, record))
                lines.append(b"1,\0,x\n" if kind == "csv" else b'{"n": %d\n' % record)
            else:
                self.rows.append((source, record, record))
                line = f'{record},"a, b",{PADDING}\n'
                if kind != "csv":
                    line = json.dumps({"n": record, "pad": PADDING}) + "\n"
                lines.append(line.encode())
        return b"".join(lines)

    def file(self, name: str, kind: str, count: int, *, bad: int) -> None:
        path = self.folder / name
        data = self.text(str(path), kind, count, bad=bad)
        path.write_bytes(gzip.compress(data, 1) if name.endswith(".gz") else data)

    def touch(self) -> None:
        """Make every file a changed one, which takes the place of its old rows."""
        for path in self.folder.iterdir():
            os.utime(path, ns=(time.time_ns(), time.time_ns()))


def write_input(folder: Path) -> Input:
    """Write files of several chunks, small files, an archive; a bad record in each of them."""
    files = Input(folder)
    files.file("large.ndjson", "ndjson", 25_000, bad=1_009)
    files.file("large.csv", "csv", 15_000, bad=997)
    files.file("packed.ndjson.gz", "ndjson", 3_000, bad=499)
    for number in range(80):
        kind = ("ndjson", "csv")[number % 2]
        files.file(f"small-{number:02}.{kind}", kind, 30, bad=29)
    with zipfile.ZipFile(folder / "archive.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(20):
            member = f"in/{number:02}.csv" if number else "in/large.ndjson"
            kind, count = ("csv", 50) if number else ("ndjson", 2_000)
            name = f"{folder / 'archive.zip'}!/{member}"
            archive.writestr(member, files.text(name, kind, count, bad=43))
    return files


class Chaos:
    """Loads the input and kills what takes part in it.

    Args:
        running: The server; of our own, since it is made to crash.
        files: What is loaded.
        seed: Decides who is killed, and when.
        say: Called with a line for each kill and each load that is done.
    """

    def __init__(self, running: Running, files: Input, seed: int, say: Callable[[str], None]):
        self.kills: Counter[str] = Counter()
        self.done = 0
        self._running = running
        self._files = files
        self._chance = random.Random(seed)
        self._say = say
        self._loading: subprocess.Popen[str] | None = None
        with psycopg.connect(running.conninfo(), autocommit=True) as conn:
            # What workers commit is not on disk for long: each crash takes some of it.
            conn.execute("ALTER SYSTEM SET wal_writer_delay = '2s'")
            conn.execute("ALTER SYSTEM SET wal_writer_flush_after = '1GB'")
            conn.execute("SELECT pg_reload_conf()")
        self._undisturbed = False  # by a kill of the load itself
        self._lost_a_worker = 0  # the load's pid
        self._kinds: list[tuple[str, Callable[[], bool]]] = [
            ("the load", self._kill_load),
            ("a worker", self._kill_worker),
            ("a backend, terminated", self._terminate_backend),
            ("a backend, SIGKILL: the server crashes", self._kill_backend),
            ("the server, immediate shutdown", self._kill_server),
        ]

    def run(self, enough: Callable[[], bool]) -> None:
        """Kill until it is enough; then let the load come to its end, and check."""
        try:
            while not enough():
                self._ensure_loading()
                time.sleep(self._chance.uniform(0, LONGEST_WAIT_S))
                name, kill = self._chance.choice(self._kinds)
                if self._alive() and kill():
                    self.kills[name] += 1
                    self._say(f"kill {self.kills.total()}: {name}")
            while True:
                self._ensure_loading()
                assert self._loading is not None
                self._loading.wait(timeout=120)
                if self._loading.returncode in DONE:
                    self._finish()
                    return
        finally:
            if self._loading is not None and self._loading.poll() is None:
                os.killpg(self._loading.pid, signal.SIGKILL)
                self._loading.communicate()

    def _ensure_loading(self) -> None:
        if self._alive():
            return
        if self._loading is not None:
            if self._loading.returncode in DONE:
                self._finish()
                self._files.touch()
                self._undisturbed = True
            else:
                self._check_failure()
        else:
            self._undisturbed = True
        command = Howdah(self._running.conninfo())
        self._loading = subprocess.Popen(
            command.command("load", self._files.folder, "--workers", 2, "--json"),
            env=command.environment() | {"HOWDAH_CHUNK_BYTES": str(CHUNK_BYTES)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def _alive(self) -> bool:
        return self._loading is not None and self._loading.poll() is None

    def _check_failure(self) -> None:
        """Bear a load that was killed, found no server when it began, or lost worker on worker."""
        assert self._loading is not None
        _, errors = self._loading.communicate()
        code = self._loading.returncode
        self._undisturbed = False
        borne = ("PostgreSQL does not answer", "The pool is broken")
        if code != -signal.SIGKILL and not any(text in errors for text in borne):
            raise NotOnce(f"the load ended with {code}: {errors}")

    def _finish(self) -> None:
        """Check what a load that is done has left."""
        assert self._loading is not None
        output, _ = self._loading.communicate()
        self.done += 1
        self._check("row", ROWS, self._files.rows)
        self._check("reject", REJECTS, self._files.rejects)
        self._check("unfinished source", UNFINISHED, [])
        report = json.loads(output)
        if self._undisturbed:
            found = {name: report[name] for name in ("sources", "records", "rejects")}
            expected = {
                "sources": self._files.sources,
                "records": len(self._files.rows),
                "rejects": len(self._files.rejects),
            }
            if found != expected:
                raise NotOnce(f"the report says {found} and not {expected}")
        self._say(f"load {self.done} is done: each record once")

    def _check(self, what: str, query: str, expected: list[Any]) -> None:
        with psycopg.connect(self._running.conninfo()) as conn:
            found = conn.execute(query).fetchall()
        if digest(found) != digest(expected):
            wrong = Counter(found)
            wrong.subtract(map(tuple, expected))
            some = [(row, count) for row, count in wrong.items() if count][:5]
            raise NotOnce(f"{len(found)} {what}s, expected {len(expected)}; (row, surplus): {some}")

    def _kill_load(self) -> bool:
        assert self._loading is not None
        os.killpg(self._loading.pid, signal.SIGKILL)
        self._loading.wait()
        return True

    def _kill_worker(self) -> bool:
        """Kill a worker, once a load: a chunk that takes two with it is a reject, and rightly."""
        assert self._loading is not None
        if self._lost_a_worker == self._loading.pid:
            return False
        with suppress(psutil.NoSuchProcess):
            children = psutil.Process(self._loading.pid).children(recursive=True)
            # Not the helpers of multiprocessing, which have a command line of their own.
            workers = [c for c in children if "multiprocessing" not in " ".join(c.cmdline())]
            if workers:
                self._chance.choice(sorted(workers, key=lambda child: child.pid)).kill()
                self._lost_a_worker = self._loading.pid
                return True
        return False

    def _backend(self) -> int | None:
        with suppress(psycopg.OperationalError), psycopg.connect(self._running.conninfo()) as conn:
            found = sorted(pid for (pid,) in conn.execute(BACKENDS))
            return self._chance.choice(found) if found else None
        return None

    def _terminate_backend(self) -> bool:
        pid = self._backend()
        if pid is None:
            return False
        with suppress(psycopg.OperationalError), psycopg.connect(self._running.conninfo()) as conn:
            return bool(conn.execute("SELECT pg_terminate_backend(%s)", [pid]).fetchone()[0])
        return False

    def _kill_backend(self) -> bool:
        pid = self._backend()
        if pid is None:
            return False
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            return True
        return False

    def _kill_server(self) -> bool:
        os.kill(self._running.pid, signal.SIGQUIT)
        deadline = time.monotonic() + 30
        while processes(self._running.data_dir):
            assert time.monotonic() < deadline, "the server does not stop"
            time.sleep(0.01)
        self._running = start(self._running.data_dir)
        return True


ROWS = "SELECT source, record, (attributes->>'n')::int FROM documents"
REJECTS = "SELECT source, record FROM howdah.rejects"
UNFINISHED = "SELECT name FROM howdah.sources WHERE NOT finished"


def digest(rows: list[Any]) -> str:
    """Return a digest of rows in any order; one that is doubled or lost changes it."""
    return hashlib.sha256(repr(sorted(map(tuple, rows))).encode()).hexdigest()


def main() -> None:
    """Run as long as is asked for."""
    from tests.fixtures.server import add_fast_settings, reachable_folder

    minutes = float(sys.argv[1]) if len(sys.argv) > 1 else 10.0
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else secrets.randbelow(1 << 32)
    begun = time.monotonic()
    print(f"{minutes:g} minutes with seed {seed}", flush=True)
    with reachable_folder() as folder:
        init(folder / "cluster")
        add_fast_settings(folder / "cluster")
        (folder / "in").mkdir()
        files = write_input(folder / "in")

        def say(line: str) -> None:
            print(f"{time.monotonic() - begun:7.1f} s  {line}", flush=True)

        chaos = Chaos(start(folder / "cluster", port=0), files, seed, say)
        chaos.run(lambda: time.monotonic() - begun > 60 * minutes)
        print(
            f"{chaos.kills.total()} kills in {chaos.done} loads of {len(files.rows):,} records and "
            f"{len(files.rejects):,} rejects: each there once"
        )
        for name, number in chaos.kills.most_common():
            print(f"{number:6} {name}")


if __name__ == "__main__":
    main()
