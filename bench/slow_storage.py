"""Inserts, updates and loads on storage that flushes slowly: settings and habits, in one run.

    python bench/slow_storage.py [--delay 10] [--rounds 3] [--only WORK] [--tuners] [--keep FILE]
    python bench/slow_storage.py --report FILE [--chart FILE]

Cloud disks flush in 1 to 10 ms. THE DELAY IS SIMULATED: a server of its own is
started with a shim (slow_flush.c, built here with gcc) under which each fsync and
fdatasync of the server takes `--delay` ms longer; 0 is the disk as it is.

Each round brings the server to each set of settings in turn, by ALTER SYSTEM and
a restart, and does the same work under it: single-row INSERTs in autocommit on one
and on 16 connections, a batch UPDATE by key, a bulk COPY. The settings are the
server's defaults, `howdah tune inserts` with and without accepted risks, and what
pgtune and timescaledb-tune print for this host (their formulas, from their public
descriptions, below). Habits alone, howdah.Writer and howdah load run under the
defaults. Sides that wait for each row's flush do as many rows as fit into some
seconds, and their time for 10,000 is reckoned from that; `--whole` does them all. The COPY is
timed the second time that it is done, with the WAL files that the settings keep in place.

`--only` does one of the works; `--tuners` leaves out all but the peers and howdah's plans beside
them, so that more rounds fit into the time. `--keep` appends each round to a file, so that a long
run can be done in pieces; `--report` shows the medians of such a file, all delays side by side,
and `--chart` draws them.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import statistics
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import psutil
import psycopg
import slow_works as works
from slow_works import Bench

from howdah import server
from howdah.tuning.catalogue import Risk
from howdah.tuning.facts import Facts, read_facts
from howdah.tuning.plan import plan_inserts

SINGLE, MANY = "10,000 single inserts, 1 connection", "10,000 single inserts, 16 connections"
BATCH, BULK = "update of 10,000 rows", "bulk COPY"
WORKS = {"single": SINGLE, "many": MANY, "batch": BATCH, "bulk": BULK}
DEFAULTS = "defaults, row by row"
SAFE, LOSSY, MINIMAL = (
    f"howdah tune, {risk}" for risk in ("safe", "lose-last-moments", "and no-replication")
)
PEERS = ("pgtune", "timescaledb-tune")
OURS = (SAFE, MINIMAL)
SIDES = (DEFAULTS, *PEERS, SAFE, LOSSY, MINIMAL)
MB, GB = 1 << 20, 1 << 30

Seconds = dict[tuple[str, str], list[float]]
"""By work and side, of each round."""


def pgtune(memory: int) -> dict[str, str]:
    """Return what pgtune prints for this host, for the type "oltp" on an SSD.

    Source: https://pgtune.leopard.in.ua, with the settings that planning alone uses left out.
    """
    shared = memory // 4
    return {
        "max_connections": "300",
        "shared_buffers": f"{shared // MB}MB",
        "maintenance_work_mem": f"{min(memory // 16, 8 * GB) // MB}MB",
        "checkpoint_completion_target": "0.9",
        "wal_buffers": f"{min(shared * 3 // 100, 16 * MB) // MB}MB",
        "wal_compression": "lz4",
        "random_page_cost": "1.1",
        "effective_io_concurrency": "200",
        "min_wal_size": "2GB",
        "max_wal_size": "8GB",
        "huge_pages": "try" if shared >= 2 * GB else "off",
    }


def timescaledb_tune(memory: int) -> dict[str, str]:
    """Return what timescaledb-tune prints, without the extension's own and the planner's settings.

    Source: https://github.com/timescale/timescaledb-tune, README and pkg/pgtune (WAL disk
    size not given, which is its default).
    """
    return {
        "max_connections": "100",
        "shared_buffers": f"{memory // 4 // MB}MB",
        "maintenance_work_mem": f"{min(memory // 8 // MB, 2047)}MB",
        "checkpoint_completion_target": "0.9",
        "wal_buffers": "16MB",
        "min_wal_size": "512MB",
        "max_wal_size": "1GB",
        "random_page_cost": "1.1",
        "effective_io_concurrency": "200",
        "autovacuum_max_workers": "10",
        "autovacuum_naptime": "10",
        "max_locks_per_transaction": "256" if memory >= 16 * GB else "128",
    }


def configurations(facts: Facts) -> dict[str, Mapping[str, str]]:
    """Return the sets of settings by the name of their side."""
    memory = psutil.virtual_memory().total
    lossy, no_standbys = Risk.LOSE_LAST_MOMENTS, Risk.NO_REPLICATION
    return {
        "defaults": {},
        "pgtune": pgtune(memory),
        "timescaledb-tune": timescaledb_tune(memory),
        SAFE: plan_inserts(facts).values,
        LOSSY: plan_inserts(facts, allowed=[lossy]).values,
        MINIMAL: plan_inserts(facts, allowed=[lossy, no_standbys]).values,
    }


def round_of(bench: Bench, sets: Mapping[str, Mapping[str, str]], chosen: list[str]) -> Seconds:
    """Do each work under each set of settings; the order of the sets is the caller's."""
    taken: Seconds = {}
    for name, values in sets.items():
        bench.configure(values)
        side = DEFAULTS if name == "defaults" else name
        waits = values.get("synchronous_commit") != "off"
        works.inserts(bench, 1, waits=True)  # warms up
        for work in chosen:
            taken[work, side] = [DONE[work](bench, waits)]
            for habit, do in HABITS[work].items() if name == "defaults" else ():
                taken[work, habit] = [do(bench)]
    return taken


DONE: Mapping[str, Callable[[Bench, bool], float]] = {
    SINGLE: lambda bench, waits: works.inserts(bench, 1, waits=waits),
    MANY: lambda bench, waits: works.inserts(bench, works.THREADS, waits=waits),
    BATCH: lambda bench, waits: works.updates(bench, waits=waits),
    BULK: lambda bench, _: works.bulk(bench),
}
HABITS: Mapping[str, Mapping[str, Callable[[Bench], float]]] = {
    SINGLE: {
        "habits alone: a new connection each": works.new_connections,
        "habits alone: one transaction": works.one_by_one,
        "habits alone: one transaction, never prepared": lambda bench: works.one_by_one(
            bench, prepare=False
        ),
        "habits alone: one transaction, pipeline": works.pipelined,
        "habits alone: one transaction, executemany": works.batch,
        "habits alone: COPY": works.copied,
        "howdah.Writer, defaults": lambda bench: works.writer(bench, 1),
        "howdah load, defaults": works.load_inserts,
    },
    MANY: {"howdah.Writer, 16 threads, defaults": lambda bench: works.writer(bench, works.THREADS)},
    BATCH: {
        "habits alone: COPY and UPDATE FROM": works.copy_and_update,
        "howdah load --update-on, defaults": works.load_updates,
    },
    BULK: {"howdah load, defaults": works.bulk_load},
}
"""The same works in other ways, under the defaults."""


def report(delays: Mapping[float, Seconds]) -> None:
    """Print a table for each work, with the delays side by side."""
    for work in (
        work for work in WORKS.values() if any((work, DEFAULTS) in d for d in delays.values())
    ):
        print(f"\n| {work} | " + " | ".join(f"+{delay:g} ms | times" for delay in delays) + " |")
        print("| --- |" + " ---: | ---: |" * len(delays))
        for side in (*SIDES, *HABITS[work]):
            cells = []
            for taken in delays.values():
                median, base = (statistics.median(taken[work, one]) for one in (side, DEFAULTS))
                cells.append(f"{median:.3g} | {base / median:,.2f}")
            print(f"| {side} | {' | '.join(cells)} |")
    beside_peers(delays)


def beside_peers(delays: Mapping[float, Seconds]) -> None:
    """Print how many times as fast howdah's plans are as the peers' settings."""
    print("\nAgainst the peers, the median of the rounds' ratios (lowest to highest); above 1 ours")
    print("is faster:\n")
    columns = [f"{side.removeprefix('howdah ')} / {peer}" for side in OURS for peer in PEERS]
    print(f"| work | delay | rounds | {' | '.join(columns)} |")
    print("| --- | ---: | ---: |" + " --- |" * len(columns))
    for delay, taken in delays.items():
        for work in (work for work in WORKS.values() if (work, SAFE) in taken):
            cells = [against(taken, work, side, peer) for side in OURS for peer in PEERS]
            rounds = len(taken[work, SAFE])
            print(f"| {work} | +{delay:g} ms | {rounds} | {' | '.join(cells)} |")


def against(taken: Seconds, work: str, side: str, peer: str) -> str:
    """Return how many times as fast a plan is as a peer's settings, compared round by round."""
    pairs = zip(taken[work, peer], taken[work, side], strict=True)
    ratios = sorted(theirs / ours for theirs, ours in pairs)
    return f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"


def chart(delays: Mapping[float, Seconds], path: Path) -> None:
    """Draw how many times as fast as the defaults each side is, by delay, as SVG."""
    from matplotlib.figure import Figure

    heights = [len(SIDES) - 1 + len(HABITS[work]) for work in WORKS.values()]
    figure = Figure(figsize=(8, 2 + 0.42 * sum(heights)), layout="constrained")
    panels = figure.subplots(len(WORKS), 1, height_ratios=heights)
    colours = ["#d9c2a7", "#c08a4d", "#8a4b0f"]
    for axes, work in zip(panels, WORKS.values(), strict=True):
        sides = [*SIDES[1:], *HABITS[work]][::-1]
        for number, (delay, taken) in enumerate(delays.items()):
            base = statistics.median(taken[work, DEFAULTS])
            times = [base / statistics.median(taken[work, side]) for side in sides]
            places = [place - 0.26 * (number - 1) for place in range(len(sides))]
            lengths = [one - 1 for one in times]
            colour, label = colours[number], f"+{delay:g} ms"
            bars = axes.barh(places, lengths, 0.26, left=1, color=colour, label=label)
            labels = [f"{one:,.0f}" if one >= 100 else f"{one:.2g}" for one in times]
            axes.bar_label(bars, labels=labels, padding=2, fontsize=6)
        axes.set_yticks(range(len(sides)), sides)
        axes.set_xscale("log")
        axes.axvline(1, color="#444444", linewidth=0.8)
        axes.set_title(f"{work}: times as fast as with the defaults", fontsize=9, loc="left")
        axes.tick_params(labelsize=7)
        axes.margins(x=0.12)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].legend(title="a flush takes longer by", fontsize=7, title_fontsize=7)
    figure.savefig(path, metadata={"Date": None})


BOUNDS = (
    (SINGLE, LOSSY, 50),
    (SINGLE, "howdah.Writer, defaults", 500),
    (BULK, MINIMAL, 1.3),
    (BATCH, "habits alone: COPY and UPDATE FROM", 30),
    (BATCH, LOSSY, 30),
    (BATCH, "howdah load --update-on, defaults", 30),
)
BOUNDS_AT_MS = 10


def bounds(taken: Seconds) -> None:
    """Say whether what is to be reached at 10 ms is reached."""
    print(f"\nto reach at {BOUNDS_AT_MS} ms:")
    for work, side, wanted in (bound for bound in BOUNDS if (bound[0], DEFAULTS) in taken):
        times = [statistics.median(taken[work, one]) for one in (DEFAULTS, side)]
        found = times[0] / times[1]
        print(f"- {work}, {side}: {found:.2f} of {wanted}: {'yes' if found >= wanted else 'NO'}")


def kept(path: Path) -> dict[float, Seconds]:
    """Return the rounds that `--keep` has kept, by delay."""
    delays: dict[float, Seconds] = {}
    for line in path.read_text().splitlines():
        found = json.loads(line)
        for work, side, seconds in found["seconds"]:
            delays.setdefault(found["delay"], {}).setdefault((work, side), []).append(seconds)
    return dict(sorted(delays.items()))


def built(folder: Path) -> Path:
    shim = folder / "slow_flush.so"
    source = Path(__file__).with_name("slow_flush.c")
    subprocess.run(["gcc", "-shared", "-fPIC", "-O2", "-o", shim, source, "-ldl"], check=True)
    shim.chmod(0o755)
    return shim


def measured(bench: Bench, arguments: argparse.Namespace) -> Seconds:
    """Do the rounds, and keep each."""
    with psycopg.connect(bench.dsn, autocommit=True) as conn:
        facts = read_facts(conn)
    sets = configurations(facts)
    if arguments.tuners:
        sets = {name: sets[name] for name in (*PEERS, *OURS)}
    print(
        f"PostgreSQL {bench.running.version}; flush of the disk {facts.host.flush_s * 1e3:.2f} ms"
    )
    print(f"SIMULATED: each flush of the server takes {arguments.delay:g} ms longer")
    print(f"a commit waits {facts.commit_wait_s * 1e3:.2f} ms; {arguments.rounds} rounds")
    for name, values in sets.items():
        print(f"{name}: " + ", ".join(f"{key}={value}" for key, value in values.items()))
    taken: Seconds = {}
    for number in range(arguments.rounds):
        # Whoever is first finds another server than whoever is last.
        order = random.sample(sorted(sets), k=len(sets))
        chosen = [WORKS[work] for work in arguments.only or WORKS]
        of_round = round_of(bench, {name: sets[name] for name in order}, chosen)
        for key, seconds in of_round.items():
            taken.setdefault(key, []).extend(seconds)
        if arguments.keep:
            rows = [(work, side, one) for (work, side), (one,) in of_round.items()]
            with arguments.keep.open("a") as file:
                file.write(json.dumps({"delay": arguments.delay, "seconds": rows}) + "\n")
        print(f"round {number + 1}: {', '.join(order)}", flush=True)
    return taken


def main() -> None:
    arguments = _arguments()
    if arguments.report:
        delays = kept(arguments.report)
        report(delays)
        if BOUNDS_AT_MS in delays:
            bounds(delays[BOUNDS_AT_MS])
        if arguments.chart:
            chart(delays, arguments.chart)
        return
    folder = Path(tempfile.mkdtemp(prefix="howdah-bench-"))
    folder.chmod(0o755)
    try:
        running = server.start(folder / "server" / "cluster")
        try:
            _write_bulk(folder / "bulk.csv", arguments.bulk_rows)
            bench = Bench(running, folder, built(folder), arguments.delay, arguments.whole)
            bench.restart()
            taken = measured(bench, arguments)
            report({arguments.delay: taken})
            if arguments.delay == BOUNDS_AT_MS and not arguments.tuners:
                bounds(taken)
        finally:
            server.stop(running.data_dir)
    finally:
        shutil.rmtree(folder)


def _write_bulk(path: Path, rows: int) -> None:
    chance = random.Random(7)
    with path.open("w") as file:
        file.write("id,kind,payload\n")
        for number in range(rows):
            file.write(f"{number},kind {number % 97},{chance.getrandbits(1200):x}\n")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--delay", type=float, default=10.0, help="ms for each flush")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=WORKS, action="append", help="may be given twice")
    parser.add_argument("--tuners", action="store_true", help="only the peers and our plans")
    parser.add_argument("--bulk-rows", type=int, default=1_500_000)
    parser.add_argument("--whole", action="store_true", help="all 10,000 rows on every side")
    parser.add_argument("--keep", type=Path, help="append the rounds to this file")
    parser.add_argument("--report", type=Path, help="show what --keep has kept, and stop")
    parser.add_argument("--chart", type=Path, help="with --report: draw it as SVG")
    return parser.parse_args()


if __name__ == "__main__":
    main()
