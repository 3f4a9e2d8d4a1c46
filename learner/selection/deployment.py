"""Which two of a user's K candidate responses to show (ALGORITHMS.md section 5, Algorithm 4)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from learner.errors import LearnerError
from learner.selection.candidates import Doubles, State, check_features, check_radius, checked_state

DeploymentRule = Callable[[State, Doubles, np.random.Generator], tuple[int, int]]


def deployment_pair(
    theta: ArrayLike, covariance: ArrayLike, features: ArrayLike, radius: float
) -> tuple[int, int]:
    """Answer and challenger for one prompt: the best predicted response and the most plausible rival. O(K d^2).

    a = argmax phi(a).theta (Eq. 6); a' = argmax phi(a').theta + 2 beta |phi(a') - phi(a)|_P (Eq. 7).

    Parameters
    ----------
    theta, covariance : (d,) and (d, d) of the estimator
    features : (K, d) of the candidate responses
    radius : beta

    Returns
    -------
    (a, a') : rows of ``features``; equal when no rival is plausible: show one answer and ask nothing

    Raises
    ------
    LearnerError
        No response, arrays that do not fit or are not finite, a radius that is negative or not finite.

    >>> deployment_pair([1.0, 0.0], np.eye(2), [[0.0, 0.0], [1.0, 0.0], [0.9, 5.0]], radius=1.0)
    (1, 2)
    >>> deployment_pair([1.0, 0.0], np.eye(2), [[0.0, 0.0], [1.0, 0.0], [0.9, 5.0]], radius=0.0)
    (1, 1)
    """
    phi = _checked_features(features, np.size(theta))
    vector, matrix = checked_state(theta, covariance, phi.shape[1], "deployment_pair")
    check_radius(radius, "deployment_pair")
    reward = phi @ vector
    best = int(np.argmax(reward))
    z = phi - phi[best]
    width = np.sqrt(np.maximum(np.einsum("kd,kd->k", z @ matrix, z), 0))
    return best, int(np.argmax(reward + 2 * radius * width))


def optimistic(state: State, features: Doubles, rng: np.random.Generator) -> tuple[int, int]:
    """Eq. 6 and 7, as ``deployment_pair``. O(K d^2)."""
    return deployment_pair(state.theta, state.covariance, features, state.radius)


def random_two(state: State, features: Doubles, rng: np.random.Generator) -> tuple[int, int]:
    """Two different responses drawn uniformly. O(K d), for features are checked."""
    count = len(_checked_features(features, len(state.theta)))
    if count < 2:
        return 0, 0
    first, second = rng.choice(count, size=2, replace=False)
    return int(first), int(second)


def best_two(state: State, features: Doubles, rng: np.random.Generator) -> tuple[int, int]:
    """The two responses with the highest predicted rewards. O(K d)."""
    return _ranked(state, features, 1)


def best_worst(state: State, features: Doubles, rng: np.random.Generator) -> tuple[int, int]:
    """The highest and the lowest predicted reward. O(K d)."""
    return _ranked(state, features, len(features) - 1)


def best_quantile(
    state: State, features: Doubles, rng: np.random.Generator, quantile: float = 4.0
) -> tuple[int, int]:
    """The best and the response at the top 1/quantile of predicted rewards. O(K d).

    >>> state = State(np.ones(1), np.eye(1))
    >>> best_quantile(state, np.arange(8.0)[:, None], np.random.default_rng(0))
    (7, 5)
    """
    return _ranked(state, features, max(1, round(len(features) / quantile)))


def _ranked(state: State, features: Doubles, rank: int) -> tuple[int, int]:
    phi = _checked_features(features, len(state.theta))
    order = np.argsort(-(phi @ state.theta), kind="stable")
    return int(order[0]), int(order[min(rank, len(order) - 1)])


def _checked_features(features: ArrayLike, dimension: int) -> Doubles:
    phi = np.asarray(features, dtype=np.float64)
    if phi.ndim != 2 or not len(phi) or phi.shape[1] != dimension:
        raise LearnerError(
            f"deployment: features of at least one response, (K, {dimension}) as theta is, not {phi.shape}"
        )
    check_features(phi, "deployment")
    return phi


DEPLOYMENT_RULES: dict[str, DeploymentRule] = {
    "optimistic": optimistic,
    "random": random_two,
    "best_two": best_two,
    "best_worst": best_worst,
    "best_quantile": best_quantile,
}
