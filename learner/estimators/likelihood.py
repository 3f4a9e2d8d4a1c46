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
    >>> Preference().moments(0.0)
    (0.5, 0.25)
    >>> Preference(tie=2.0).moments(0.0)
    (0.5, 0.125)
    """

    tie: float = 0.0

    def moments(self, margin: float) -> tuple[float, float]:
        """Mean and variance of the score at a margin (sigma and sigma' for Bradley-Terry); O(1).

        The mean is P(first) + P(tie)/2, in [0, 1]; the loss has gradient ``mean - y`` in the margin and
        the variance, in [0, 1/4], as its second derivative.
        """
        half = math.exp(-0.5 * abs(margin))
        small, tied = half * half, self.tie * half
        total = 1.0 + small + tied
        upper = (1.0 + 0.5 * tied) / total
        variance = (small + 0.25 * tied * (1.0 + small)) / (total * total)
        return (upper if margin >= 0 else 1.0 - upper), variance

    def loss(self, margin: float, y: float) -> float:
        """Negative log-likelihood ``ln Z(m) - (y - 1/2) m`` in nats, without the constant of a tie; O(1)."""
        size = abs(margin)
        half = math.exp(-0.5 * size)
        return 0.5 * size + math.log1p(half * half + self.tie * half) - (y - 0.5) * margin

    def means(self, margins: Array) -> Array:
        """Expected score at every margin; O(n)."""
        half = np.exp(-0.5 * np.abs(margins))
        upper = (1.0 + 0.5 * self.tie * half) / (1.0 + half * half + self.tie * half)
        return np.where(margins >= 0, upper, 1.0 - upper)

    def curvatures(self, margins: Array) -> Array:
        """Curvature of the loss at every margin; O(n)."""
        half = np.exp(-0.5 * np.abs(margins))
        small = half * half
        total = 1.0 + small + self.tie * half
        return np.asarray((small + 0.25 * self.tie * half * (1.0 + small)) / (total * total))

    def losses(self, margins: Array, y: Array) -> Array:
        """`loss` of every margin and label; O(n)."""
        size = np.abs(margins)
        half = np.exp(-0.5 * size)
        return np.asarray(0.5 * size + np.log1p(half * half + self.tie * half) - (y - 0.5) * margins)
