"""Exact argmax over all pairs of a pool, kept up to date as judgments are absorbed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

from learner.errors import LearnerError
from learner.scores.device import pairs_of
from learner.scores.drafting import Draft
from learner.scores.lazy import LazyArgmax, exact_differences
from learner.scores.pairs import PairSpace, WithinPromptPairs, norms
from learner.selection import Pick, Scored, State, kept_pairs
from learner.selection.candidates import (
    Doubles,
    Floats,
    check_features,
    check_shares,
    checked_pool,
    checked_state,
)
from learner.selection.choosing import rule_named

__all__ = ["PairScores", "Pick"]


class PairScores:
    """All within-prompt pairs of a pool and the one to ask about next, exact after every judgment.

    Pairs are never materialised: 9 bytes are kept for each, beside the responses' own matrix, and no more than 12 at
    once whatever is asked, with pairs in flight too (a pool of a million pairs or more). Scored rules are kept
    incrementally (see ``learner.scores.lazy``); ``random`` and the rules that choose inside a prompt are computed
    when asked.

    Parameters
    ----------
    features : (M, d) float32 or float64, one row a response; a memory map will do; not copied
    prompt : (M,) integers, the prompt of each response, in any order
    rule : a name in ``learner.RULES``
    radius : beta of the confidence-bound rules
    norm_cap : only pairs with |z| at or below this quantile over all pairs may be picked; None is off
    near_duplicate : pairs with |z| at or below this share of the median |z| may not be picked; None is off
    per_prompt_cap : at most this many pairs of a prompt are excluded, pending and picked together
    eligible : (M,) booleans; False keeps a response out (evaluation prompts)
    random_reserve : share of picks that is drawn uniformly instead
    device : where sweeps over all pairs run: "cpu" (NumPy) or a torch device ("cuda"), which then holds the features
        in float32; the picks are the same

    Raises
    ------
    LearnerError
        Arrays that do not fit, features that are not finite, an unknown rule, a cap below 1, a reserve outside 0 to 1.

    Notes
    -----
    Cost: ``reset`` O(M d^2 + N d) for N pairs; ``absorb`` O(d), O(d^2) for a rule that is not scored; ``pick``
    O(1024 d), and every few dozen judgments one flush of O(M d T + N T) for the T judgments since the last.

    Examples
    --------
    >>> scores = PairScores(np.diag([3.0, 2.0, 1.0]), [0, 0, 0], norm_cap=None)
    >>> scores.reset(np.zeros(3), np.eye(3))
    >>> [(p.first, p.second) for p in scores.pick(2)]
    [(0, 1), (0, 2)]
    """

    def __init__(
        self,
        features: Floats,
        prompt: ArrayLike,
        *,
        rule: str = "d_optimal",
        radius: float = 1.0,
        norm_cap: float | None = 0.95,
        near_duplicate: float | None = 0.05,
        per_prompt_cap: int | None = None,
        eligible: ArrayLike | None = None,
        random_reserve: float = 0.0,
        device: str = "cpu",
    ) -> None:
        groups, allowed = checked_pool(features, prompt, eligible, "PairScores")
        self._options: dict[str, Any] = {
            "rule": rule,
            "radius": radius,
            "norm_cap": norm_cap,
            "near_duplicate": near_duplicate,
            "per_prompt_cap": per_prompt_cap,
            "random_reserve": random_reserve,
            "device": device,
        }
        self._start(pairs_of(features, groups, allowed, device))
        self._prompt: NDArray[np.int64] | None = groups

    @classmethod
    def from_pairs(
        cls,
        differences: Floats,
        *,
        rule: str = "d_optimal",
        radius: float = 1.0,
        norm_cap: float | None = 0.95,
        near_duplicate: float | None = 0.05,
        random_reserve: float = 0.0,
        device: str = "cpu",
    ) -> PairScores:
        """Scores of explicit pairs, row i of ``differences`` (N, d) being z of pair i.

        Picks name the pair's number as ``first`` and -1 as ``second``. Costs O(N d) memory and sweeps O(N d T): give
        responses and prompts instead wherever pairs come from them.

        >>> scores = PairScores.from_pairs(np.diag([1.0, 2.0, 3.0]), norm_cap=None)
        >>> scores.reset(np.zeros(3), np.eye(3))
        >>> scores.pick()[0].first
        2
        """
        check_features(differences, "PairScores")
        self = cls.__new__(cls)
        self._options = {
            "rule": rule,
            "radius": radius,
            "norm_cap": norm_cap,
            "near_duplicate": near_duplicate,
            "per_prompt_cap": None,
            "random_reserve": random_reserve,
            "device": device,
        }
        self._prompt = None
        self._start(pairs_of(differences, None, None, device))
        return self

    def _start(self, space: PairSpace) -> None:
        check_shares(self._options["per_prompt_cap"], self._options["random_reserve"], "PairScores")
        self._space, self._rule = space, rule_named(self._options["rule"])
        self._excluded: dict[tuple[int, int], None] = {}
        self._asked: dict[int, int] = {}
        self._state: State | None = None
        self._q, self._bound = np.zeros(space.size, np.float32), np.zeros(space.size, np.float32)
        self._open, longest = self._filter()
        self._argmax: LazyArgmax | None = None
        if isinstance(self._rule, Scored):
            arrays = (self._q, self._bound)
            self._argmax = LazyArgmax(space, self._rule, self._options["radius"], self._open, arrays, longest)
        else:
            del self._q, self._bound

    def _filter(self) -> tuple[NDArray[np.bool_], float]:
        for where, norm in norms(self._space):
            self._q[where] = norm
        keep = kept_pairs(self._q, self._options["norm_cap"], self._options["near_duplicate"], self._bound)
        return keep, float(self._q.max(initial=0.0, where=keep))

    def reset(self, theta: ArrayLike, covariance: ArrayLike) -> None:
        """Score every pair anew at theta (d,) and P (d, d). O(M d^2 + N d)."""
        vector, matrix = checked_state(theta, covariance, self._space.dimension, "PairScores.reset")
        self._state = State(vector.copy(), matrix.copy(), self._options["radius"])
        if self._argmax is not None:
            self._argmax.reset(vector, matrix)

    def absorb(self, u: ArrayLike, c: float, theta: ArrayLike) -> None:
        """Follow one judgment: P fell by c u u^T and theta is now this. The scores follow when asked.

        O(d) for a scored rule, which keeps u until a flush; O(d^2) for the others, which keep P.

        Raises
        ------
        LearnerError
            Before ``reset``, for vectors of another dimension, for values that are not finite or c < 0.
        """
        state = self._ready("absorb")
        direction, vector = np.array(u, dtype=np.float64), np.array(theta, dtype=np.float64)
        if direction.shape != state.theta.shape or vector.shape != state.theta.shape:
            raise LearnerError(
                f"PairScores.absorb: u {direction.shape}, theta {vector.shape}: not {state.theta.shape}"
            )
        if not (np.isfinite(direction).all() and np.isfinite(vector).all() and np.isfinite(c) and c >= 0):
            raise LearnerError(f"PairScores.absorb: u, theta and c = {c} must be finite and c not negative")
        if self._argmax is not None:
            self._argmax.absorb(direction, float(c), vector)
            return
        matrix = state.covariance - float(c) * np.outer(direction, direction)
        self._state = State(vector, matrix, state.radius)

    def exclude(self, first: int, second: int) -> None:
        """Never pick this pair of response rows again, and count it towards its prompt's cap. O(1024).

        Raises
        ------
        LearnerError
            For rows outside the pool or of two prompts.
        """
        pair = self._checked(first, second, "exclude")
        if pair in self._excluded:
            return
        self._excluded[pair] = None  # also while a response is not eligible: after `extend` it may be
        number = self._space.find(*pair)
        if number < 0:
            return
        self._close(np.array([number]))
        if isinstance(self._space, WithinPromptPairs):
            prompt = self._space.prompt_of(first)
            self._asked[prompt] = self._asked.get(prompt, 0) + 1
            if self._asked[prompt] >= (self._options["per_prompt_cap"] or np.inf):
                self._close(self._space.span(prompt))

    def pick(
        self,
        count: int = 1,
        pending: Sequence[tuple[int, int]] = (),
        rng: np.random.Generator | None = None,
        avoid: Iterable[tuple[int, int]] = (),
    ) -> list[Pick]:
        """Choose up to ``count`` pairs one after another; nothing is kept of it until ``exclude`` or ``absorb``.

        Parameters
        ----------
        pending : pairs in flight; each takes its rank-one term at the current theta out of a copy of the scores, as
            does each pick, so that the next one differs; they are not picked again
        rng : needed by the rules that draw at random and by a random reserve
        avoid : pairs not to be picked in this call (what this annotator has already seen)

        Raises
        ------
        LearnerError
            Before ``reset``, or when no pair at all can be picked; fewer than ``count`` come back when they run out.
        """
        draft = self.draft(pending, avoid)
        picks: list[Pick] = []
        while len(picks) < count and (pick := draft.pick(rng)) is not None:
            picks.append(pick)
            if len(picks) < count:
                draft.take(pick.first, pick.second)
        if count and not picks:
            raise LearnerError(f"PairScores.pick: none of {self._space.size} pairs may be picked")
        return picks

    def draft(self, pending: Sequence[tuple[int, int]] = (), avoid: Iterable[tuple[int, int]] = ()) -> Draft:
        """What ``pick`` chooses on, for whoever picks with something in between: pairs in flight are imagined once.

        It holds while nothing is absorbed or excluded. Arguments and errors as for ``pick``. O(L + T d^2), T pending.
        """
        draft = self._draft()
        draft.hide(n for pair in avoid if (n := self._space.find(*self._checked(*pair, "pick"))) >= 0)
        for pair in pending:
            draft.take(*self._checked(*pair, "pick"))
        return draft

    def predict(self, first: ArrayLike, second: ArrayLike) -> Doubles:
        """P(first preferred) of given pairs of rows, (n,). O(n d). LearnerError for rows outside the pool."""
        z = self._differences(first, second, "predict")
        return np.asarray(expit(z @ self._theta()))

    def width(self, first: ArrayLike, second: ArrayLike) -> Doubles:
        """|z|_P of given pairs of rows, (n,). O(n d^2). LearnerError for rows outside the pool."""
        z = self._differences(first, second, "width")
        if self._argmax is not None:
            squared = self._argmax.squared_widths(z)
        else:
            squared = np.einsum("nd,nd->n", z @ self._ready("width").covariance, z)
        return np.sqrt(np.maximum(squared, 0))

    def extend(self, features: Floats, prompt: ArrayLike, eligible: ArrayLike | None = None) -> None:
        """Take the grown pool: complete arrays whose first rows are the old ones. Exclusions stay. Cost of ``reset``.

        Norm cap and near-duplicate filter are taken anew over all pairs.
        """
        excluded, state = list(self._excluded), self._state
        if state is not None and self._argmax is not None:
            state = State(self._argmax.theta, self._argmax.times(np.eye(self._space.dimension)), state.radius)
        PairScores.__init__(self, features, prompt, eligible=eligible, **self._options)
        if state is not None:
            self.reset(state.theta, state.covariance)
        for pair in excluded:
            self.exclude(*pair)

    @property
    def remaining(self) -> int:
        """Number of pairs that may still be picked. O(N)."""
        return int(np.count_nonzero(self._open))

    def open_pairs(self) -> NDArray[np.int64]:
        """Numbers of the pairs that may still be picked. O(N)."""
        return np.flatnonzero(self._open)

    def rows(self, number: int) -> tuple[int, int]:
        """Response rows of the pair with this number. O(log M)."""
        first, second = self._space.rows(np.array([number]))
        return int(first[0]), int(second[0])

    def differences(self, numbers: ArrayLike) -> Doubles:
        """z of pairs given by number (n,), in float64, (n, d). O(n d)."""
        return exact_differences(self._space, np.asarray(numbers, np.int64))

    @property
    def size(self) -> int:
        """Number of pairs, those that may not be picked included."""
        return self._space.size

    @property
    def nbytes(self) -> int:
        """Bytes held beyond the responses' own matrix, the short-list (1024 to 2048 differences) not counted."""
        kept = (self._q.nbytes + self._bound.nbytes) if self._argmax is not None else 0
        return kept + self._open.nbytes + self._space.nbytes

    def _ready(self, where: str) -> State:
        if self._state is None:
            raise LearnerError(f"PairScores.{where}: call reset(theta, covariance) first")
        return self._state

    def _theta(self) -> Doubles:
        state = self._ready("predict")
        return state.theta if self._argmax is None else self._argmax.theta

    def _draft(self) -> Draft:
        state, fork = self._ready("pick"), None
        if self._argmax is not None:
            self._argmax.best()  # what the real judgments ask for is done once, here, not on every copy
            fork = self._argmax.fork()
        return Draft(
            self._space, self._open, self._rule, fork, state,
            self._asked, self._excluded, self._options["per_prompt_cap"], self._options["random_reserve"],
        )  # fmt: skip

    def _close(self, ids: NDArray[np.int64]) -> None:
        self._open[ids] = False
        if self._argmax is not None and self._state is not None:
            self._argmax.withdraw(ids)

    def _checked(self, first: int, second: int, where: str) -> tuple[int, int]:
        rows = len(self._space.features)
        if self._prompt is None:
            if not 0 <= first < rows:
                raise LearnerError(f"PairScores.{where}: no pair {first} among {rows}")
            return first, second
        if not (0 <= first < rows and 0 <= second < rows) or first == second:
            raise LearnerError(
                f"PairScores.{where}: rows {first} and {second} are not a pair of {rows} responses"
            )
        if self._prompt[first] != self._prompt[second]:
            raise LearnerError(f"PairScores.{where}: rows {first} and {second} answer different prompts")
        return min(first, second), max(first, second)

    def _differences(self, first: ArrayLike, second: ArrayLike, where: str) -> Doubles:
        self._ready(where)
        a, b = np.atleast_1d(np.asarray(first, np.int64)), np.atleast_1d(np.asarray(second, np.int64))
        known = len(self._space.features)
        for rows in (a,) if self._prompt is None else (a, b):
            wrong = rows[(rows < 0) | (rows >= known)]
            if len(wrong):
                raise LearnerError(f"PairScores.{where}: no row {wrong[0]} among {known}")
        z = np.asarray(self._space.features[a], np.float64)
        return z if self._prompt is None else z - self._space.features[b]
