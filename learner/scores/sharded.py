"""The same picks from a pool that is scored in shards: each by a worker of its own, merged by score and then by number.

A shard is whole prompts. Its worker returns the best of its pairs with exact squared widths and margins, and the
largest score of all the others. The picks are then made among the best of all shards, each taking its rank-one term
out of their widths; since scores only fall, a pick that beats every shard's rest is the argmax over all pairs.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from learner.errors import LearnerError
from learner.scores.pairs import PairSpace, WithinPromptPairs, by_matrix, norms
from learner.selection import Pick, Scored, State
from learner.selection.candidates import (
    NORM_SLACK,
    TIE,
    Doubles,
    Floats,
    Rows,
    cap_limit,
    rank_one_fall,
)

KEPT = 256


class UndecidedError(LearnerError):
    """The best pair may be among those that the shards did not name: score them again, or name more."""


@dataclass(frozen=True)
class Leaders:
    """The best pairs of a shard (rows of the whole pool), in float64, and the largest score among its others."""

    first: Rows
    second: Rows
    width: Doubles  # squared
    margin: Doubles
    rest: float


def shards_of(prompt: Rows, eligible: NDArray[np.bool_], count: int) -> list[Rows]:
    """Response rows of each shard: whole prompts, about as many pairs in each, prompts in rising order. O(M log M).

    >>> [rows.tolist() for rows in shards_of(np.array([7, 3, 7, 3]), np.ones(4, bool), 2)]
    [[1, 3], [0, 2]]
    """
    rows = np.flatnonzero(eligible)
    rows = rows[np.argsort(prompt[rows], kind="stable")]
    _, index, sizes = np.unique(prompt[rows], return_inverse=True, return_counts=True)
    pairs = np.cumsum(sizes * (sizes - 1) // 2)
    part = np.minimum((pairs - 1) * count // max(int(pairs[-1]) if len(pairs) else 1, 1), count - 1)
    return [rows[part[index] == shard] for shard in range(count)]


def norm_limits(
    space: PairSpace, norm_cap: float | None, near_duplicate: float | None
) -> tuple[float, float]:
    """(low, high): pairs with low < |z| <= high may be picked, as `kept_pairs` decides. O(N d), O(1) memory.

    The order statistics of |z| over all pairs are exact: non-negative float32 numbers are ordered as their bits are,
    so two passes that count the upper and then the lower sixteen bits find them without holding the norms.
    """
    coarse = np.zeros(1 << 16, np.int64)
    for bits in _norm_bits(space):
        coarse += np.bincount(bits >> 16, minlength=1 << 16)
    ends = np.cumsum(coarse)
    if not len(ends) or not ends[-1]:
        return -np.inf, np.inf
    quantiles = [0.5] if norm_cap is None else [0.5, norm_cap]
    ranks = [int(np.ceil(q * (int(ends[-1]) - 1))) for q in quantiles]
    bins = [int(np.searchsorted(ends, rank, side="right")) for rank in ranks]
    fine = {part: np.zeros(1 << 16, np.int64) for part in bins}
    for bits in _norm_bits(space):
        for part, counts in fine.items():
            counts += np.bincount(bits[bits >> 16 == part] & 0xFFFF, minlength=1 << 16)
    found = []
    for rank, part in zip(ranks, bins, strict=True):
        low = int(
            np.searchsorted(np.cumsum(fine[part]), rank - (int(ends[part - 1]) if part else 0), side="right")
        )
        found.append(float(np.uint32(part << 16 | low).view(np.float32)))
    high = np.inf if norm_cap is None else cap_limit(found[1], found[0]) * (1 + NORM_SLACK)
    low_limit = -np.inf if near_duplicate is None else near_duplicate * found[0] * (1 + NORM_SLACK)
    return low_limit, high


def _norm_bits(space: PairSpace) -> Iterable[NDArray[np.uint32]]:
    for _, lengths in norms(space):
        yield lengths.view(np.uint32)


def leaders(
    features: Floats,
    prompt: Rows,
    rows: Rows,
    rule: Scored,
    state: State,
    limits: tuple[float, float],
    excluded: Sequence[tuple[int, int]] = (),
    most: int = KEPT,
) -> Leaders:
    """The best pairs of one shard. O(M d^2 + N d) for its M responses and N pairs, 16 bytes a pair.

    Parameters
    ----------
    features : (M, d), the rows of this shard only
    prompt : (M,), their prompts
    rows : (M,), their rows in the whole pool
    limits : of |z|, from `norm_limits` over the whole pool
    excluded : pairs of rows of the whole pool that may not be picked
    """
    space = WithinPromptPairs(features, prompt, np.ones(len(rows), dtype=bool))
    widths, margins = np.zeros(space.size), np.zeros(space.size)
    for where, q, m in space.sweep(by_matrix(state.covariance), state.theta, np.float64):
        widths[where], margins[where] = np.maximum(q, 0), m
    score = np.asarray(rule.score(widths, margins, state.radius), dtype=np.float64)
    for where, lengths in norms(space):
        score[where] = np.where((lengths > limits[0]) & (lengths <= limits[1]), score[where], -np.inf)
    place = {int(row): i for i, row in enumerate(rows)}
    hidden = [space.find(place[a], place[b]) for a, b in excluded if a in place and b in place]
    score[[number for number in hidden if number >= 0]] = -np.inf
    kept = min(most + 1, len(score))
    chosen = np.argpartition(-score, kept - 1)[:kept] if kept else np.zeros(0, np.int64)
    chosen = chosen[np.argsort(-score[chosen], kind="stable")]
    chosen = chosen[score[chosen] > -np.inf]
    named, rest = chosen[:most], float(score[chosen[most]]) if len(chosen) > most else -np.inf
    first, second = space.rows(named)
    return Leaders(rows[first], rows[second], widths[named], margins[named], rest)


class Merged:
    """Picks among the leaders of all shards; the interface of `PairScores.pick`, for one state.

    Parameters
    ----------
    features : (M, d) rows of the whole pool, memory-mapped where large
    prompt : (M,)
    state : at which the shards were scored, the pairs of ``taken`` imagined already
    taken : pairs in flight when the shards were scored
    """

    def __init__(
        self, features: Floats, prompt: Rows, rule: Scored, state: State, found: Sequence[Leaders],
        taken: Iterable[tuple[int, int]] = (),
    ) -> None:  # fmt: skip
        self._features, self._rule, self._state = features, rule, state
        first = np.concatenate([one.first for one in found]) if found else np.zeros(0, np.int64)
        second = np.concatenate([one.second for one in found]) if found else first
        order = np.lexsort((second, first, prompt[first]))  # by number: prompt, then first, then second row
        self._first, self._second = first[order], second[order]
        self._q = np.concatenate([one.width for one in found])[order] if found else np.zeros(0)
        self._m = np.concatenate([one.margin for one in found])[order] if found else np.zeros(0)
        self._z = np.asarray(features[self._first], np.float64) - features[self._second]
        self._rest = max((one.rest for one in found), default=-np.inf)
        self._taken = {(min(pair), max(pair)) for pair in taken}
        self._alive = np.array([pair not in self._taken for pair in self._pairs()], dtype=bool)

    def _pairs(self) -> list[tuple[int, int]]:
        low, high = np.minimum(self._first, self._second), np.maximum(self._first, self._second)
        return list(zip(low.tolist(), high.tolist(), strict=True))

    def hide(self, pairs: Container[tuple[int, int]]) -> None:
        """These pairs (smaller row first) are not to be picked."""
        self._alive &= np.array([pair not in pairs for pair in self._pairs()], dtype=bool)

    def pick(
        self, count: int = 1, pending: Sequence[tuple[int, int]] = (), rng: np.random.Generator | None = None
    ) -> list[Pick]:
        """Up to ``count`` pairs, after imagining those in flight that were not yet.

        Raises
        ------
        UndecidedError
            A pair that no shard named might be better.
        LearnerError
            No pair may be picked.
        """
        for pair in pending:
            self.take(*pair)
        picks: list[Pick] = []
        while len(picks) < count and (pick := self._best()) is not None:
            picks.append(pick)
            self.take(pick.first, pick.second)
        if count and not picks:
            raise LearnerError("no eligible pair is left in any shard")
        return picks

    def take(self, first: int, second: int) -> None:
        """Imagine this pair answered, once. O(d^2 + K d)."""
        pair = (min(first, second), max(first, second))
        if pair in self._taken:
            return
        self._taken.add(pair)
        z = np.asarray(self._features[pair[0]], np.float64) - self._features[pair[1]]
        u = self._state.covariance @ z
        fall = rank_one_fall(float(z @ self._state.theta), float(z @ u))
        self._q = np.maximum(self._q - fall * (self._z @ u) ** 2, 0)
        covariance = self._state.covariance - fall * np.outer(u, u)
        self._state = State(self._state.theta, covariance, self._state.radius)
        self._alive &= ~((self._first == first) & (self._second == second))
        self._alive &= ~((self._first == second) & (self._second == first))

    def _best(self) -> Pick | None:
        score = np.asarray(self._rule.score(self._q, self._m, self._state.radius), dtype=np.float64)
        score = np.where(self._alive, score, -np.inf)
        top = float(score.max(initial=-np.inf))
        if top <= self._rest + TIE * abs(top) and self._rest > -np.inf:
            raise UndecidedError("a pair that no shard named may score higher")
        if top == -np.inf:
            return None
        i = int(np.argmax(score >= top - TIE * abs(top)))
        width = float(np.sqrt(max(float(self._q[i]), 0.0)))
        return Pick(int(self._first[i]), int(self._second[i]), float(score[i]), width, 1.0)
