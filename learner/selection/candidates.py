"""What a rule is given (the learner's state, the pairs that may be asked about) and what it returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

from learner.errors import LearnerError

Floats = NDArray[np.floating[Any]]
Doubles = NDArray[np.float64]
Rows = NDArray[np.int64]

TIE = 1e-9  # scores closer than this (relative) are a tie: the smallest pair id wins, whatever the rounding
MOST_MEDIANS = 2.5  # of |z|: measured with junk in the pool, docs/benchmarks.md
NORM_SLACK = 1e-5  # thresholds on |z| leave room for float32, so that copies of a pair stand or fall together
_BLOCK_FLOATS = 1 << 18  # features of a block stay in a core's cache


@dataclass(frozen=True, slots=True)
class Pick:
    """A chosen pair.

    Attributes
    ----------
    first, second : response rows
    score : the rule's score of the pair at the moment of choosing
    width : exact pair width |z|_P at that moment
    probability : with which this pair was chosen: 1.0 by a deterministic rule; None where it is not known, since the
        rule draws from a posterior (drts)
    """

    first: int
    second: int
    score: float
    width: float
    probability: float | None


@dataclass(frozen=True)
class State:
    """What selection reads of an estimator: theta (d,), covariance P (d, d) and confidence radius beta.

    LearnerError where shapes do not fit, a number is not finite or the radius is negative.

    >>> State(np.zeros(2), np.eye(2)).after(np.array([1.0, 0.0])).covariance[0, 0]
    np.float64(0.8)
    """

    theta: Doubles
    covariance: Doubles
    radius: float = 1.0

    def __post_init__(self) -> None:
        theta, covariance = checked_state(
            self.theta, self.covariance, len(np.atleast_1d(self.theta)), "State"
        )
        check_radius(self.radius, "State")
        object.__setattr__(self, "theta", theta)
        object.__setattr__(self, "covariance", covariance)

    def after(self, difference: Doubles) -> State:
        """State once this pair's answer is in, as selection imagines it: P falls, theta stays. O(d^2).

        P <- P - w/(1 + w q) u u^T with u = P z and w = sigma'(z.theta) (ALGORITHMS.md section 4, pairs in flight).
        """
        u = self.covariance @ difference
        fall = rank_one_fall(float(difference @ self.theta), float(difference @ u))
        return State(self.theta, self.covariance - fall * np.outer(u, u), self.radius)


@dataclass(frozen=True)
class Candidates:
    """Pairs that may be asked about, in the order of their ids.

    Attributes
    ----------
    features : (M, d) response features
    first, second : (N,) response rows of each pair
    prompt : (N,) prompt index of each pair
    """

    features: Floats
    first: Rows
    second: Rows
    prompt: Rows

    @classmethod
    def within_prompts(
        cls,
        features: Floats,
        prompt: ArrayLike,
        *,
        eligible: ArrayLike | None = None,
        norm_cap: float | None = None,
        near_duplicate: float | None = None,
    ) -> Candidates:
        """Every pair of two eligible responses to one prompt, by prompt, then first, then second row. O(N d).

        Parameters
        ----------
        features : (M, d) floats
        prompt : (M,) integers, the prompt of each response, in any order
        eligible : (M,) booleans; False keeps a response out
        norm_cap, near_duplicate : as for ``kept_pairs``

        Raises
        ------
        LearnerError
            Arrays that do not fit, features that are not finite.

        >>> Candidates.within_prompts(np.eye(4), [7, 3, 7, 7]).first.tolist()
        [0, 0, 2]
        """
        groups, allowed = checked_pool(features, prompt, eligible, "Candidates")
        first: list[Rows] = [np.zeros(0, np.int64)]
        second: list[Rows] = [np.zeros(0, np.int64)]
        for name in np.unique(groups[allowed]):
            rows = np.flatnonzero((groups == name) & allowed)
            j, k = np.triu_indices(len(rows), 1)
            first.append(rows[j])
            second.append(rows[k])
        a, b = np.concatenate(first), np.concatenate(second)
        pairs = cls(features, a, b, groups[a])
        norms = np.linalg.norm(pairs.differences(), axis=1)
        return pairs.only(kept_pairs(norms, norm_cap, near_duplicate))

    def __len__(self) -> int:
        return len(self.first)

    def differences(self) -> Doubles:
        """z = phi(first) - phi(second), float64, (N, d). O(N d)."""
        return np.asarray(self.features[self.first], np.float64) - self.features[self.second]

    def only(self, keep: NDArray[Any]) -> Candidates:
        """The pairs that a mask or an index keeps."""
        return Candidates(self.features, self.first[keep], self.second[keep], self.prompt[keep])

    def place(self, first: int, second: int) -> int | None:
        """Position of a pair of rows, whichever way round, or None."""
        a, b = min(first, second), max(first, second)
        found = np.flatnonzero((self.first == a) & (self.second == b))
        return int(found[0]) if len(found) else None


def kept_pairs(
    norms: Floats, norm_cap: float | None, near_duplicate: float | None, scratch: Floats | None = None
) -> NDArray[np.bool_]:
    """Which pairs pass the norm cap and the near-duplicate filter. O(N).

    Parameters
    ----------
    norms : (N,) |z| of every pair
    norm_cap : quantile in (0, 1]; pairs with a larger |z| are dropped, and so are those beyond 2.5 medians, since a
        quantile keeps some outliers wherever there are more of them than it drops (None keeps all)
    near_duplicate : pairs with |z| at or below this share of the median |z| are dropped (None keeps all)
    scratch : (N,) memory to sort in, for pools of many million pairs

    >>> kept_pairs(np.array([0.01, 1.0, 1.1, 9.0]), 0.6, 0.05).tolist()
    [False, True, True, False]
    """
    keep = np.ones(len(norms), dtype=bool)
    if not len(norms):
        return keep
    scratch = np.empty_like(norms) if scratch is None else scratch
    if norm_cap is not None:
        limit = cap_limit(_order_statistic(norms, norm_cap, scratch), _order_statistic(norms, 0.5, scratch))
        keep &= norms <= limit * (1 + NORM_SLACK)
    if near_duplicate is not None:
        keep &= norms > near_duplicate * _order_statistic(norms, 0.5, scratch) * (1 + NORM_SLACK)
    return keep


def cap_limit(quantile: float, median: float) -> float:
    """The largest |z| that may be picked, of the cap's quantile and the median over all pairs. O(1)."""
    return min(quantile, MOST_MEDIANS * median) if median > 0 else quantile


def _order_statistic(values: Floats, quantile: float, scratch: Floats) -> float:
    if not 0 < quantile <= 1:
        raise LearnerError(f"selection: the norm cap is a quantile in (0, 1], not {quantile}")
    rank = int(np.ceil(quantile * (len(values) - 1)))
    scratch[:] = values
    scratch.partition(rank)
    return float(scratch[rank])


def rank_one_fall(margin: float, squared_width: float, weight: float = 1.0) -> float:
    """c of P <- P - c u u^T for a pair with this margin and squared width: w/(1 + w q), w = sigma'(margin). O(1)."""
    p = float(expit(margin)) if np.isfinite(margin) else 1.0
    w = weight * p * (1 - p)
    return w / (1 + w * squared_width)


def checked_state(
    theta: ArrayLike, covariance: ArrayLike, dimension: int, where: str
) -> tuple[Doubles, Doubles]:
    """theta and covariance as float64 of this dimension, or a LearnerError that says what is wrong."""
    vector, matrix = np.asarray(theta, dtype=np.float64), np.asarray(covariance, dtype=np.float64)
    if vector.shape != (dimension,) or matrix.shape != (dimension, dimension):
        raise LearnerError(
            f"{where}: theta {vector.shape} and covariance {matrix.shape} do not fit {dimension} features"
        )
    for name, array in (("theta", vector), ("covariance", matrix)):
        if not np.isfinite(array).all():
            place = np.argwhere(~np.isfinite(array))[0].tolist()
            raise LearnerError(f"{where}: {name} is not finite at {place}")
    return vector, matrix


def check_radius(radius: float, where: str) -> None:
    """Raise LearnerError unless beta is finite and not negative."""
    if not 0 <= radius < np.inf:
        raise LearnerError(f"{where}: radius is {radius!r}, expected a finite number of at least 0")


def check_shares(per_prompt_cap: int | None, random_reserve: float, where: str) -> None:
    """Raise LearnerError unless a prompt may have a pair at all and the reserve is a share."""
    if per_prompt_cap is not None and not per_prompt_cap >= 1:
        raise LearnerError(f"{where}: per_prompt_cap is {per_prompt_cap!r}, expected at least 1, or None")
    if not 0 <= random_reserve <= 1:
        raise LearnerError(f"{where}: random_reserve is {random_reserve!r}, expected a share from 0 to 1")


def checked_pool(
    features: Floats, prompt: ArrayLike, eligible: ArrayLike | None, where: str
) -> tuple[Rows, NDArray[np.bool_]]:
    """Prompt (M,) of every response and whether it is eligible (M,), all if not given. O(M d), a block at a time.

    LearnerError unless they fit the features (M, d), which are finite.
    """
    groups = np.asarray(prompt)
    allowed = np.ones(len(features), bool) if eligible is None else np.asarray(eligible)
    if features.ndim != 2 or groups.shape != features.shape[:1] or allowed.shape != groups.shape:
        shapes = f"features {features.shape}, prompt {groups.shape}, eligible {allowed.shape}"
        raise LearnerError(f"{where}: the pool's arrays do not fit: {shapes}")
    if groups.size and (groups.dtype.kind not in "iu" or allowed.dtype != bool):
        raise LearnerError(
            f"{where}: prompt is integers and eligible booleans, not {groups.dtype} and {allowed.dtype}"
        )
    check_features(features, where)
    return groups.astype(np.int64, copy=False), allowed.astype(bool, copy=False)


def check_features(features: Floats, where: str) -> None:
    """Raise LearnerError naming the first row that is not finite. O(M d), a block at a time."""
    if features.ndim != 2 or features.dtype.kind != "f":
        raise LearnerError(f"{where}: features are a float matrix, not {features.dtype} {features.shape}")
    step = max(1, _BLOCK_FLOATS // max(1, features.shape[1]))
    for begin in range(0, len(features), step):
        sound = np.isfinite(features[begin : begin + step]).all(axis=1)
        if not sound.all():
            raise LearnerError(f"{where}: features of row {begin + int(np.argmin(sound))} are not finite")
