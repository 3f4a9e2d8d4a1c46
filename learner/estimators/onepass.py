"""Algorithm 1: one-pass reward modelling by mirror descent with a tailored local norm, O(d^2) a judgment."""

from __future__ import annotations

import logging
import math
from functools import cached_property
from typing import Any, Self

import numpy as np

from learner.errors import LearnerError
from learner.estimators.arrays import one_thread, ops_for, symmetric
from learner.estimators.blocked import ROWS, Blocked
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
from learner.estimators.projection import project
from learner.estimators.settings import Settings
from learner.estimators.state import Saved, State, check_header, entry, header

log = logging.getLogger(__name__)

PROBE_EVERY = 8 * ROWS
REFRESH_EVERY = {"float64": 8192, "float32": 1024}


class OnePass:
    """Reward model ``r = phi . theta`` that learns each judgment once, at once and forgets it (Algorithm 1).

    Use it for everything live: it needs no pass over old judgments, and with the practical constants its
    accuracy and log-loss are those of the maximum-likelihood fit. Results depend on the order of judgments;
    the same order gives the same bits, from scratch or from a saved state, on one kind of processor.

    Parameters
    ----------
    dimension : int
        d, the length of a feature vector.
    settings : Settings, optional
        Constants; ``Settings.practical()`` if not given, ``Settings.theory(d, B, L)`` for Lemma 1's.
    regularization : float, optional
        Short for ``Settings.practical(regularization=...)``.
    dtype : {"float64", "float32"}
        Precision of all arrays but the sum of iterates, which is float64; float64 up to d = 2,048.
    device : str
        "cpu" (BLAS), or a torch device such as "cuda".
    ledger : bool
        Keep H beside P. Every 256 judgments ``P H v - v`` is measured on a fixed v (`drift`), and P is
        recomputed from H by Cholesky when it is above 1e-6 (float32: 1e-3) or `refresh_every` is reached.
        Costs d^2 numbers of memory.
    refresh_every : int, optional
        Judgments between recomputations of P, rounded up to 32. If not given 8,192 (float64: the drift
        after as many is about 1e-14) or 1,024 (float32), and d if that is more.

    Raises
    ------
    LearnerError
        Wrong shape, not finite, label outside [0, 1], constants out of range.

    Examples
    --------
    >>> model = OnePass(2)
    >>> update = model.learn_one(np.array([1.0, 0.0]), 1.0)
    >>> model.theta.round(3), model.judgments
    (array([0.4, 0. ]), 1)
    >>> model.predict(np.array([[1.0, 0.0]])).round(3)
    array([0.599])
    """

    def __init__(
        self,
        dimension: int,
        settings: Settings | None = None,
        *,
        regularization: float | None = None,
        dtype: str = "float64",
        device: str = "cpu",
        ledger: bool = True,
        refresh_every: int | None = None,
    ) -> None:
        if settings is not None and regularization is not None:
            raise LearnerError("give settings or regularization, not both")
        practical = Settings.practical(1.0 if regularization is None else regularization)
        self.settings = settings if settings is not None else practical
        self._dimension = check_dimension(dimension)
        self._ops = ops_for(dtype, device)
        self._sum_ops = ops_for("float64", device)  # float32 would be off by 4e-4 after 150,000 judgments
        self.dtype, self.device = np.dtype(dtype), device
        period = max(REFRESH_EVERY[dtype], self._dimension) if refresh_every is None else int(refresh_every)
        self._refresh_every = -(-max(1, period) // ROWS) * ROWS
        self._preference = Preference(self.settings.tie)
        power = 1.0 if math.isinf(self.settings.norm_bound) else 2.0  # the projection takes |theta|^3
        self.largest = largest_square(dtype, self.settings.regularization, power)
        self._begin(ledger)

    def _begin(self, ledger: bool) -> None:
        """Step 0 of Algorithm 1: theta = 0, H = lambda I."""
        ops, d, lam = self._ops, self._dimension, self.settings.regularization
        self._covariance = Blocked(ops, ops.eye(d, 1 / lam), -1.0)
        self._precision = Blocked(ops, ops.eye(d, lam), 1.0) if ledger else None
        self._theta, self._theta_sum = ops.zeros(d), self._sum_ops.zeros(d)
        self._judgments = self._moves = self.refreshes = 0
        self._log_det = d * math.log(lam)
        self._drift = 0.0

    @property
    def dimension(self) -> int:
        """d."""
        return self._dimension

    @property
    def judgments(self) -> int:
        """Judgments learned so far."""
        return self._judgments

    @property
    def theta(self) -> Array:
        """Latest iterate theta_t, shape (d,); a copy."""
        return np.array(self._ops.numpy(self._theta))

    @property
    def theta_mean(self) -> Array:
        """Mean of the iterates after each judgment, shape (d,): the output policy of Algorithm 3."""
        mean = self._sum_ops.numpy(self._theta_sum) / max(1, self._judgments)
        return np.asarray(mean, self.dtype)

    @property
    def covariance(self) -> Array:
        """P = H^-1, shape (d, d), symmetric; a copy, O(d^2)."""
        return symmetric(self._ops.numpy(self._covariance.lower()))

    @property
    def log_det(self) -> float:
        """ln det H: how much has been learned, over all directions."""
        return self._log_det

    def radius(self, confidence: float = 0.95) -> float:
        """Multiplier beta of a width that gives an interval of that confidence; O(1).

        With `theory` it is Lemma 1's beta_t and holds for all directions and steps at once. With
        `practical` it is the normal quantile times the stated multiplier: H is then the Hessian of the
        loss, P the Laplace covariance, and the interval is pointwise; its coverage is measured, not proved:
        at 90 % it held 85 to 91 % of true margins with mean |z|^2 = 1 (d = 8 and 64, 400 and 4,000 answers;
        the MLE's 86 to 92 %), but 33 to 75 % with mean |z|^2 = d and margins of several logits, and less
        with a lambda that shrinks too much. Scale features so, and raise the multiplier to be safe.
        """
        return self.settings.radius(confidence, self._dimension, self._judgments)

    def learn_one(self, z: Array, y: float, weight: float = 1.0) -> Update | None:
        """Learn one judgment: steps 1 to 4 of Algorithm 1 in rank-one form, O(d^2).

        Parameters
        ----------
        z : array, shape (d,)
            Difference of features, first minus second.
        y : float
            1 if the first was preferred, 0 if the second, 1/2 for a tie, between for graded strength.
        weight : float
            Annotator's reliability rho >= 0; z is scaled by it.

        Returns
        -------
        Update or None
            How P moved, or None when it did not (``weight * z`` is zero).
        """
        label, rho = check_answer(y, weight)
        with one_thread:
            vector = self._ops.vector(z)
            if tuple(vector.shape) != (self._dimension,):
                raise LearnerError(f"z has shape {tuple(vector.shape)}, expected ({self._dimension},)")
            return self._learn(vector if rho == 1.0 else vector * rho, label)

    def learn_many(self, Z: Array, y: Array, weight: Array | None = None) -> None:
        """Learn judgments in the order of the rows, each as by `learn_one`, to the same bits; O(n d^2)."""
        rows = check_rows(Z, self._dimension, "Z", self.dtype)
        labels, weights = check_answers(y, weight, rows, self.largest)
        with one_thread:
            for row, label, rho in zip(rows, labels.tolist(), weights.tolist(), strict=True):
                vector = self._ops.vector(row)
                self._learn(vector if rho == 1.0 else vector * rho, label)

    def _learn(self, z: Any, y: float) -> Update | None:
        ops = self._ops
        size = ops.dot(z, z)
        if size == 0.0:
            self._count()
            return None
        u = self._covariance.times(z)
        q = ops.dot(z, u)
        margin = ops.dot(z, self._theta)
        if not (size <= self.largest and math.isfinite(q)):
            raise LearnerError(f"z is not finite or too large: |z|^2 = {size}, z . Pz = {q}")
        margin = self._step(z, u, q, margin, y)
        curvature = self._preference.moments(margin)[1]
        c = curvature / (1.0 + curvature * q)
        folded = self._covariance.add(u, math.sqrt(c))
        self._log_det += math.log1p(curvature * q)
        self._moves += 1
        self._count()
        if self._precision is not None:
            self._precision.add(z, math.sqrt(curvature))
        return Update(ops.numpy(u), c, self._judgments, folded and self._refresh())

    def _step(self, z: Any, u: Any, q: float, margin: float, y: float) -> float:
        """Steps 2 and 3 of Algorithm 1; the margin at the new theta."""
        eta = self.settings.step_size
        mean, curvature = self._preference.moments(margin)
        step = -eta * (mean - y) / (1.0 + eta * curvature * q)
        return self._move(z, u, q, margin, step, eta * curvature)

    def _move(self, z: Any, u: Any, q: float, margin: float, step: float, curvature: float) -> float:
        """Go `step` along u, then project in the norm of ``H + curvature z z^T`` if theta left the ball."""
        ops, bound = self._ops, self.settings.norm_bound
        ops.add(self._theta, u, step)
        if math.isinf(bound) or ops.dot(self._theta, self._theta) <= bound * bound:
            return margin + step * q
        local = ops.rank_one(self._covariance.lower(), u, -curvature / (1.0 + curvature * q))
        self._theta = project(ops, local, self._theta, bound)
        return ops.dot(z, self._theta)

    def _count(self) -> None:
        self._judgments += 1
        self._sum_ops.add(self._theta_sum, self._sum_ops.vector(self._theta), 1.0)

    @property
    def drift(self) -> float:
        """max |P H v - v| at the last probe; NaN without a ledger, where nothing is measured."""
        return self._drift if self._precision is not None else math.nan

    def _refresh(self) -> bool:
        """At the end of a block: probe P against H, recompute it when that is due or it has drifted.

        Moves are counted in the state, so a replay recomputes at the same places.
        """
        due = self._moves % self._refresh_every == 0
        if self._precision is None or not (due or self._moves % PROBE_EVERY == 0):
            return False
        image = self._covariance.times(self._precision.times(self._probe))
        self._ops.add(image, self._probe, -1.0)
        self._drift = float(abs(image).max())
        if not due and self._drift <= self._tolerance:
            return False
        self._covariance.replace(self._ops.invert(self._precision.lower()))
        self.refreshes += 1
        log.log(self._level, "covariance recomputed at step %d, drift %.1e", self._judgments, self._drift)
        return True

    @property
    def _level(self) -> int:
        return logging.WARNING if self._drift > self._tolerance else logging.DEBUG

    @property
    def _tolerance(self) -> float:
        """Drift that is repaired at once: 1e-6, or what float32 can hold."""
        return max(1e-6, 1e4 * self._ops.precise)

    @cached_property
    def _probe(self) -> Any:
        """A fixed vector of signs."""
        bits = (np.arange(1, self._dimension + 1, dtype=np.uint64) * np.uint64(2654435761)) >> np.uint64(13)
        return self._ops.vector(1.0 - 2.0 * (bits & np.uint64(1)))

    def predict(self, Z: Array) -> Array:
        """P(first preferred), plus half of P(tie) under Davidson's model, for each row; O(n d)."""
        rows = check_rows(Z, self._dimension, "Z")
        return self._preference.means(rows @ self.theta.astype(np.float64))

    def reward(self, features: Array) -> Array:
        """``phi . theta`` of each row; comparable within a prompt only. O(n d)."""
        rows = check_rows(features, self._dimension, "features")
        return np.asarray(rows @ self.theta.astype(np.float64))

    def width(self, Z: Array) -> Array:
        """``sqrt(z^T P z)`` of each row: one standard deviation of its margin; O(n d^2)."""
        rows = check_rows(Z, self._dimension, "Z")
        squares = np.einsum("ij,ij->i", rows @ self.covariance.astype(np.float64), rows)
        return np.asarray(np.sqrt(np.maximum(squares, 0.0)))

    def state(self, *, quick: bool = False) -> State:
        """Everything, as named arrays (copies); `from_state` resumes to the same bits. O(d^2).

        ``quick``: quicker to take, but to be packed (`blocked.pack`) before it is saved.
        """
        state = header(type(self).__name__, self._dimension) | {
            "settings": self.settings.array(),
            "theta": self.theta,
            "theta_sum": np.array(self._sum_ops.numpy(self._theta_sum)),
            "steps": np.array([self._judgments, self._moves, self.refreshes, self._refresh_every]),
            "scalars": np.array([self._log_det, self._drift]),
        }
        state |= self._covariance.state("covariance", quick=quick)
        if self._precision is not None:
            state |= self._precision.state("precision", quick=quick)
        return state

    @classmethod
    def from_state(cls, state: Saved, device: str = "cpu") -> Self:
        """Estimator that continues where `state` was taken; O(d^2). A foreign state is a `LearnerError`."""
        d = check_header(state, cls.__name__)
        theta = entry(state, "theta", (d,))
        steps = [int(count) for count in entry(state, "steps", (4,))]
        settings = Settings.from_array(entry(state, "settings", (7,), finite=False))
        model = cls(d, settings, dtype=str(theta.dtype), device=device, ledger=False)
        ops = model._ops
        model._theta = ops.vector(theta.copy())
        model._theta_sum = model._sum_ops.vector(entry(state, "theta_sum", (d,)).copy())
        model._judgments, model._moves, model.refreshes, model._refresh_every = steps
        model._log_det, model._drift = (float(value) for value in entry(state, "scalars", (2,)))
        model._covariance = Blocked.load(ops, state, "covariance", d, -1.0)
        if "precision_lower" in state:
            model._precision = Blocked.load(ops, state, "precision", d, 1.0)
        return model
