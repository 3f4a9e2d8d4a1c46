"""Two arms compared on the same evaluation judgments: paired bootstrap, learning curves, labels saved."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from learner.efficiency.intervals import Floats, Integers, Interval, as_floats, as_groups, percentile_interval
from learner.errors import LearnerError

DRAWS = 1000


def _cluster_weights(groups: int, draws: int, rng: np.random.Generator) -> Floats:
    return rng.multinomial(groups, np.full(groups, 1.0 / groups), size=draws).astype(np.float64)


def _stretch(*sizes: int) -> float:
    """Small-sample factor: the bootstrap's variance is short by (G - 1) / G for G clusters."""
    smallest = min((size for size in sizes if size > 1), default=2)
    return math.sqrt(smallest / (smallest - 1))


def paired_bootstrap(
    first: ArrayLike,
    second: ArrayLike,
    clusters: Any = None,
    *,
    rng: np.random.Generator,
    draws: int = DRAWS,
    confidence: float = 0.95,
) -> Interval:
    """Mean of ``first - second`` with its interval: two models' losses on the same evaluation judgments.

    Given (n,) losses, prompts are resampled whole (judgments of one prompt are not independent). Given (S, n)
    losses of S training orders or seeds, the bootstrap is two-way: orders and prompts are resampled
    independently, so the interval speaks of new prompts *and* new runs (Owen's pigeonhole bootstrap, slightly
    conservative). O(draws (G + S)) after one O(S n) pass, G prompts. For one look at the data; on a page
    watched all day use `confidence_sequence`.

    Parameters
    ----------
    first, second : (n,) or (S, n) per-judgment losses of the two models, same judgments, same order
    clusters : (n,) prompt of each judgment; None: every judgment its own
    draws, confidence : number of bootstrap draws; coverage

    Returns
    -------
    Interval
        Limits are infinite with fewer than two prompts.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> worse, better = rng.random(400) + 0.2, rng.random(400)
    >>> paired_bootstrap(worse, better, rng=rng).excludes(0.0)
    True
    """
    one, two = as_floats(first, "first"), as_floats(second, "second")
    if one.shape != two.shape or one.ndim not in (1, 2) or one.size == 0:
        raise LearnerError(f"paired_bootstrap: shapes {one.shape} and {two.shape} must agree, (n,) or (S, n)")
    difference = np.atleast_2d(one - two)
    curves = Curves(np.zeros(1), difference[:, None, :], clusters)
    estimate = float(curves.mean()[0])
    if curves.groups < 2:
        return Interval(estimate, -math.inf, math.inf, confidence)
    drawn = curves.resampled(*curves.draw(rng, draws))[:, 0]
    return percentile_interval(estimate, drawn, confidence, _stretch(curves.groups, curves.seeds))


class Curves:
    """A learning curve: per-judgment evaluation losses at several label counts, for one or more seeds.

    Losses are summed by prompt once, so that a bootstrap draw is a small matrix product.

    Parameters
    ----------
    counts : (C,) labels learned from at each checkpoint, increasing
    losses : (C, n) or (S, C, n) loss of every evaluation judgment at every checkpoint (and seed)
    clusters : (n,) prompt of each judgment; None: every judgment its own

    Examples
    --------
    >>> Curves([10, 20], [[0.7, 0.7], [0.6, 0.5]]).mean().round(2).tolist()
    [0.7, 0.55]
    """

    def __init__(self, counts: ArrayLike, losses: ArrayLike, clusters: Any = None) -> None:
        self.counts = as_floats(counts, "counts", 1)
        values = as_floats(losses, "losses")
        values = values[None] if values.ndim == 2 else values
        if values.ndim != 3 or values.shape[1] != len(self.counts) or values.size == 0:
            raise LearnerError(f"Curves: losses {values.shape} do not fit {len(self.counts)} counts")
        if (np.diff(self.counts) <= 0).any():
            raise LearnerError("Curves: counts must increase")
        group, self.groups = as_groups(clusters, values.shape[2], "clusters")
        self.seeds = values.shape[0]
        self.sizes = np.bincount(group, minlength=self.groups).astype(np.float64)
        self.sums = _sum_by_group(values, group, self.groups)

    def mean(self) -> Floats:
        """Mean loss at every count, (C,)."""
        result: Floats = self.sums.mean(axis=0).sum(axis=1) / self.sizes.sum()
        return result

    def draw(self, rng: np.random.Generator, draws: int) -> tuple[Floats, Floats]:
        """Bootstrap weights of seeds (draws, S) and of prompts (draws, G); use the same for both arms."""
        return _cluster_weights(self.seeds, draws, rng) / self.seeds, _cluster_weights(
            self.groups, draws, rng
        )

    def resampled(self, seed_weights: Floats, prompt_weights: Floats) -> Floats:
        """Mean loss curves under bootstrap weights, (draws, C). O(draws S C G)."""
        flat = self.sums.reshape(-1, self.groups)
        curves = (prompt_weights @ flat.T).reshape(len(prompt_weights), self.seeds, -1)
        mean: Floats = np.einsum("bs,bsc->bc", seed_weights, curves) / (prompt_weights @ self.sizes)[:, None]
        return mean


def _sum_by_group(values: Floats, group: Integers, groups: int) -> Floats:
    order = np.argsort(group, kind="stable")
    starts = np.searchsorted(group[order], np.arange(groups))
    summed: Floats = np.add.reduceat(values[:, :, order], starts, axis=2)
    return summed


def non_increasing(curves: ArrayLike) -> Floats:
    """Isotonic (least-squares non-increasing) fit of every row. O(rows C^2), vectorised over rows.

    A first passage read off a raw noisy curve comes too early; read off its isotonic fit it does not.

    Examples
    --------
    >>> non_increasing([[3.0, 1.0, 2.0]]).tolist()
    [[3.0, 1.5, 1.5]]
    """
    rows = np.atleast_2d(np.asarray(curves, dtype=np.float64))
    count = rows.shape[1]
    total = np.concatenate([np.zeros((len(rows), 1)), np.cumsum(rows, axis=1)], axis=1)
    fitted = np.full(rows.shape, np.inf)
    for start in range(count):
        means = (total[:, start + 1 :] - total[:, start : start + 1]) / np.arange(1, count - start + 1)
        best = np.maximum.accumulate(means[:, ::-1], axis=1)[:, ::-1]
        fitted[:, start:] = np.minimum(fitted[:, start:], best)
    return fitted


def first_reach(counts: Floats, curves: Floats, target: Floats) -> Floats:
    """Label count at which each non-increasing row first falls to ``target``; inf if it never does.

    Between checkpoints the loss is taken as linear in ln(1 + count). A row already there at its first
    checkpoint gives that checkpoint's count.

    Examples
    --------
    >>> first_reach(np.array([0.0, 3.0]), np.array([[0.7, 0.5]]), np.array([0.6])).round(3).tolist()
    [1.0]
    """
    reached = curves <= target[:, None] + 1e-12
    index = np.where(reached.any(axis=1), reached.argmax(axis=1), len(counts))
    right = np.clip(index, 1, len(counts) - 1) if len(counts) > 1 else np.zeros(len(curves), dtype=np.int64)
    left = np.maximum(right - 1, 0)
    rows = np.arange(len(curves))
    fall = curves[rows, left] - curves[rows, right]
    share = np.clip((curves[rows, left] - target) / np.where(fall > 0, fall, 1.0), 0.0, 1.0)
    scale = np.log1p(counts)
    between = np.expm1(scale[left] + share * (scale[right] - scale[left]))
    exact = np.where(index == 0, counts[0], between)
    return np.where(index == len(counts), np.inf, exact)


def _nearest_reach(counts: Floats, curves: Floats, target: Floats, at: float) -> Floats:
    """Count nearest to ``at`` at which each row is at ``target``; inf if it never is."""
    last = first_reach(counts, curves, target - 1e-9)  # just beyond a stretch that has the target itself
    nearest: Floats = np.clip(at, first_reach(counts, curves, target), last)
    return nearest


@dataclass(frozen=True)
class LabelsSaved:
    """How many control labels one active label is worth.

    ``ratio`` is an interval on control labels per active label for the same log-loss (1: nothing saved).
    ``censored``: the control arm never got there, so the ratio (and limits at ``limit``) are lower bounds.
    """

    ratio: Interval
    active_labels: float
    control_labels: float
    censored: bool
    limit: float
    draws_censored: float

    @property
    def sentence(self) -> str:
        """Say it in words that claim no more than was measured."""
        least = "at least " if self.censored else ""
        high = f"{self.ratio.high:.2g}" + (" or more" if self.ratio.high >= self.limit else "")
        return (
            f"{self.active_labels:.0f} active labels did the work of {least}{self.control_labels:.0f} "
            f"random ones: {least}{self.ratio.estimate:.2g} times ({self.ratio.low:.2g} to {high})."
        )


def labels_saved(
    active: Curves,
    control: Curves,
    *,
    rng: np.random.Generator,
    at: float | None = None,
    draws: int = DRAWS,
    confidence: float = 0.95,
) -> LabelsSaved:
    """Control labels needed for the loss that the active arm has at ``at`` labels, per active label.

    ALGORITHMS section 6.3. Both curves are made non-increasing and read between their checkpoints, never beyond
    the last one: when the control arm does not get there the result is censored ("at least n'/n"). Without
    ``at`` the question is turned round, which suits a live project whose control arm is the shorter one: how
    many active labels gave the loss that the control arm ended with, against those it took itself. Where learning
    stood still a loss belongs to a stretch of counts: with ``at`` that nearest to ``at`` is taken, without it the
    first of both arms, so that an arm is always worth itself. The interval resamples prompts and (if given)
    seeds, the same for both arms; with one seed it does not speak of new runs. O(draws (S C G + C^2)).

    Parameters
    ----------
    active, control : Curves
        The two arms on the same evaluation judgments.
    at : float, optional
        Active label count; must lie within the active curve's counts.

    Raises
    ------
    LearnerError
        If the curves have other evaluation judgments or seeds, or ``at`` was not reached.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> counts = np.array([0.0, 10, 20, 40, 80, 160])
    >>> noise = 0.01 * rng.standard_normal(200)
    >>> fast = Curves(counts, 0.4 + 0.3 * np.exp(-counts / 20)[:, None] + noise)
    >>> slow = Curves(counts, 0.4 + 0.3 * np.exp(-counts / 80)[:, None] + noise)
    >>> round(labels_saved(fast, slow, at=40, rng=rng).ratio.estimate, 1)
    4.0
    """
    if (active.seeds, active.groups) != (control.seeds, control.groups) or (
        active.sizes != control.sizes
    ).any():
        raise LearnerError("labels_saved: the two curves were not evaluated on the same judgments and seeds")
    weights = active.draw(rng, draws)
    fast = non_increasing(np.vstack([active.mean(), active.resampled(*weights)]))
    slow = non_increasing(np.vstack([control.mean(), control.resampled(*weights)]))
    if at is None:
        target, limit = slow[:, -1], math.inf
        needed_active = np.maximum(first_reach(active.counts, fast, target), 1.0)
        needed_control = np.maximum(first_reach(control.counts, slow, target), 1.0)
    else:
        target, limit = (
            _read(active.counts, fast, _count_within(at, active.counts)),
            float(control.counts[-1]),
        )
        needed_active = np.full(draws + 1, float(at))
        needed_control = _nearest_reach(control.counts, slow, target, at)
    ratio = np.minimum(needed_control, limit) / needed_active
    return _saved(
        ratio, needed_active, needed_control, limit, _stretch(active.groups, active.seeds), confidence
    )


def _count_within(at: float, counts: Floats) -> float:
    if not max(counts[0], 1.0) <= at <= counts[-1]:
        raise LearnerError(
            f"labels_saved: at={at} lies outside the active curve's {counts[0]:g} to {counts[-1]:g}"
        )
    return float(at)


def _read(counts: Floats, curves: Floats, at: float) -> Floats:
    """Loss of every row at ``at`` labels, linear in ln(1 + count)."""
    scale = np.log1p(counts)
    right = int(np.clip(np.searchsorted(counts, at), 1, len(counts) - 1))
    share = (np.log1p(at) - scale[right - 1]) / (scale[right] - scale[right - 1])
    value: Floats = curves[:, right - 1] * (1.0 - share) + curves[:, right] * share
    return value


def _saved(
    ratio: Floats,
    needed_active: Floats,
    needed_control: Floats,
    limit: float,
    stretch: float,
    confidence: float,
) -> LabelsSaved:
    """Interval on a log scale, stretched there, and kept within what was observed."""
    logs = np.log(np.maximum(ratio, 1e-3))
    spread = percentile_interval(float(logs[0]), logs[1:], confidence, stretch)
    censored = bool(np.isinf(needed_control[0]))
    top = limit / float(needed_active[0]) if math.isfinite(limit) else math.inf
    estimate = float(ratio[0])
    low, high = min(math.exp(spread.low), estimate), max(min(math.exp(spread.high), top), estimate)
    interval = Interval(estimate, low, high, confidence)
    return LabelsSaved(
        interval,
        float(needed_active[0]),
        float(min(needed_control[0], limit)),
        censored,
        top,
        float(np.isinf(needed_control[1:]).mean()),
    )


def area_under_curve(counts: ArrayLike, losses: ArrayLike) -> Floats:
    """Mean loss over the labels spent: trapezoids over ``counts``, divided by their span. O(C) a curve.

    Parameters
    ----------
    counts : (C,) increasing label counts
    losses : (..., C) losses at those counts

    Examples
    --------
    >>> area_under_curve([0, 10, 20], [0.7, 0.6, 0.6]).round(3).tolist()
    0.625
    """
    grid, values = as_floats(counts, "counts", 1), as_floats(losses, "losses")
    if len(grid) < 2 or values.shape[-1] != len(grid):
        raise LearnerError(
            f"area_under_curve: losses {values.shape} do not fit {len(grid)} counts (two or more)"
        )
    if (np.diff(grid) <= 0.0).any():
        raise LearnerError(f"area_under_curve: counts must increase, got {grid.tolist()}")
    return np.asarray(np.trapezoid(values, grid, axis=-1) / (grid[-1] - grid[0]))
