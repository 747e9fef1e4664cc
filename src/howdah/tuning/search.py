"""Look for better values than the rules', by trying them on this host and workload.

Settings that a reload changes are searched first. Those that take a restart, where
that is allowed, come in groups: one restart, then several trials of the others under
it. A trial that is clearly poorer than the median of the others is stopped; one whose
p99 latency is much worse than the rules' counts for nothing; one that the host has not
the memory for is not tried. The best is measured against the rules' plan in turn, and
each of its settings is taken back alone to see what it was worth; those that were worth
nothing are left out where the rest is still better.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from howdah.connections import limit
from howdah.errors import MissingExtra
from howdah.tuning.catalogue import Risk, catalogue
from howdah.tuning.compare import Comparison
from howdah.tuning.facts import Facts
from howdah.tuning.memory import MEMORY_SETTINGS, affords
from howdah.tuning.plan import Plan, plan_inserts, plan_of
from howdah.tuning.proof import Subject
from howdah.tuning.scratch import scratch_schema
from howdah.tuning.searchbench import Bench

__all__ = ["Found", "Trial", "search"]

_SLICES = 3
_WORST_P99 = 1.5  # times the rules'
_SHARE_OF_TRIALS = 0.6
_SHARE_WITHOUT_RESTART = 0.5  # of the trials' time
_OF_ONE_RESTART = 4
_MOST_REPEATED = 20  # then the optimizer knows nothing else to try
_WORTH_IT = 1.02

Values = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Trial:
    """One set of values.

    Attributes:
        values: The settings.
        rows_per_second: What it came to; the part that was measured, if it was stopped.
        outcome: "done", "stopped early", "p99 too high" or "over memory" (not tried).
    """

    values: Values
    rows_per_second: float
    outcome: str


@dataclass(frozen=True, slots=True)
class Found:
    """What a search found.

    Attributes:
        plan: A plan like any other; None where none was better than the rules'.
        rules: The rules' plan; without a restart, its part that takes none.
        comparison: Of the best found (after) with the rules' plan (before).
        worth: What each of the best's settings is worth: the rate with it over the rate with
            what the rules have instead.
        trials: In order.
        restarts: How often the server was restarted.
    """

    plan: Plan | None
    rules: Plan
    comparison: Comparison | None
    worth: Mapping[str, float]
    trials: tuple[Trial, ...]
    restarts: int = 0


def search(
    conninfo: str,
    facts: Facts,
    subject: Subject,
    *,
    minutes: float = 5.0,
    allowed: Collection[Risk] = (Risk.SAFE,),
    restart: bool = False,
    memory_bytes: int | None = None,
    on_event: Callable[[Trial], None] = lambda _: None,
) -> Found:
    """Search for some minutes; the server's settings are as before at the end.

    Args:
        conninfo: The database.
        facts: Of the server.
        subject: What to measure; of "mixed" workloads, single rows are.
        minutes: How long in all, about.
        allowed: The risks that are accepted.
        restart: Whether the server may be restarted, for settings that take it.
        memory_bytes: Of the host; None for what is seen.
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
    if not restart:
        rules = rules.only("session", "reload")
    with scratch_schema(conninfo) as (conn, schema):
        sums = limit.facts(conn, ram_bytes=memory_bytes)
        space = _space(facts, rules, allowed, restart=restart, measured=sums is not None)
        subject = replace(subject, workload=_one(subject.workload))
        workload = subject.workloads(conn, schema)[0]
        fixed = [name for name in facts.settings if _takes_restart(facts, name)] if restart else ()
        bench = Bench(conninfo, workload, subject.seconds, fixed)
        tries = _Tries(
            optuna, bench, space, rules, lambda v: sums is None or affords(sums, facts.settings, v)
        )
        try:
            tries.run(minutes * 60 * _SHARE_OF_TRIALS, on_event)
            found = _judged(bench, facts, rules, tries.trials)
        finally:
            bench.to({})
    return replace(found, restarts=bench.restarts)


def _one(workload: str) -> str:
    return "single" if workload == "mixed" else workload


def _takes_restart(facts: Facts, name: str) -> bool:
    return facts.settings[name].context == "postmaster"


def _space(
    facts: Facts, rules: Plan, allowed: Collection[Risk], *, restart: bool, measured: bool
) -> dict[str, tuple[str, ...]]:
    """Return the values to try: accepted, known to this server, and the rules' own."""
    space = {}
    for name, known in catalogue().settings.items():
        current = facts.settings.get(name)
        if current is None or (_takes_restart(facts, name) and not restart):
            continue
        if name in MEMORY_SETTINGS and not measured:
            continue  # we do not see how much memory there is
        if rules.workload != "mixed" and rules.workload not in known.workloads:
            continue
        values = tuple(
            value
            for value in known.choices
            if known.risk(value) in {Risk.SAFE, *allowed}
            and (current.enum_values is None or value in current.enum_values)
        )
        if len(values) > 1:
            own = rules.values.get(name, values[0])
            space[name] = values if own in values else (own, *values)
    return space


class _Tries:
    """The trials of one search."""

    def __init__(
        self,
        optuna: Any,
        bench: Bench,
        space: Mapping[str, tuple[str, ...]],
        rules: Plan,
        fits: Callable[[Values], bool],
    ) -> None:
        self._pruned = optuna.trial.TrialState.PRUNED
        self._study = optuna.create_study(
            direction="maximize",
            sampler=optuna.samplers.TPESampler(seed=7, multivariate=False),
            pruner=optuna.pruners.MedianPruner(n_startup_trials=4),
        )
        self._bench, self._space, self._rules, self._fits = bench, space, rules, fits
        self._tried: dict[tuple[str, ...], float] = {}
        self._repeated = 0
        self._p99 = 0.0
        self.trials: list[Trial] = []

    def run(self, seconds: float, on_event: Callable[[Trial], None]) -> None:
        """Try for some seconds, the rules' values first."""
        begun = time.monotonic()
        self._bench.to(self._rules.values)
        _, self._p99 = self._bench.measured()
        own = {name: v for name, v in self._rules.values.items() if name in self._space}
        fixed = {name: value for name, value in own.items() if self._bench.takes_restart(name)}
        alone = not any(self._bench.takes_restart(name) for name in self._space)
        until = begun + seconds * (1 if alone else _SHARE_WITHOUT_RESTART)
        self._study.enqueue_trial(own)
        while time.monotonic() < until and self._repeated < _MOST_REPEATED:
            self._one(on_event)
            self._study.enqueue_trial(fixed)
        while not alone and time.monotonic() < begun + seconds and self._repeated < _MOST_REPEATED:
            group = self._one(on_event)  # its values of restart are the optimizer's choice
            for _ in range(_OF_ONE_RESTART - 1):
                if time.monotonic() < begun + seconds and self._fits(self._rules.values | group):
                    fixed = {n: v for n, v in group.items() if self._bench.takes_restart(n)}
                    self._study.enqueue_trial(fixed)
                    self._one(on_event)

    def _one(self, on_event: Callable[[Trial], None]) -> dict[str, str]:
        """Try what the optimizer says; return its values."""
        asked = self._study.ask()
        values = {n: asked.suggest_categorical(n, self._space[n]) for n in sorted(self._space)}
        key = tuple(values.values())
        whole = self._rules.values | values
        if key in self._tried:
            self._repeated += 1
            self._study.tell(asked, self._tried[key])
            return values
        if self._fits(whole):
            self._repeated = 0
            trial = self._measured(asked, whole)
        else:
            self._repeated += 1
            self._study.tell(asked, 0.0)
            trial = Trial(whole, 0.0, "over memory")
        self._tried[key] = trial.rows_per_second if trial.outcome == "done" else 0.0
        self.trials.append(trial)
        on_event(trial)
        return values

    def _measured(self, asked: Any, values: Values) -> Trial:
        self._bench.to(values)
        rates: list[float] = []
        for step in range(_SLICES):
            rate, latency = self._bench.measured(1 / _SLICES)
            rates.append(rate)
            mean = sum(rates) / len(rates)
            if latency > self._p99 * _WORST_P99:
                self._study.tell(asked, 0.0)  # a failed one would be proposed again and again
                return Trial(values, mean, "p99 too high")
            asked.report(mean, step)
            if step < _SLICES - 1 and asked.should_prune():
                self._study.tell(asked, state=self._pruned)
                return Trial(values, mean, "stopped early")
        self._study.tell(asked, mean)
        return Trial(values, mean, "done")


def _judged(bench: Bench, facts: Facts, rules: Plan, trials: list[Trial]) -> Found:
    done = [trial for trial in trials if trial.outcome == "done"]
    if not done:
        return Found(None, rules, None, {}, tuple(trials))
    best = dict(max(done, key=lambda trial: trial.rows_per_second).values)
    comparison = bench.in_turn(rules.values, best)
    if comparison.verdict != "better":
        return Found(None, rules, comparison, {}, tuple(trials))
    without = {
        name: _with_rules(best, rules, name)
        for name, value in best.items()
        if rules.values.get(name) != value
    }
    worth = bench.worth(best, without)
    best, comparison = _leaner(bench, rules, best, worth, comparison)
    why = f"{comparison.ratio:.2f} times the rules' plan, measured in turn"
    plan = plan_of(facts, best, workload=rules.workload, why=why)
    return Found(plan, rules, comparison, worth, tuple(trials))


def _with_rules(best: Values, rules: Plan, name: str) -> Values:
    """Return the best with what the rules have for one setting; nothing, where they have none."""
    others = {n: v for n, v in best.items() if n != name}
    return others | ({name: rules.values[name]} if name in rules.values else {})


def _leaner(
    bench: Bench, rules: Plan, best: dict[str, str], worth: Mapping[str, float], whole: Comparison
) -> tuple[dict[str, str], Comparison]:
    """Leave out what was worth nothing, where the rest is still better than the rules' plan."""
    lean = best
    for name in (name for name, ratio in worth.items() if ratio < _WORTH_IT):
        lean = dict(_with_rules(lean, rules, name))
    if lean in (best, rules.values):
        return best, whole
    comparison = bench.in_turn(rules.values, lean)
    return (lean, comparison) if comparison.verdict == "better" else (best, whole)
