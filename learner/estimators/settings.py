"""Constants of the one-pass estimator: the `practical` and the `theory` preset."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from statistics import NormalDist
from typing import Self

import numpy as np
import numpy.typing as npt

from learner.errors import LearnerError
from learner.estimators.contract import check_confidence


@dataclass(frozen=True)
class Settings:
    """Constants of Algorithm 1; build them with `practical` or `theory`.

    Parameters
    ----------
    step_size : float
        eta > 0.
    regularization : float
        lambda > 0, in units of |z|^2: it acts like that many judgments of curvature 1 in every direction.
    norm_bound : float
        B: theta stays in the ball of this radius; infinity for no projection.
    feature_bound : float
        L: largest norm of a difference that the theory constants assume.
    tie : float
        Davidson's weight of a tie; 0 for Bradley-Terry. The collection rules score pairs as Bradley-Terry all the
        same: they read theta and P, not the likelihood.
    multiplier : float
        Scale of the practical confidence radius; stated beside every interval.
    guaranteed : bool
        True for the constants of Lemma 1.

    Examples
    --------
    >>> Settings.practical(regularization=5.0).step_size
    1.0
    >>> round(Settings.theory(64, norm_bound=4.0).regularization)
    43190
    """

    step_size: float = 1.0
    regularization: float = 1.0
    norm_bound: float = math.inf
    feature_bound: float = 1.0
    tie: float = 0.0
    multiplier: float = 1.0
    guaranteed: bool = False

    def __post_init__(self) -> None:
        """Refuse constants outside their range."""
        for name in ("step_size", "regularization", "norm_bound", "feature_bound", "multiplier"):
            value = getattr(self, name)
            if not value > 0 or (math.isinf(value) and name != "norm_bound"):
                raise LearnerError(f"{name} is {value!r}, expected a positive finite number")
        if not 0 <= self.tie < math.inf:
            raise LearnerError(f"tie is {self.tie!r}, expected a finite number of at least 0")

    @classmethod
    def practical(
        cls,
        regularization: float = 1.0,
        step_size: float = 1.0,
        norm_bound: float = math.inf,
        tie: float = 0.0,
        multiplier: float = 1.0,
    ) -> Self:
        """eta = 1, lambda = 1, no ball: with mean |z|^2 from 1 to d it tracks the MLE step by step."""
        return cls(step_size, regularization, norm_bound, 1.0, tie, multiplier)

    @classmethod
    def theory(cls, dimension: int, norm_bound: float = 1.0, feature_bound: float = 1.0) -> Self:
        """Constants of Lemma 1 for d, B and L: the guarantee holds, at the price of very slow learning."""
        bound, size = norm_bound, feature_bound
        eta = math.log(2) / 2 + bound * size + 1
        lam = 84 * math.sqrt(2) * eta * (dimension * size**2 + bound * size**3)
        return cls(eta, lam, bound, size, guaranteed=True)

    def radius(self, confidence: float, dimension: int, judgments: int) -> float:
        """beta after that many judgments: Lemma 1's for `theory`, a normal quantile for `practical`; O(1)."""
        if not self.guaranteed:
            return self.multiplier * NormalDist().inv_cdf((1 + check_confidence(confidence)) / 2)
        delta, grown = 1 - check_confidence(confidence), 1 + 2 * judgments
        eta, lam, bound, size = self.step_size, self.regularization, self.norm_bound, self.feature_bound
        spread = 3 * math.log(grown) + 2 + size * bound
        square = 22 * eta * spread * math.log(2 * math.sqrt(grown) / delta) + 4 * eta
        volume = math.log1p(2 * judgments * size**2 / (dimension * lam))
        square += 2 * eta * math.sqrt(6) * (7 * eta / 6) * dimension * volume + 4 * lam * bound**2
        return math.sqrt(square)

    def array(self) -> npt.NDArray[np.float64]:
        """The constants in field order, for a state."""
        return np.array([float(getattr(self, field.name)) for field in fields(self)])

    @classmethod
    def from_array(cls, values: npt.NDArray[np.generic]) -> Self:
        """Constants read back from a state."""
        if np.shape(values) != (len(fields(cls)),):
            raise LearnerError(f"state entry 'settings' has shape {np.shape(values)}, expected 7 numbers")
        eta, lam, bound, size, tie, multiplier, guaranteed = (float(value) for value in values)
        return cls(eta, lam, bound, size, tie, multiplier, bool(guaranteed))
