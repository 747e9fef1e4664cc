"""Ten times the input: how much more time and memory a load takes.

    python bench/scaling.py [--records 500000] [--rounds 3]

The same records, once and ten times over, in turn. The ratio of the medians
says whether cost grows in proportion; the memory is that of all processes
together, shared pages counted once.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

import common

TIMES = 10


def main() -> None:
    arguments = _arguments()
    with common.own_server() as (running, folder):
        dsn = running.conninfo()
        small, large = folder / "small.ndjson", folder / "large.ndjson"
        common.write_records(small, arguments.records)
        _repeat(small, large)
        seconds: dict[Path, list[float]] = {small: [], large: []}
        peaks: dict[Path, list[float]] = {small: [], large: []}
        for _ in range(arguments.rounds):
            for file in (small, large):
                common.settled(dsn, "DROP TABLE IF EXISTS documents")
                taken, peak = _load(dsn, file)
                seconds[file].append(taken)
                peaks[file].append(peak)
        print(f"PostgreSQL {running.version}, {arguments.rounds} rounds\n")
        print("| records | seconds (each round) | peak memory, MB |\n| ---: | --- | ---: |")
        for file, count in ((small, arguments.records), (large, TIMES * arguments.records)):
            shown = " ".join(f"{one:.2f}" for one in seconds[file])
            print(f"| {count:,} | {shown} | {statistics.median(peaks[file]):.0f} |")
        ratio = statistics.median(seconds[large]) / statistics.median(seconds[small])
        print(f"\n{TIMES} times the records take {ratio:.2f} times as long")


def _repeat(small: Path, large: Path) -> None:
    data = small.read_bytes()
    with large.open("wb") as file:
        for _ in range(TIMES):
            file.write(data)


def _load(dsn: str, file: Path) -> tuple[float, float]:
    command = [sys.executable, "-m", "howdah", "load", "--quiet", "--dsn", dsn, str(file)]
    started = time.perf_counter()
    with subprocess.Popen(command, env=common.compiled()) as process:
        peak = common.peak_while(process)
    taken = time.perf_counter() - started
    if process.returncode:
        raise SystemExit(f"howdah failed with exit code {process.returncode}")
    return taken, peak / 1e6


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--records", type=int, default=500_000)
    parser.add_argument("--rounds", type=int, default=3)
    return parser.parse_args()


if __name__ == "__main__":
    main()
