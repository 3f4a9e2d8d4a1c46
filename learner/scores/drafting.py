"""Pairs chosen one after another on a copy of the scores that is then thrown away."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import replace

import numpy as np

from learner.errors import LearnerError
from learner.scores.lazy import LazyArgmax, exact_differences
from learner.scores.pairs import PairSpace, WithinPromptPairs
from learner.selection import Candidates, Pick, Rule, State, WithinPrompt
from learner.selection.candidates import Doubles, Rows, rank_one_fall
from learner.selection.choosing import mixed, same_pair

Bools = np.ndarray[tuple[int], np.dtype[np.bool_]]


class Draft:
    """What ``PairScores.draft`` gives: pairs that were taken no longer count, and their answers are imagined."""

    def __init__(
        self, space: PairSpace, may_pick: Bools, rule: Rule, argmax: LazyArgmax | None, state: State,
        asked: Mapping[int, int], excluded: Container[tuple[int, int]], per_prompt_cap: int | None,
        random_reserve: float,
    ) -> None:  # fmt: skip
        self._space, self._open, self._rule, self._argmax, self._state = space, may_pick, rule, argmax, state
        self._asked, self._excluded, self._cap = asked, excluded, per_prompt_cap
        self._reserve = random_reserve
        self._hidden: set[int] = set()
        self._counts: dict[int, int] = {}

    def hide(self, ids: Iterable[int]) -> None:
        """These pairs are not to be picked in this call."""
        new = np.array([i for i in ids if self._open[i] and i not in self._hidden], np.int64)
        self._hidden.update(new.tolist())
        if self._argmax is not None and len(new):
            self._argmax.withdraw(new)

    def take(self, first: int, second: int) -> None:
        """Imagine this pair answered: hide it, count it for its prompt, let P fall by its rank-one term. O(d^2 + L)."""
        first, second = (first, second) if second < 0 else (min(first, second), max(first, second))
        number = self._space.find(first, second)
        if number >= 0:
            self.hide([number])
            if (first, second) not in self._excluded:
                self._count(first)
        self._imagine(self._difference(first, second))

    def pick(self, rng: np.random.Generator | None = None) -> Pick | None:
        """The next pair, by the rule or (with the probability of the reserve) uniformly; None when none is left.

        It comes again until it is taken.

        Raises
        ------
        LearnerError
            When pairs are left but none is eligible under the cap, or a rule that draws at random gets no ``rng``.
        """
        left, reserve = self._left(), self._reserve
        if not left:
            return None
        if self._argmax is None and not isinstance(self._rule, WithinPrompt):
            return self._describe(self._uniform(_needed(rng)), 0.0, 1 / left)
        if reserve <= 0:
            return self._regular(rng)
        if _needed(rng).random() >= reserve:
            pick = self._regular(rng)
            own = pick.probability
        else:
            number = self._uniform(_needed(rng))
            pick, regular = self._describe(number, 0.0, None), self._regular(rng, number)
            own = regular.probability if regular.probability is None or same_pair(regular, pick) else 0.0
        return replace(pick, probability=mixed(reserve, left, own))

    def _regular(self, rng: np.random.Generator | None, near: int = -1) -> Pick:
        """By the rule; one that looks at a prompt looks at that of the pair ``near``."""
        if self._argmax is None:
            return self._within(_needed(rng), near)
        best = self._argmax.best()
        if best is None:
            raise LearnerError("PairScores.pick: no eligible pair is left")
        first, second = self._space.rows(np.array([best.id]))
        width = float(np.sqrt(max(best.squared_width, 0.0)))
        return Pick(int(first[0]), int(second[0]), best.score, width, 1.0)

    def _within(self, rng: np.random.Generator, near: int) -> Pick:
        space, rule = self._space, self._rule
        if not isinstance(space, WithinPromptPairs) or not isinstance(rule, WithinPrompt):
            raise LearnerError("PairScores: this rule needs prompts, not explicit pairs")
        usable = self._usable()
        left = np.add.reduceat(usable, space.offsets[:-1], dtype=np.int64) * (np.diff(space.offsets) > 0)
        prompts = np.flatnonzero(left)
        prompt = rng.choice(prompts) if near < 0 else space.prompt_of(int(space.rows(np.array([near]))[0][0]))
        ids = space.span(int(prompt))
        first, second = space.rows(ids[usable[ids]])
        inside = Candidates(space.features, first, second, np.zeros(len(first), np.int64))
        return rule.within(self._state, inside, rng, 1 / len(prompts))

    def _uniform(self, rng: np.random.Generator) -> int:
        for _ in range(64):
            number = int(rng.integers(self._space.size))
            if self._open[number] and number not in self._hidden:
                return number
        return int(rng.choice(np.flatnonzero(self._usable())))

    def _left(self) -> int:
        return int(np.count_nonzero(self._open)) - len(self._hidden)

    def _usable(self) -> Bools:
        usable = self._open.copy()
        usable[list(self._hidden)] = False
        return usable

    def _describe(self, number: int, score: float, probability: float | None) -> Pick:
        ids: Rows = np.array([number])
        first, second = self._space.rows(ids)
        z = exact_differences(self._space, ids)[0]
        width = float(np.sqrt(max(float(z @ self._times(z)), 0.0)))
        return Pick(int(first[0]), int(second[0]), score, width, probability)

    def _difference(self, first: int, second: int) -> Doubles:
        features = self._space.features
        z = np.asarray(features[first], np.float64)
        return z if second < 0 else z - features[second]

    def _times(self, z: Doubles) -> Doubles:
        return np.asarray(self._state.covariance @ z if self._argmax is None else self._argmax.times(z))

    def _imagine(self, z: Doubles) -> None:
        if self._argmax is None:
            if isinstance(self._rule, WithinPrompt):
                self._state = self._state.after(z)
            return
        u = self._argmax.times(z)
        theta = self._argmax.theta
        self._argmax.absorb(u, rank_one_fall(float(z @ theta), float(z @ u)), theta)

    def _count(self, row: int) -> None:
        space = self._space
        if not isinstance(space, WithinPromptPairs) or self._cap is None:
            return
        prompt = space.prompt_of(row)
        self._counts[prompt] = self._counts.get(prompt, self._asked.get(prompt, 0)) + 1
        if self._counts[prompt] >= self._cap:
            self.hide(space.span(prompt).tolist())


def _needed(rng: np.random.Generator | None) -> np.random.Generator:
    if rng is None:
        raise LearnerError("PairScores.pick: this rule draws at random and needs an rng")
    return rng
