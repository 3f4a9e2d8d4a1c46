"""Exact argmax over all within-prompt pairs of a pool, kept up to date as judgments are absorbed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

from learner.errors import LearnerError
from learner.selection import RULES, Pick

Rows = NDArray[np.int64]
TIE = 1e-9


class PairScores:
    """All within-prompt pairs of a pool with their scores, exact after every judgment.

    Parameters
    ----------
    features : (M, d) array, float32 (a memory map will do)
    prompt : (M,) integers, the prompt of each response (in any order)
    """

    def __init__(self, features: NDArray[np.float32], prompt: ArrayLike, *, rule: str = "d_optimal",
                 radius: float = 1.0, norm_cap: float | None = 0.95, near_duplicate: float | None = 0.05,
                 per_prompt_cap: int | None = None, eligible: ArrayLike | None = None) -> None:
        self.features, self.prompt = features, np.asarray(prompt, dtype=np.int64)
        if self.features.ndim != 2 or self.prompt.shape != (len(features),):
            raise LearnerError(f"PairScores: features {features.shape} and prompt {self.prompt.shape} do not match")
        self.rule, self.radius, self.per_prompt_cap = rule, radius, per_prompt_cap
        self._norm_cap, self._near_duplicate = norm_cap, near_duplicate
        self.eligible = np.ones(len(features), bool) if eligible is None else np.asarray(eligible, bool)
        self._first, self._second = self._enumerate()
        self._index = {(int(a), int(b)): i for i, (a, b) in enumerate(zip(self._first, self._second, strict=True))}
        self._open = self._filter()
        self._asked: dict[int, int] = {}
        self._theta: NDArray[np.float64] | None = None

    def _enumerate(self) -> tuple[Rows, Rows]:
        pairs = []
        for name in np.unique(self.prompt[self.eligible]):
            rows = np.flatnonzero((self.prompt == name) & self.eligible)
            j, k = np.triu_indices(len(rows), 1)
            pairs.append((rows[j], rows[k]))
        if not pairs:
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        return np.concatenate([a for a, _ in pairs]), np.concatenate([b for _, b in pairs])

    def _differences(self, first: Rows, second: Rows) -> NDArray[np.float64]:
        z: NDArray[np.float64] = self.features[first].astype(np.float64) - self.features[second]
        return z

    def _filter(self) -> NDArray[np.bool_]:
        norm = np.linalg.norm(self._differences(self._first, self._second), axis=1)
        keep = np.ones(len(norm), bool)
        if self._norm_cap is not None and len(norm):
            keep &= norm <= np.quantile(norm, self._norm_cap, method="higher")
        if self._near_duplicate is not None and len(norm):
            keep &= norm > self._near_duplicate * np.median(norm)
        return keep

    def reset(self, theta: ArrayLike, covariance: ArrayLike) -> None:
        """Score every pair anew at this theta and covariance."""
        self._theta, self._covariance = np.array(theta, np.float64), np.array(covariance, np.float64)

    def absorb(self, u: ArrayLike, c: float, theta: ArrayLike) -> None:
        """Follow one judgment: the covariance fell by c u u' and theta moved."""
        u = np.asarray(u, np.float64)
        self._covariance -= c * np.outer(u, u)
        self._theta = np.array(theta, np.float64)

    def exclude(self, first: int, second: int) -> None:
        """Never pick this pair again."""
        i = self._index[min(first, second), max(first, second)]
        self._open[i] = False
        name = int(self.prompt[first])
        self._asked[name] = self._asked.get(name, 0) + 1
        if self.per_prompt_cap is not None and self._asked[name] >= self.per_prompt_cap:
            self._open[self.prompt[self._first] == name] = False

    def pick(self, count: int = 1, pending: Sequence[tuple[int, int]] = (),
             rng: np.random.Generator | None = None, avoid: Iterable[tuple[int, int]] = ()) -> list[Pick]:
        """Choose the next pairs; leaves no trace until exclude or absorb is called."""
        if self._theta is None:
            raise LearnerError("PairScores.pick: call reset(theta, covariance) first")
        covariance, open_ = self._covariance.copy(), self._open.copy()
        for a, b in avoid:
            open_[self._index[min(a, b), max(a, b)]] = False
        for a, b in pending:
            i = self._index[min(a, b), max(a, b)]
            open_[i] = False
            self._shrink(covariance, i)
        picks: list[Pick] = []
        while len(picks) < count and open_.any():
            pick, i = self._best(covariance, open_)
            picks.append(pick)
            open_[i] = False
            self._shrink(covariance, i)
        if not picks:
            raise LearnerError("PairScores.pick: no eligible pair is left")
        return picks

    def _shrink(self, covariance: NDArray[np.float64], i: int) -> None:
        z = self._differences(self._first[[i]], self._second[[i]])[0]
        p = expit(z @ self._theta)
        u = covariance @ z
        covariance -= p * (1 - p) / (1 + p * (1 - p) * (z @ u)) * np.outer(u, u)

    def _best(self, covariance: NDArray[np.float64], open_: NDArray[np.bool_]) -> tuple[Pick, int]:
        z = self._differences(self._first, self._second)
        q = np.einsum("nd,nd->n", z @ covariance, z)
        score = np.where(open_, RULES[self.rule].score(q, z @ self._theta, self.radius), -np.inf)
        best = float(score.max())
        i = int(np.argmax(score >= best - TIE * abs(best)))
        return Pick(int(self._first[i]), int(self._second[i]), float(score[i]), float(np.sqrt(q[i])), 1.0), i

    def predict(self, first: ArrayLike, second: ArrayLike) -> NDArray[np.float64]:
        """P(first preferred) of given pairs of rows."""
        z = self._differences(np.asarray(first), np.asarray(second))
        p: NDArray[np.float64] = expit(z @ self._theta)
        return p

    def width(self, first: ArrayLike, second: ArrayLike) -> NDArray[np.float64]:
        """|z|_P of given pairs of rows."""
        z = self._differences(np.asarray(first), np.asarray(second))
        w: NDArray[np.float64] = np.sqrt(np.einsum("...d,...d->...", z @ self._covariance, z))
        return w

    def extend(self, features: NDArray[np.float32], prompt: ArrayLike, eligible: ArrayLike | None = None) -> None:
        """Take the grown pool (complete arrays, the old rows first and unchanged); exclusions are kept."""
        closed = [pair for pair, i in self._index.items() if not self._open[i]]
        old = self._theta, getattr(self, "_covariance", None)
        PairScores.__init__(self, features, prompt, rule=self.rule, radius=self.radius, norm_cap=self._norm_cap,
                            near_duplicate=self._near_duplicate, per_prompt_cap=self.per_prompt_cap,
                            eligible=eligible)
        self._theta, self._covariance = old
        for a, b in closed:
            self._open[self._index[a, b]] = False

    @property
    def nbytes(self) -> int:
        """Bytes held beyond the responses' own matrix."""
        return self._first.nbytes + self._second.nbytes + self._open.nbytes
