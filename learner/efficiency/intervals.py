"""Intervals: the one shape in which every statistic of Touchstone states its uncertainty."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri

from learner.errors import LearnerError

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Interval:
    """An estimate with its confidence interval; unknown limits are infinite.

    Examples
    --------
    >>> Interval(0.2, 0.1, 0.3).excludes(0.0)
    True
    >>> str(Interval(0.2, 0.1, 0.3))
    '0.2 (0.1 to 0.3)'
    """

    estimate: float
    low: float
    high: float
    confidence: float = 0.95

    def excludes(self, value: float) -> bool:
        """Say whether ``value`` lies outside the interval."""
        return value < self.low or value > self.high

    def within(self, lowest: float = -math.inf, highest: float = math.inf) -> Interval:
        """The same, no wider than what the quantity can be: a bootstrap of few clusters may reach beyond.

        >>> str(Interval(0.33, 0.15, 1.28).within(0.0, 1.0))
        '0.33 (0.15 to 1)'
        """
        low, high = (min(max(limit, lowest), highest) for limit in (self.low, self.high))
        return replace(self, low=low, high=high)

    def __str__(self) -> str:
        return f"{self.estimate:.3g} ({self.low:.3g} to {self.high:.3g})"


def wilson(successes: float, trials: float, confidence: float = 0.95) -> Interval:
    """Wilson's score interval of a share; good from the first trial on. Halves (ties) are allowed.

    Parameters
    ----------
    successes, trials : float
        Number of successes (ties may count half) and of trials, ``0 <= successes <= trials``.
    confidence : float
        Coverage, in (0, 1).

    Raises
    ------
    LearnerError
        If the counts are impossible.

    Examples
    --------
    >>> str(wilson(9, 10))
    '0.9 (0.596 to 0.982)'
    """
    if not 0 <= successes <= trials:
        raise LearnerError(f"wilson: {successes} successes in {trials} trials is impossible")
    if trials == 0:
        return Interval(math.nan, 0.0, 1.0, confidence)
    q = float(ndtri(0.5 + confidence / 2.0)) ** 2
    share = float(successes) / float(trials)
    middle = (share + q / (2 * trials)) / (1 + q / trials)
    half = math.sqrt(q * (share * (1 - share) / trials + q / (4 * trials**2))) / (1 + q / trials)
    return Interval(share, max(0.0, middle - half), min(1.0, middle + half), confidence)


def percentile_interval(
    estimate: float, draws: Floats, confidence: float = 0.95, stretch: float = 1.0
) -> Interval:
    """Percentile interval of bootstrap ``draws``, their distance from ``estimate`` multiplied by ``stretch``.

    A stretch of sqrt(G / (G - 1)) undoes the bootstrap's well-known narrowness with few clusters G.

    Examples
    --------
    >>> str(percentile_interval(0.0, np.linspace(-1.0, 1.0, 201), confidence=0.9))
    '0 (-0.9 to 0.9)'
    """
    if draws.size == 0 or not math.isfinite(estimate):
        return Interval(estimate, -math.inf, math.inf, confidence)
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(draws, [tail, 1.0 - tail])
    low, high = estimate + stretch * (low - estimate), estimate + stretch * (high - estimate)
    return Interval(estimate, min(float(low), estimate), max(float(high), estimate), confidence)


def as_floats(values: ArrayLike, name: str, ndim: int | None = None) -> Floats:
    """Return ``values`` as a finite float64 array of ``ndim`` dimensions or say what is wrong with them."""
    array = np.asarray(values, dtype=np.float64)
    if ndim is not None and array.ndim != ndim:
        raise LearnerError(f"{name}: expected {ndim} dimension(s), got shape {array.shape}")
    if not np.isfinite(array).all():
        raise LearnerError(f"{name}: holds NaN or infinite values")
    return array


def as_groups(labels: Any, length: int, name: str) -> tuple[Integers, int]:
    """Return group numbers 0..G-1 in order of first appearance (each its own group if None) and G."""
    if labels is None:
        return np.arange(length), length
    values = np.asarray(labels)
    if values.shape != (length,):
        raise LearnerError(f"{name}: expected shape ({length},), got {values.shape}")
    _, first, inverse = np.unique(values, return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype=np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[inverse], len(first)
