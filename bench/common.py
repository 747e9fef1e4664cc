"""What the benchmarks share: a server of their own, sides run in turn, a table and a chart."""

from __future__ import annotations

import os
import random
import shutil
import statistics
import subprocess
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import orjson
import psutil
import psycopg
from psycopg.conninfo import conninfo_to_dict

from howdah import server

SETTINGS = {"max_wal_size": "16GB", "checkpoint_timeout": "1h", "shared_buffers": "512MB"}
NAMES = {"host": "PGHOST", "port": "PGPORT", "user": "PGUSER", "passfile": "PGPASSFILE"}
AS_IT_IS = "WITH (FORMAT csv, QUOTE E'\\x01', DELIMITER E'\\x02')"
"""Text that holds no quote and delimiter; the plain format takes JSON's backslashes for its own."""
BINARY = "WITH (FORMAT binary)"


@dataclass
class Side:
    """One way to do the work.

    Attributes:
        name: What the table calls it.
        run: Does the work once.
        records: On how many records; a slow way gets fewer.
        note: What the table says of it.
        check: Stops the benchmark where the work was not done; takes none of its time.
        seconds: Of each round.
    """

    name: str
    run: Callable[[], object]
    records: int
    note: str = ""
    check: Callable[[], object] = lambda: None
    seconds: list[float] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Records a second, by the median."""
        return self.records / statistics.median(self.seconds)


@contextmanager
def own_server() -> Iterator[tuple[server.Running, Path]]:
    """Start a server for a benchmark; yield it and a folder that it can read."""
    folder = Path(tempfile.mkdtemp(prefix="howdah-bench-"))
    folder.chmod(0o755)
    try:
        running = server.start(folder / "server" / "cluster")
        try:
            with psycopg.connect(running.conninfo(), autocommit=True) as conn:
                for name, value in SETTINGS.items():
                    conn.execute(f"ALTER SYSTEM SET {name} = '{value}'")
            server.restart(running.data_dir)
            yield running, folder
        finally:
            server.stop(running.data_dir)
    finally:
        shutil.rmtree(folder)


def in_turn(sides: Sequence[Side], rounds: int, before: Callable[[], None]) -> None:
    """Run each side once a round, after `before`, and note how long it took."""
    for _ in range(rounds):
        for side in sides:
            before()
            started = time.perf_counter()
            side.run()
            side.seconds.append(time.perf_counter() - started)
            side.check()


def in_threads(count: int, work: Callable[[int], None]) -> float:
    """Return the seconds that threads take, each given its number from 0."""
    threads = [threading.Thread(target=work, args=(number,)) for number in range(count)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - started


def table(sides: Sequence[Side], base: Side) -> str:
    """Return the results in Markdown: time for each record as a ratio to the base's."""
    lines = ["| way | records | seconds (each round) | records/s | time, base = 1.00 |"]
    lines.append("| --- | ---: | --- | ---: | ---: |")
    for side in sorted(sides, key=lambda side: -side.rate):
        shown = " ".join(f"{one:.2f}" for one in side.seconds)
        ratio = base.rate / side.rate
        name = f"**{side.name}**" if side.name.startswith("howdah") else side.name
        name += f" ({side.note})" if side.note else ""
        lines.append(f"| {name} | {side.records:,} | {shown} | {side.rate:,.0f} | {ratio:.2f} |")
    return "\n".join(lines)


def chart(sides: Sequence[Side], title: str, path: Path) -> None:
    """Write a bar chart of the rates as SVG."""
    from matplotlib.figure import Figure

    ordered = sorted(sides, key=lambda side: side.rate)
    figure = Figure(figsize=(8, 0.8 + 0.32 * len(ordered)), layout="constrained")
    axes = figure.subplots()
    colours = ["#b5651d" if side.name.startswith("howdah") else "#9aa5b1" for side in ordered]
    bars = axes.barh(
        [side.name for side in ordered], [side.rate for side in ordered], color=colours
    )
    axes.bar_label(bars, labels=[f"{side.rate:,.0f}" for side in ordered], padding=3, fontsize=8)
    axes.set_title(title, fontsize=10)
    axes.set_xlabel("records a second", fontsize=8)
    axes.tick_params(labelsize=8)
    axes.margins(x=0.12)
    axes.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})


def binary(text: Path) -> Path:
    """Write the lines of a file as jsonb in COPY's binary format; return the new file."""
    path = text.with_name(f"{text.name}.binary")
    with text.open("rb") as lines, path.open("wb") as file:
        file.write(b"PGCOPY\n\xff\r\n\0" + bytes(8))
        for line in lines:
            record = line.rstrip(b"\n")
            file.write(b"\0\1" + (len(record) + 1).to_bytes(4, "big") + b"\1" + record)
        file.write(b"\xff\xff")
    return path


def server_copy(dsn: str, files: Sequence[Path], table: str, options: str) -> None:
    """COPY files that the server reads itself, a backend for each."""

    def one(number: int) -> None:
        with psycopg.connect(dsn, autocommit=True) as conn:
            conn.execute(f"COPY {table} FROM '{files[number]}' {options}")

    in_threads(len(files), one)


def psql_copy(running: server.Running, file: Path, table: str, options: str) -> None:
    """Have psql send a file."""
    psql = server.find(running.major).bindir / "psql"
    command = [str(psql), "-qX", running.conninfo(), "-c"]
    subprocess.run([*command, f"\\copy {table} FROM '{file}' {options}"], check=True)


def halves(file: Path) -> list[Path]:
    """Split a file at a newline in two."""
    subprocess.run(["split", "-n", "l/2", "-d", file, f"{file}."], check=True)
    return [Path(f"{file}.00"), Path(f"{file}.01")]


def compiled() -> dict[str, str]:
    """Return an environment in which Python uses compiled bytecode, as installed."""
    return {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}


def environment(running: server.Running, **more: str) -> dict[str, str]:
    """Return the environment of a process that finds a server by libpq's variables."""
    words = conninfo_to_dict(running.conninfo())
    return compiled() | {NAMES[k]: str(v) for k, v in words.items() if k in NAMES} | more


def peak_while(process: subprocess.Popen[bytes]) -> int:
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


def settled(dsn: str, *statements: str) -> None:
    """Run statements that make the tables anew, then a checkpoint."""
    with psycopg.connect(dsn, autocommit=True) as conn:
        for statement in (*statements, "CHECKPOINT"):
            conn.execute(statement)
    os.sync()


def counted(dsn: str, table: str, records: int) -> None:
    """Stop the benchmark unless a table has so many rows."""
    with psycopg.connect(dsn) as conn:
        row = conn.execute(f"SELECT count(*) FROM {table}").fetchone()
    if row is None or row[0] != records:
        raise SystemExit(f"{table} has {row and row[0]} rows, not {records}")


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
