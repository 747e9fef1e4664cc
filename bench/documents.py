"""Mixed documents: howdah's pipeline against the reading libraries alone.

    python bench/documents.py [--documents 5000] [--rounds 3] [--mix office] [--from FOLDER]

The documents are copies of those below a folder, as they are, each under a name of
its own: tests/data/documents, where they have 28 kB on average, or one of your own.
Tables and records are left out: bench/load.py and bench/peers.py load these. The mix
is by kind as in OFFICE, our guess at a company's shared folder, or `--mix even`: each
document as often as the others, so that most are texts and mails of a few kB.

The base is each document's own library called directly (libraries.py), by two
processes that share the files evenly, nothing stored. howdah's side is the whole
command: find, recognise, read, hash, make attributes, COPY, commit. Of both it is
told what of the two cores' time a document takes: in the side's own processes, in
the server, and in none of them, so in waiting or for others on the machine.
"""

from __future__ import annotations

import argparse
import itertools
import random
import resource
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import common
import libraries
import psutil
from common import Side

DOCUMENTS = Path(__file__).parents[1] / "tests" / "data" / "documents"
PROCESSES = 2
OFFICE = {
    30: (".pdf",),
    25: (".docx", ".doc", ".odt", ".rtf"),
    10: (".pptx", ".ppt"),
    11: (".html",),
    15: (".eml", ".msg"),
    5: (".jpg", ".jpeg", ".png", ".bmp"),
    4: (".md", ".rst", ".org", ".xml", ".epub", ".ipynb"),
}
"""Of a hundred documents, how many are of which kinds."""
RECORDS = {".csv", ".tsv", ".json", ".ndjson", ".xls", ".xlsx", ".yaml", ".toml", ".zip", ".bin"}


def main() -> None:
    arguments = _arguments()
    with common.own_server() as (running, folder):
        dsn = running.conninfo()
        files = _copies(_mixed(arguments), folder / "documents")
        runs = {
            "the libraries alone, 2 processes": lambda: _library(files),
            "howdah load": lambda: _howdah(dsn, folder / "documents"),
        }
        postmaster = psutil.Process(int((running.data_dir / "postmaster.pid").open().readline()))
        spent: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
        sides = [
            Side(name, _metered(run, postmaster, spent[name]), len(files))
            for name, run in runs.items()
        ]
        common.in_turn(
            sides, arguments.rounds, lambda: common.settled(dsn, "DROP TABLE IF EXISTS documents")
        )
        print(f"PostgreSQL {running.version}, {len(files):,} documents, {arguments.mix}\n")
        print(common.table(sides, sides[0]))
        print(f"\nhowdah's speed is {sides[1].rate / sides[0].rate:.2f} of the libraries'")
        print("\n| a document, in ms of a core | all | own processes | server | none |")
        print("| --- | ---: | ---: | ---: | ---: |")
        for side in sides:
            print(_budget(side, spent[side.name]))


def _metered(
    run: Callable[[], object], postmaster: psutil.Process, spent: list[tuple[float, float]]
) -> Callable[[], object]:
    """Return `run` so that it notes what CPU its processes and the server take, in seconds."""

    def metered() -> None:
        own, server = _children_cpu_s(), _server_cpu_s(postmaster)
        run()
        spent.append((_children_cpu_s() - own, _server_cpu_s(postmaster) - server))

    return metered


def _children_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _server_cpu_s(postmaster: psutil.Process) -> float:
    total = sum(postmaster.cpu_times()[:4])  # its own, and that of children that have ended
    for process in postmaster.children():
        try:
            total += sum(process.cpu_times()[:2])
        except psutil.NoSuchProcess:  # it is in the postmaster's time from now on
            continue
    return total


def _budget(side: Side, spent: list[tuple[float, float]]) -> str:
    """Return a line of the table: medians of the rounds, each by itself."""
    a_document = 1e3 / side.records
    both_cores = [PROCESSES * seconds for seconds in side.seconds]
    idle = [both - own - server for both, (own, server) in zip(both_cores, spent, strict=True)]
    columns = [both_cores, [own for own, _ in spent], [server for _, server in spent], idle]
    shown = " | ".join(f"{statistics.median(one) * a_document:.2f}" for one in columns)
    return f"| {side.name} | {shown} |"


def _mixed(arguments: argparse.Namespace) -> list[Path]:
    """Return the documents to copy, in the order of their copies."""
    known = [path for path in sorted(arguments.source.rglob("*")) if path.is_file()]
    known = [path for path in known if _reads(path)]
    chance = random.Random(7)
    if arguments.mix == "even":
        mixed = list(itertools.islice(itertools.cycle(known), arguments.documents))
    else:
        mixed = []
        for percent, kinds in OFFICE.items():
            alike = [path for path in known if path.suffix.lower() in kinds]
            count = arguments.documents * percent // 100
            mixed += itertools.islice(itertools.cycle(alike), count)
    chance.shuffle(mixed)
    return mixed


def _copies(mixed: list[Path], folder: Path) -> list[Path]:
    folder.mkdir()
    copies = []
    for number, path in enumerate(mixed):
        copies.append(folder / f"{number:05}-{path.name}")
        shutil.copyfile(path, copies[-1])
    return copies


def _reads(path: Path) -> bool:
    if path.suffix.lower() in RECORDS:
        return False
    try:
        libraries.read(path)
    except Exception:  # noqa: BLE001 - whatever it throws at a file that it does not know
        return False
    return True


def _library(files: list[Path]) -> None:
    command = [sys.executable, Path(__file__).with_name("libraries.py")]
    halves = [files[number::PROCESSES] for number in range(PROCESSES)]
    processes = [
        subprocess.Popen(command, stdin=subprocess.PIPE, env=common.compiled()) for _ in halves
    ]
    for process, half in zip(processes, halves, strict=True):
        assert process.stdin is not None
        process.stdin.write("\n".join(map(str, half)).encode())
        process.stdin.close()
    for process in processes:
        if process.wait():
            raise SystemExit(f"a process of the library ended with {process.returncode}")


def _howdah(dsn: str, folder: Path) -> None:
    command = [sys.executable, "-m", "howdah", "load", "--quiet", "--dsn", dsn, str(folder)]
    code = subprocess.run(command, check=False, env=common.compiled()).returncode
    if code not in (0, 3):  # 3: a library gives something for a file that is no document to us
        raise SystemExit(f"howdah failed with exit code {code}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--documents", type=int, default=5_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--mix", choices=["office", "even"], default="office")
    parser.add_argument("--from", dest="source", type=Path, default=DOCUMENTS, metavar="FOLDER")
    return parser.parse_args()


if __name__ == "__main__":
    main()
