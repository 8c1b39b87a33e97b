"""Medians of many rounds, with their intervals."""

import math
import statistics
from dataclasses import dataclass


@dataclass(frozen=True)
class Middle:
    """A median, and the interval that contains the true median in 95 of 100 cases."""

    value: float
    low: float
    high: float

    def __str__(self):
        return f"{self.value:.2f} ({self.low:.2f}-{self.high:.2f})"


def middle(values):
    """By order statistics, for any distribution. With fewer than six values, the bounds are the extremes."""
    values = sorted(values)
    rank = _rank(len(values))
    return Middle(statistics.median(values), values[rank], values[-1 - rank])


def _rank(count):
    """The largest k for which `count` fair coins show at most k heads in at most 2.5 of 100 cases, or 0."""
    below, rank = 0.0, 0
    for heads in range(count):
        below += math.comb(count, heads) / 2**count
        if below > 0.025:
            break
        rank = heads
    return rank
