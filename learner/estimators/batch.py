"""Maximum likelihood over all judgments at once: the reference, and the periodic refit."""

from __future__ import annotations

from typing import Self

import numpy as np
import scipy.linalg

from learner.errors import LearnerError
from learner.estimators.arrays import checked_dtype
from learner.estimators.contract import (
    Array,
    Update,
    check_answer,
    check_answers,
    check_dimension,
    check_rows,
)
from learner.estimators.likelihood import Preference
from learner.estimators.settings import Settings
from learner.estimators.state import Saved, State, check_header, entry, header

MAX_STEPS = 100


class BatchMLE:
    """Ridge maximum likelihood: ``argmin sum l_i(theta) + lambda/2 |theta|^2``, by damped Newton.

    It keeps every judgment. Learning only appends; the fit happens when a result is first read after
    that, starting from the last solution (warm) unless told otherwise. The order of judgments does not
    matter, and P is the inverse Hessian at the solution.

    Parameters
    ----------
    dimension : int
        d.
    regularization : float
        lambda > 0.
    tie : float
        Davidson's weight of a tie; 0 for Bradley-Terry.
    warm : bool
        Start Newton from the last solution; from zero otherwise.
    dtype : {"float64", "float32"}
        Precision of the differences kept, which are what takes memory. The fit is float64 in either case, since its
        gradient is driven to 1e-9 a judgment, and runs on the processor: SciPy factors the Hessian, so there is no
        ``device``.

    Examples
    --------
    >>> model = BatchMLE(1)
    >>> model.learn_many(np.ones((100, 1)), np.arange(100) < 80)
    >>> model.theta.round(3)
    array([1.307])
    """

    def __init__(
        self,
        dimension: int,
        regularization: float = 1.0,
        tie: float = 0.0,
        warm: bool = True,
        dtype: str = "float64",
    ) -> None:
        self.settings = Settings.practical(regularization, tie=tie)
        self._dimension = check_dimension(dimension)
        self._preference = Preference(tie)
        self.warm, self.dtype = warm, checked_dtype(dtype)
        self._parts: list[tuple[Array, Array]] = []
        self._theta: Array = np.zeros(self._dimension)
        self._factor: Array | None = None
        self.newton_steps = 0

    @property
    def dimension(self) -> int:
        """d."""
        return self._dimension

    @property
    def judgments(self) -> int:
        """Judgments kept."""
        return sum(len(labels) for _, labels in self._parts)

    def learn_one(self, z: Array, y: float, weight: float = 1.0) -> Update | None:
        """Keep one judgment; O(d). None: the covariance moves as a whole, at the next fit."""
        label, rho = check_answer(y, weight)
        row = check_rows(z, self._dimension, "z")
        if len(row) != 1:
            raise LearnerError(f"z has shape {np.shape(z)}, expected ({self._dimension},)")
        self.learn_many(row, np.array([label]), np.array([rho]))
        return None

    def learn_many(self, Z: Array, y: Array, weight: Array | None = None) -> None:
        """Keep judgments; O(n d)."""
        rows = check_rows(Z, self._dimension, "Z", self.dtype)
        labels, weights = check_answers(y, weight, rows)
        self._parts.append(((rows * weights[:, None]).astype(self.dtype, copy=False), labels.copy()))
        self._factor = None

    def data(self) -> tuple[Array, Array]:
        """The weighted differences (n, d) and labels (n,) kept so far."""
        if len(self._parts) != 1:
            rows = [part[0] for part in self._parts] or [np.zeros((0, self._dimension), self.dtype)]
            labels = [part[1] for part in self._parts] or [np.zeros(0)]
            self._parts = [(np.concatenate(rows), np.concatenate(labels))]
        return self._parts[0]

    def fit(self) -> None:
        """Newton to a gradient of 1e-9 a judgment; O(n d^2 + d^3) a step. Reading a result calls it."""
        kept, labels = self.data()
        rows, theta = kept.astype(np.float64, copy=False), self._start()
        enough = 1e-9 * (1.0 + len(labels))
        for step in range(MAX_STEPS):
            self.newton_steps = step
            margins = rows @ theta
            gradient = rows.T @ (self._preference.means(margins) - labels)
            gradient += self.settings.regularization * theta
            self._factor = self._hessian_factor(rows, margins)
            if float(np.abs(gradient).max()) <= enough:
                self._theta = theta
                return
            theta = self._descend(rows, labels, theta, gradient)
        raise LearnerError(f"maximum likelihood did not converge in {MAX_STEPS} Newton steps")

    def _start(self) -> Array:
        return self._theta if self.warm else np.zeros(self._dimension)

    def _hessian_factor(self, rows: Array, margins: Array) -> Array:
        scaled = rows * np.sqrt(self._preference.curvatures(margins))[:, None]
        hessian = scaled.T @ scaled
        hessian[np.diag_indices(self._dimension)] += self.settings.regularization
        factor: Array = scipy.linalg.cholesky(hessian, lower=True)
        return factor

    def _descend(self, rows: Array, labels: Array, theta: Array, gradient: Array) -> Array:
        """Newton's step, halved until the objective falls (far from the solution a full one may not)."""
        direction: Array = scipy.linalg.cho_solve((self._factor, True), gradient)
        before, slope = self._objective(rows, labels, theta), float(gradient @ direction)
        length = 1.0
        while length > 1e-10:
            following: Array = theta - length * direction
            if self._objective(rows, labels, following) <= before - 1e-4 * length * slope + 1e-12 * before:
                return following
            length /= 2
        return theta - direction

    def _objective(self, rows: Array, labels: Array, theta: Array) -> float:
        losses = self._preference.losses(rows @ theta, labels)
        return float(losses.sum() + 0.5 * self.settings.regularization * theta @ theta)

    def _fitted(self) -> Array:
        if self._factor is None:
            self.fit()
        assert self._factor is not None  # noqa: S101 - fit sets it or raises
        return self._factor

    @property
    def theta(self) -> Array:
        """The solution; a copy. Fits if judgments came since the last fit."""
        self._fitted()
        return self._theta.copy()

    @property
    def theta_mean(self) -> Array:
        """The solution: a batch fit has one iterate."""
        return self.theta

    @property
    def covariance(self) -> Array:
        """Inverse Hessian at the solution, shape (d, d); O(d^3)."""
        inverse: Array = scipy.linalg.cho_solve((self._fitted(), True), np.eye(self._dimension))
        return inverse

    @property
    def log_det(self) -> float:
        """ln det of the Hessian at the solution."""
        return 2.0 * float(np.log(np.diagonal(self._fitted())).sum())

    def radius(self, confidence: float = 0.95) -> float:
        """Normal quantile of the Laplace approximation, pointwise."""
        return self.settings.radius(confidence, self._dimension, self.judgments)

    def predict(self, Z: Array) -> Array:
        """P(first preferred) of each row; O(n d)."""
        return self._preference.means(check_rows(Z, self._dimension, "Z") @ self.theta)

    def reward(self, features: Array) -> Array:
        """``phi . theta`` of each row; O(n d)."""
        return np.asarray(check_rows(features, self._dimension, "features") @ self.theta)

    def width(self, Z: Array) -> Array:
        """``sqrt(z^T P z)`` of each row, by a triangular solve; O(n d^2)."""
        rows = check_rows(Z, self._dimension, "Z", self.dtype)
        half = scipy.linalg.solve_triangular(self._fitted(), rows.T, lower=True)
        return np.asarray(np.sqrt((half * half).sum(axis=0)))

    def state(self) -> State:
        """All judgments and the last solution; nothing is fitted for it. O(n d)."""
        rows, labels = self.data()
        return header("BatchMLE", self._dimension) | {
            "settings": self.settings.array(),
            "warm": np.array(self.warm),
            "theta": self._theta.copy(),
            "rows": rows.copy(),
            "labels": labels.copy(),
        }

    @classmethod
    def from_state(cls, state: Saved) -> Self:
        """Estimator that continues where `state` was taken; fits again when first read."""
        d = check_header(state, "BatchMLE")
        settings = Settings.from_array(entry(state, "settings", (7,), finite=False))
        count = len(np.atleast_1d(state.get("labels", np.zeros(0))))
        rows, warm = entry(state, "rows", (count, d)), bool(entry(state, "warm", ()))
        model = cls(d, settings.regularization, settings.tie, warm, str(rows.dtype))
        model._theta = entry(state, "theta", (d,)).copy()
        model.learn_many(rows, entry(state, "labels", (count,)))
        return model
