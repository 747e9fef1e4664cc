"""Plans for faster inserts, and what was measured, as people and scripts see them."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from textwrap import TextWrapper
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from howdah.tuning.catalogue import Advice, Setting
    from howdah.tuning.measure import Measured, Progress
    from howdah.tuning.plan import Plan
    from howdah.tuning.proof import Subject
    from howdah.tuning.search import Found, Trial

__all__ = ["apply", "explain", "measure", "planned", "search", "show_plan", "subject"]

OLDEST = 14
"""The major that a setting without a word on it is in."""

NOT_BETTER = 3
"""Exit code: done, and the plan was rolled back, or nothing better was found."""


def planned(conninfo: str, workload: str, allow: Sequence[str]) -> Plan:
    """Read the server's facts and plan."""
    from howdah import pg
    from howdah.tuning.catalogue import Risk
    from howdah.tuning.facts import read_facts
    from howdah.tuning.plan import plan_inserts

    with pg.connect(conninfo, application_name="howdah tune") as conn:
        facts = read_facts(conn)
    return plan_inserts(facts, workload=workload, allowed=[Risk(risk) for risk in allow])


def subject(workload: str, *, statement: Path | None, **others: Any) -> Subject:
    """Return what to measure, from the command's options."""
    from howdah.tuning.proof import Subject

    text = statement.read_text(encoding="utf-8") if statement else None
    return Subject(workload, text, **others)


def show_plan(plan: Plan, *, form: str | None, as_json: bool) -> None:
    """Print a plan: for people, as JSON, as SQL, or as a configuration file."""
    from howdah.tuning.plan import as_conf, as_sql

    if as_json:
        click.echo(json.dumps(asdict(plan)))
    elif form:
        click.echo(as_conf(plan) if form == "conf" else as_sql(plan))
    else:
        for line in _plan_lines(plan):
            click.echo(line)


def _plan_lines(plan: Plan) -> list[str]:
    from howdah.tuning.catalogue import catalogue

    lines = [*_folded(plan.observed), ""] if plan.observed else []
    if not plan.changes:
        lines.append(f"nothing to change for the workload {plan.workload}")
    for change in plan.changes:
        takes = "restart" if change.needs == "restart" else "reload"
        head = f"{change.setting}: {change.now} -> {change.proposed}"
        lines.append(f"{head:<52} {change.risk}, {takes}")
        lines += _folded([f"    why:    {change.why}", f"    expect: {change.effect}"], 12)
    if plan.withheld:
        lines.append("\nnot in the plan:")
    for one in plan.withheld:
        lines += _folded([f"  {one.setting} = {one.proposed} ({one.risk}): {one.reason}"])
    known = catalogue().habits
    lines.append("\nwhat the client can do, at no risk:")
    for key in plan.habits:
        if key in known:
            gain = f" [{known[key].gain}]" if known[key].gain else ""
            lines += _folded([f"  {known[key].name}: {known[key].example}{gain}"])
    lines.append("\nprove it: --measure, or --apply; explain: howdah tune explain NAME")
    return lines


def _folded(lines: Iterable[str], indent: int = 4) -> list[str]:
    """Fold long lines where a terminal would; what goes into a file or a pipe stays whole."""
    if not sys.stdout.isatty():
        return list(lines)
    width = max(shutil.get_terminal_size().columns, 60)
    wrapper = TextWrapper(
        width, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False
    )
    return [part for line in lines for part in wrapper.wrap(line) or [""]]


def measure(conninfo: str, plan: Plan, what: Subject, *, chart: Path | None, as_json: bool) -> None:
    """Measure the part of a plan that a session can set, and show it."""
    from howdah.tuning.proof import measure_plan

    part, measured = measure_plan(conninfo, plan, what, on_event=_tell)
    left = [change.setting for change in plan.changes if change not in part.changes]
    if as_json:
        facts = {"plan": asdict(part), "not_measured": left}
        click.echo(json.dumps(facts | {"measured": [asdict(one) for one in measured]}))
    else:
        click.echo(f"measured: {', '.join(part.values) or 'nothing'}")
        _show_measured(measured)
        if left:
            click.echo(f"not measured, since a session cannot set it here: {', '.join(left)}")
            click.echo("To measure those too: --apply, and --restart where one is needed.")
    _draw(measured, chart)


def apply(
    conninfo: str,
    plan: Plan,
    what: Subject,
    *,
    restart: bool,
    chart: Path | None,
    as_json: bool,
) -> None:
    """Apply a plan, measured; keep it or roll it back; exit with 3 where it was rolled back."""
    from howdah.tuning.proof import apply_plan

    outcome = apply_plan(conninfo, plan, what, restart=restart, on_event=_tell)
    _draw(outcome.measured, chart)
    if as_json:
        click.echo(json.dumps(asdict(outcome)))
    else:
        _show_measured(outcome.measured)
        for line in _outcome_lines(outcome.kept, outcome.plan, outcome.waiting):
            click.echo(line)
    if not outcome.kept:
        raise click.exceptions.Exit(NOT_BETTER)


def _outcome_lines(kept: bool, plan: Plan, waiting: Sequence[str]) -> list[str]:
    lines = []
    if kept:
        lines = [f"kept: {', '.join(f'{n} = {v}' for n, v in plan.values.items())}"]
        lines.append("take it back: howdah tune undo")
    elif plan.changes:
        lines = ["rolled back: it is not better beyond the noise; all settings are as before"]
    else:
        lines = ["nothing was changed"]
    if waiting:
        lines.append(f"left out, since they take a restart: {', '.join(waiting)} (add --restart)")
    return lines


def _show_measured(measured: Sequence[Measured]) -> None:
    from howdah.connections.text import table

    if not measured:
        return
    rows: list[tuple[object, ...]] = [("workload", "rows/s", "times", "95% interval", "verdict")]
    for one in measured:
        c = one.comparison
        rates = f"{c.before:,.0f} -> {c.after:,.0f}"
        interval = f"{c.low:.2f} to {c.high:.2f}"
        rows.append((one.workload, rates, f"{c.ratio:.2f}", interval, c.verdict))
    head, *lines = table(rows)
    click.echo(head)
    for line, one in zip(lines, measured, strict=True):
        b, a = one.before, one.after
        click.echo(line)
        click.echo(
            f"    p50 {b.p50_s * 1e3:.2f} -> {a.p50_s * 1e3:.2f} ms, "
            f"p99 {b.p99_s * 1e3:.2f} -> {a.p99_s * 1e3:.2f} ms, "
            f"WAL {b.wal_bytes_per_row:,.0f} -> {a.wal_bytes_per_row:,.0f} B a row"
        )
        if one.about:
            click.echo(one.about)


def _draw(measured: Sequence[Measured], chart: Path | None) -> None:
    from howdah.tuning.picture import as_svg

    if chart is not None and measured:
        chart.write_text(as_svg(measured, "howdah tune inserts: before and after"))
        click.echo(f"chart: {chart}", err=True)


def _tell(event: Progress) -> None:
    where = f"round {event.round} of {event.rounds}, {event.side}"
    click.echo(f"{where}: {event.workload}: {event.rows_per_second:,.0f} rows/s", err=True)


def explain(name: str | None, *, as_json: bool) -> None:
    """Print an entry of the catalogue, or the names of all."""
    from howdah.tuning.catalogue import catalogue, setting

    known = catalogue()
    if name is None:
        names = [*known.settings, *known.tables, *known.habits]
        click.echo(json.dumps(names) if as_json else "\n".join(names))
        return
    found = known.tables.get(name) or known.habits.get(name) or setting(name)
    if as_json:
        click.echo(json.dumps(asdict(found), default=dict))
        return
    for line in _folded(_explained(found), 11):
        click.echo(line)


def _explained(found: Setting | Advice) -> list[str]:
    from howdah.tuning.catalogue import Advice

    lines = [f"{found.name}: {found.does}", f"  for:     {', '.join(found.workloads)}"]
    if isinstance(found, Advice):
        lines += [f"  example: {found.example}", f"  risk:    {found.risk}"]
        lines += [f"  gain:    {found.gain}"] if found.gain else []
    else:
        lines.append(f"  expect:  {found.effect}")
        contexts = [f"{name} from {major} on" for major, name in found.contexts.items()]
        context = "; ".join(contexts) if len(contexts) > 1 else found.context(found.since)
        unit = f", in {found.unit}" if found.unit else ""
        since = f", since PostgreSQL {found.since}" if found.since > OLDEST else ""
        lines.append(f"  context: {context}{unit}{since}")
        named = ", ".join(f"{value}: {risk}" for value, risk in found.risks.items())
        lines.append(f"  risk:    {named or 'safe'}")
    if found.forbids:
        lines.append(f"  beware:  {found.forbids}")
    return [*lines, f"  source:  {found.source}"]


def search(
    conninfo: str,
    what: Subject,
    allow: Sequence[str],
    *,
    minutes: float,
    restart: bool,
    as_json: bool,
) -> None:
    """Search, and show what was found; exit with 3 where nothing is better than the rules."""
    from howdah import pg
    from howdah.tuning.catalogue import Risk
    from howdah.tuning.facts import read_facts
    from howdah.tuning.plan import plan_inserts
    from howdah.tuning.search import search as look

    with pg.connect(conninfo, application_name="howdah tune") as conn:
        facts = read_facts(conn)
    risks = [Risk(risk) for risk in allow]
    rules = plan_inserts(facts, workload=what.workload, allowed=risks).values
    found = look(
        conninfo,
        facts,
        what,
        minutes=minutes,
        allowed=risks,
        restart=restart,
        on_event=lambda trial: _tell_trial(trial, rules),
    )
    if as_json:
        click.echo(json.dumps(asdict(found)))
    else:
        _show_found(found)
    if found.plan is None:
        raise click.exceptions.Exit(NOT_BETTER)


def _tell_trial(trial: Trial, rules: Mapping[str, str]) -> None:
    others = [f"{n}={v}" for n, v in trial.values.items() if rules.get(n) != v]
    words = ", ".join(others) or "nothing else than the rules' plan"
    click.echo(f"{trial.rows_per_second:,.0f} rows/s, {trial.outcome}: {words}", err=True)


def _show_found(found: Found) -> None:
    tried: dict[str, int] = {}
    for trial in found.trials:
        tried[trial.outcome] = tried.get(trial.outcome, 0) + 1
    counts = ", ".join(f"{count} {outcome}" for outcome, count in tried.items())
    click.echo(f"{len(found.trials)} trials: {counts}; {found.restarts} restarts")
    if found.comparison is not None:
        c = found.comparison
        click.echo(
            f"the best against the rules' plan, in turn: {c.before:,.0f} -> {c.after:,.0f} rows/s, "
            f"{c.ratio:.2f} times ({c.low:.2f} to {c.high:.2f}): {c.verdict}"
        )
    if found.plan is None:
        click.echo("none better than the rules' plan was found")
        return
    for name, ratio in found.worth.items():
        left = "" if name in found.plan.values else "; left out"
        click.echo(f"  {name}: {ratio:.2f} times the rate with what the rules have{left}")
    show_plan(found.plan, form=None, as_json=False)
