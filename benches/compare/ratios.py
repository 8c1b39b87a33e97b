"""Numbers of many rounds, in the middle and with an interval."""

import math
import statistics
from dataclasses import dataclass


@dataclass(frozen=True)
class Middle:
    """A median, and the bounds between which the true one lies in 95 of 100 cases."""

    value: float
    low: float
    high: float

    def __str__(self):
        return f"{self.value:.2f} ({self.low:.2f}-{self.high:.2f})"


def middle(values):
    """By order statistics, which ask nothing of how the values are spread; of fewer than six they are the extremes."""
    values = sorted(values)
    rank = _rank(len(values))
    return Middle(statistics.median(values), values[rank], values[-1 - rank])


def _rank(count):
    """The largest k such that k or fewer of `count` fair coins show heads in 2.5 of 100 cases at most, or 0."""
    below, rank = 0.0, 0
    for heads in range(count):
        below += math.comb(count, heads) / 2**count
        if below > 0.025:
            break
        rank = heads
    return rank
