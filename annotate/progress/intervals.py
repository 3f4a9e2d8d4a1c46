"""The small statistics of the dashboard, in plain Python: the web process loads no numerical library."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist


@dataclass(frozen=True)
class Share:
    """A share with its Wilson interval; of nothing, it is unknown."""

    count: int
    total: int
    confidence: float = 0.95

    @property
    def value(self) -> float | None:
        return self.count / self.total if self.total else None

    @property
    def limits(self) -> tuple[float, float]:
        if not self.total:
            return 0.0, 1.0
        z = NormalDist().inv_cdf(0.5 + self.confidence / 2)
        p, n = self.count / self.total, self.total
        middle = (p + z * z / (2 * n)) / (1 + z * z / n)
        half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        return max(0.0, middle - half), min(1.0, middle + half)

    @property
    def low(self) -> float:
        return self.limits[0]

    @property
    def high(self) -> float:
        return self.limits[1]

    def excludes(self, value: float) -> bool:
        return self.total > 0 and not self.low <= value <= self.high


def quantile(values: Sequence[float], q: float) -> float | None:
    """The q-quantile, linear between neighbours; of nothing, None."""
    if not values:
        return None
    ordered = sorted(values)
    place = q * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def ceiling(agreement: float) -> float:
    """The most that any model can agree with one annotator, when two annotators agree this often.

    If the commoner answer of a pair is given with probability p, two annotators agree with p^2 + (1-p)^2 and a
    model that always predicts it is right with p; over pairs of different difficulty this is an upper bound.
    """
    return (1 + math.sqrt(max(0.0, 2 * agreement - 1))) / 2
