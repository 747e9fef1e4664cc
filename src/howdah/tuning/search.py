"""Look for better values than the rules', by trying them on this host and workload.

Settings that a session or a reload can change are searched; each trial is
measured for a moment, and one that is clearly poorer than the median of the
others is stopped. A trial whose p99 latency is much worse than the rules' is
none. The best is then measured against the rules' plan in turn, and each of
its settings alone is taken back to see what it was worth.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from howdah import pg
from howdah.errors import MissingExtra
from howdah.server.change import Change, apply_change, plan_change, plan_undo
from howdah.tuning.catalogue import Risk, catalogue
from howdah.tuning.compare import Comparison, compared, quantile
from howdah.tuning.facts import Facts
from howdah.tuning.plan import Plan, plan_inserts, plan_of
from howdah.tuning.proof import REASON, Subject
from howdah.tuning.scratch import scratch_schema
from howdah.tuning.workloads import Workload, run

__all__ = ["Found", "Trial", "search"]

_SLICES = 3
_WORST_P99 = 1.5  # times the rules'
_FINAL_ROUNDS = 5
_SHARE_OF_TRIALS = 0.6
_MOST_REPEATED = 20  # then the optimizer knows nothing else to try


@dataclass(frozen=True, slots=True)
class Trial:
    """One set of values that was tried.

    Attributes:
        values: The settings.
        rows_per_second: What it came to; the part that was measured, if it was stopped.
        outcome: "done", "stopped early" or "p99 too high".
    """

    values: Mapping[str, str]
    rows_per_second: float
    outcome: str


@dataclass(frozen=True, slots=True)
class Found:
    """What a search found.

    Attributes:
        plan: A plan like any other; None where none was better than the rules'.
        rules: The rules' plan, without what takes a restart.
        comparison: Of the best found (after) with the rules' plan (before).
        worth: What each of the best's settings is worth: the rate with it over without it.
        trials: What was tried, in order.
    """

    plan: Plan | None
    rules: Plan
    comparison: Comparison | None
    worth: Mapping[str, float]
    trials: tuple[Trial, ...]


def search(
    conninfo: str,
    facts: Facts,
    subject: Subject,
    *,
    minutes: float = 5.0,
    allowed: Collection[Risk] = (Risk.SAFE,),
    on_event: Callable[[Trial], None] = lambda _: None,
) -> Found:
    """Search for some minutes; the server's settings are as before at the end.

    Args:
        conninfo: The database.
        facts: Of the server.
        subject: What to measure; of "mixed" workloads, single rows are.
        minutes: How long in all, about.
        allowed: The risks that are accepted.
        on_event: Told of each trial.

    Raises:
        MissingExtra: Optuna is not installed.
    """
    try:
        import optuna
    except ImportError as exc:
        raise MissingExtra("howdah tune search", "search") from exc
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    rules = plan_inserts(facts, workload=subject.workload, allowed=allowed)
    rules = rules.only("session", "reload")
    space = _space(facts, subject.workload, allowed)
    with scratch_schema(conninfo) as (conn, schema):
        subject = replace(subject, workload=_one(subject.workload))
        bench = _Bench(conninfo, subject.workloads(conn, schema)[0], subject.seconds)
        try:
            trials = _trials(optuna, bench, space, rules, minutes * 60 * _SHARE_OF_TRIALS, on_event)
            return _judged(bench, facts, rules.workload, rules, trials)
        finally:
            bench.to({})


def _one(workload: str) -> str:
    return "single" if workload == "mixed" else workload


def _space(facts: Facts, workload: str, allowed: Collection[Risk]) -> dict[str, tuple[str, ...]]:
    """Return the values to try: accepted, known to this server, and no restart."""
    space = {}
    for name, known in catalogue().settings.items():
        current = facts.settings.get(name)
        if current is None or current.context == "postmaster":
            continue
        if workload != "mixed" and workload not in known.workloads:
            continue
        values = tuple(
            value
            for value in known.choices
            if known.risk(value) in {Risk.SAFE, *allowed}
            and (current.enum_values is None or value in current.enum_values)
        )
        if len(values) > 1:
            space[name] = values
    return space


class _Bench:
    """Measures a workload under any values, by the one way to change settings."""

    def __init__(self, conninfo: str, workload: Workload, seconds: float) -> None:
        self._conninfo, self._workload, self._seconds = conninfo, workload, seconds
        self._number: int | None = None

    def to(self, values: Mapping[str, str]) -> None:
        """Bring the server to values, from what it had before the search."""
        with pg.connect(self._conninfo, application_name="howdah tune") as conn:
            if self._number is not None:
                change, entry = plan_undo(conn, self._number)
                apply_change(conn, change, undoes=entry.number)
                self._number = None
            wishes = [Change(name, value) for name, value in values.items()]
            if wishes:
                change = plan_change(conn, wishes, reason=f"{REASON} (search)")
                self._number = apply_change(conn, change).number

    def measured(self, share: float = 1.0) -> tuple[float, float]:
        """Return rows a second, and p99 latency in seconds, under the values in force."""
        done = run(self._conninfo, self._workload, {}, seconds=self._seconds * share)
        return done.rows_per_second, quantile(done.latencies_s, 0.99)


def _trials(
    optuna: Any,
    bench: _Bench,
    space: Mapping[str, tuple[str, ...]],
    rules: Plan,
    seconds: float,
    on_event: Callable[[Trial], None],
) -> list[Trial]:
    study = optuna.create_study(
        direction="maximize",
        sampler=optuna.samplers.TPESampler(seed=7, multivariate=False),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=4),
    )
    study.enqueue_trial({name: v for name, v in rules.values.items() if v in space.get(name, ())})
    bench.to(rules.values)
    _, p99 = bench.measured()
    trials: list[Trial] = []
    tried: dict[tuple[str, ...], float] = {}
    repeated = 0
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and repeated < _MOST_REPEATED:
        trial = study.ask()
        values = {name: trial.suggest_categorical(name, space[name]) for name in sorted(space)}
        key = tuple(values.values())
        if key in tried:
            repeated += 1
            study.tell(trial, tried[key])
            continue
        repeated = 0
        bench.to(rules.values | values)
        trials.append(_tried(optuna, study, trial, bench, rules.values | values, p99))
        last = trials[-1]
        tried[key] = last.rows_per_second if last.outcome == "done" else 0.0
        on_event(last)
    return trials


def _tried(
    optuna: Any, study: Any, trial: Any, bench: _Bench, values: Mapping[str, str], p99: float
) -> Trial:
    rates: list[float] = []
    for step in range(_SLICES):
        rate, latency = bench.measured(1 / _SLICES)
        rates.append(rate)
        mean = sum(rates) / len(rates)
        if latency > p99 * _WORST_P99:
            study.tell(trial, 0.0)  # a failed one would be proposed again and again
            return Trial(values, mean, "p99 too high")
        trial.report(mean, step)
        if step < _SLICES - 1 and trial.should_prune():
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
            return Trial(values, mean, "stopped early")
    study.tell(trial, mean)
    return Trial(values, mean, "done")


def _judged(bench: _Bench, facts: Facts, workload: str, rules: Plan, trials: list[Trial]) -> Found:
    done = [trial for trial in trials if trial.outcome == "done"]
    if not done:
        return Found(None, rules, None, {}, tuple(trials))
    best = max(done, key=lambda trial: trial.rows_per_second).values
    comparison = _in_turn(bench, rules.values, best)
    if comparison.verdict != "better":
        return Found(None, rules, comparison, {}, tuple(trials))
    worth = {
        name: _in_turn(bench, {n: v for n, v in best.items() if n != name}, best, rounds=2).ratio
        for name, value in best.items()
        if rules.values.get(name) != value
    }
    why = f"{comparison.ratio:.2f} times the rules' plan, measured in turn"
    return Found(
        plan_of(facts, best, workload=workload, why=why), rules, comparison, worth, tuple(trials)
    )


def _in_turn(
    bench: _Bench,
    before: Mapping[str, str],
    after: Mapping[str, str],
    *,
    rounds: int = _FINAL_ROUNDS,
) -> Comparison:
    rates: dict[bool, list[float]] = {False: [], True: []}
    for _ in range(rounds):
        for is_after, values in ((False, before), (True, after)):
            bench.to(values)
            rates[is_after].append(bench.measured()[0])
    return compared(rates[False], rates[True])
