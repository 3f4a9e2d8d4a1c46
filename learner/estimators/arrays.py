"""The dozen array operations of the estimators, on NumPy (BLAS, one thread) and on torch (any device)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import scipy.linalg
from threadpoolctl import ThreadpoolController

from learner.errors import LearnerError

Array = npt.NDArray[np.floating]
_INDEXED = 64  # dimensions up to which an index array is the quickest way into a triangle


class _OneThread:
    """Context in which BLAS runs on one thread, in about a microsecond; re-entrant and shared by threads.

    OpenBLAS splits symv over its threads and adds the parts, so the last bits of u = P z depend on the
    number of cores. Replaying a log must give the same bits on another machine of the same kind, hence
    one thread; for d up to 2,000 a level-2 call is over before a second core is of much use anyway.
    The libraries are looked up once (threadpoolctl takes a millisecond to find them).
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._libraries: list[Any] | None = None
        self._restore: list[tuple[Callable[[int], None], int]] = []

    def __enter__(self) -> None:
        with self._lock:
            self._inside += 1
            if self._inside == 1:
                self._pin()

    def _pin(self) -> None:
        if self._libraries is None:
            found = [lib for lib in ThreadpoolController().lib_controllers if lib.user_api == "blas"]
            ours = [lib for lib in found if "/scipy" in lib.filepath.replace("\\", "/")]
            self._libraries = ours or found
        for lib in self._libraries:
            threads = lib.get_num_threads()
            if threads != 1:
                lib.set_num_threads(1)
                self._restore.append((lib.set_num_threads, threads))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._inside -= 1
            if self._restore and not self._inside:
                for restore, threads in self._restore:
                    restore(threads)
                self._restore.clear()


one_thread = _OneThread()


class Ops(Protocol):
    """What an estimator asks of its arrays: symmetric matrices hold their lower triangle, all else is dense."""

    precise: float

    def vector(self, values: Any) -> Any: ...
    def zeros(self, n: int) -> Any: ...
    def eye(self, n: int, scale: float) -> Any: ...
    def square(self, values: Any) -> Any: ...
    def rows(self, n: int, d: int) -> Any: ...
    def scaled(self, x: Any, scale: float, out: Any) -> None: ...
    def dot(self, a: Any, b: Any) -> float: ...
    def add(self, a: Any, x: Any, scale: float) -> None: ...
    def symv(self, matrix: Any, x: Any) -> Any: ...
    def rank_one(self, matrix: Any, x: Any, scale: float) -> Any: ...
    def rank_many(self, matrix: Any, columns: Any, scale: float) -> Any: ...
    def low_rank(self, columns: Any, x: Any, out: Any, scale: float) -> Any: ...
    def invert(self, matrix: Any) -> Any: ...
    def shifted(self, matrix: Any, scale: float) -> Any: ...
    def solver(self, matrix: Any) -> Callable[[Any], Any]: ...
    def copy(self, a: Any) -> Any: ...
    def numpy(self, a: Any) -> Array: ...


class NumpyOps:
    """BLAS and LAPACK on Fortran-ordered arrays, in place, touching the lower triangle only.

    A level-2 call passes d^2/2 numbers through the processor once; symv and syr are the floor of an update.
    """

    def __init__(self, dtype: str) -> None:
        self.dtype = np.dtype(dtype)
        self.precise = float(np.finfo(self.dtype).eps)
        probe = np.zeros(1, self.dtype)
        names = ("dot", "axpy", "gemv", "symv", "syr", "syrk")
        found: Sequence[Callable[..., Any]] = scipy.linalg.get_blas_funcs(names, (probe,))
        self._dot, self._axpy, self._gemv, self._symv, self._syr, self._syrk = found
        self._potrf, self._potri = scipy.linalg.get_lapack_funcs(("potrf", "potri"), (probe,))

    def vector(self, values: Any) -> Array:
        return np.ascontiguousarray(values, dtype=self.dtype)

    def zeros(self, n: int) -> Array:
        return np.zeros(n, self.dtype)

    def eye(self, n: int, scale: float) -> Array:
        return np.asfortranarray(np.eye(n, dtype=self.dtype) * self.dtype.type(scale))

    def square(self, values: Any) -> Array:
        return np.array(values, dtype=self.dtype, order="F")

    def rows(self, n: int, d: int) -> Array:
        return np.zeros((n, d), self.dtype)

    def scaled(self, x: Array, scale: float, out: Array) -> None:
        np.multiply(x, scale, out=out)

    def dot(self, a: Array, b: Array) -> float:
        return float(self._dot(a, b))

    def add(self, a: Array, x: Array, scale: float) -> None:
        self._axpy(x, a, a=scale)

    def symv(self, matrix: Array, x: Array) -> Array:
        product: Array = self._symv(1.0, matrix, x, lower=1)
        return product

    def rank_one(self, matrix: Array, x: Array, scale: float) -> Array:
        updated: Array = self._syr(scale, x, lower=1, a=matrix, overwrite_a=1)
        return updated

    def rank_many(self, matrix: Array, columns: Array, scale: float) -> Array:
        updated: Array = self._syrk(scale, columns, beta=1.0, c=matrix, overwrite_c=1, lower=1)
        return updated

    def low_rank(self, columns: Array, x: Array, out: Array, scale: float) -> Array:
        weights = self._gemv(1.0, columns, x, trans=1)
        moved: Array = self._gemv(scale, columns, weights, beta=1.0, y=out, overwrite_y=1)
        return moved

    def invert(self, matrix: Array) -> Array:
        factor, failed = self._potrf(matrix, lower=1)
        inverse, singular = self._potri(factor, lower=1)
        if failed or singular:
            raise LearnerError(f"precision of dimension {len(matrix)} is not positive definite")
        result: Array = inverse
        return result

    def shifted(self, matrix: Array, scale: float) -> Array:
        shifted: Array = matrix * self.dtype.type(scale)
        shifted[np.diag_indices(len(matrix))] += self.dtype.type(1)
        return shifted

    def solver(self, matrix: Array) -> Callable[[Array], Array]:
        factor = scipy.linalg.cho_factor(matrix, lower=True)

        def solve(x: Array) -> Array:
            solution: Array = scipy.linalg.cho_solve(factor, x)
            return solution

        return solve

    def copy(self, a: Array) -> Array:
        copied: Array = a.copy(order="F")
        return copied

    def numpy(self, a: Array) -> Array:
        return a


class TorchOps:
    """The same operations on torch tensors of any device; matrices are full (no triangle in torch).

    Every `dot` waits for the device, so it pays from about d = 2,048 on; sums are deterministic per device.
    """

    def __init__(self, dtype: str, device: str) -> None:
        import torch

        self._torch = torch
        self.dtype = getattr(torch, dtype)
        self.device = torch.device(device)
        self.precise = float(torch.finfo(self.dtype).eps)

    def vector(self, values: Any) -> Any:
        return self._torch.as_tensor(values, dtype=self.dtype, device=self.device).contiguous()

    def zeros(self, n: int) -> Any:
        return self._torch.zeros(n, dtype=self.dtype, device=self.device)

    def eye(self, n: int, scale: float) -> Any:
        return self._torch.eye(n, dtype=self.dtype, device=self.device) * scale

    def square(self, values: Any) -> Any:
        return self._mirrored(self._torch.tensor(np.asarray(values), dtype=self.dtype, device=self.device))

    def _mirrored(self, full: Any) -> Any:
        """The lower triangle on both sides: it is what is saved, so the other must not differ in a bit."""
        lower = self._torch.tril(full, -1)
        return lower + lower.T + self._torch.diag(self._torch.diagonal(full))

    def rows(self, n: int, d: int) -> Any:
        return self._torch.zeros(n, d, dtype=self.dtype, device=self.device)

    def scaled(self, x: Any, scale: float, out: Any) -> None:
        self._torch.mul(x, scale, out=out)

    def dot(self, a: Any, b: Any) -> float:
        return float(self._torch.dot(a, b))

    def add(self, a: Any, x: Any, scale: float) -> None:
        a.add_(x, alpha=scale)

    def symv(self, matrix: Any, x: Any) -> Any:
        return self._torch.mv(matrix, x)

    def rank_one(self, matrix: Any, x: Any, scale: float) -> Any:
        return matrix.addr_(x, x, alpha=scale)

    def rank_many(self, matrix: Any, columns: Any, scale: float) -> Any:
        return self._mirrored(matrix.addmm_(columns, columns.T, alpha=scale))

    def low_rank(self, columns: Any, x: Any, out: Any, scale: float) -> Any:
        return out.addmv_(columns, self._torch.mv(columns.T, x), alpha=scale)

    def invert(self, matrix: Any) -> Any:
        factor, failed = self._torch.linalg.cholesky_ex(matrix)
        if int(failed):
            raise LearnerError(f"precision of dimension {len(matrix)} is not positive definite")
        return self._torch.cholesky_inverse(factor)

    def shifted(self, matrix: Any, scale: float) -> Any:
        return matrix * scale + self.eye(len(matrix), 1.0)

    def solver(self, matrix: Any) -> Callable[[Any], Any]:
        factor = self._torch.linalg.cholesky(matrix)
        return lambda x: self._torch.cholesky_solve(x[:, None], factor)[:, 0]

    def copy(self, a: Any) -> Any:
        return a.clone()

    def numpy(self, a: Any) -> Array:
        copied: Array = a.detach().cpu().numpy()
        return copied


def checked_dtype(dtype: str) -> np.dtype[np.floating]:
    """The precision of this name, float64 or float32, or `LearnerError`."""
    if dtype not in ("float64", "float32"):
        raise LearnerError(f"dtype is {dtype!r}; an estimator computes in 'float64' or 'float32'")
    return np.dtype(dtype)


def ops_for(dtype: str, device: str) -> Ops:
    """NumPy's BLAS for ``device="cpu"``, torch for any other (``"cuda"``, ``"cpu:torch"`` to compare)."""
    checked_dtype(dtype)
    if device == "cpu":
        return NumpyOps(dtype)
    build: Callable[[str, str], Ops] = TorchOps
    return build(dtype, device.split(":torch")[0])


def packed(lower: Array) -> Array:
    """Lower triangle of a matrix as a vector of d (d + 1) / 2 numbers, row after row: half the bytes to save.

    >>> packed(np.array([[1.0, 9.0], [2.0, 3.0]]))
    array([1., 2., 3.])
    """
    size = len(lower)
    if size <= _INDEXED:
        return lower[np.tril_indices(size)]
    values, rows = np.empty(size * (size + 1) // 2, lower.dtype), np.ascontiguousarray(lower)
    for row in range(size):  # index arrays would take twice the memory of the matrix
        values[row * (row + 1) // 2 : (row + 1) * (row + 2) // 2] = rows[row, : row + 1]
    return values


def unpacked(values: Array, dimension: int) -> Array:
    """Matrix with that lower triangle (the upper one zero), Fortran-ordered.

    >>> unpacked(np.array([1.0, 2.0, 3.0]), 2)
    array([[1., 0.],
           [2., 3.]])
    """
    if dimension <= _INDEXED:
        lower = np.zeros((dimension, dimension), values.dtype, order="F")
        lower[np.tril_indices(dimension)] = values
        return lower
    rows = np.zeros((dimension, dimension), values.dtype)
    for row in range(dimension):
        rows[row, : row + 1] = values[row * (row + 1) // 2 : (row + 1) * (row + 2) // 2]
    return np.asfortranarray(rows)


def symmetric(lower: Array) -> Array:
    """Full matrix of a lower triangle, O(d^2); the other triangle's numbers are not read.

    >>> symmetric(np.array([[1.0, 9.0], [2.0, 3.0]]))
    array([[1., 2.],
           [2., 3.]])
    """
    below = np.tril(lower, -1)
    return np.asarray(below + below.T + np.diag(np.diagonal(lower)))
