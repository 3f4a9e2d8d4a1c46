"""Uniform draws over all within-prompt pairs of a pool, without replacement and without listing the pairs."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from learner.errors import LearnerError


class PairUrn:
    """All pairs of responses to the same prompt, among the rows of ``among``; pairs taken out never come again.

    O(M log M) to build, O(M) memory; a draw is O(log M) expected while most pairs are left.

    Parameters
    ----------
    prompt : (M,) integers, the prompt of each row
    among : (M,) booleans, the rows that take part

    Examples
    --------
    >>> urn = PairUrn([0, 0, 0, 1, 1], [True] * 5)
    >>> urn.left
    4
    >>> urn.take(0, 2), urn.left
    (True, 3)
    >>> urn.draw(np.random.default_rng(0))[2] == 1 / 3
    True
    """

    def __init__(self, prompt: npt.ArrayLike, among: npt.ArrayLike) -> None:
        prompts, mask = np.asarray(prompt, dtype=np.int64), np.asarray(among, dtype=bool)
        if prompts.ndim != 1 or prompts.shape != mask.shape:
            raise LearnerError(f"PairUrn: prompt {prompts.shape} and among {mask.shape} do not match")
        rows = np.flatnonzero(mask)
        self._mask = mask
        self._order = rows[np.argsort(prompts[rows], kind="stable")]
        _, self._starts, self._sizes = np.unique(prompts[self._order], return_index=True, return_counts=True)
        self._ends = np.cumsum(self._sizes * (self._sizes - 1) // 2)
        self.total = int(self._ends[-1]) if len(self._ends) else 0
        self._taken: set[tuple[int, int]] = set()

    @property
    def left(self) -> int:
        """Pairs that were not taken out."""
        return self.total - len(self._taken)

    def take(self, first: int, second: int) -> bool:
        """Take a pair out; False if it is none of this urn's or was taken before. O(1)."""
        pair = (min(first, second), max(first, second))
        if pair in self._taken or not (self._mask[first] and self._mask[second]):
            return False
        self._taken.add(pair)
        return True

    def draw(self, rng: np.random.Generator) -> tuple[int, int, float] | None:
        """A pair uniform over those left (it stays in), with its probability; None when none is left."""
        if not self.left:
            return None
        if self.left * 50 < self.total:
            pairs = self._listed()
            first, second = pairs[int(rng.integers(len(pairs)))]
            return first, second, 1.0 / self.left
        while True:
            first, second = self._any(rng)
            if (first, second) not in self._taken:
                return first, second, 1.0 / self.left

    def _any(self, rng: np.random.Generator) -> tuple[int, int]:
        """A pair uniform over all: a prompt in proportion to its pairs, then two of its responses."""
        group = int(np.searchsorted(self._ends, rng.integers(self.total), side="right"))
        i, j = rng.choice(int(self._sizes[group]), size=2, replace=False)
        first, second = sorted(int(self._order[self._starts[group] + k]) for k in (i, j))
        return first, second

    def _listed(self) -> list[tuple[int, int]]:
        """The pairs left, when few are: listing them beats missing."""
        groups = (self._order[s : s + n] for s, n in zip(self._starts, self._sizes, strict=True))
        pairs = ((int(g[i]), int(g[j])) for g in groups for i in range(len(g)) for j in range(i + 1, len(g)))
        ordered = ((min(pair), max(pair)) for pair in pairs)
        return [pair for pair in ordered if pair not in self._taken]
