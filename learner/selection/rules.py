"""The collection rules (ALGORITHMS.md section 4). A rule maps (state, candidates, rng) to one pick and changes nothing.

Three shapes: a score of every pair (``Scored``: PairScores keeps these incrementally), a choice inside one uniformly
drawn prompt (``WithinPrompt``), and the uniform draw (``Uniform``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, xlogy

from learner.errors import LearnerError
from learner.selection.candidates import TIE, Candidates, Doubles, Floats, Pick, State

Score = Callable[[Floats, Floats, float], Floats]
Led = tuple[Doubles, NDArray[np.bool_]]

_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(32)
_WEIGHTS = _WEIGHTS / _WEIGHTS.sum()
# Beyond this q the 32 nodes stop being monotone, and the information is within 10 % of ln 2.
_QUADRATURE_LIMIT = 64.0


class Rule(Protocol):
    """Chooses one of the candidates."""

    def __call__(self, state: State, candidates: Candidates, rng: np.random.Generator) -> Pick:
        """Return the pick; raise LearnerError when there is nothing to choose from."""


@dataclass(frozen=True)
class Scored:
    """Rule: the pair with the largest score(q, m, radius), q = z^T P z and m = z.theta; ties to the smallest id.

    ``score`` must be non-decreasing in q and even in m; ``margin`` says how it moves with |m|. That is all that
    PairScores needs to bound a stale score from above and to keep the argmax exact. O(N d^2) here.
    """

    score: Score
    margin: Literal["ignored", "falls", "rises"] = "falls"

    def __call__(self, state: State, candidates: Candidates, rng: np.random.Generator) -> Pick:
        q, m = widths_and_margins(state, candidates)
        return _pick(candidates, np.asarray(self.score(q, m, state.radius)), q)

    def bound(self, squared_width: Floats, margin: Floats, drift: float, radius: float) -> Floats:
        """Largest score of any q' <= q and any m' within drift of m."""
        size = np.abs(margin)
        moved = size + drift if self.margin == "rises" else np.maximum(size - drift, 0)
        return self.score(squared_width, moved, radius)


@dataclass(frozen=True)
class WithinPrompt:
    """Rule: draw a prompt uniformly among those that still have pairs, then the best of its pairs. O(N + K d^2).

    ``scores(state, candidates of the prompt, rng)`` returns the score of each pair, and where its second response
    leads (the pick then names that one first). ``draws``: the scores are drawn at random, so that the probability of
    a pick is not known.
    """

    scores: Callable[[State, Candidates, np.random.Generator], Led]
    draws: bool = False

    def __call__(self, state: State, candidates: Candidates, rng: np.random.Generator) -> Pick:
        prompts = np.unique(candidates.prompt)
        if not len(prompts):
            raise LearnerError("selection: no eligible pair is left")
        inside = candidates.only(candidates.prompt == rng.choice(prompts))
        return self.within(state, inside, rng, 1 / len(prompts))

    def within(self, state: State, inside: Candidates, rng: np.random.Generator, probability: float) -> Pick:
        """Choose among the pairs of one prompt, which was drawn with this probability."""
        score, swapped = self.scores(state, inside, rng)
        first, second = np.where(swapped, (inside.second, inside.first), (inside.first, inside.second))
        led = Candidates(inside.features, first, second, inside.prompt)
        q = widths_and_margins(state, led)[0]
        return _pick(led, score, q, None if self.draws else probability)


@dataclass(frozen=True)
class Uniform:
    """Rule: any candidate, each with the same probability. O(d^2)."""

    def __call__(self, state: State, candidates: Candidates, rng: np.random.Generator) -> Pick:
        if not len(candidates):
            raise LearnerError("selection: no eligible pair is left")
        chosen = candidates.only(rng.integers(len(candidates), size=1))
        return _pick(chosen, np.zeros(1), widths_and_margins(state, chosen)[0], 1 / len(candidates))


def widths_and_margins(state: State, candidates: Candidates) -> tuple[Doubles, Doubles]:
    """q = z^T P z and m = z.theta of every candidate, in float64. O(N d^2)."""
    z = candidates.differences()
    return np.einsum("nd,nd->n", z @ state.covariance, z), z @ state.theta


def first_best(score: Floats) -> int:
    """Position of the largest score; scores within 1e-9 of it (relative) tie and the first wins.

    >>> first_best(np.array([1.0, 2.0, 2.0 + 1e-15]))
    1
    """
    best = float(np.max(score))
    return int(np.argmax(score >= best - TIE * abs(best)))


def _pick(candidates: Candidates, score: Floats, q: Floats, probability: float | None = 1.0) -> Pick:
    if not len(candidates):
        raise LearnerError("selection: no eligible pair is left")
    i = first_best(score)
    width = float(np.sqrt(max(float(q[i]), 0.0)))
    return Pick(int(candidates.first[i]), int(candidates.second[i]), float(score[i]), width, probability)


def max_uncertainty(q: Floats, m: Floats, radius: float) -> Floats:
    """Squared width q = z^T P z: the paper's rule (Eq. 5)."""
    return q


def d_optimal(q: Floats, m: Floats, radius: float) -> Floats:
    """ln(1 + sigma'(m) q): the gain in ln det H (D-optimal design). The default.

    >>> float(d_optimal(np.float64(4.0), np.float64(0.0), 1.0)) == float(np.log(2.0))
    True
    """
    return np.asarray(np.log1p(expit(m) * expit(-m) * q))  # 1 - expit(m) would lose the tail in float32


def entropy(q: Floats, m: Floats, radius: float) -> Floats:
    """Entropy of the predicted answer, in nats: largest where sigma(m) is nearest to 1/2."""
    size = np.abs(m)
    return np.asarray(np.log1p(np.exp(-size)) + size * expit(-size))


def bald(q: Floats, m: Floats, radius: float) -> Floats:
    """Mutual information of the answer and theta for z.theta ~ N(m, q), in nats, by 32-point quadrature.

    H(E sigma(f)) - E H(sigma(f)), both under the same nodes: never negative, and right for small q. O(32) a pair.
    """
    scale, centre = (
        np.sqrt(np.clip(q, 0, _QUADRATURE_LIMIT)).astype(np.float64),
        -np.abs(m).astype(np.float64),
    )
    mean, expected = np.zeros_like(centre), np.zeros_like(centre)
    for node, weight in zip(_NODES, _WEIGHTS, strict=True):
        f = centre + node * scale
        mean += weight * expit(f)
        expected += weight * entropy(q, f, radius)
    return np.asarray(-xlogy(mean, mean) - (1 - mean) * np.log1p(-mean) - expected)


def info_max(q: Floats, m: Floats, radius: float) -> Floats:
    """sigma(m + beta w) - sigma(m - beta w): width of the answer's confidence interval (InfoMax), w the pair width."""
    reach, size = radius * np.sqrt(np.maximum(q, 0)), np.abs(m)
    # sinh(r) / (cosh(r) + cosh(m)), scaled: keeps its digits however small r is
    top = np.maximum(reach, size)
    sides = np.exp(size - top) + np.exp(-size - top) + np.exp(reach - top) + np.exp(-reach - top)
    return np.asarray(-np.expm1(-2 * reach) * np.exp(reach - top) / sides)


def delta_ucb(q: Floats, m: Floats, radius: float) -> Floats:
    """|m| + beta w: the largest plausible reward gap (DeltaUCB), w the pair width."""
    return np.asarray(np.abs(m) + radius * np.sqrt(np.maximum(q, 0)))


def best_worst(state: State, inside: Candidates, rng: np.random.Generator) -> Led:
    """Predicted reward gap |m|: its largest is the prompt's best response against its worst (section 6.2)."""
    margin = inside.differences() @ state.theta
    return np.abs(margin), margin < 0


def drts(state: State, inside: Candidates, rng: np.random.Generator) -> Led:
    """Double reversed Thompson sampling: gap between the best of one posterior sample and the worst of another.

    The rewards of the prompt's K responses are drawn twice from N(Phi theta, beta^2 Phi P Phi^T); a pair scores the
    larger of its two orientations. O(K d^2 + K^3).
    """
    rows = np.unique(np.concatenate([inside.first, inside.second]))
    phi = np.asarray(inside.features[rows], np.float64)
    phi -= phi.mean(axis=0)  # what all responses share cancels in every pair
    spread = phi @ state.covariance @ phi.T
    if not np.isfinite(spread).all():
        raise LearnerError(f"drts: Phi P Phi^T of rows {rows.tolist()} is not finite: are the features?")
    values, vectors = np.linalg.eigh(spread)
    root = vectors * np.sqrt(np.maximum(values, 0))
    high, low = phi @ state.theta + state.radius * rng.standard_normal((2, len(rows))) @ root.T
    a, b = np.searchsorted(rows, inside.first), np.searchsorted(rows, inside.second)
    ahead, behind = high[a] - low[b], high[b] - low[a]
    return np.maximum(ahead, behind), behind > ahead


def max_min_lcb(state: State, inside: Candidates, rng: np.random.Generator) -> Led:
    """MaxMinLCB: the response whose worst lower bound is best, against the opponent that attains it.

    Responses surely beaten by another (upper bound of the gap below 0) do not lead. LCB(j, k) = m_jk - beta w_jk
    with the exact pair width. O(K^2 d^2).
    """
    q, m = widths_and_margins(state, inside)
    reach = state.radius * np.sqrt(np.maximum(q, 0))
    leader = np.concatenate([inside.first, inside.second])
    lower, upper = np.concatenate([m - reach, -m - reach]), np.concatenate([m + reach, reach - m])
    rows = np.unique(leader)
    place = np.searchsorted(rows, leader)
    worst, best = np.full(len(rows), np.inf), np.full(len(rows), np.inf)
    np.minimum.at(worst, place, lower)
    np.minimum.at(best, place, upper)
    led = first_best(np.where(best > 0, worst, -np.inf))
    mine = np.where(place == led, lower, np.inf)
    chosen = first_best(-mine)
    pair, swapped = chosen % len(q), chosen >= len(q)
    score = np.where(np.arange(len(q)) == pair, lower[chosen], -np.inf)
    return score, np.full(len(q), swapped)


RULES: dict[str, Rule] = {
    "random": Uniform(),
    "max_uncertainty": Scored(max_uncertainty, margin="ignored"),
    "d_optimal": Scored(d_optimal),
    "best_worst": WithinPrompt(best_worst),
    "entropy": Scored(entropy),
    "bald": Scored(bald),
    "info_max": Scored(info_max),
    "delta_ucb": Scored(delta_ucb, margin="rises"),
    "drts": WithinPrompt(drts, draws=True),
    "max_min_lcb": WithinPrompt(max_min_lcb),
}
