"""Baselines beside Algorithm 1: implicit mirror descent (Eq. 2) and plain stochastic gradient descent."""

from __future__ import annotations

import math
from typing import Any, Self

import numpy as np

from learner.errors import LearnerError
from learner.estimators.arrays import ops_for
from learner.estimators.contract import (
    Array,
    Update,
    check_answer,
    check_answers,
    check_dimension,
    check_rows,
)
from learner.estimators.likelihood import Preference
from learner.estimators.onepass import OnePass
from learner.estimators.settings import Settings
from learner.estimators.state import Saved, State, check_header, entry, header


class ImplicitOMD(OnePass):
    """Mirror descent on the loss itself, not on its quadratic model (Eq. 2); a baseline for `OnePass`.

    ``theta_{t+1} = argmin l_t(theta) + |theta - theta_t|^2_H / (2 eta)``. The minimiser is
    ``theta_t + s u`` with ``u = P z`` and ``s + eta (mean(m + s q) - y) = 0``: one increasing scalar
    equation, solved by Newton inside a bracket. A theta outside the ball is projected as in Algorithm 1.
    Same parameters, cost O(d^2) and state as `OnePass`.

    Examples
    --------
    >>> model = ImplicitOMD(1)
    >>> update = model.learn_one(np.array([1.0]), 1.0)
    >>> model.theta.round(4)
    array([0.4011])
    """

    def _step(self, z: Any, u: Any, q: float, margin: float, y: float) -> float:
        eta = self.settings.step_size
        step = implicit_step(self._preference, margin, q, y, eta)
        curvature = self._preference.moments(margin + step * q)[1]
        return self._move(z, u, q, margin, step, eta * curvature)


def implicit_step(preference: Preference, margin: float, q: float, y: float, eta: float) -> float:
    """Root s of ``s + eta (mean(margin + s q) - y)``, by Newton kept inside [eta (y - 1), eta y].

    >>> step = implicit_step(Preference(), 0.0, 1.0, 1.0, 1.0)
    >>> round(step + Preference().moments(step)[0] - 1.0, 12)
    0.0
    """
    low, high = eta * (y - 1.0), eta * y
    step = 0.0
    for _ in range(100):
        mean, curvature = preference.moments(margin + step * q)
        excess = step + eta * (mean - y)
        low, high = (low, step) if excess > 0 else (step, high)
        following = step - excess / (1.0 + eta * q * curvature)
        if not low < following < high:
            following = 0.5 * (low + high)
        if abs(following - step) <= 1e-15 * (1.0 + abs(step)):
            return following
        step = following
    return step


class SGD:
    """Plain stochastic gradient descent, O(d) a judgment; a baseline that knows nothing of its uncertainty.

    ``theta -= step_size / sqrt(t) ((mean(z . theta) - y) z + regularization theta)``. Its covariance is
    the prior's ``I / lambda`` for ever, so widths are lengths of z, and `learn_one` returns None.

    Parameters
    ----------
    dimension : int
        d.
    step_size : float
        Step of the first judgment.
    regularization : float
        Weight decay, per judgment.
    prior : float
        lambda of the covariance reported.
    tie : float
        Davidson's weight of a tie; 0 for Bradley-Terry.
    dtype : {"float64", "float32"}
        Precision of theta and of each step.
    device : str
        "cpu" (NumPy), or a torch device such as "cuda".

    Examples
    --------
    >>> model = SGD(1)
    >>> model.learn_one(np.array([1.0]), 1.0)
    >>> model.theta
    array([0.5])
    """

    def __init__(
        self,
        dimension: int,
        step_size: float = 1.0,
        regularization: float = 0.0,
        prior: float = 1.0,
        tie: float = 0.0,
        dtype: str = "float64",
        device: str = "cpu",
    ) -> None:
        self.settings = Settings.practical(prior, step_size, tie=tie)
        if not 0 <= regularization < math.inf:
            raise LearnerError(
                f"regularization is {regularization!r}, expected a finite number of at least 0"
            )
        self.decay = float(regularization)
        self._dimension = check_dimension(dimension)
        self._preference = Preference(tie)
        self._ops, self.dtype, self.device = ops_for(dtype, device), np.dtype(dtype), device
        self._theta, self._sum = self._ops.zeros(self._dimension), self._ops.zeros(self._dimension)
        self._judgments = 0

    @property
    def dimension(self) -> int:
        """d."""
        return self._dimension

    @property
    def judgments(self) -> int:
        """Judgments learned."""
        return self._judgments

    @property
    def theta(self) -> Array:
        """Latest iterate; a copy."""
        return np.array(self._ops.numpy(self._theta))

    @property
    def theta_mean(self) -> Array:
        """Polyak's average of the iterates."""
        return np.array(self._ops.numpy(self._sum)) / max(1, self._judgments)

    @property
    def covariance(self) -> Array:
        """``I / lambda``: nothing is learned about it."""
        return np.eye(self._dimension) / self.settings.regularization

    @property
    def log_det(self) -> float:
        """``d ln lambda``."""
        return self._dimension * math.log(self.settings.regularization)

    def radius(self, confidence: float = 0.95) -> float:
        """The normal quantile, for the interface's sake."""
        return self.settings.radius(confidence, self._dimension, self._judgments)

    def learn_one(self, z: Array, y: float, weight: float = 1.0) -> Update | None:
        """One gradient step; O(d). Always None: the covariance did not move."""
        label, rho = check_answer(y, weight)
        row = check_rows(z, self._dimension, "z")
        if len(row) != 1:
            raise LearnerError(f"z has shape {np.shape(z)}, expected ({self._dimension},)")
        self.learn_many(row, np.array([label]), np.array([rho]))
        return None

    def learn_many(self, Z: Array, y: Array, weight: Array | None = None) -> None:
        """One step for each row, in order; O(n d)."""
        rows = check_rows(Z, self._dimension, "Z", self.dtype)
        labels, weights = check_answers(y, weight, rows)
        for row, label, rho in zip(rows, labels.tolist(), weights.tolist(), strict=True):
            self._learn(rho * row, label)

    def _learn(self, difference: Array, y: float) -> None:
        z = self._ops.vector(difference)
        self._judgments += 1
        rate = self.settings.step_size / math.sqrt(self._judgments)
        mean = self._preference.moments(float((z * self._theta).sum()))[0]
        self._theta -= rate * ((mean - y) * z + self.decay * self._theta)
        self._sum += self._theta

    def predict(self, Z: Array) -> Array:
        """P(first preferred) of each row; O(n d)."""
        return self._preference.means(check_rows(Z, self._dimension, "Z") @ self.theta.astype(np.float64))

    def reward(self, features: Array) -> Array:
        """``phi . theta`` of each row; O(n d)."""
        rows = check_rows(features, self._dimension, "features")
        return np.asarray(rows @ self.theta.astype(np.float64))

    def width(self, Z: Array) -> Array:
        """``|z| / sqrt(lambda)`` of each row; O(n d)."""
        rows = check_rows(Z, self._dimension, "Z", self.dtype)
        return np.asarray(np.linalg.norm(rows, axis=1) / math.sqrt(self.settings.regularization))

    def state(self) -> State:
        """Everything, as named arrays."""
        return header("SGD", self._dimension) | {
            "settings": self.settings.array(),
            "theta": self.theta,
            "theta_sum": np.array(self._ops.numpy(self._sum)),
            "decay": np.array(self.decay),
            "steps": np.array(self._judgments),
        }

    @classmethod
    def from_state(cls, state: Saved, device: str = "cpu") -> Self:
        """Estimator that continues where `state` was taken, in its precision, on this device."""
        d = check_header(state, "SGD")
        theta = entry(state, "theta", (d,))
        settings = Settings.from_array(entry(state, "settings", (7,), finite=False))
        decay = float(entry(state, "decay", ()))
        lam, dtype = settings.regularization, str(theta.dtype)
        model = cls(d, settings.step_size, decay, lam, settings.tie, dtype, device)
        model._theta = model._ops.vector(theta.copy())
        model._sum = model._ops.vector(entry(state, "theta_sum", (d,)).copy())
        model._judgments = int(entry(state, "steps", ()))
        return model
