"""Records into jsonb: howdah against the server's own COPY and psql, in turn, in one run.

    python bench/load.py [--records 1000000] [--rounds 3]

A server of its own (the machine's newest PostgreSQL, or the embedded one) is
started for the run. Each round runs every side once, each into a new table
after a checkpoint; the figure is the ratio of medians to `COPY FROM` of text by
two backends on the server, which no client can beat by much, since the server
parses every record in either case. Its text is the csv variant with a quote and
a delimiter that do not occur: the plain one takes JSON's backslashes for its own.

howdah's side is the whole command, from its start to its exit: Python, the
ledger, the columns id, source, record and loaded_at included.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import orjson
import psutil
import psycopg

from howdah import server

SETTINGS = {"max_wal_size": "16GB", "checkpoint_timeout": "1h", "shared_buffers": "512MB"}
BASE = "COPY FROM, 2 backends"
AS_IT_IS = "WITH (FORMAT csv, QUOTE E'\\x01', DELIMITER E'\\x02')"
PLAIN_TABLE = "CREATE TABLE plain (attributes jsonb)"


def main() -> None:
    arguments = _arguments()
    folder = Path(tempfile.mkdtemp(prefix="howdah-bench-"))
    folder.chmod(0o755)  # the server reads the files too
    try:
        running = server.start(folder / "server" / "cluster")
        try:
            _set(running)
            _measure(running, folder, arguments.records, arguments.rounds)
        finally:
            server.stop(running.data_dir)
    finally:
        shutil.rmtree(folder)


def _measure(running: server.Running, folder: Path, records: int, rounds: int) -> None:
    print(f"PostgreSQL {running.version}, {records:,} records, {rounds} rounds")
    data = folder / "records.ndjson"
    write_records(data, records)
    halves = _split(data)
    print(f"{data.stat().st_size / records:.0f} bytes a record\n")
    dsn = running.conninfo()
    sides: dict[str, Callable[[], None]] = {
        BASE: lambda: _server_copy(dsn, halves, AS_IT_IS),
        "the same, 1 backend": lambda: _server_copy(dsn, [data], AS_IT_IS),
        "COPY FROM, plain text, 2 backends": lambda: _server_copy(dsn, halves, ""),
        "psql \\copy": lambda: _psql(running, data),
        "howdah load": lambda: _howdah(dsn, data),
    }
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    for _ in range(rounds):
        for side, run in sides.items():
            _clean(dsn)
            started = time.perf_counter()
            run()
            seconds[side].append(time.perf_counter() - started)
            _check(dsn, "documents" if run is sides["howdah load"] else "plain", records)
    base = statistics.median(seconds[BASE])
    print(f"{'side':<34} {'seconds':>24}  {'ratio':>6}")
    for side, taken in seconds.items():
        shown = " ".join(f"{one:.2f}" for one in taken)
        print(f"{side:<34} {shown:>24}  {statistics.median(taken) / base:6.2f}")
    _clean(dsn)
    print(f"\nhowdah's processes together, at most: {_peak_mb(dsn, data):.0f} MB")


def write_records(path: Path, count: int) -> None:
    """Write NDJSON records of 15 attributes, about 330 bytes each, the same ones each time."""
    chance = random.Random(7)
    with path.open("wb") as file:
        for number in range(count):
            file.write(orjson.dumps(_record(chance, number)) + b"\n")


def _record(chance: random.Random, number: int) -> dict[str, object]:
    return {
        "id": number,
        "uuid": str(uuid.UUID(int=chance.getrandbits(128))),
        "name": f"user {chance.randrange(10**6)}",
        "email": f"u{chance.randrange(10**6)}@example.com",
        "age": chance.randrange(18, 90),
        "balance": round(chance.random() * 10_000, 2),
        "active": chance.random() < 0.5,
        "city": chance.choice(["Oslo", "Paris", "Rome", "Kyiv", "Lima"]),
        "country": chance.choice(["NO", "FR", "IT", "UA", "PE"]),
        "score": chance.random(),
        "tags": [chance.choice("abcdef") for _ in range(3)],
        "created": f"2024-01-{chance.randrange(1, 29):02}T10:00:00Z",
        "note": "lorem ipsum dolor sit amet",
        "ref": chance.randrange(10**9),
        "lat": round(chance.uniform(-90, 90), 5),
    }


def _server_copy(dsn: str, files: list[Path], options: str) -> None:
    def one(file: Path) -> None:
        with psycopg.connect(dsn, autocommit=True) as conn:
            conn.execute(f"COPY plain FROM '{file}' {options}")

    threads = [threading.Thread(target=one, args=(file,)) for file in files]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _psql(running: server.Running, data: Path) -> None:
    psql = server.find(running.major).bindir / "psql"
    command = [str(psql), "-qX", running.conninfo(), "-c", f"\\copy plain FROM '{data}' {AS_IT_IS}"]
    subprocess.run(command, check=True)


def _howdah(dsn: str, data: Path) -> None:
    with _started(dsn, data) as process:
        process.communicate()
    _succeeded(process)


def _peak_mb(dsn: str, data: Path) -> float:
    """Return the greatest memory of howdah's processes together, in a run of its own."""
    with _started(dsn, data) as process:
        peak = _peak_while(process)
    _succeeded(process)
    return peak / 1e6


def _started(dsn: str, data: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "howdah", "load", "--quiet", "--dsn", dsn, str(data)]
    # With compiled bytecode, as installed.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    return subprocess.Popen(command, env=environment)


def _succeeded(process: subprocess.Popen[bytes]) -> None:
    if process.returncode:
        raise SystemExit(f"howdah failed with exit code {process.returncode}")


def _peak_while(process: subprocess.Popen[bytes]) -> int:
    """Return the greatest memory of a process and its children together, in bytes.

    Proportional set size: pages that several of them share count once.
    """
    peak = 0
    main = psutil.Process(process.pid)
    while process.poll() is None:
        total = 0
        for one in [main, *main.children(recursive=True)]:
            try:
                total += one.memory_full_info().pss
            except (psutil.Error, OSError):
                continue
        peak = max(peak, total)
        time.sleep(0.1)
    return peak


def _clean(dsn: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute("DROP TABLE IF EXISTS plain, documents")
        conn.execute(PLAIN_TABLE)
        conn.execute("CHECKPOINT")
    os.sync()


def _check(dsn: str, table: str, records: int) -> None:
    with psycopg.connect(dsn) as conn:
        (found,) = conn.execute(f"SELECT count(*) FROM {table}").fetchone()  # type: ignore[misc]
    if found != records:
        raise SystemExit(f"{table} has {found} rows, not {records}")


def _split(data: Path) -> list[Path]:
    subprocess.run(["split", "-n", "l/2", "-d", data, f"{data}."], check=True)
    return [Path(f"{data}.00"), Path(f"{data}.01")]


def _set(running: server.Running) -> None:
    with psycopg.connect(running.conninfo(), autocommit=True) as conn:
        for name, value in SETTINGS.items():
            conn.execute(f"ALTER SYSTEM SET {name} = '{value}'")
    server.restart(running.data_dir)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    return parser.parse_args()


if __name__ == "__main__":
    main()
