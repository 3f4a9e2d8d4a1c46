"""Before and after: how many evaluation labels a claim needs, and whether more labels still pay."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtr, ndtri

from learner.efficiency.arms import DRAWS, Curves
from learner.efficiency.intervals import Floats, Interval, as_floats, as_groups, percentile_interval
from learner.errors import LearnerError

EXPONENTS = np.array([0.25, 0.35, 0.5, 0.7, 1.0, 1.4])


def labels_needed(
    disagreement: float, delta: float, *, power: float = 0.8, alpha: float = 0.05, design_effect: float = 1.0
) -> int:
    """Evaluation judgments needed to see an accuracy difference ``delta`` between two models.

    n = (z_{1-alpha/2} + z_power)^2 D / delta^2, about 7.85 D / delta^2 at the defaults (ALGORITHMS section
    6.5; McNemar's test). O(1).

    Parameters
    ----------
    disagreement : D, share of pairs on which the two models predict different sides, in (0, 1]
    delta : accuracy difference worth seeing, 0 < delta <= D
    power, alpha : chance of seeing it, and of seeing one that is not there, in (0, 1)
    design_effect : variance inflation when several judgments share a prompt (1 + (m - 1) rho), > 0

    Raises
    ------
    LearnerError
        A number outside its range.

    Examples
    --------
    >>> labels_needed(0.2, 0.04)
    982
    """
    if not 0.0 < delta <= disagreement <= 1.0:
        raise LearnerError(
            f"labels_needed: needs 0 < delta <= disagreement <= 1, got {delta} and {disagreement}"
        )
    for name, share in (("power", power), ("alpha", alpha)):
        if not 0.0 < share < 1.0:
            raise LearnerError(f"labels_needed: {name} is {share!r}, expected a number between 0 and 1")
    if not 0.0 < design_effect < math.inf:
        raise LearnerError(f"labels_needed: design_effect is {design_effect!r}, expected a positive number")
    quantiles = float(ndtri(1.0 - alpha / 2.0) + ndtri(power))
    return math.ceil(design_effect * quantiles**2 * disagreement / delta**2)


@dataclass(frozen=True)
class Kappa:
    """Largest 1 / sigma' of a pool: ``worst`` over the ball |theta| <= B, ``current`` at theta (or NaN)."""

    worst: float
    current: float
    longest: float


def kappa_of_pool(
    features: ArrayLike, prompt_index: ArrayLike, *, radius: float, theta: ArrayLike | None = None
) -> Kappa:
    """kappa = max 1 / sigma'(z . theta) over the pool's within-prompt pairs (ALGORITHMS section 1).

    Over the ball |theta| <= B the maximum lies along the longest difference: 2 + 2 cosh(B max|z|). O(sum K^2
    d).

    Parameters
    ----------
    features : (M, d) responses
    prompt_index : (M,) prompt of each response
    radius : B, finite, >= 0
    theta : (d,) current parameters, optional

    Raises
    ------
    LearnerError
        An empty pool, arrays that do not fit or are not finite, a radius that is negative or not finite.

    Examples
    --------
    >>> kappa_of_pool([[0.0], [2.0]], [0, 0], radius=1.0).worst.__round__(3)
    9.524
    """
    rows = as_floats(features, "features", 2)
    group, groups = as_groups(prompt_index, len(rows), "prompt_index")
    if len(rows) == 0:
        raise LearnerError("kappa_of_pool: the pool is empty")
    if not 0.0 <= radius < math.inf:
        raise LearnerError(f"kappa_of_pool: radius is {radius!r}, expected a finite number of at least 0")
    order = np.argsort(group, kind="stable")
    cuts = np.searchsorted(group[order], np.arange(1, groups))
    longest = max(_longest_difference(part) for part in np.split(rows[order], cuts))
    current = math.nan
    if theta is not None:
        parameters = as_floats(theta, "theta", 1)
        if parameters.shape != rows.shape[1:]:
            raise LearnerError(f"kappa_of_pool: theta {parameters.shape} does not fit features {rows.shape}")
        reward = rows @ parameters
        span = np.full(groups, -np.inf), np.full(groups, np.inf)
        np.maximum.at(span[0], group, reward)
        np.minimum.at(span[1], group, reward)
        current = _inverse_curvature(float((span[0] - span[1]).max()))
    return Kappa(_inverse_curvature(radius * longest), current, longest)


def _inverse_curvature(margin: float) -> float:
    return 2.0 + 2.0 * math.cosh(min(margin, 700.0))


def _longest_difference(rows: Floats) -> float:
    square = (rows**2).sum(axis=1)
    distances = square[:, None] + square[None, :] - 2.0 * rows @ rows.T
    return math.sqrt(max(float(distances.max()), 0.0))


def expected_gain(
    curve: Curves, more: float, *, rng: np.random.Generator, draws: int = DRAWS // 2, confidence: float = 0.95
) -> Interval:
    """How much the evaluation loss is expected to fall over the next ``more`` labels.

    A curve a + b n^-c (a >= 0, b >= 0, c from a grid) is fitted to the checkpoints, and again to every
    bootstrap draw over prompts (and seeds). The interval speaks of evaluation noise and of the choice of c,
    not of a future unlike the past. O(draws C |grid|).

    Parameters
    ----------
    curve : the estimator's learning curve; needs three checkpoints with counts > 0
    more : number of further labels, > 0

    Returns
    -------
    Interval
        Expected fall in nats, >= 0; NaN with infinite limits when there are fewer than three checkpoints.

    Examples
    --------
    >>> counts = np.array([25.0, 50, 100, 200, 400])
    >>> losses = 0.5 + 1.0 * counts[:, None] ** -0.5 + np.zeros((5, 60))
    >>> round(expected_gain(Curves(counts, losses), 400, rng=np.random.default_rng(0)).estimate, 4)
    0.0146
    """
    if more <= 0:
        raise LearnerError(f"expected_gain: more must be positive, got {more}")
    keep = curve.counts > 0
    counts = curve.counts[keep]
    if len(counts) < 3 or curve.groups < 2:
        return Interval(math.nan, -math.inf, math.inf, confidence)
    rows = np.vstack([curve.mean(), curve.resampled(*curve.draw(rng, draws))])[:, keep]
    gains = _fitted_gain(counts, rows, more)
    return percentile_interval(float(gains[0]), gains[1:], confidence)


def _fitted_gain(counts: Floats, rows: Floats, more: float) -> Floats:
    """The fall of every row's fitted curve from the last count to ``more`` after it."""
    _, slope, exponent = _fit(counts, rows)
    fall: Floats = slope * (counts[-1] ** -exponent - (counts[-1] + more) ** -exponent)
    return fall


def _fit(counts: Floats, rows: Floats) -> tuple[Floats, Floats, Floats]:
    """Least squares of a + b n^-c per row with the grid's best c: a, b and c of every row."""
    best = np.full(len(rows), np.inf)
    fitted = np.zeros((3, len(rows)))
    for exponent in EXPONENTS:
        x = counts**-exponent
        centred = x - x.mean()
        slope = np.maximum(rows @ centred / (centred @ centred), 0.0)
        intercept = rows.mean(axis=1) - slope * x.mean()
        slope = np.where(intercept < 0.0, np.maximum(rows @ x, 0.0) / (x @ x), slope)
        intercept = np.maximum(intercept, 0.0)
        error = ((rows - intercept[:, None] - slope[:, None] * x) ** 2).sum(axis=1)
        better = error < best
        fitted[:, better] = np.array([intercept, slope, np.full(len(rows), exponent)])[:, better]
        best = np.minimum(error, best)
    return fitted[0], fitted[1], fitted[2]


def fitted_curve(
    curve: Curves,
    at: ArrayLike,
    *,
    rng: np.random.Generator,
    draws: int = DRAWS // 2,
    confidence: float = 0.95,
) -> list[Interval]:
    """The curve a + b n^-c of `expected_gain` at the counts ``at``, beyond the last checkpoint too.

    The intervals are those of the fit under bootstrap draws over prompts (and seeds): they do not know of a future
    that is unlike the past. Empty with fewer than three checkpoints of counts > 0. O(draws C |grid|).

    Examples
    --------
    >>> counts = np.array([25.0, 50, 100, 200, 400])
    >>> losses = 0.5 + 1.0 * counts[:, None] ** -0.5 + np.zeros((5, 60))
    >>> fitted = fitted_curve(Curves(counts, losses), [100, 1600], rng=np.random.default_rng(0))
    >>> [round(one.estimate, 3) for one in fitted]
    [0.6, 0.525]
    """
    where = as_floats(at, "at", 1)
    if len(where) == 0 or where.min() <= 0.0:
        raise LearnerError("fitted_curve: at must hold positive counts")
    keep = curve.counts > 0
    if keep.sum() < 3 or curve.groups < 2:
        return []
    rows = np.vstack([curve.mean(), curve.resampled(*curve.draw(rng, draws))])[:, keep]
    intercept, slope, exponent = _fit(curve.counts[keep], rows)
    values = intercept[:, None] + slope[:, None] * where[None, :] ** -exponent[:, None]
    return [percentile_interval(float(v[0]), v[1:], confidence) for v in values.T]


def expected_sign_flips(widths: ArrayLike, margins: ArrayLike, scale: float = 1.0) -> float:
    """Share of pairs whose predicted winner would be expected to change with all the labels in the world.

    Under the Gaussian posterior the true margin is N(margin, (scale width)^2), so a pair's winner is wrong
    with probability Phi(-|margin| / (scale width)); this is the mean. O(N).

    Parameters
    ----------
    widths : (N,) sqrt(z' P z), as ``Estimator.width`` gives them
    margins : (N,) z . theta
    scale : beta, the confidence multiplier (1: one posterior standard deviation)

    Examples
    --------
    >>> expected_sign_flips([1.0, 1.0], [0.0, 100.0])
    0.25
    """
    wide, margin = as_floats(widths, "widths", 1), as_floats(margins, "margins", 1)
    if wide.shape != margin.shape or len(wide) == 0 or wide.min() < 0.0 or scale <= 0.0:
        raise LearnerError(
            f"expected_sign_flips: widths {wide.shape} >= 0 and margins {margin.shape} must agree"
        )
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(wide > 0.0, np.abs(margin) / (scale * wide), np.where(margin == 0.0, 0.0, np.inf))
    return float(ndtr(-ratio).mean())


def gain_sentence(gain: Interval, more: int, flips: float | None = None) -> str:
    """Stopping advice in words.

    Examples
    --------
    >>> gain_sentence(Interval(0.012, 0.004, 0.02), 200)
    'The next 200 judgments are expected to lower log-loss by 0.012 (0.004 to 0.020).'
    """
    if not math.isfinite(gain.estimate):
        return "Too early to say what more judgments would bring: at least three checkpoints are needed."
    text = f"lower log-loss by {gain.estimate:.3f} ({max(gain.low, 0.0):.3f} to {gain.high:.3f})."
    text = f"The next {more} judgments are expected to {text}"
    return text if flips is None else f"{text} {100 * flips:.1f} % of predicted winners may still change."
