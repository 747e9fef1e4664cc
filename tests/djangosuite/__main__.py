"""`python -m tests.djangosuite`: run Django's own tests and say where our backend differs."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import psycopg

from howdah.server import Running, find, init, start
from tests.djangosuite import groups, sdist, suite, verdict
from tests.djangosuite.groups import Part
from tests.djangosuite.suite import DidNotRun, Outcome
from tests.djangosuite.verdict import Fault, Verdict
from tests.fixtures.server import add_fast_settings, end, reachable_folder

LISTS = Path(__file__).parent / "differs"
SHOWN_LINES = 12


def main() -> int:
    """Run what the command line asks for; 0 when nothing differs that should not."""
    options = _options()
    tree = sdist.unpacked(options.django)
    out = sdist.CACHE / "outcomes"
    out.mkdir(exist_ok=True)
    passed = failed = 0
    with _server() as server:
        print(f"{tree.name}, PostgreSQL {server.version}, {suite.PROCESSES} processes")
        print(f"{'part':10}{'mode':10}{'tests':>7}{'same':>7}{'listed':>8}{'faults':>8}{'s':>6}")
        for part in _parts(options, server):
            outcomes: dict[str, Mapping[str, Outcome]] = {}
            judged = [mode for mode in options.modes if mode in part.modes]
            for mode in dict.fromkeys(["stock", *judged]):
                started = time.monotonic()
                last = suite.told_in(part, mode, tree=tree, out=out)
                reused = options.stock_of_last and not options.labels
                if reused and mode == "stock" and last.exists():
                    outcomes[mode] = suite.read(last)
                else:
                    outcomes[mode] = suite.run(part, mode, tree=tree, server=server, out=out)
                seconds = time.monotonic() - started
                found = _judged(mode, outcomes, tree)
                _show(part, mode, outcomes[mode], found, seconds)
                passed += found.same + found.listed
                failed += len(found.faults)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.djangosuite", description=__doc__)
    parser.add_argument("labels", nargs="*", help="only these of Django's test packages or tests")
    parser.add_argument("--quick", action="store_true", help="the part that CI runs")
    parser.add_argument("--parts", nargs="+", help="of: " + " ".join(p.name for p in groups.ALL))
    parser.add_argument("--modes", nargs="+", choices=suite.MODES, default=suite.MODES)
    parser.add_argument(
        "--stock-of-last",
        action="store_true",
        help="take what Django's own ENGINE gave from the last run, while mending ours",
    )
    parser.add_argument("--django", help="another version than the installed one: 4.2.16")
    return parser.parse_args()


def _parts(options: argparse.Namespace, server: Running) -> Iterator[Part]:
    for part in groups.QUICK if options.quick else groups.ALL:
        labels = tuple(x for x in options.labels if x.split(".")[0] in part.labels)
        if (options.parts and part.name not in options.parts) or (options.labels and not labels):
            continue
        if part.backend == "postgis" and not _has_postgis(server):
            print(f"{part.name:10}not run: this PostgreSQL has no PostGIS; see tools/debian")
            continue
        yield replace(part, labels=labels or part.labels)


@contextmanager
def _server() -> Iterator[Running]:
    with reachable_folder() as base:
        data = base / "cluster"
        init(data, binaries=find())
        add_fast_settings(data)
        try:
            yield start(data)
        finally:
            end(data)


def _has_postgis(server: Running) -> bool:
    query = "SELECT 1 FROM pg_available_extensions WHERE name = 'postgis'"
    with psycopg.connect(server.conninfo()) as conn:
        return conn.execute(query).fetchone() is not None


def _judged(mode: str, outcomes: Mapping[str, Mapping[str, Outcome]], tree: Path) -> Verdict:
    may_differ = {} if mode == "stock" else verdict.read_list(_list_for(mode, tree))
    return verdict.compare(outcomes["stock"], outcomes[mode], may_differ)


def _list_for(mode: str, tree: Path) -> Path:
    series = ".".join(tree.name.removeprefix("django-").split(".")[:2])
    path = LISTS / mode.replace(" ", "-") / f"{series}.txt"
    if not path.exists():
        raise DidNotRun(
            f"There is no list for Django {series}; write {path}, or leave out schemas."
        )
    return path


def _show(
    part: Part, mode: str, outcomes: Mapping[str, Outcome], found: Verdict, seconds: float
) -> None:
    counts = Counter(outcome.outcome for outcome in outcomes.values())
    details = ", ".join(f"{count} {outcome}" for outcome, count in counts.most_common())
    print(
        f"{part.name:10}{mode:10}{found.tests:7}{found.same:7}{found.listed:8}"
        f"{len(found.faults):8}{seconds:6.0f}  {details}",
        flush=True,
    )
    for fault in found.faults:
        _show_fault(fault)


def _show_fault(fault: Fault) -> None:
    if fault.listed:
        print(f"  {fault.test}: gives what it gives with Django's ENGINE; take it off the list")
        return
    print(f"  {fault.test}: {fault.expected} with Django's ENGINE, now {fault.got.outcome}")
    for line in fault.got.detail.splitlines()[-SHOWN_LINES:]:
        print(f"    {line}")


if __name__ == "__main__":
    try:
        sys.exit(main())
    except DidNotRun as exc:
        sys.exit(str(exc))
