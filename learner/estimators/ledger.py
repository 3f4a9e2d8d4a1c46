"""The precision H beside its inverse: what the covariance is recomputed from, and its drift measured by."""

from __future__ import annotations

from typing import Any

import numpy as np

from learner.estimators.arrays import Array, Ops

ROWS = 256


class Ledger:
    """``H = lambda I + sum w+ z z^T``, kept at BLAS-3 speed: rows wait in a buffer and enter 256 at a time.

    Rank-one updates of P never look back, so their rounding errors stay. H only ever adds positive terms;
    inverting it afresh bounds the error of P, and ``P H v - v`` on a fixed v tells how far P has drifted.
    Everything happens at step counts that the state carries, so a replay repeats it bit for bit.

    Parameters
    ----------
    ops : Ops
        Array operations.
    precision : array, shape (d, d)
        H so far, lower triangle; taken over, not copied.
    pending : array, shape (n, d), optional
        Rows ``sqrt(w+) z`` not yet in H.
    """

    def __init__(self, ops: Ops, precision: Any, pending: Array | None = None) -> None:
        self._ops = ops
        self._precision = precision
        dimension = len(precision)
        self._buffer = ops.rows(ROWS, dimension)
        self._filled = 0 if pending is None else len(pending)
        if pending is not None:
            for row, values in enumerate(pending):
                self._buffer[row] = ops.vector(values)
        bits = (np.arange(1, dimension + 1, dtype=np.uint64) * np.uint64(2654435761)) >> np.uint64(13)
        self._probe = ops.vector(1.0 - 2.0 * (bits & np.uint64(1)))

    def record(self, z: Any, root: float) -> bool:
        """Add ``(root z)(root z)^T``; true when the buffer was full and went into H. O(d), O(d^2) amortised."""
        self._buffer[self._filled] = z * root
        self._filled += 1
        if self._filled < ROWS:
            return False
        self.fold()
        return True

    def fold(self) -> None:
        """Move the waiting rows into H; O(256 d^2)."""
        if self._filled:
            self._precision = self._ops.rank_many(self._precision, self._buffer[: self._filled])
            self._filled = 0

    def drift(self, covariance: Any) -> float:
        """``max |P H v - v|`` for the probe v of signs, after a fold; O(d^2)."""
        image = self._ops.symv(covariance, self._ops.symv(self._precision, self._probe))
        self._ops.add(image, self._probe, -1.0)
        return float(abs(image).max())

    def covariance(self) -> Any:
        """``H^-1`` by Cholesky, after a fold; O(d^3)."""
        return self._ops.invert(self._precision)

    @property
    def precision(self) -> Array:
        """H without the waiting rows, lower triangle."""
        return self._ops.numpy(self._precision)

    @property
    def pending(self) -> Array:
        """Rows not yet in H, shape (n, d)."""
        return self._ops.numpy(self._buffer[: self._filled]).copy()
