"""Compare the fork-join pool with the standard library's pools, in turn, in one run.

Run: python bench/forkjoin.py [rounds]

Tasks sleep, so the machine's other work hardly counts. Printed is makespan /
ideal, the median of the rounds (and the worst), starting the pool included; the
ideal is max(total / workers, longest task).
"""

from __future__ import annotations

import random
import statistics
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import Pool

from howdah.loading.forkjoin import ForkJoinPool, fork

WORKERS = 2
TASKS = 200
TOTAL_S = 6.0
DEPTH, LEAF_S = 6, 0.05


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    source = random.Random(7)
    weights = [source.paretovariate(1.3) for _ in range(TASKS)]
    drawn = [weight * TOTAL_S / sum(weights) for weight in weights]
    orders = {"as drawn": drawn, "longest last": sorted(drawn)}
    ideal_s = max(TOTAL_S / WORKERS, *drawn)
    for name, seconds in orders.items():
        print(f"{TASKS} Pareto(1.3) tasks, {name}; ideal {ideal_s:.2f} s")
        compare({side: (run, seconds) for side, run in SIDES.items()}, ideal_s, rounds)
    tree_s = 2**DEPTH * LEAF_S / WORKERS
    print(f"fork-join tree of {2**DEPTH} leaves; ideal {tree_s:.2f} s")
    compare(dict.fromkeys(["ForkJoinPool"], (run_tree, DEPTH)), tree_s, rounds)
    print("  the others cannot join inside a task: there a parent would wait for its own worker")
    print("empty tasks a second, and forks of an empty leaf")
    rates(rounds)


def compare(sides, ideal_s, rounds):
    ratios = {side: [] for side in sides}
    for _ in range(rounds):
        for side, (run, work) in sides.items():
            start = time.monotonic()
            run(work)
            ratios[side].append((time.monotonic() - start) / ideal_s)
    for side, values in ratios.items():
        print(f"  {side:22}{statistics.median(values):6.3f}  (worst {max(values):.3f})")


def run_ours(seconds):
    with ForkJoinPool(WORKERS) as pool:
        for _ in pool.map(time.sleep, seconds, ordered=False):
            pass


def run_ours_ordered(seconds):
    with ForkJoinPool(WORKERS) as pool:
        for _ in pool.map(time.sleep, seconds):
            pass


def run_executor(seconds):
    with ProcessPoolExecutor(WORKERS) as pool:
        for _ in pool.map(time.sleep, seconds):
            pass


def run_pool_map(seconds):
    with Pool(WORKERS) as pool:
        pool.map(time.sleep, seconds)


SIDES = {
    "ForkJoinPool": run_ours,
    " ordered, window of 8": run_ours_ordered,
    "ProcessPoolExecutor": run_executor,
    "multiprocessing.Pool": run_pool_map,
}


def run_tree(depth):
    with ForkJoinPool(WORKERS) as pool:
        pool.submit(tree, depth).result()


def tree(depth):
    if depth == 0:
        time.sleep(LEAF_S)
        return 1
    halves = [fork(tree, depth - 1) for _ in range(2)]
    return sum(half.join() for half in halves)


def rates(rounds):
    found = {"ForkJoinPool": [], "ProcessPoolExecutor": [], "fork and join": []}
    for _ in range(rounds):
        with ForkJoinPool(WORKERS) as pool:
            found["ForkJoinPool"].append(submit_rate(pool))
            found["fork and join"].append(fork_rate(pool))
        with ProcessPoolExecutor(WORKERS) as pool:
            found["ProcessPoolExecutor"].append(submit_rate(pool))
    for side, values in found.items():
        print(f"  {side:22}{statistics.median(values):7.0f} / s")


def submit_rate(pool, count=10_000):
    pool.submit(nothing).result()
    start = time.monotonic()
    for future in [pool.submit(nothing) for _ in range(count)]:
        future.result()
    return count / (time.monotonic() - start)


def fork_rate(pool, count=5_000):
    start = time.monotonic()
    pool.submit(fork_leaves, count).result()
    return count / (time.monotonic() - start)


def fork_leaves(count):
    for _ in range(count):
        fork(nothing).join()


def nothing():
    pass


if __name__ == "__main__":
    main()
