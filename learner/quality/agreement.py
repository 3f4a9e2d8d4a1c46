"""Agreement between annotators who judged the same pair: Krippendorff's alpha and pairwise agreement."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import krippendorff
import numpy as np
from numpy.typing import ArrayLike

from learner.efficiency.intervals import Floats, Interval, as_floats, as_groups, percentile_interval, wilson
from learner.errors import LearnerError

Level = Literal["nominal", "interval"]


@dataclass(frozen=True)
class Agreement:
    """``alpha`` (1 perfect, 0 chance) and ``pairwise`` (chance that two annotators of a pair answer alike)."""

    alpha: Interval
    pairwise: Interval
    pairs: int
    judgments: int


def orient(first: ArrayLike, second: ArrayLike, y: ArrayLike) -> tuple[list[tuple[Any, Any]], Floats]:
    """Give every judgment of the same two responses the same pair and the same direction. O(n).

    Parameters
    ----------
    first, second : (n,) ids of the two responses in the order of the judgment
    y : (n,) 1 if the first is preferred, 0 if the second, 1/2 a tie

    Returns
    -------
    pairs : n tuples (smaller id, larger id)
    answers : (n,) y read in that direction

    Examples
    --------
    >>> pairs, answers = orient(["a", "b"], ["b", "a"], [1, 0])
    >>> pairs[0] == pairs[1], answers.tolist()
    (True, [1.0, 1.0])
    """
    one, two, answers = np.asarray(first), np.asarray(second), as_floats(y, "y", 1)
    if one.shape != answers.shape or two.shape != answers.shape:
        raise LearnerError(f"orient: shapes {one.shape}, {two.shape} and {answers.shape} must agree")
    swap = one > two
    pairs = list(zip(np.where(swap, two, one).tolist(), np.where(swap, one, two).tolist(), strict=True))
    return pairs, np.where(swap, 1.0 - answers, answers)


def agreement(
    pairs: list[Any],
    answers: ArrayLike,
    *,
    rng: np.random.Generator,
    clusters: Any = None,
    level: Level = "nominal",
    draws: int = 1000,
    confidence: float = 0.95,
) -> Agreement:
    """Krippendorff's alpha (library `krippendorff`) and pairwise agreement, with bootstrap intervals.

    Both use only pairs judged twice or more. The bootstrap resamples pairs, or prompts if ``clusters`` is
    given. Both figures are functions of sums over pairs (the coincidence matrix), so a draw costs O(pairs),
    not a recount.

    Parameters
    ----------
    pairs : n hashable keys of the judged pair, see `orient`
    answers : (n,) answers in a common direction, in [0, 1], few distinct values (0, 1/2, 1)
    clusters : (n,) prompt of each judgment, optional
    level : ``nominal`` (a tie is as far from a win as a loss is) or ``interval`` (a tie is half way)

    Returns
    -------
    Agreement
        NaN with infinite limits where no pair was judged twice or all answers are the same.

    Raises
    ------
    LearnerError
        Lengths that differ, answers that are not finite or outside [0, 1].

    Examples
    --------
    >>> report = agreement([1, 1, 2, 2, 3, 3], [0, 0, 1, 1, 1, 0], rng=np.random.default_rng(0))
    >>> round(report.alpha.estimate, 3), round(report.pairwise.estimate, 3)
    (0.444, 0.667)
    """
    counts, group, values = _counts(pairs, _answers(answers), clusters)
    if len(counts) == 0 or len(values) < 2:
        unknown = Interval(math.nan, -math.inf, math.inf, confidence)
        return Agreement(unknown, unknown, len(counts), int(counts.sum()))
    alpha = float(krippendorff.alpha(value_counts=counts, value_domain=values, level_of_measurement=level))
    cells = _coincidences(counts)
    sizes = counts.sum(axis=1)
    alike, possible = (counts * (counts - 1.0)).sum(axis=1), sizes * (sizes - 1.0)
    groups = int(group.max()) + 1
    weights = rng.multinomial(groups, np.full(groups, 1.0 / groups), size=draws)[:, group].astype(np.float64)
    drawn = _alpha((weights @ cells.reshape(len(cells), -1)).reshape(draws, len(values), -1), values, level)
    shares = (weights @ alike) / (weights @ possible)
    stretch = math.sqrt(groups / max(groups - 1.0, 1.0))
    return Agreement(
        percentile_interval(alpha, drawn[np.isfinite(drawn)], confidence, stretch).within(highest=1.0),
        percentile_interval(float(alike.sum() / possible.sum()), shares, confidence, stretch).within(
            0.0, 1.0
        ),
        len(counts),
        int(sizes.sum()),
    )


def _answers(answers: ArrayLike) -> Floats:
    values = as_floats(answers, "answers", 1)
    wrong = values[(values < 0.0) | (values > 1.0)]
    if len(wrong):
        raise LearnerError(f"answers: values must lie in [0, 1], got {wrong[0]}")
    return values


def _counts(pairs: list[Any], answers: Floats, clusters: Any) -> tuple[Floats, Any, Floats]:
    """How often each value was given, for pairs with two or more judgments; their cluster; the values."""
    if len(pairs) != len(answers):
        raise LearnerError(f"agreement: {len(pairs)} pairs but {len(answers)} answers")
    number: dict[Any, int] = {}
    index = np.array([number.setdefault(pair, len(number)) for pair in pairs], dtype=np.int64)
    values, column = np.unique(answers, return_inverse=True)
    counts = np.zeros((len(number), len(values)))
    np.add.at(counts, (index, column), 1.0)
    owner = np.zeros(len(number), dtype=np.int64)
    owner[index] = index if clusters is None else as_groups(clusters, len(answers), "clusters")[0]
    often = counts.sum(axis=1) >= 2
    return counts[often], as_groups(owner[often], int(often.sum()), "clusters")[0], values


def _coincidences(counts: Floats) -> Floats:
    """Every pair's contribution to Krippendorff's coincidence matrix, (pairs, V, V)."""
    cells = counts[:, :, None] * counts[:, None, :]
    diagonal = np.arange(counts.shape[1])
    cells[:, diagonal, diagonal] -= counts
    result: Floats = cells / (counts.sum(axis=1) - 1.0)[:, None, None]
    return result


def _alpha(coincidences: Floats, values: Floats, level: Level) -> Floats:
    """alpha = 1 - observed / expected disagreement of each coincidence matrix, (draws,)."""
    gap = values[:, None] - values[None, :]
    distance = gap**2 if level == "interval" else (gap != 0.0).astype(np.float64)
    totals = coincidences.sum(axis=2)
    observed = (coincidences * distance).sum(axis=(1, 2))
    expected = np.einsum("bi,ij,bj->b", totals, distance, totals) / np.maximum(totals.sum(axis=1) - 1.0, 1.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        result: Floats = 1.0 - observed / expected
    return result


def agreement_by_annotator(
    pairs: list[Any], answers: ArrayLike, annotators: ArrayLike, confidence: float = 0.95
) -> dict[Any, Interval]:
    """Each annotator's share of agreement with the others on the same pairs (Wilson interval). O(n V).

    A judgment that one of three others shares counts one third; the number of trials is that of judgments
    which anyone else also made, so the interval is somewhat wide rather than narrow.

    Examples
    --------
    >>> by = agreement_by_annotator([1, 1, 2, 2], [0, 0, 1, 0], ["ben", "cho", "ben", "cho"])
    >>> by["ben"].estimate
    0.5
    """
    values, column = np.unique(_answers(answers), return_inverse=True)
    who = np.asarray(annotators)
    if len(pairs) != len(column) or who.shape != column.shape:
        raise LearnerError(
            f"agreement_by_annotator: {len(pairs)} pairs, {len(column)} answers, {who.shape} annotators"
        )
    number: dict[Any, int] = {}
    index = np.array([number.setdefault(pair, len(number)) for pair in pairs], dtype=np.int64)
    counts = np.zeros((len(number), len(values)))
    np.add.at(counts, (index, column), 1.0)
    others = counts.sum(axis=1)[index] - 1.0
    share = np.where(others > 0, (counts[index, column] - 1.0) / np.maximum(others, 1.0), 0.0)
    names, place = np.unique(who, return_inverse=True)
    agreed = np.bincount(place, share, len(names))
    trials = np.bincount(place, others > 0, len(names))
    return {name: wilson(a, t, confidence) for name, a, t in zip(names.tolist(), agreed, trials, strict=True)}
