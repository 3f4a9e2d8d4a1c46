"""Policies out of a learned reward: pessimistic values (Eq. 4), best of K, and the best mixture by Frank-Wolfe.

A policy's features are the mean over prompts of what it answers, after centring each prompt's responses:
the part that all responses of a prompt share is never observed in a comparison and would swamp the width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from learner.errors import LearnerError
from learner.estimators.contract import Estimator, check_rows
from learner.features import centre_by_prompt

Array = npt.NDArray[np.floating]
Indices = npt.NDArray[np.intp]
MODES = ("greedy", "averaged", "pessimistic")


@dataclass(frozen=True)
class Value:
    """Value of a policy: its reward above the prompts' mean response, and how far to trust it.

    Attributes
    ----------
    pessimistic : float
        ``Phi . theta - beta |Phi|_P`` (Eq. 4): the lower end of the interval.
    reward : float
        ``Phi . theta``, in logits: 1 means being preferred to the mean response with odds e.
    width : float
        ``|Phi|_P``.
    beta : float
        Multiplier used.
    """

    pessimistic: float
    reward: float
    width: float
    beta: float

    @property
    def interval(self) -> tuple[float, float]:
        """``reward -+ beta width``."""
        reach = self.beta * self.width
        return self.reward - reach, self.reward + reach


@dataclass(frozen=True)
class Choice:
    """The response chosen out of K: its index, its reward above the K's mean, and the interval of that."""

    index: int
    reward: float
    low: float
    high: float
    mode: str


@dataclass(frozen=True)
class Policy:
    """A response for every prompt: row numbers, one a prompt in the order of prompt labels, and its value."""

    name: str
    rows: Indices
    value: Value


@dataclass(frozen=True)
class Mixture:
    """Frank-Wolfe's result: policies with their weights, the value of the mixture and a certificate.

    Attributes
    ----------
    value : Value
        Of the mixture.
    weights : ndarray, shape (m,)
        Sum to 1.
    rows : ndarray of int, shape (m, prompts)
        The rows chosen by each policy mixed.
    gap : float
        No policy's pessimistic value exceeds the mixture's by more (near Phi = 0, where J has a kink and
        the best mixture says "choose at random", the bound is loose).
    steps : int
        Policies asked of the oracle.
    """

    value: Value
    weights: Array
    rows: Indices
    gap: float
    steps: int


def pessimistic_value(
    mean_feature: Array, estimator: Estimator, beta: float | None = None, confidence: float = 0.95
) -> Value:
    """Eq. 4: ``J = Phi . theta - beta |Phi|_P`` of a policy given by its mean centred feature; O(d^2).

    Parameters
    ----------
    mean_feature : array, shape (d,)
        Phi: mean over prompts of the centred feature answered.
    estimator : Estimator
        Gives theta and P.
    beta : float, optional
        Multiplier >= 0; ``estimator.radius(confidence)`` if not given.
    confidence : float
        Of the default multiplier.

    Examples
    --------
    >>> from learner import OnePass
    >>> value = pessimistic_value(np.array([2.0]), OnePass(1), beta=1.0)
    >>> value.pessimistic, value.interval
    (-2.0, (-2.0, 2.0))
    """
    factor = _beta(estimator, beta, confidence)
    rows = check_rows(mean_feature, estimator.dimension, "mean_feature")
    if len(rows) != 1:
        raise LearnerError(f"mean_feature has shape {np.shape(mean_feature)}, expected one vector")
    reward, width = float(estimator.reward(rows)[0]), float(estimator.width(rows)[0])
    return Value(reward - factor * width, reward, width, factor)


def best_of(
    features: Array,
    estimator: Estimator,
    mode: str = "greedy",
    beta: float | None = None,
    confidence: float = 0.95,
) -> Choice:
    """Best of one prompt's K responses, with the interval of its reward above their mean.

    `greedy` takes the largest ``phi . theta``, `averaged` the largest ``phi . theta_mean`` (the output
    policy of Algorithm 3), `pessimistic` the largest ``phi . theta - beta |phi|_P``; phi is centred over
    the K. The first of equals wins. O(K d^2).

    Parameters
    ----------
    features : array, shape (K, d)
        Rows of one prompt; they need not be centred.
    estimator : Estimator
        Gives theta and P.
    mode : {"greedy", "averaged", "pessimistic"}
        Rule of choice.
    beta, confidence
        As for `pessimistic_value`.

    Examples
    --------
    >>> from learner import OnePass
    >>> model = OnePass(1)
    >>> update = model.learn_one(np.array([1.0]), 1.0)
    >>> best_of(np.array([[0.0], [3.0]]), model).index
    1
    """
    rows = check_rows(features, estimator.dimension, "features")
    if not len(rows):
        raise LearnerError("features has no row: there is no response to choose from")
    centred = rows - rows.mean(axis=0)
    factor = _beta(estimator, beta, confidence)
    rewards, reach = _rewards(centred, estimator, mode), factor * estimator.width(centred)
    index = int(np.argmax(rewards - reach if mode == "pessimistic" else rewards))
    reward, margin = float(rewards[index]), float(reach[index])
    return Choice(index, reward, reward - margin, reward + margin, mode)


def best_of_policy(
    features: Array,
    prompts: npt.ArrayLike,
    estimator: Estimator,
    mode: str = "greedy",
    beta: float | None = None,
    confidence: float = 0.95,
) -> Policy:
    """Best-of-K for every prompt by the same rule as `best_of`, and the value of doing so; O(M d^2).

    Parameters
    ----------
    features : array, shape (M, d)
        All responses; centred here.
    prompts : array, shape (M,)
        Prompt label of each row.
    estimator, mode, beta, confidence
        As for `best_of`.

    Examples
    --------
    >>> from learner import OnePass
    >>> policy = best_of_policy(np.array([[0.0], [1.0], [5.0], [4.0]]), [7, 7, 8, 8], OnePass(1))
    >>> policy.rows.tolist(), policy.value.width
    ([0, 2], 0.0)
    """
    rows, groups = _pool(features, prompts, estimator)
    factor = _beta(estimator, beta, confidence)
    scores = _rewards(rows, estimator, mode)
    if mode == "pessimistic":
        scores = scores - factor * estimator.width(rows)
    chosen = _argmax_by_group(scores, groups)
    return Policy(
        f"best of K, {mode}", chosen, pessimistic_value(rows[chosen].mean(axis=0), estimator, factor)
    )


def source_policies(
    features: Array,
    prompts: npt.ArrayLike,
    sources: Sequence[str],
    estimator: Estimator,
    beta: float | None = None,
    confidence: float = 0.95,
) -> dict[str, tuple[Value, int]]:
    """Value of "always answer with this source", and the number of prompts it answered; O(M d + sources d^2).

    A source with several responses to a prompt answers with each equally often. The mean is over the
    prompts that it answered, so compare sources of like numbers.

    Examples
    --------
    >>> from learner import OnePass
    >>> table = source_policies(np.array([[1.0], [-1.0]]), [0, 0], ["A", "B"], OnePass(1), beta=1.0)
    >>> table["A"][0].width, table["A"][1]
    (1.0, 1)
    """
    rows, groups = _pool(features, prompts, estimator)
    names = np.asarray(sources)
    if names.shape != (len(rows),):
        raise LearnerError(f"sources has shape {names.shape}, expected ({len(rows)},)")
    factor = _beta(estimator, beta, confidence)
    table = {}
    for name in sorted(set(names.tolist())):
        mine = np.flatnonzero(names == name)
        answered, counts = np.unique(groups[mine], return_inverse=True, return_counts=True)[1:]
        mean = (rows[mine] / counts[answered][:, None]).sum(axis=0) / len(counts)
        table[str(name)] = (pessimistic_value(mean, estimator, factor), len(counts))
    return table


def frank_wolfe(
    features: Array,
    prompts: npt.ArrayLike,
    estimator: Estimator,
    beta: float | None = None,
    confidence: float = 0.95,
    steps: int = 200,
    tolerance: float = 1e-6,
) -> Mixture:
    """Mixture of per-prompt choices that maximises ``J(Phi) = Phi . theta - beta |Phi|_P`` (Eq. 4).

    The width is that of the mean, so it does not split over prompts. J is concave: each step asks for the
    policy best along the gradient ``theta - beta P Phi / |Phi|_P`` (a per-prompt argmax) and moves towards
    it by exact line search. ``gradient . (S - Phi)`` bounds what is left to gain.

    Parameters
    ----------
    features : array, shape (M, d)
        All responses; centred here.
    prompts : array, shape (M,)
        Prompt label of each row.
    estimator, beta, confidence
        As for `pessimistic_value`.
    steps : int
        Most oracle calls, O(M d + d^2) each.
    tolerance : float
        Gap that is enough, in logits.

    Examples
    --------
    >>> from learner import OnePass
    >>> mixture = frank_wolfe(np.array([[1.0], [-1.0]]), [0, 0], OnePass(1), beta=1.0)
    >>> round(mixture.value.pessimistic, 6)
    0.0
    """
    rows, groups = _pool(features, prompts, estimator)
    factor, theta, covariance = _beta(estimator, beta, confidence), estimator.theta, estimator.covariance
    policies = [_argmax_by_group(rows @ theta, groups)]
    weights, mean, gap = np.ones(1), rows[policies[0]].mean(axis=0), np.inf
    while len(policies) <= steps:
        image = covariance @ mean
        width = math.sqrt(max(0.0, float(mean @ image)))
        gradient = theta - factor / width * image if width > 0 else theta
        chosen = _argmax_by_group(rows @ gradient, groups)
        target = rows[chosen].mean(axis=0)
        gap = float(gradient @ (target - mean))
        if gap <= tolerance:
            break
        length = _line_search(mean, target, theta, covariance, factor)
        mean = mean + length * (target - mean)
        weights = np.append((1 - length) * weights, length)
        policies.append(chosen)
    return Mixture(pessimistic_value(mean, estimator, factor), *_merge(weights, policies), gap, len(policies))


def _line_search(mean: Array, target: Array, theta: Array, covariance: Array, beta: float) -> float:
    """Length in [0, 1] that maximises J along ``mean + length (target - mean)``: bisection on its slope."""
    way = target - mean
    gain, bend = float(theta @ way), float(way @ covariance @ way)
    cross, start = float(way @ covariance @ mean), float(mean @ covariance @ mean)

    def slope(length: float) -> float:
        square = start + 2 * length * cross + length * length * bend
        return gain - beta * (cross + length * bend) / max(math.sqrt(max(square, 0.0)), 1e-300)

    if slope(1.0) >= 0:
        return 1.0
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if slope(middle) > 0 else (low, middle)
    return 0.5 * (low + high)


def _merge(weights: Array, policies: list[Indices]) -> tuple[Array, Indices]:
    """Weights of the distinct policies, those without weight left out."""
    rows, places = np.unique(np.stack(policies), axis=0, return_inverse=True)
    total: Array = np.bincount(places.reshape(-1), weights=weights, minlength=len(rows)).astype(np.float64)
    kept = total > 0
    return total[kept], np.asarray(rows[kept])


def _beta(estimator: Estimator, beta: float | None, confidence: float) -> float:
    if beta is None:
        return estimator.radius(confidence)
    if not 0 <= beta < np.inf:
        raise LearnerError(f"beta is {beta!r}, expected a finite number of at least 0")
    return float(beta)


def _rewards(centred: Array, estimator: Estimator, mode: str) -> Array:
    if mode not in MODES:
        raise LearnerError(f"mode is {mode!r}, expected one of {', '.join(MODES)}")
    return np.asarray(centred @ (estimator.theta_mean if mode == "averaged" else estimator.theta))


def _pool(features: Array, prompts: npt.ArrayLike, estimator: Estimator) -> tuple[Array, Indices]:
    """Centred rows, and the prompts renumbered from 0 in the order of their labels."""
    rows = check_rows(features, estimator.dimension, "features")
    labels = np.asarray(prompts)
    if labels.shape != (len(rows),) or not len(rows):
        raise LearnerError(
            f"prompts has shape {labels.shape} for {len(rows)} responses, expected one label each"
        )
    groups = np.unique(labels, return_inverse=True)[1].reshape(-1)
    return centre_by_prompt(rows, groups), groups


def _argmax_by_group(scores: Array, groups: Indices) -> Indices:
    """Row of the largest score of every group, the first of equals; O(M log M)."""
    order = np.lexsort((np.arange(len(scores)), -scores, groups))
    first = np.r_[True, np.diff(groups[order]) > 0]
    return np.asarray(order[first])
