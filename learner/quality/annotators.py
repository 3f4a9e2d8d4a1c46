"""How each annotator answers, given what the preference model expects: reliability and side bias."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit, ndtri

from learner.efficiency.intervals import Floats, Integers, Interval, as_floats, wilson
from learner.errors import LearnerError

PSEUDO_ANNOTATORS = 4.0  # weight of the prior guess of how much annotators differ
SPREAD_GUESS = 0.5


@dataclass(frozen=True)
class AnnotatorModel:
    """Result of `fit_annotators`, annotators in the order of ``names``.

    ``reliability`` multiplies the feature difference (1: average, 0: coin flips, below 0: turned round);
    ``side_bias`` is added to the logit of the response shown first (0: none, 0.4: wins 60 % of equal pairs).
    """

    names: list[Any]
    reliability: list[Interval]
    side_bias: list[Interval]
    judgments: list[int]
    theta: Floats
    common_bias: float
    reliability_spread: float
    bias_spread: float

    def weights(self) -> dict[Any, float]:
        """Reliability as the learner takes it (``weight``: z <- rho z): never negative, never above 2.

        The learner knows no sides, so rho is taken times 4 sigma'(b): how steeply the answer still follows the
        margin, the sides being drawn by lot. Whoever always takes the left says nothing, whatever their rho.
        """
        rows = zip(self.names, self.reliability, self.side_bias, strict=True)
        return {
            name: min(max(rho.estimate, 0.0), 2.0) * float(4.0 * expit(bias.estimate) * expit(-bias.estimate))
            for name, rho, bias in rows
        }


def fit_annotators(
    Z: ArrayLike,
    y: ArrayLike,
    annotators: ArrayLike,
    side: ArrayLike | float = 1.0,
    *,
    regularization: float = 1.0,
    iterations: int = 25,
    confidence: float = 0.95,
) -> AnnotatorModel:
    """Fit logit P(first preferred) = rho_k (z . theta) + b_k side for all annotators k together.

    Alternates a Newton step for theta (ridge logistic regression with annotators' scales and offsets) with 2
    x 2 Newton steps for every annotator's (rho_k, b_k) at once. rho_k is shrunk to 1 and b_k to the common
    bias, by amounts learned from how much annotators differ (empirical Bayes with a weak prior), so a few
    judgments move little. The annotators' step sees each judgment's margin as it would be *without* that
    judgment (approximate leave-one-out), so nobody is reliable by agreeing with a model that learned from
    them. rho is scaled to mean 1 over judgments. O(iterations (n d^2 + d^3)).

    Parameters
    ----------
    Z : (n, d) feature differences, first minus second
    y : (n,) answers in [0, 1], 1/2 a tie
    annotators : (n,) who answered
    side : (n,) or a number: +1 if the first was shown first (left), -1 if second, 0 if unknown
    regularization : ridge on theta, in the units of Z

    Raises
    ------
    LearnerError
        On empty input, different lengths, NaN, or answers outside [0, 1].

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> Z = rng.standard_normal((600, 3))
    >>> p = 1 / (1 + np.exp(-2 * Z[:, 0]))
    >>> who = np.arange(600) % 3
    >>> y = np.where(who == 2, rng.random(600) < 0.5, rng.random(600) < p).astype(float)
    >>> model = fit_annotators(Z, y, who)
    >>> [rho.estimate > 0.7 for rho in model.reliability]
    [True, True, False]
    """
    rows, answers, who, names, sides = _checked(Z, y, annotators, side)
    count = len(names)
    rho, bias = np.ones(count), np.zeros(count)
    spread = np.array([SPREAD_GUESS, SPREAD_GUESS])
    common, theta = 0.0, np.zeros(rows.shape[1])
    covariance = np.zeros((count, 2, 2))
    for _ in range(iterations):
        before = theta, rho
        theta, margin = _theta_step(rows, answers, rho[who], bias[who] * sides, theta, regularization)
        rho, bias, covariance = _annotator_step(margin, answers, who, sides, rho, bias, common, spread)
        scale = max(float(rho[who].mean()), 0.1)
        theta, rho, covariance = (
            theta * scale,
            rho / scale,
            covariance / np.array([[scale**2, scale], [scale, 1.0]]),
        )
        common = float(bias.mean() * count / (count + 1.0))
        spread = _spread(rho - 1.0, bias - common, covariance)
        if max(np.abs(theta - before[0]).max(), np.abs(rho - before[1]).max()) < 1e-3:
            break
    errors = np.sqrt(covariance[:, [0, 1], [0, 1]])
    return AnnotatorModel(
        names,
        _normal_intervals(rho, errors[:, 0], confidence),
        _normal_intervals(bias, errors[:, 1], confidence),
        np.bincount(who, minlength=count).tolist(),
        theta,
        common,
        float(spread[0]),
        float(spread[1]),
    )


def _normal_intervals(values: Floats, errors: Floats, confidence: float) -> list[Interval]:
    half = float(ndtri(0.5 + confidence / 2.0)) * errors
    rows = zip(values.tolist(), half.tolist(), strict=True)
    return [Interval(value, value - h, value + h, confidence) for value, h in rows]


def _checked(
    Z: ArrayLike, y: ArrayLike, annotators: ArrayLike, side: ArrayLike | float
) -> tuple[Floats, Floats, Integers, list[Any], Floats]:
    rows, answers = as_floats(Z, "Z", 2), as_floats(y, "y", 1)
    who = np.asarray(annotators)
    if len(rows) == 0 or len(rows) != len(answers) or who.shape != answers.shape:
        raise LearnerError(
            f"fit_annotators: Z {rows.shape}, y {answers.shape} and annotators {who.shape} must agree"
        )
    if answers.min() < 0.0 or answers.max() > 1.0:
        raise LearnerError(f"fit_annotators: y must lie in [0, 1], got {answers.min()} to {answers.max()}")
    sides = np.broadcast_to(as_floats(side, "side"), answers.shape)
    names, index = np.unique(who, return_inverse=True)
    return rows, answers, index, names.tolist(), sides


def _theta_step(
    rows: Floats, y: Floats, scale: Floats, offset: Floats, theta: Floats, regularization: float
) -> tuple[Floats, Floats]:
    """Two Newton steps on the ridge logistic loss; returns theta and every judgment's leave-one-out margin."""
    scaled = rows * scale[:, None]
    for _ in range(2):
        p = expit(scaled @ theta + offset)
        curvature = p * (1.0 - p)
        precision = (scaled * curvature[:, None]).T @ scaled + regularization * np.eye(rows.shape[1])
        theta = theta - np.linalg.solve(precision, scaled.T @ (p - y) + regularization * theta)
    p = expit(scaled @ theta + offset)
    curvature = p * (1.0 - p)
    solved = np.linalg.solve(precision, scaled.T)
    leverage = np.einsum("nd,dn->n", scaled, solved)
    push = (p - y) / np.maximum(1.0 - curvature * leverage, 0.05)
    return theta, rows @ theta + np.einsum("nd,dn->n", rows, solved) * push


def _annotator_step(
    margin: Floats,
    y: Floats,
    who: Integers,
    sides: Floats,
    rho: Floats,
    bias: Floats,
    common: float,
    spread: Floats,
) -> tuple[Floats, Floats, Floats]:
    """Three damped Newton steps for every (rho_k, b_k) under their normal priors; returns the covariances too."""
    count = len(rho)
    prior = 1.0 / np.maximum(spread, 1e-3) ** 2
    hessian = np.empty((count, 2, 2))
    for _ in range(3):
        p = expit(rho[who] * margin + bias[who] * sides)
        curvature = np.maximum(p * (1.0 - p), 1e-6)
        data = [np.bincount(who, (p - y) * x, count) for x in (margin, sides)]
        gradient = np.stack(data, axis=1) + prior * np.stack([rho - 1.0, bias - common], axis=1)
        for i, one in enumerate((margin, sides)):
            for j, two in enumerate((margin, sides)):
                hessian[:, i, j] = np.bincount(who, curvature * one * two, count) + (i == j) * prior[i]
        step = np.clip(np.linalg.solve(hessian, gradient[:, :, None])[:, :, 0], -1.0, 1.0)
        rho, bias = rho - step[:, 0], bias - step[:, 1]
    return rho, bias, np.asarray(np.linalg.inv(hessian), dtype=np.float64)


def _spread(rho_off: Floats, bias_off: Floats, covariance: Floats) -> Floats:
    """EM update of how much annotators differ in reliability and bias (standard deviations), weakly held at a guess."""
    square = np.array([(rho_off**2 + covariance[:, 0, 0]).sum(), (bias_off**2 + covariance[:, 1, 1]).sum()])
    total = len(rho_off) + PSEUDO_ANNOTATORS
    return np.sqrt((square + PSEUDO_ANNOTATORS * SPREAD_GUESS**2) / total)


def gold_accuracy(annotators: ArrayLike, right: ArrayLike, confidence: float = 0.95) -> dict[Any, Interval]:
    """Each annotator's share of gold questions answered as known, ties half, with Wilson's interval. O(n).

    Parameters
    ----------
    annotators : (n,) who answered
    right : (n,) 1 as known, 0 not, 1/2 half right

    Examples
    --------
    >>> str(gold_accuracy(["ben"] * 10, [1] * 9 + [0])["ben"])
    '0.9 (0.596 to 0.982)'
    """
    who, score = np.asarray(annotators), as_floats(right, "right", 1)
    if who.shape != score.shape:
        raise LearnerError(f"gold_accuracy: {who.shape} annotators but {score.shape} answers")
    names, place = np.unique(who, return_inverse=True)
    total, trials = np.bincount(place, score, len(names)), np.bincount(place, minlength=len(names))
    return {
        name: wilson(s, int(n), confidence) for name, s, n in zip(names.tolist(), total, trials, strict=True)
    }
