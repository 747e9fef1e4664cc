"""What the outcomes say: where a mode differs from Django's own ENGINE, and whether it may."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.djangosuite.suite import Outcome

NOT_RUN = Outcome("not run")

# They compare times, which says more of the machine's load than of a backend.
TIMED = frozenset(
    {"serializers.test_deserialization.TestDeserializer.test_crafted_xml_performance"}
)


@dataclass(frozen=True)
class Fault:
    """A test that did not give what it should.

    Attributes:
        test: Its name.
        expected: What it gave with Django's own ENGINE.
        got: What it gave now, with the traceback.
        listed: Whether `differs/` says that it differs; then the fault is that it does not.
    """

    test: str
    expected: str
    got: Outcome
    listed: bool = False


@dataclass(frozen=True)
class Verdict:
    """A mode against Django's own ENGINE.

    Attributes:
        tests: How many there are.
        same: Those that gave the same, and should.
        listed: Those that differ, and are listed.
        faults: All others.
    """

    tests: int
    same: int
    listed: int
    faults: tuple[Fault, ...]


def compare(
    stock: Mapping[str, Outcome], ours: Mapping[str, Outcome], may_differ: Mapping[str, str]
) -> Verdict:
    """Compare the outcomes test by test.

    Args:
        stock: With Django's own ENGINE.
        ours: With ours.
        may_differ: Names of tests that differ, with the reason; others' names are ignored.
    """
    names = sorted((stock.keys() | ours.keys()) - TIMED)
    faults: list[Fault] = []
    same = listed = 0
    for name in names:
        expected, got = stock.get(name, NOT_RUN), ours.get(name, NOT_RUN)
        differs = expected.outcome != got.outcome
        if differs != (name in may_differ):
            faults.append(Fault(name, expected.outcome, got, listed=not differs))
        elif differs:
            listed += 1
        else:
            same += 1
    return Verdict(len(names), same, listed, tuple(faults))


def read_list(path: Path) -> dict[str, str]:
    """Return the tests that a list names, each with its reason.

    A reason is a paragraph of lines that begin with "#"; the names that it is true of follow.
    """
    reasons: dict[str, str] = {}
    reason: list[str] = []
    is_open = False
    for line in map(str.strip, path.read_text().splitlines()):
        if line.startswith("#"):
            reason = [*(reason if is_open else []), line.lstrip("# ")]
            is_open = True
        elif line:
            is_open = False
            if not reason or line in reasons:
                raise ValueError(f"{path}: {line} has no reason, or stands there twice")
            reasons[line] = " ".join(reason)
        else:
            is_open = False
    return reasons
