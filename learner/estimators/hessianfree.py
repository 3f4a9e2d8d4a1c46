"""Algorithm 5: Hessian-vector products and conjugate gradients, where a d x d matrix does not fit."""

from __future__ import annotations

from collections.abc import Callable
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
    largest_square,
)
from learner.estimators.likelihood import Preference
from learner.estimators.settings import Settings
from learner.estimators.state import Saved, State, check_header, entry, header

DENSE_LIMIT = 4096


def conjugate_gradient(
    product: Callable[[Any], Any], b: Any, steps: int, tolerance: float = 0.0, start: Any | None = None
) -> Any:
    """Approximate solution of ``A x = b`` for a symmetric positive definite A given by its products.

    beta is ``|r_new|^2 / |r_old|^2``. It stops early at a residual of ``tolerance |b|``, and at a direction
    of no curvature (a network's Hessian may have one), keeping what it has.

    Parameters
    ----------
    product : callable
        v -> A v, for NumPy vectors or torch vectors of one device.
    b : vector, shape (d,)
        Right-hand side.
    steps : int
        Most steps; one product and O(d) each. d steps solve exactly but for rounding.
    tolerance : float
        Relative residual that is enough.
    start : vector, optional
        First guess; zero if not given.

    Returns
    -------
    vector, shape (d,)

    Examples
    --------
    >>> A = np.array([[2.0, 1.0], [1.0, 3.0]])
    >>> conjugate_gradient(lambda v: A @ v, np.array([3.0, 4.0]), steps=2).round(9)
    array([1., 1.])
    """
    x = b * 0.0 if start is None else start
    residual = b - product(x) if start is not None else b * 1.0
    direction = residual
    size = float(residual @ residual)
    enough = tolerance * tolerance * float(b @ b)
    for _ in range(steps):
        if size <= enough or size == 0.0:
            break
        image = product(direction)
        bend = float(direction @ image)
        if bend <= 0.0:
            break
        length = size / bend
        x = x + length * direction
        residual = residual - length * image
        following = float(residual @ residual)
        direction = residual + (following / size) * direction
        size = following
    return x


def damping(step: int, total: int, initial: float = 0.8) -> float:
    """``lambda_t = lambda_0 min(1, t/T)`` of Algorithm 5, linear in the step; O(1).

    >>> damping(50, 100), damping(200, 100)
    (0.4, 0.8)
    """
    return initial * min(1.0, step / max(1, total))


class HessianFree:
    """One-pass Newton without a matrix: 3 conjugate-gradient steps on ``(H_t(theta) + lambda_t I) v = g``.

    For linear rewards with d of 8,192 and more. ``H_t(theta) = lambda I + sum of curvatures z z^T`` runs
    over *all* judgments so far, at the current theta, through their differences: O(t d) memory and
    O(steps t d) a judgment, or over a uniform sample of `memory` of them, scaled up. `learn_batch`
    takes one step for many judgments. Widths are solved for by conjugate gradients; the dense covariance
    and determinant exist up to d = 4,096 only.

    Parameters
    ----------
    dimension : int
        d.
    total : int
        T, judgments after which the damping stops growing.
    steps : int
        K, conjugate-gradient steps.
    step_size, regularization, tie
        eta, lambda and Davidson's weight, as in `Settings`.
    initial_damping : float
        lambda_0.
    memory : int, optional
        Most differences kept (reservoir sampling); all if not given.
    seed : int
        Of the reservoir.
    dtype : {"float64", "float32"}
        Precision of all arrays; labels, weights and results that need a matrix are float64.
    device : str
        Where the differences kept, theta and the products are: "cpu" (NumPy), or a torch device such as "cuda". A step
        sends t margins to the processor and t curvatures back, beside its 4 t d operations for each product there.

    Raises
    ------
    LearnerError
        Wrong shape, not finite, label outside [0, 1], constants out of range, another dtype.

    Examples
    --------
    >>> model = HessianFree(1)
    >>> model.learn_one(np.array([1.0]), 1.0)
    >>> model.theta.round(3)
    array([0.4])
    """

    def __init__(
        self,
        dimension: int,
        total: int = 10_000,
        steps: int = 3,
        *,
        step_size: float = 1.0,
        regularization: float = 1.0,
        tie: float = 0.0,
        initial_damping: float = 0.8,
        memory: int | None = None,
        seed: int = 0,
        dtype: str = "float64",
        device: str = "cpu",
    ) -> None:
        self.settings = Settings.practical(regularization, step_size, tie=tie)
        if min(total, steps, 1 if memory is None else memory) < 1 or not initial_damping >= 0:
            raise LearnerError(f"total {total}, steps {steps}, memory {memory}, damping {initial_damping}")
        self._dimension = check_dimension(dimension)
        self.total, self.steps, self.initial_damping = total, steps, float(initial_damping)
        self.memory, self.seed = memory, seed
        self._preference = Preference(tie)
        ops = self._ops = ops_for(dtype, device)
        self.dtype, self.device = np.dtype(dtype), device
        self._theta, self._sum = ops.zeros(self._dimension), ops.zeros(self._dimension)
        self._rows = ops.rows(16, self._dimension)
        self._kept = self._judgments = 0

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
        """Mean of the iterates, each counted once for every judgment of its step."""
        return np.array(self._ops.numpy(self._sum)) / max(1, self._judgments)

    def radius(self, confidence: float = 0.95) -> float:
        """Normal quantile of the Laplace approximation, pointwise."""
        return self.settings.radius(confidence, self._dimension, self._judgments)

    def learn_one(self, z: Array, y: float, weight: float = 1.0) -> Update | None:
        """One step for one judgment; None, since there is no covariance to tell about."""
        label, rho = check_answer(y, weight)
        row = check_rows(z, self._dimension, "z")
        if len(row) != 1:
            raise LearnerError(f"z has shape {np.shape(z)}, expected ({self._dimension},)")
        self.learn_many(row, np.array([label]), np.array([rho]))
        return None

    def learn_many(self, Z: Array, y: Array, weight: Array | None = None) -> None:
        """One step for each row, in order, to the same bits as `learn_one`."""
        rows = check_rows(Z, self._dimension, "Z", self.dtype)
        labels, weights = check_answers(y, weight, rows, largest_square(self.dtype, power=3.0))
        for index in range(len(rows)):
            self._learn(weights[index] * rows[index : index + 1], labels[index : index + 1])

    def learn_batch(self, Z: Array, y: Array, weight: Array | None = None) -> None:
        """One step for all rows together, as Algorithm 5 does with mini-batches."""
        rows = check_rows(Z, self._dimension, "Z", self.dtype)
        labels, weights = check_answers(y, weight, rows, largest_square(self.dtype, power=3.0))
        if len(rows):
            self._learn(weights[:, None] * rows, labels)

    def _learn(self, differences: Array, labels: Array) -> None:
        rows = self._ops.vector(differences)
        gradient = rows.T @ self._ops.vector(self._preference.means(self._margins(rows)) - labels)
        for row in rows:
            self._keep(row)
        extra = damping(self._judgments, self.total, self.initial_damping)
        product = self._hessian_product(extra)
        self._theta -= self.settings.step_size * conjugate_gradient(product, gradient, self.steps)
        self._sum += len(rows) * self._theta

    def _margins(self, rows: Any) -> Array:
        """``z . theta`` of rows on the device, as NumPy has it."""
        return self._ops.numpy(rows @ self._theta)

    def _keep(self, row: Any) -> None:
        """Algorithm R: after t judgments each is kept with probability memory/t."""
        self._judgments += 1
        place = self._kept
        if self.memory is not None and self._kept == self.memory:
            place = int(np.random.default_rng([self.seed, self._judgments]).integers(self._judgments))
            if place >= self.memory:
                return
        if place == len(self._rows):
            grown = self._ops.rows(2 * place, self._dimension)
            grown[:place] = self._rows
            self._rows = grown
        self._rows[place] = row
        self._kept = max(self._kept, place + 1)

    def _curvatures(self) -> Any:
        """Curvature of each judgment kept, scaled up to all judgments."""
        scale = self._judgments / max(1, self._kept)
        return self._ops.vector(scale * self._preference.curvatures(self._margins(self._rows[: self._kept])))

    def _hessian_product(self, extra: float = 0.0) -> Callable[[Any], Any]:
        """v -> ``(H_t(theta) + extra I) v``, the sample scaled up to all judgments."""
        rows, weights = self._rows[: self._kept], self._curvatures()
        ridge = self.settings.regularization + extra
        return lambda v: rows.T @ (weights * (rows @ v)) + ridge * v

    def hessian(self) -> Array:
        """``H_t(theta)`` as a matrix, shape (d, d), up to d = 4,096; O(t d^2)."""
        if self._dimension > DENSE_LIMIT:
            raise LearnerError(
                f"a dense matrix of dimension {self._dimension} exceeds {DENSE_LIMIT}; use width"
            )
        rows = self._rows[: self._kept]
        gram = self._ops.numpy((rows.T * self._curvatures()) @ rows)
        gram = 0.5 * (gram + gram.T)  # a product in float32 is symmetric to its rounding only
        return np.asarray(gram + self.settings.regularization * np.eye(self._dimension))

    @property
    def covariance(self) -> Array:
        """Inverse of `hessian`; O(d^3)."""
        return np.linalg.inv(self.hessian())

    @property
    def log_det(self) -> float:
        """ln det of `hessian`; O(d^3)."""
        return float(np.linalg.slogdet(self.hessian())[1])

    def predict(self, Z: Array) -> Array:
        """P(first preferred) of each row; O(n d)."""
        return self._preference.means(check_rows(Z, self._dimension, "Z") @ self.theta.astype(np.float64))

    def reward(self, features: Array) -> Array:
        """``phi . theta`` of each row; O(n d)."""
        rows = check_rows(features, self._dimension, "features")
        return np.asarray(rows @ self.theta.astype(np.float64))

    def width(self, Z: Array) -> Array:
        """``sqrt(z^T H^-1 z)`` of each row; O(min(d, t) t d) a row.

        Solved to a relative residual of 1e-8, or of what float32 can tell (1e-6).
        """
        rows = self._ops.vector(check_rows(Z, self._dimension, "Z"))
        product, most = self._hessian_product(), 2 * min(self._dimension, self._kept + 1) + 10
        enough = max(1e-8, 8 * self._ops.precise)
        solved = [float(row @ conjugate_gradient(product, row, most, enough)) for row in rows]
        return np.asarray(np.sqrt(np.maximum(np.array(solved), 0.0)))

    def state(self) -> State:
        """Everything, with the differences kept; O(t d)."""
        memory = -1 if self.memory is None else self.memory
        counts = [self._judgments, self.total, self.steps, memory, self.seed]
        return header("HessianFree", self._dimension) | {
            "settings": self.settings.array(),
            "theta": self.theta,
            "theta_sum": np.array(self._ops.numpy(self._sum)),
            "rows": np.array(self._ops.numpy(self._rows[: self._kept])),
            "steps": np.array(counts, dtype=np.int64),
            "damping": np.array(self.initial_damping),
        }

    @classmethod
    def from_state(cls, state: Saved, device: str = "cpu") -> Self:
        """Estimator that continues where `state` was taken, in its precision, on this device."""
        d = check_header(state, "HessianFree")
        settings = Settings.from_array(entry(state, "settings", (7,), finite=False))
        theta = entry(state, "theta", (d,))
        judgments, total, steps, memory, seed = (int(count) for count in entry(state, "steps", (5,)))
        model = cls(
            d,
            total,
            steps,
            step_size=settings.step_size,
            regularization=settings.regularization,
            tie=settings.tie,
            initial_damping=float(entry(state, "damping", ())),
            memory=None if memory < 0 else memory,
            seed=seed,
            dtype=str(theta.dtype),
            device=device,
        )
        ops = model._ops
        model._theta = ops.vector(theta.copy())
        model._sum = ops.vector(entry(state, "theta_sum", (d,)).copy())
        model._kept, model._judgments = len(np.atleast_1d(state.get("rows", np.zeros(0)))), judgments
        rows = entry(state, "rows", (model._kept, d))
        model._rows = ops.rows(max(1, 2 * model._kept), d)
        model._rows[: model._kept] = ops.vector(rows.copy())
        return model
