"""The interface every estimator keeps, and the checks at its edge."""

from __future__ import annotations

import math
from typing import Any, NamedTuple, Protocol, Self, runtime_checkable

import numpy as np
import numpy.typing as npt

from learner.errors import LearnerError
from learner.estimators.state import Saved, State

Array = npt.NDArray[np.floating]


class Update(NamedTuple):
    """How one judgment moved the covariance: ``P -= c u u^T`` (ALGORITHMS section 4, incremental scores).

    Attributes
    ----------
    u : ndarray, shape (d,)
        ``P z`` before the step.
    c : float
        ``w+ / (1 + w+ z^T P z)`` with the curvature at the look-ahead point.
    step : int
        Judgments learned, this one included.
    refreshed : bool
        The covariance was also recomputed from the ledger after this step (changes of rounding size).
    """

    u: Array
    c: float
    step: int
    refreshed: bool = False


@runtime_checkable
class Estimator(Protocol):
    """What the app, the rules and the benchmarks ask of an estimator; arrays are NumPy, d the dimension.

    `learn_one` and `learn_many` are the only calls that change anything. Labels lie in [0, 1], 1/2 is a
    tie; ``weight`` is the annotator's reliability rho and scales z.
    """

    @property
    def dimension(self) -> int:
        """d. O(1)."""

    @property
    def judgments(self) -> int:
        """Judgments learned so far, those of weight 0 included. O(1), O(calls) for `BatchMLE`."""

    @property
    def theta(self) -> Array:
        """Latest parameters, shape (d,); a copy. O(d); `BatchMLE` fits first where judgments came since."""

    @property
    def theta_mean(self) -> Array:
        """Mean of theta after each judgment, shape (d,), zeros before the first; a copy. Cost as for `theta`."""

    @property
    def covariance(self) -> Array:
        """P, the inverse of H, shape (d, d), symmetric; a copy. O(d^2), O(t d^2 + d^3) where H is made for it.

        LearnerError for `HessianFree` above d = 4,096.
        """

    @property
    def log_det(self) -> float:
        """ln det H, in nats. O(1), O(t d^2 + d^3) where H is made for it; errors as for `covariance`."""

    def learn_one(self, z: Array, y: float, weight: float = 1.0) -> Update | None:
        """Learn one judgment; how P moved, or None where it did not or moves as a whole.

        Cost: `OnePass` O(d^2), `SGD` O(d), `HessianFree` O(steps t d) for t judgments kept, `BatchMLE` O(d).

        Parameters
        ----------
        z : (d,) difference of features, first minus second
        y : label in [0, 1]
        weight : rho, finite, >= 0

        Raises
        ------
        LearnerError
            Another shape, a number that is not finite or out of range, a ``|weight z|^2`` that overflows; nothing
            was learned then.
        """

    def learn_many(self, Z: Array, y: Array, weight: Array | None = None) -> None:
        """Learn the rows of Z (n, d) with labels (n,) and weights (n,), ones if not given, in their order.

        To the same bits as `learn_one` on each. Cost and errors are its; every row is checked before the first is
        learned, and the error names the row.
        """

    def predict(self, Z: Array) -> Array:
        """P(first preferred), plus half of P(tie), of n differences (n, d): (n,). O(n d).

        LearnerError for another shape or a row that is not finite, as for `reward` and `width`.
        """

    def reward(self, features: Array) -> Array:
        """``phi . theta`` of n responses (n, d), in logits: (n,); comparable within a prompt only. O(n d)."""

    def width(self, Z: Array) -> Array:
        """``sqrt(z^T P z)`` of n differences (n, d), in logits: (n,).

        O(n d^2); `SGD` O(n d), `HessianFree` O(min(d, t) t d) a row.
        """

    def radius(self, confidence: float = 0.95) -> float:
        """beta: a margin's interval is ``z . theta`` +- beta width. O(1). LearnerError unless 0 < confidence < 1."""

    def state(self) -> State:
        """Everything as named arrays, copies; `from_state` goes on from it to the same bits.

        O(d^2); `SGD` O(d), O(t d) where judgments are kept.
        """

    @classmethod
    def from_state(cls, state: Saved) -> Self:
        """Estimator that continues where `state` was taken. Cost as for `state`.

        LearnerError for the state of another kind or version, and for an entry that is missing or does not fit.
        """


def check_dimension(dimension: int) -> int:
    """A positive whole number, or `LearnerError`."""
    if isinstance(dimension, bool) or int(dimension) != dimension or dimension < 1:
        raise LearnerError(f"dimension is {dimension!r}, expected a whole number of at least 1")
    return int(dimension)


def check_answer(y: float, weight: float) -> tuple[float, float]:
    """A label in [0, 1] and a weight that is finite and not negative, as floats."""
    label, rho = float(y), float(weight)
    if not 0.0 <= label <= 1.0:
        raise LearnerError(f"y is {y!r}, expected a number from 0 to 1 (1/2 for a tie)")
    if not 0.0 <= rho < math.inf:
        raise LearnerError(f"weight is {weight!r}, expected a finite number of at least 0")
    return label, rho


def check_rows(rows: Any, dimension: int, name: str, dtype: Any = np.float64) -> Array:
    """A finite matrix of shape (n, d); a single vector counts as one row."""
    matrix = np.atleast_2d(np.asarray(rows, dtype=dtype))
    if matrix.ndim != 2 or matrix.shape[1] != dimension:
        raise LearnerError(f"{name} has shape {np.shape(rows)}, expected (n, {dimension})")
    finite = np.isfinite(matrix).all(axis=1)
    if not finite.all():
        raise LearnerError(f"{name} is not finite in row {int(np.argmin(finite))}")
    return matrix


def largest_square(dtype: Any, regularization: float = 1.0, power: float = 1.0) -> float:
    """The largest ``|z|^2`` whose power is finite in this precision, and so ``z^T P z <= |z|^2 / lambda``. O(1)."""
    return float(np.finfo(dtype).max ** (1.0 / power) * min(1.0, regularization))


def check_answers(y: Any, weight: Any, rows: Array, largest: float | None = None) -> tuple[Array, Array]:
    """Labels and weights (default 1) of n differences (n, d), each checked with its row in the error. O(n d).

    No ``|weight z|^2`` may exceed `largest` (by default what the rows' precision holds): theta would become NaN.
    """
    n = len(rows)
    labels = np.asarray(y, dtype=np.float64)
    rho = np.ones(n) if weight is None else np.asarray(weight, dtype=np.float64)
    for name, array in (("y", labels), ("weight", rho)):
        if array.shape != (n,):
            raise LearnerError(f"{name} has shape {array.shape}, expected ({n},)")
    wrong = ~((labels >= 0) & (labels <= 1))
    if wrong.any():
        row = int(np.argmax(wrong))
        raise LearnerError(f"y[{row}] is {labels[row]}, expected a number from 0 to 1 (1/2 for a tie)")
    wrong = ~((rho >= 0) & (rho < np.inf))
    if wrong.any():
        row = int(np.argmax(wrong))
        raise LearnerError(f"weight[{row}] is {rho[row]}, expected a finite number of at least 0")
    check_squares(rows, rho, largest_square(rows.dtype) if largest is None else largest)
    return labels, rho


def check_squares(rows: Array, weight: Array, largest: float) -> None:
    """Raise `LearnerError` for the first row whose ``|weight z|^2`` exceeds `largest`. O(n d)."""
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = rows * weight.astype(rows.dtype)[:, None]
        squares = np.einsum("nd,nd->n", scaled, scaled)
    sound = squares <= largest  # not so for NaN
    if not sound.all():
        row = int(np.argmin(sound))
        raise LearnerError(
            f"z of row {row} is not finite or too large: |weight z|^2 = {squares[row]}, above {largest:.3g}"
        )


def check_confidence(confidence: float) -> float:
    """A probability strictly between 0 and 1."""
    if not 0.0 < confidence < 1.0:
        raise LearnerError(f"confidence is {confidence!r}, expected a number between 0 and 1")
    return float(confidence)
