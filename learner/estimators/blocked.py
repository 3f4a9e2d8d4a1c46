"""A symmetric matrix under a stream of rank-one terms, paid for in blocks."""

from __future__ import annotations

from typing import Any

import numpy as np

from learner.estimators.arrays import Array, Ops, packed, unpacked
from learner.estimators.state import Saved, State, entry

ROWS = 32
COLUMNS = "_columns"


def pack(state: State) -> State:
    """The state that `Blocked.state` gives, of one taken with ``quick``. O(d^2) for each matrix.

    >>> {name: array.tolist() for name, array in pack({"p_columns": np.array([1.0, 2.0, 3.0])}).items()}
    {'p_lower': [1.0, 2.0, 3.0]}
    """
    quick = [name for name in state if name.endswith(COLUMNS)]
    lower: State = {}
    for name in quick:
        lower[f"{name.removesuffix(COLUMNS)}_lower"] = packed(
            from_columns(np.asarray(state[name], state[name].dtype))
        )
    return {name: array for name, array in state.items() if name not in quick} | lower


def columns_of(base: Array) -> Array:
    """The lower triangle, column after column: a copy of memory as it lies, half of the square. O(d^2).

    >>> columns_of(np.array([[1.0, 9.0], [2.0, 3.0]], order="F")).tolist()
    [1.0, 2.0, 3.0]
    """
    size, start = len(base), 0
    columns = np.empty(size * (size + 1) // 2, base.dtype)
    for column in range(size):
        columns[start : start + size - column] = base[column:, column]
        start += size - column
    return columns


def from_columns(columns: Array) -> Array:
    """The lower triangle as a square again, zeros above. O(d^2)."""
    size, start = int((np.sqrt(8 * len(columns) + 1) - 1) / 2), 0
    lower = np.zeros((size, size), columns.dtype, order="F")
    for column in range(size):
        lower[column:, column] = columns[start : start + size - column]
        start += size - column
    return lower


class Blocked:
    """``A = base + sign U U^T``: up to 32 rank-one terms wait in U and enter the base together.

    A rank-one update reads and writes d^2/2 numbers for d^2 operations, so memory decides its time. A
    product with the waiting columns costs 4 d operations each and stays in cache, and folding 32 of them
    at once (syrk) runs at the speed of arithmetic: P costs less per judgment than one symv and one syr.
    What waits is part of the state, so that saving and restoring changes no bit.

    Parameters
    ----------
    ops : Ops
        Array operations.
    base : array, shape (d, d)
        Lower triangle; taken over, not copied.
    sign : float
        +1 for H, which grows, -1 for P, which shrinks.
    """

    def __init__(self, ops: Ops, base: Any, sign: float) -> None:
        self._ops = ops
        self._base = base
        self._sign = sign
        self._rows = ops.rows(ROWS, len(base))
        self._waiting = 0

    def times(self, x: Any) -> Any:
        """``A x``; O(d^2)."""
        product = self._ops.symv(self._base, x)
        if self._waiting:
            product = self._ops.low_rank(self._rows[: self._waiting].T, x, product, self._sign)
        return product

    def add(self, x: Any, root: float) -> bool:
        """Add ``sign (root x)(root x)^T``; true when that filled the block and it was folded. O(d)."""
        self._ops.scaled(x, root, self._rows[self._waiting])
        self._waiting += 1
        if self._waiting < ROWS:
            return False
        self._base = self._ops.rank_many(self._base, self._rows.T, self._sign)
        self._waiting = 0
        return True

    def lower(self) -> Any:
        """A itself, lower triangle, a copy; O(d^2) operations for each waiting column."""
        matrix = self._ops.copy(self._base)
        if not self._waiting:
            return matrix
        return self._ops.rank_many(matrix, self._rows[: self._waiting].T, self._sign)

    def replace(self, base: Any) -> None:
        """Take another base; only right after a fold, when nothing waits."""
        self._base = base

    def state(self, name: str, *, quick: bool = False) -> State:
        """Base (packed) and waiting columns, to be restored by `load`.

        ``quick``: the base as it lies in memory, in a fraction of the time; `pack` makes the same state of it later.
        """
        waiting: Array = self._ops.numpy(self._rows[: self._waiting])
        base = self._ops.numpy(self._base)
        state: State = {f"{name}_waiting": waiting.copy()}
        state |= {f"{name}{COLUMNS}": columns_of(base)} if quick else {f"{name}_lower": packed(base)}
        return state

    @classmethod
    def load(cls, ops: Ops, state: Saved, name: str, dimension: int, sign: float) -> Blocked:
        """Matrix from a state, checked."""
        lower = entry(state, f"{name}_lower", (dimension * (dimension + 1) // 2,))
        count = len(state[f"{name}_waiting"]) if f"{name}_waiting" in state else 0
        waiting = entry(state, f"{name}_waiting", (min(count, ROWS - 1), dimension))
        matrix = cls(ops, ops.square(unpacked(lower, dimension)), sign)
        for index, row in enumerate(waiting):
            matrix._rows[index] = ops.vector(row)
        matrix._waiting = len(waiting)
        return matrix
