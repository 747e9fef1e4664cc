from __future__ import annotations

import json

import pytest

import howdah as library
from howdah.cli.budget import budget_lines
from howdah.connections.budgets import BudgetUse, Holder
from howdah.connections.control import close_all


@pytest.fixture
def etl(dsn):
    yield library.Budget("etl", 60, dsn=dsn)
    close_all()


def test_budgets_are_set_listed_and_dropped(howdah):
    assert (
        howdah("budget", "list").stdout == "no budgets; make one with: howdah budget set NAME N\n"
    )

    done = howdah("budget", "set", "etl", 60)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"etl  [{'.' * 30}] 0 of 60 held\n"
    assert json.loads(howdah("budget", "set", "etl", 80, "--json").stdout)[0]["limit"] == 80
    assert howdah("budget", "drop", "etl").stdout == "dropped the budget etl\n"
    assert howdah("budget", "drop", "etl").returncode == 2


def test_holders_are_shown_and_a_budget_in_use_is_not_dropped(howdah, etl):
    with etl.reserve(20, purpose="nightly import"):
        shown = howdah("budget", "list", "etl").stdout
        watched = howdah("budget", "watch", "--times", 2, "--every", 0.1).stdout
        dropped = howdah("budget", "drop", "etl")

    assert "20 of 60 held; 1 control connections on top" in shown
    assert "holds   20" in shown
    assert "nightly import" in shown
    assert watched.count("20 of 60 held") == 2
    assert dropped.returncode == 2
    assert "is in use: 20 by process" in dropped.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["0"], "A budget of 0 slots is none"), (["5", "--grant", "nobody"], "no such role")],
)
def test_senseless_limits_and_roles_are_refused(howdah, arguments, message):
    done = howdah("budget", "set", "etl", *arguments)

    assert done.returncode == 2
    assert message in done.stderr


def test_budgets_are_rendered_as_a_bar_holders_and_the_line():
    def holder(**facts):
        common = {"id": 1, "priority": 0, "purpose": "", "host": "a", "process": 7, "backends": 0}
        return Holder(**common | {"granted": True, "lost": False, "since_s": 12.3} | facts)

    use = BudgetUse(
        name="etl",
        limit=60,
        held=40,
        controls=2,
        holders=(holder(slots=20, backends=18, purpose="import"), holder(slots=20, lost=True)),
        line=(holder(slots=30, granted=False, priority=3),),
    )

    assert budget_lines([use]) == [
        f"etl  [{'#' * 20}{'.' * 10}] 40 of 60 held, 30 waited for; 2 control connections on top",
        "  holds   20  12 s, process 7 on a, 18 open  import",
        "  holds   20  12 s, process 7 on a, 0 open, lost: freed when its last backend ends",
        "  waits   30  12 s, process 7 on a, priority 3",
    ]
