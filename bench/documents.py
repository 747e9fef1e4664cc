"""Mixed documents: howdah's pipeline against the reading library alone.

    python bench/documents.py [--documents 5000] [--rounds 3]

The documents are copies of those in tests/data/documents, each under a name of
its own. The base is kreuzberg called directly on each file that it reads, by
two processes that share the files evenly, nothing stored; howdah's side is the
whole command: find, recognise, read, hash, make attributes, COPY, commit.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import shutil
import subprocess
import sys
from pathlib import Path

import common
from common import Side

DOCUMENTS = Path(__file__).parents[1] / "tests" / "data" / "documents"
PROCESSES = 2


def main() -> None:
    arguments = _arguments()
    with common.own_server() as (running, folder):
        dsn = running.conninfo()
        files = _copies(folder / "documents", arguments.documents)
        sides = [
            Side("kreuzberg alone, 2 processes", lambda: _library(files), len(files)),
            Side("howdah load", lambda: _howdah(dsn, folder / "documents"), len(files)),
        ]
        common.in_turn(
            sides, arguments.rounds, lambda: common.settled(dsn, "DROP TABLE IF EXISTS documents")
        )
        print(f"PostgreSQL {running.version}, {len(files):,} documents\n")
        print(common.table(sides, sides[0]))
        print(f"\nhowdah's speed is {sides[1].rate / sides[0].rate:.2f} of the library's")


def _copies(folder: Path, count: int) -> list[Path]:
    """Copy the documents that kreuzberg reads until there are so many."""
    folder.mkdir()
    known = [path for path in sorted(DOCUMENTS.rglob("*")) if path.is_file() and _reads(path)]
    copies = []
    for number, path in enumerate(itertools.islice(itertools.cycle(known), count)):
        copies.append(folder / f"{number:05}-{path.name}")
        shutil.copyfile(path, copies[-1])
    return copies


def _reads(path: Path) -> bool:
    try:
        _read(path)
    except Exception:  # noqa: BLE001 - whatever it throws at a file that it does not know
        return False
    return True


def _read(path: Path) -> None:
    from kreuzberg import ExtractionConfig, detect_mime_type_from_path, extract_bytes_sync

    config = ExtractionConfig(disable_ocr=True, use_cache=False, enable_quality_processing=False)
    extract_bytes_sync(path.read_bytes(), detect_mime_type_from_path(str(path)), config=config)


def _library(files: list[Path]) -> None:
    halves = [files[number::PROCESSES] for number in range(PROCESSES)]
    spawn = multiprocessing.get_context("spawn")  # a fork would copy locks that threads hold
    processes = [spawn.Process(target=_read_all, args=(half,)) for half in halves]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        if process.exitcode:
            raise SystemExit(f"a process of the library ended with {process.exitcode}")


def _read_all(files: list[Path]) -> None:
    for file in files:
        _read(file)


def _howdah(dsn: str, folder: Path) -> None:
    command = [sys.executable, "-m", "howdah", "load", "--quiet", "--dsn", dsn, str(folder)]
    code = subprocess.run(command, check=False, env=common.compiled()).returncode
    if code not in (0, 3):  # 3: kreuzberg gives something for a file that is no document to us
        raise SystemExit(f"howdah failed with exit code {code}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--documents", type=int, default=5_000)
    parser.add_argument("--rounds", type=int, default=3)
    return parser.parse_args()


if __name__ == "__main__":
    main()
