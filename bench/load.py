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
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import common
from common import AS_IT_IS, BINARY, Side

from howdah import server

PLAIN_TABLE = "CREATE TABLE plain (attributes jsonb)"


def main() -> None:
    arguments = _arguments()
    with common.own_server() as (running, folder):
        _measure(running, folder, arguments.records, arguments.rounds)


def _measure(running: server.Running, folder: Path, records: int, rounds: int) -> None:
    print(f"PostgreSQL {running.version}, {records:,} records, {rounds} rounds")
    data = folder / "records.ndjson"
    common.write_records(data, records)
    halves = common.halves(data)
    binary = [common.binary(half) for half in halves]
    print(f"{data.stat().st_size / records:.0f} bytes a record\n")
    dsn = running.conninfo()

    def side(name: str, table: str, run: Callable[[], object]) -> Side:
        return Side(name, run, records, check=partial(common.counted, dsn, table, records))

    copy = common.server_copy
    sides = [
        side("COPY FROM, 2 backends", "plain", lambda: copy(dsn, halves, "plain", AS_IT_IS)),
        side("COPY FROM, 1 backend", "plain", lambda: copy(dsn, [data], "plain", AS_IT_IS)),
        side("COPY FROM, plain text, 2 backends", "plain", lambda: copy(dsn, halves, "plain", "")),
        side("COPY FROM, binary, 2 backends", "plain", lambda: copy(dsn, binary, "plain", BINARY)),
        side("psql \\copy", "plain", lambda: common.psql_copy(running, data, "plain", AS_IT_IS)),
        side("howdah load", "documents", lambda: _howdah(dsn, data)),
    ]
    common.in_turn(sides, rounds, lambda: _clean(dsn))
    print(common.table(sides, sides[0]))
    _clean(dsn)
    print(f"\nhowdah's processes together, at most: {_peak_mb(dsn, data):.0f} MB")


def _howdah(dsn: str, data: Path) -> None:
    with _started(dsn, data) as process:
        process.communicate()
    _succeeded(process)


def _peak_mb(dsn: str, data: Path) -> float:
    """Return the greatest memory of howdah's processes together, in a run of its own."""
    with _started(dsn, data) as process:
        peak = common.peak_while(process)
    _succeeded(process)
    return peak / 1e6


def _started(dsn: str, data: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "howdah", "load", "--quiet", "--dsn", dsn, str(data)]
    return subprocess.Popen(command, env=common.compiled())


def _succeeded(process: subprocess.Popen[bytes]) -> None:
    if process.returncode:
        raise SystemExit(f"howdah failed with exit code {process.returncode}")


def _clean(dsn: str) -> None:
    common.settled(dsn, "DROP TABLE IF EXISTS plain, documents", PLAIN_TABLE)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    return parser.parse_args()


if __name__ == "__main__":
    main()
