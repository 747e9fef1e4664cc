"""Before against after: medians, their ratio, and how sure that is. Pure."""

from __future__ import annotations

import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

__all__ = ["Comparison", "compared", "quantile"]

Verdict = Literal["better", "worse", "no difference"]
FEWEST_ROUNDS = 5
"""With fewer the interval says nothing: 4 pairs all point one way by chance in 1 of 8."""

_RESAMPLES = 2000
_CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Comparison:
    """A figure of which more is better, before and after.

    Attributes:
        before: Median.
        after: Median.
        ratio: after / before.
        low: The lower end of the ratio's 95% interval.
        high: The upper end.
        verdict: "better" or "worse" where the interval leaves out 1, else "no difference".
    """

    before: float
    after: float
    ratio: float
    low: float
    high: float
    verdict: Verdict


def compared(before: Sequence[float], after: Sequence[float]) -> Comparison:
    """Compare rounds of two sides.

    The interval is the percentile bootstrap: rounds are drawn again with
    replacement, as pairs, since what disturbs the machine disturbs both.
    Source: Efron and Tibshirani, An Introduction to the Bootstrap, chapter 13.

    Args:
        before: A figure for each round; more is better.
        after: The same, in the same order.
    """
    chance = random.Random(7)  # noqa: S311 - the same figures give the same interval
    rounds = range(len(before))
    ratios = []
    for _ in range(_RESAMPLES):
        drawn = chance.choices(rounds, k=len(before))
        ratios.append(
            statistics.median(after[i] for i in drawn) / statistics.median(before[i] for i in drawn)
        )
    low, high = quantile(ratios, (1 - _CONFIDENCE) / 2), quantile(ratios, (1 + _CONFIDENCE) / 2)
    verdict: Verdict = "no difference"
    if len(before) >= FEWEST_ROUNDS and (low > 1 or high < 1):
        verdict = "better" if low > 1 else "worse"
    medians = statistics.median(before), statistics.median(after)
    return Comparison(*medians, medians[1] / medians[0], low, high, verdict)


def quantile(values: Sequence[float], share: float) -> float:
    """Return the value below which that share of the values is: 0.99 for p99."""
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)]
