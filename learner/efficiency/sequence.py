"""Claims that survive being watched all day: confidence sequences, and the verdict on the two arms."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from learner.efficiency.intervals import Floats, Interval, as_floats, as_groups
from learner.errors import LearnerError

Method = Literal["mixture", "bernstein"]
MINIMUM_PROMPTS = 20
MINIMUM_JUDGMENTS = 30
AHEAD, OPEN, BEHIND = "active is ahead", "not yet distinguishable", "random is ahead"


@dataclass(frozen=True)
class ConfidenceSequence:
    """Running mean and limits after each value, each (n,); infinite where it is too early to say anything."""

    mean: Floats
    low: Floats
    high: Floats
    alpha: float
    method: str

    @property
    def last(self) -> Interval:
        """The interval after the last value."""
        return Interval(float(self.mean[-1]), float(self.low[-1]), float(self.high[-1]), 1.0 - self.alpha)


def confidence_sequence(
    values: ArrayLike,
    clusters: Any = None,
    *,
    alpha: float = 0.05,
    method: Method = "mixture",
    bounds: tuple[float, float] | None = None,
    tuned_for: int = 300,
) -> ConfidenceSequence:
    """Intervals for a mean that hold at all times at once, however often one looks. O(n).

    ``mixture`` (default): the normal-mixture asymptotic confidence sequence of Waudby-Smith, Arbour, Sinha,
    Kennedy and Ramdas (2024, Theorem 2.2) with a cluster-robust variance, silent until 20 prompts and 30
    values. Asymptotic: its coverage under continuous looking is checked by simulation in the tests.
    ``bernstein``: the predictable plug-in empirical Bernstein sequence of Waudby-Smith and Ramdas (2023,
    Theorem 2); exact for bounded values at any n, wider; needs ``bounds``. With ``clusters`` it works on
    prompt means in order of first appearance.

    Parameters
    ----------
    values : (n,) in order of arrival, for instance loss of control minus loss of active on an evaluation
    judgment clusters : (n,) prompt of each value; None: every value its own
    alpha : error probability over all times together
    bounds : least and greatest possible value (``bernstein`` only)
    tuned_for : number of values at which ``mixture`` is narrowest

    Raises
    ------
    LearnerError
        On NaN, an unknown method, or values outside ``bounds``.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(0.5, 1.0, 500)
    >>> run = confidence_sequence(x)
    >>> bool(np.isinf(run.low[10])), run.last.excludes(0.0), run.last.excludes(0.5)
    (True, True, False)
    """
    series = as_floats(values, "values", 1)
    if len(series) == 0 or not 0.0 < alpha < 1.0:
        raise LearnerError(f"confidence_sequence: {len(series)} values at alpha {alpha}")
    if method == "mixture":
        return _mixture(series, clusters, alpha, tuned_for)
    if method == "bernstein" and bounds is not None:
        return _bernstein(series, clusters, alpha, bounds)
    raise LearnerError(f"confidence_sequence: method {method!r} with bounds {bounds} is not known")


def _mixture(series: Floats, clusters: Any, alpha: float, tuned_for: int) -> ConfidenceSequence:
    time = np.arange(1.0, len(series) + 1.0)
    mean, variance, groups = _running_cluster_variance(series, clusters)
    log_term = -2.0 * math.log(alpha)
    spread = time * (log_term + math.log(log_term) + 1.0) / tuned_for
    multiplier = np.sqrt(2.0 * (spread + 1.0) / spread * np.log(np.sqrt(spread + 1.0) / alpha))
    half = multiplier * np.sqrt(variance)
    # Student's correction: with few prompts the variance itself is uncertain
    half = half * np.sqrt(1.0 + 2.0 * np.log(1.0 / alpha) / np.maximum(groups - 1.0, 1.0) / 2.0)
    early = (groups < MINIMUM_PROMPTS) | (time < MINIMUM_JUDGMENTS) | (variance <= 0.0)
    half = np.where(early, np.inf, half)
    return ConfidenceSequence(mean, mean - half, mean + half, alpha, "mixture")


def _running_cluster_variance(series: Floats, clusters: Any) -> tuple[Floats, Floats, Floats]:
    """Running mean, cluster-robust variance of that mean, and number of clusters, after each value.

    The variance is G/(G-1) sum_g (S_g - n_g m)^2 / n^2, kept by its three running sums.
    """
    group, total = as_groups(clusters, len(series), "clusters")
    within = _running_within(group, np.ones(len(series)), total)
    sums = _running_within(group, series, total)
    time = np.arange(1.0, len(series) + 1.0)
    mean = np.cumsum(series) / time
    square_sums = np.cumsum(sums**2 - (sums - series) ** 2)
    cross = np.cumsum(within * sums - (within - 1.0) * (sums - series))
    square_sizes = np.cumsum(2.0 * within - 1.0)
    groups = np.cumsum(within == 1.0).astype(np.float64)
    scatter = np.maximum(square_sums - 2.0 * mean * cross + mean**2 * square_sizes, 0.0)
    clustered = groups / np.maximum(groups - 1.0, 1.0) * scatter / time**2
    plain = np.maximum(np.cumsum(series**2) / time - mean**2, 0.0) / np.maximum(time - 1.0, 1.0)
    return mean, np.maximum(clustered, plain), groups


def _running_within(group: Any, values: Floats, total: int) -> Floats:
    """Running sum of ``values`` within the value's own group, itself included."""
    order = np.argsort(group, kind="stable")
    running = np.cumsum(values[order])
    starts = np.searchsorted(group[order], np.arange(total))
    before = np.where(starts > 0, running[starts - 1], 0.0)
    result = np.empty(len(values))
    result[order] = running - before[group[order]]
    return result


def _bernstein(
    series: Floats, clusters: Any, alpha: float, bounds: tuple[float, float]
) -> ConfidenceSequence:
    low, high = bounds
    if not low < high or series.min() < low or series.max() > high:
        raise LearnerError(
            f"confidence_sequence: values {series.min()} to {series.max()} outside bounds {bounds}"
        )
    if clusters is not None:
        group, total = as_groups(clusters, len(series), "clusters")
        series = np.bincount(group, series, total) / np.bincount(group, minlength=total)
    x = (series - low) / (high - low)
    time = np.arange(1.0, len(x) + 1.0)
    mean = (0.5 + np.cumsum(x)) / (time + 1.0)
    variance = (0.25 + np.cumsum((x - mean) ** 2)) / (time + 1.0)
    mean_before = np.concatenate([[0.5], mean[:-1]])
    variance_before = np.concatenate([[0.25], variance[:-1]])
    log_term = math.log(2.0 / alpha)
    bet = np.minimum(np.sqrt(2.0 * log_term / (variance_before * time * np.log1p(time))), 0.5)
    cost = np.cumsum((x - mean_before) ** 2 * (-np.log1p(-bet) - bet))
    weight = np.cumsum(bet)
    middle, half = np.cumsum(bet * x) / weight, (log_term + cost) / weight
    scale = high - low
    limits = (low + scale * np.maximum(middle - half, 0.0), low + scale * np.minimum(middle + half, 1.0))
    return ConfidenceSequence(low + scale * middle, *limits, alpha, "bernstein")


@dataclass(frozen=True)
class Verdict:
    """``name`` is one of AHEAD, OPEN, BEHIND; ``sentence`` says it with its figures; ``interval`` is control
    minus active, so positive favours the active arm."""

    name: str
    sentence: str
    interval: Interval
    judgments: int
    prompts: int


def verdict(
    control: ArrayLike,
    active: ArrayLike,
    clusters: Any = None,
    *,
    checkpoint: int = 1,
    alpha: float = 0.05,
    metric: str = "log-loss",
) -> Verdict:
    """Which arm is ahead at equal label counts, or that one cannot tell yet. O(n).

    The two models of one checkpoint are frozen and never saw the evaluation judgments, so a confidence
    sequence over the judgments in order of arrival holds at every look. Checkpoint number k spends alpha /
    (k (k + 1)) of the error, so the chance that any wrong verdict is *ever* shown, at any checkpoint, is at
    most ``alpha``.

    Parameters
    ----------
    control, active : (n,) losses of the two arms' models on the evaluation judgments, in order of arrival
    clusters : (n,) prompt of each judgment
    checkpoint : 1, 2, ...: number of the checkpoint (label count) being compared

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> verdict(rng.random(300) + 0.3, rng.random(300)).name
    'active is ahead'
    >>> verdict(rng.random(25), rng.random(25)).name
    'not yet distinguishable'
    """
    one, two = as_floats(control, "control", 1), as_floats(active, "active", 1)
    if one.shape != two.shape or checkpoint < 1:
        raise LearnerError(f"verdict: shapes {one.shape} and {two.shape} at checkpoint {checkpoint}")
    spent = alpha / (checkpoint * (checkpoint + 1)) if len(one) else alpha
    if len(one) == 0:
        interval, prompts = Interval(math.nan, -math.inf, math.inf, 1.0 - spent), 0
    else:
        interval = confidence_sequence(one - two, clusters, alpha=spent).last
        prompts = as_groups(clusters, len(one), "clusters")[1]
    name = AHEAD if interval.low > 0.0 else BEHIND if interval.high < 0.0 else OPEN
    return Verdict(name, _sentence(name, interval, len(one), prompts, metric), interval, len(one), prompts)


def _sentence(name: str, interval: Interval, judgments: int, prompts: int, metric: str) -> str:
    base = f"on {judgments} evaluation judgments of {prompts} prompts"
    if not math.isfinite(interval.low):
        need = f"{MINIMUM_JUDGMENTS} judgments of {MINIMUM_PROMPTS} prompts"
        so_far = f"{judgments} evaluation judgments of {prompts} prompts"
        return f"Too early to tell: {so_far}; the first verdict needs {need}."
    if name == OPEN:
        return (
            f"Not yet distinguishable {base}: random minus active {metric} is {interval.estimate:+.3f}, "
            f"and anything from {interval.low:+.3f} to {interval.high:+.3f} fits."
        )
    who, size = ("Active", interval) if name == AHEAD else ("Random", _flip(interval))
    return (
        f"{who} is ahead {base}: {metric} lower by {size.estimate:.3f} ({size.low:.3f} to {size.high:.3f})."
    )


def _flip(interval: Interval) -> Interval:
    return Interval(-interval.estimate, -interval.high, -interval.low, interval.confidence)
