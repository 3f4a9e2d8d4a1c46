"""How good are predicted preferences: log-loss, accuracy, Brier score and calibration, with intervals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from learner.efficiency.intervals import (
    Floats,
    Integers,
    Interval,
    as_floats,
    as_groups,
    percentile_interval,
    wilson,
)
from learner.errors import LearnerError

CLIP = 1e-6


def _checked(p: ArrayLike, y: ArrayLike) -> tuple[Floats, Floats]:
    predicted, answers = as_floats(p, "p"), as_floats(y, "y")
    if predicted.shape != answers.shape or predicted.size == 0:
        raise LearnerError(
            f"p and y: shapes {predicted.shape} and {answers.shape} must agree and not be empty"
        )
    for name, values in (("p", predicted), ("y", answers)):
        if values.min() < 0.0 or values.max() > 1.0:
            raise LearnerError(f"{name}: values must lie in [0, 1], got {values.min()} to {values.max()}")
    return predicted, answers


def log_losses(p: ArrayLike, y: ArrayLike, clip: float = CLIP) -> Floats:
    """Log-loss of every judgment, -[y ln p + (1-y) ln(1-p)] in nats (ALGORITHMS section 1). O(n).

    Parameters
    ----------
    p : (n,) predicted probability that the first response is preferred
    y : (n,) answers in [0, 1], 1/2 a tie
    clip : probabilities are kept this far from 0 and 1

    Raises
    ------
    LearnerError
        On different shapes, NaN, or values outside [0, 1].

    Examples
    --------
    >>> log_losses([0.5, 0.9], [1, 1]).round(3).tolist()
    [0.693, 0.105]
    """
    predicted, answers = _checked(p, y)
    predicted = np.clip(predicted, clip, 1.0 - clip)
    return -(answers * np.log(predicted) + (1.0 - answers) * np.log1p(-predicted))


def log_loss(p: ArrayLike, y: ArrayLike, clip: float = CLIP) -> float:
    """Mean of `log_losses`; ln 2 = 0.693 is what knowing nothing costs.

    Examples
    --------
    >>> round(log_loss([0.5, 0.9], [1, 1]), 3)
    0.399
    """
    return float(log_losses(p, y, clip).mean())


def hits(p: ArrayLike, y: ArrayLike) -> Floats:
    """1 where the predicted side is the answer, 0 where not, 1/2 where either is a tie. O(n).

    Examples
    --------
    >>> hits([0.9, 0.2, 0.5, 0.9], [1, 1, 1, 0.5]).tolist()
    [1.0, 0.0, 0.5, 0.5]
    """
    predicted, answers = _checked(p, y)
    return 0.5 + 0.5 * np.sign(predicted - 0.5) * np.sign(answers - 0.5)


def accuracy(p: ArrayLike, y: ArrayLike) -> float:
    """Mean of `hits`: the share of judgments predicted, ties counting half.

    Examples
    --------
    >>> accuracy([0.9, 0.2, 0.5], [1, 1, 1])
    0.5
    """
    return float(hits(p, y).mean())


def brier_scores(p: ArrayLike, y: ArrayLike) -> Floats:
    """Squared error (p - y)^2 of every judgment: bounded, so fit for `confidence_sequence`'s bounded form.

    Examples
    --------
    >>> brier_scores([0.5, 1.0], [1, 1]).tolist()
    [0.25, 0.0]
    """
    predicted, answers = _checked(p, y)
    return (predicted - answers) ** 2


def brier(p: ArrayLike, y: ArrayLike) -> float:
    """Mean of `brier_scores`.

    Examples
    --------
    >>> brier([0.5, 1.0], [1, 1])
    0.125
    """
    return float(brier_scores(p, y).mean())


@dataclass(frozen=True)
class ReliabilityBin:
    """Judgments of similar confidence: how sure the model was and how often it was right."""

    predicted: float
    observed: Interval
    count: int


@dataclass(frozen=True)
class Calibration:
    """Reliability curve and expected calibration error (ECE).

    ``floor`` is the ECE that a perfectly calibrated model would show on as many judgments: ECE is never zero
    in a finite sample, so compare the two, not ECE with zero.
    """

    bins: tuple[ReliabilityBin, ...]
    ece: Interval
    floor: float


def calibration(
    p: ArrayLike,
    y: ArrayLike,
    *,
    rng: np.random.Generator,
    clusters: Any = None,
    bins: int = 10,
    draws: int = 400,
    confidence: float = 0.95,
) -> Calibration:
    """Reliability curve in bins of equal counts, and the expected calibration error with its interval.

    Sides carry no meaning, so predictions are folded: confidence max(p, 1-p) against being right (ties half).
    O(draws n). Bins never hold fewer than about 5 judgments.

    Parameters
    ----------
    p, y : (n,) predicted probability and answers in [0, 1]
    clusters : (n,) prompt of each judgment (the bootstrap resamples prompts); None: every judgment its own
    bins, draws : number of bins and of bootstrap draws

    Examples
    --------
    >>> p = np.full(200, 0.8)
    >>> y = np.arange(200) % 5 != 0
    >>> report = calibration(p, y, rng=np.random.default_rng(0), bins=1)
    >>> round(report.bins[0].observed.estimate, 2), round(report.ece.estimate, 2)
    (0.8, 0.0)
    """
    predicted, answers = _checked(p, y)
    sure = np.maximum(predicted, 1.0 - predicted)
    right = np.where(predicted >= 0.5, answers, 1.0 - answers)
    group, groups = as_groups(clusters, len(sure), "clusters")
    place, count = _equal_bins(sure, bins)
    weights = rng.multinomial(groups, np.full(groups, 1.0 / groups), size=draws)[:, group].astype(np.float64)
    one_hot = np.eye(count)[place]
    gap = (sure - right)[:, None] * one_hot
    estimate = float(np.abs(gap.sum(axis=0)).sum() / len(sure))
    drawn = np.abs(weights @ gap).sum(axis=1) / np.maximum(weights.sum(axis=1), 1.0)
    perfect = (rng.random((draws, len(sure))) < sure).astype(np.float64)
    floor = float((np.abs((sure - perfect) @ one_hot).sum(axis=1) / len(sure)).mean())
    curve = tuple(_reliability(sure[place == b], right[place == b], confidence) for b in range(count))
    return Calibration(curve, _basic(estimate, drawn, confidence), floor)


def _equal_bins(sure: Floats, bins: int) -> tuple[Integers, int]:
    """Bin numbers of equal counts; equal confidences share a bin."""
    wanted = max(1, min(bins, len(sure) // 5))
    edges = np.unique(np.quantile(sure, np.linspace(0.0, 1.0, wanted + 1)[1:-1]))
    _, place = np.unique(np.searchsorted(edges, sure, side="right"), return_inverse=True)
    return place, int(place.max()) + 1


def _reliability(sure: Floats, right: Floats, confidence: float) -> ReliabilityBin:
    return ReliabilityBin(float(sure.mean()), wilson(float(right.sum()), len(right), confidence), len(right))


def _basic(estimate: float, draws: Floats, confidence: float) -> Interval:
    """Percentile interval less the bootstrap's own upward bias (absolute values add up), never below 0."""
    shifted = np.maximum(draws - max(0.0, float(draws.mean()) - estimate), 0.0)
    return percentile_interval(estimate, shifted, confidence)
