"""Faster inserts and updates: a plan with its risks named, and a proof by measurement."""

from howdah.tuning.catalogue import Risk, catalogue
from howdah.tuning.facts import Facts, read_facts
from howdah.tuning.plan import Plan, plan_inserts
from howdah.tuning.proof import Outcome, Subject, apply_plan, measure_plan

__all__ = [
    "Facts",
    "Outcome",
    "Plan",
    "Risk",
    "Subject",
    "apply_plan",
    "catalogue",
    "measure_plan",
    "plan_inserts",
    "read_facts",
]
