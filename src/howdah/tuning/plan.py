"""Catalogue + facts + accepted risks -> a plan. Pure: nothing is read, nothing is changed."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from howdah.errors import UsageError
from howdah.tuning.catalogue import WORKLOADS, Risk, Setting, catalogue
from howdah.tuning.facts import Facts
from howdah.tuning.observed import observed
from howdah.tuning.rules import RULES, Proposal, replication_in_use

__all__ = ["Change", "Plan", "Withheld", "as_conf", "as_sql", "plan_inserts", "plan_of"]

Needs = Literal["session", "reload", "restart"]
_NEEDS: Mapping[str, Needs] = {"user": "session", "superuser": "session", "sighup": "reload"}
_REPLICATION = ("wal_level", "max_wal_senders")


@dataclass(frozen=True, slots=True)
class Change:
    """One line of a plan.

    Attributes:
        setting: Its name.
        now: What it is: "128MB".
        proposed: What it is to be.
        why: One line.
        effect: What is expected of it.
        risk: What it may cost.
        needs: "session" where a session can have its own value (and a reload serves all),
            "reload" or "restart".
    """

    setting: str
    now: str
    proposed: str
    why: str
    effect: str
    risk: Risk
    needs: Needs


@dataclass(frozen=True, slots=True)
class Withheld:
    """A change that would help, and is not in the plan.

    Attributes:
        setting: Its name.
        proposed: What it would be.
        risk: What it may cost.
        reason: Why it is not in the plan, and what would bring it in.
    """

    setting: str
    proposed: str
    risk: Risk
    reason: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What to change for a workload.

    Attributes:
        workload: One of WORKLOADS, or "mixed" for all of them.
        allowed: The risks that were accepted.
        changes: The lines, those that matter most first.
        withheld: What was left out, with reasons.
        habits: Keys of the catalogue's habits and table options that serve the workload.
        observed: What it was made from, in sentences.
    """

    workload: str
    allowed: tuple[Risk, ...]
    changes: tuple[Change, ...]
    withheld: tuple[Withheld, ...] = ()
    habits: tuple[str, ...] = ()
    observed: tuple[str, ...] = ()

    @property
    def values(self) -> dict[str, str]:
        """The settings to change, for `howdah.server.change`."""
        return {change.setting: change.proposed for change in self.changes}

    @property
    def needs_restart(self) -> bool:
        """Whether a part of it takes effect at a restart only."""
        return any(change.needs == "restart" for change in self.changes)

    def only(self, *needs: Needs) -> Plan:
        """Return the part of the plan whose changes need one of these."""
        kept = tuple(change for change in self.changes if change.needs in needs)
        return replace(self, changes=kept)


def plan_inserts(
    facts: Facts, *, workload: str = "mixed", allowed: Collection[Risk] = (Risk.SAFE,)
) -> Plan:
    """Return what should change for faster inserts or updates.

    Args:
        facts: Of the server and its host.
        workload: One of WORKLOADS; "mixed" for all.
        allowed: The risks that the user accepts by name; SAFE always is.

    Raises:
        UsageError: There is no such workload.
    """
    if workload not in (*WORKLOADS, "mixed"):
        raise UsageError(
            f"There is no workload {workload!r}.",
            next_step=f"Choose one of: mixed, {', '.join(WORKLOADS)}.",
        )
    wanted = frozenset(WORKLOADS if workload == "mixed" else [workload])
    accepted = sorted({Risk.SAFE, *allowed}, key=list(Risk).index)
    proposals = _proposals(facts, wanted)
    withheld = tuple(_withheld(facts, proposals, accepted))
    left_out = {one.setting for one in withheld}
    kept = {name: one for name, one in proposals.items() if name not in left_out}
    if "wal_level" not in kept:
        kept.pop("max_wal_senders", None)
        withheld = tuple(one for one in withheld if one.setting != "max_wal_senders")
        if facts.settings["wal_level"].value != "minimal":
            kept.pop("backend_flush_after", None)
    return Plan(
        workload=workload,
        allowed=tuple(accepted),
        changes=tuple(_change(facts, name, proposal) for name, proposal in kept.items()),
        withheld=withheld,
        habits=tuple(_habits(wanted)),
        observed=observed(facts),
    )


def plan_of(facts: Facts, values: Mapping[str, str], *, workload: str, why: str) -> Plan:
    """Return a plan of given values, as a search finds them."""
    proposals = {name: Proposal(value, why) for name, value in values.items()}
    changes = tuple(_change(facts, name, proposal) for name, proposal in proposals.items())
    allowed = tuple(sorted({change.risk for change in changes}, key=list(Risk).index))
    return Plan(workload, allowed, changes)


def _proposals(facts: Facts, wanted: frozenset[str]) -> dict[str, Proposal]:
    found = {}
    for name, rule in RULES.items():
        known = catalogue().settings[name]
        if name in facts.settings and wanted.intersection(known.workloads):
            proposal = rule(facts, wanted)
            if proposal is not None:
                found[name] = proposal
    return found


def _withheld(
    facts: Facts, proposals: Mapping[str, Proposal], accepted: Collection[Risk]
) -> Iterable[Withheld]:
    in_use = replication_in_use(facts)
    for name, proposal in proposals.items():
        risk = catalogue().settings[name].risk(proposal.value)
        if name in _REPLICATION and in_use:
            reason = f"in use: {'; '.join(in_use)}"
        elif risk is Risk.MAY_CORRUPT and not facts.disposable:
            reason = "never, but on a server started with: howdah server start --disposable"
        elif risk not in accepted:
            reason = f"add --allow {risk}"
        else:
            continue
        yield Withheld(name, proposal.value, risk, reason)


def _change(facts: Facts, name: str, proposal: Proposal) -> Change:
    known: Setting = catalogue().settings[name]
    current = facts.settings[name]
    return Change(
        setting=name,
        now=current.shown,
        proposed=proposal.value,
        why=proposal.why,
        effect=proposal.effect or known.effect,
        risk=known.risk(proposal.value),
        needs=_NEEDS.get(current.context, "restart"),
    )


def _habits(wanted: frozenset[str]) -> Iterable[str]:
    for advice in (*catalogue().habits.values(), *catalogue().tables.values()):
        if wanted.intersection(advice.workloads):
            yield advice.key


def as_conf(plan: Plan) -> str:
    """Return a plan as lines for a configuration file, to be reviewed."""
    lines = [f"# howdah tune inserts --workload {plan.workload}"]
    for change in plan.changes:
        lines += [f"# {change.why} (risk: {change.risk}; needs {change.needs}; was {change.now})"]
        lines += [f"{change.setting} = {_literal(change.proposed)}"]
    return "\n".join(lines)


def as_sql(plan: Plan) -> str:
    """Return a plan as statements for psql."""
    lines = [
        f"ALTER SYSTEM SET {change.setting} = {_literal(change.proposed)};  -- {change.why}"
        for change in plan.changes
    ]
    lines.append("SELECT pg_reload_conf();")
    if plan.needs_restart:
        waiting = [change.setting for change in plan.changes if change.needs == "restart"]
        lines.append(f"-- these wait for a restart: {', '.join(waiting)}")
    return "\n".join(lines)


def _literal(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
