"""What decides whether `make test-django` fails."""

from __future__ import annotations

import pytest

from tests.djangosuite.suite import Outcome
from tests.djangosuite.verdict import Fault, Verdict, compare, read_list

PASSED, FAILED = Outcome("passed"), Outcome("failed", "Traceback ...")


@pytest.mark.parametrize(
    ("stock", "ours", "may_differ", "expected"),
    [
        ({"t": PASSED}, {"t": PASSED}, {}, Verdict(1, 1, 0, ())),
        ({"t": FAILED}, {"t": FAILED}, {}, Verdict(1, 1, 0, ())),
        ({"t": PASSED}, {"t": FAILED}, {}, Verdict(1, 0, 0, (Fault("t", "passed", FAILED),))),
        ({"t": PASSED}, {}, {}, Verdict(1, 0, 0, (Fault("t", "passed", Outcome("not run")),))),
        ({}, {"t": FAILED}, {}, Verdict(1, 0, 0, (Fault("t", "not run", FAILED),))),
        ({"t": PASSED}, {"t": FAILED}, {"t": "SQL"}, Verdict(1, 0, 1, ())),
        (
            {"t": PASSED},
            {"t": PASSED},
            {"t": "SQL"},
            Verdict(1, 0, 0, (Fault("t", "passed", PASSED, listed=True),)),
        ),
        ({"t": PASSED}, {"t": PASSED}, {"other": "SQL"}, Verdict(1, 1, 0, ())),
    ],
    ids=[
        "same",
        "same failure",
        "fails outside the list",
        "does not run any more",
        "runs only with ours",
        "fails and is listed",
        "passes and is listed",
        "another part's",
    ],
)
def test_only_a_listed_test_may_differ_and_it_must(stock, ours, may_differ, expected):
    assert compare(stock, ours, may_differ) == expected


def test_each_name_in_a_list_has_the_reason_above_it(tmp_path):
    path = tmp_path / "list"
    path.write_text("# Compares SQL\n# as text.\na.b\nc.d\n\n# Another.\ne.f\n")

    assert read_list(path) == {
        "a.b": "Compares SQL as text.",
        "c.d": "Compares SQL as text.",
        "e.f": "Another.",
    }


@pytest.mark.parametrize("text", ["a.b\n", "# Why.\na.b\na.b\n"])
def test_a_list_without_reasons_or_with_a_name_twice_is_refused(tmp_path, text):
    path = tmp_path / "list"
    path.write_text(text)

    with pytest.raises(ValueError, match=r"a\.b"):
        read_list(path)
