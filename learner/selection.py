"""Which pair to ask about next: one pure function per rule; selecting never learns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

Array = NDArray[np.floating]
Score = Callable[[Array, Array, float], Array]


@dataclass(frozen=True, slots=True)
class Pick:
    """A pair that a rule chose: response rows, its score, width |z|_P and probability of having been chosen."""

    first: int
    second: int
    score: float
    width: float
    probability: float


def _curvature(margin: Array) -> Array:
    half = expit(margin)
    return half * (1 - half)


def _max_uncertainty(squared_width: Array, margin: Array, radius: float) -> Array:
    return squared_width + 0 * margin


def _d_optimal(squared_width: Array, margin: Array, radius: float) -> Array:
    return np.log1p(_curvature(margin) * squared_width)


SCORES: dict[str, Score] = {"max_uncertainty": _max_uncertainty, "d_optimal": _d_optimal}
