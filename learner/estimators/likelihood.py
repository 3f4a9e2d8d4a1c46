"""What an answer says about the margin ``m = z . theta``: Bradley-Terry, or Davidson's model of ties."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.floating]


@dataclass(frozen=True)
class Preference:
    """Likelihood of an answer given its margin; ``tie = 0`` is Bradley-Terry, ``tie > 0`` Davidson (1970).

    Davidson: ``p_win ~ exp(m/2)``, ``p_loss ~ exp(-m/2)``, ``p_tie ~ tie``. Its log-likelihood is
    ``(y - 1/2) m - ln Z(m)``, so gradient and curvature in ``m`` are the mean and the variance of the
    score (1, 1/2, 0) and enter the same rank-one step. With ``tie = 0`` a tie (``y = 1/2``) is a soft label.

    Parameters
    ----------
    tie : float
        Weight of a tie when the responses are equally good, >= 0.

    Examples
    --------
    >>> Preference().mean(0.0), Preference().curvature(0.0)
    (0.5, 0.25)
    >>> Preference(tie=2.0).curvature(0.0)
    0.125
    """

    tie: float = 0.0

    def mean(self, margin: float) -> float:
        """Expected score of the first response, P(first) + P(tie)/2, in [0, 1]; O(1)."""
        half = math.exp(-0.5 * abs(margin))
        small = half * half
        top = 1.0 + 0.5 * self.tie * half
        score = top / (1.0 + small + self.tie * half)
        return score if margin >= 0 else 1.0 - score

    def curvature(self, margin: float) -> float:
        """Second derivative of the loss in the margin (sigma' for Bradley-Terry), in [0, 1/4]; O(1)."""
        half = math.exp(-0.5 * abs(margin))
        small = half * half
        total = 1.0 + small + self.tie * half
        return (small + 0.25 * self.tie * half * (1.0 + small)) / (total * total)

    def loss(self, margin: float, y: float) -> float:
        """Negative log-likelihood ``ln Z(m) - (y - 1/2) m`` in nats, without the constant of a tie; O(1)."""
        size = abs(margin)
        half = math.exp(-0.5 * size)
        return 0.5 * size + math.log1p(half * half + self.tie * half) - (y - 0.5) * margin

    def means(self, margins: Array) -> Array:
        """`mean` of every margin; O(n)."""
        half = np.exp(-0.5 * np.abs(margins))
        score = (1.0 + 0.5 * self.tie * half) / (1.0 + half * half + self.tie * half)
        return np.where(margins >= 0, score, 1.0 - score)

    def curvatures(self, margins: Array) -> Array:
        """`curvature` of every margin; O(n)."""
        half = np.exp(-0.5 * np.abs(margins))
        small = half * half
        total = 1.0 + small + self.tie * half
        return np.asarray((small + 0.25 * self.tie * half * (1.0 + small)) / (total * total))

    def losses(self, margins: Array, y: Array) -> Array:
        """`loss` of every margin and label; O(n)."""
        size = np.abs(margins)
        half = np.exp(-0.5 * size)
        return np.asarray(0.5 * size + np.log1p(half * half + self.tie * half) - (y - 0.5) * margins)
