"""Pairs by number: where a pair's two responses are, and sweeps over all pairs that never hold all differences."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from learner.selection.candidates import Floats, Rows

Where = slice | Rows

_BLOCK_FLOATS = 1 << 18  # features of a block stay in a core's cache
_BLOCK_PAIRS = 1 << 15
_GRAM_FROM = 7  # responses from which a Gram matrix is cheaper than taking each difference
_FAR = 32.0  # times the usual distance: from here on squares of distances do not fit into float32 beside usual ones


@dataclass(frozen=True)
class Form:
    """A quadratic form of a pair's difference: of a block X (B, K, d), two matrices L, R with form = (L R^T) of z.

    ``matrix``: z^T A z, from (X A, X); a vector stands for a diagonal matrix. ``scaled``: sum_t (z.u_t)^2 from (V, V),
    V = X U^T. NumPy arrays, or torch tensors. Errors grow with |X|^2, so X is given relative to a response amid them.
    """

    matrix: Any = None
    scaled: Any = None

    def __call__(self, block: Any) -> tuple[Any, Any]:
        if self.scaled is None:
            return block * self.matrix if self.matrix.ndim == 1 else block @ self.matrix, block
        along = (block.reshape(-1, block.shape[2]) @ self.scaled.T).reshape(*block.shape[:2], -1)
        return along, along

    def on(self, place: Callable[[Any], Any]) -> Form:
        """The same form with its arrays put elsewhere."""
        return Form(*(None if array is None else place(array) for array in (self.matrix, self.scaled)))


def by_matrix(matrix: Floats) -> Form:
    """Form z^T A z."""
    diagonal = np.ascontiguousarray(np.diagonal(matrix))
    is_diagonal = np.count_nonzero(matrix) == np.count_nonzero(diagonal)  # as before the first judgment
    return Form(diagonal if is_diagonal else matrix)


def by_updates(directions: Floats, falls: Floats) -> Form:
    """Form sum_t c_t (z.u_t)^2 for T rank-one terms."""
    return Form(scaled=directions * np.sqrt(falls)[:, None])


class PairSpace(Protocol):
    """All pairs of a pool, numbered 0 .. size-1."""

    features: Floats
    size: int
    dimension: int
    uneven: bool  # some responses lie so far out that |z| is to be swept in float64

    @property
    def usual(self) -> float:
        """Span of a pair in the middle of all, about."""

    def spans(self, ids: Rows) -> Floats:
        """Lengths of what each pair's form is computed from: rounding errors grow with their squares."""

    def widest(self, among: NDArray[np.bool_]) -> float:
        """Largest span of the pairs that a mask (N,) keeps."""

    def rows(self, ids: Rows) -> tuple[Rows, Rows]:
        """First and second response of each pair."""

    def find(self, first: int, second: int) -> int:
        """Number of a pair of rows, or -1 when it is not among the pairs."""

    def differences(self, ids: Rows) -> Floats:
        """z of each pair, (n, d), in the features' own precision."""

    def sweep(
        self, form: Form | None, theta: Floats | None, dtype: type[np.floating[Any]] = np.float32
    ) -> Iterator[tuple[Where, Floats, Floats]]:
        """Visit all pairs in blocks: where they are, their quadratic form and their margin z.theta."""

    @property
    def nbytes(self) -> int:
        """Bytes of bookkeeping, features not counted."""


def norms(space: PairSpace) -> Iterator[tuple[Where, Floats]]:
    """|z| of all pairs in blocks, float32. O(N d).

    >>> [norm.tolist() for _, norm in norms(ExplicitPairs(np.array([[3.0, 4.0]])))]
    [[5.0]]
    """
    dtype = np.float64 if space.uneven else np.float32
    for where, squared, _ in space.sweep(by_matrix(np.eye(space.dimension, dtype=dtype)), None, dtype):
        yield where, np.ascontiguousarray(np.sqrt(np.maximum(squared, 0)), dtype=np.float32)


def far_apart(space: PairSpace, widest: float) -> bool:
    """Whether float32 cannot tell usual pairs apart beside one of this span. O(1)."""
    return widest > _FAR * space.usual


class WithinPromptPairs:
    """Every pair of two eligible responses to one prompt, by prompt, then first, then second row.

    Sweeps take a prompt's responses relative to one amid them, not to their mean, which a single response far out
    would draw to itself: pairs of the others then lose nothing to it.

    Nothing is kept per pair: a number is decoded by arithmetic, O(1). A sweep costs O(M d T + N T) for T rank-one
    terms and O(M d^2 + N d) for a matrix, with M responses and N pairs.
    """

    def __init__(self, features: Floats, prompt: Rows, eligible: NDArray[np.bool_]) -> None:
        self.features, self.dimension = features, int(features.shape[1])
        order = np.argsort(prompt, kind="stable")
        self._rows = order[eligible[order]]
        _, self._start, sizes = np.unique(prompt[self._rows], return_index=True, return_counts=True)
        self._sizes = sizes.astype(np.int64)
        counts = self._sizes * (self._sizes - 1) // 2
        self.offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        self.size = int(self.offsets[-1])
        self._place = np.full(len(features), -1, np.int32)
        self._place[self._rows] = np.arange(len(self._rows), dtype=np.int32)
        self._amid()

    def _amid(self) -> None:
        """Each prompt's response in the middle, by medians along three random directions, and distances to it."""
        self._origin = self._rows[self._start]
        self._distance = np.zeros(len(self.features), np.float32)
        directions = np.random.default_rng(0).standard_normal((self.dimension, 3))
        for block, size in self._blocks():
            responses = self._gather(block, size)
            along = responses @ directions.astype(responses.dtype)
            off = ((along - np.median(along, axis=1, keepdims=True)) ** 2).sum(axis=2)
            self._origin[block] = self._rows[self._start[block] + off.argmin(axis=1)]
            centred = self._centred(block, size, np.promote_types(responses.dtype, np.float32).type)
            distance = np.sqrt(np.einsum("bkd,bkd->bk", centred, centred))
            self._distance[self._rows[self._start[block][:, None] + np.arange(size)]] = distance
        some = self._distance[self._distance > 0]
        self.usual = 2 * float(np.median(some)) if len(some) else 0.0
        self.uneven = far_apart(self, 2 * float(self._distance.max(initial=0.0)))

    def spans(self, ids: Rows) -> Floats:
        """|x_j - x_o| + |x_k - x_o| of each pair, x_o the response in the middle of its prompt."""
        first, second = self.rows(ids)
        return np.asarray(self._distance[first] + self._distance[second])

    def widest(self, among: NDArray[np.bool_]) -> float:
        """Largest span of the pairs that a mask (N,) keeps. O(N)."""
        found = 0.0
        for block, size in self._blocks():
            distance = self._distance[self._rows[self._start[block][:, None] + np.arange(size)]]
            j, k = np.triu_indices(size, 1)
            spans = (distance[:, j] + distance[:, k]).reshape(-1)
            kept = among[self._numbers(block, len(j))]
            found = max(found, float(spans.max(initial=0.0, where=kept)))
        return found

    @property
    def nbytes(self) -> int:
        """Bytes of bookkeeping, features not counted."""
        return sum(a.nbytes for a in (self._rows, self._start, self._sizes, self.offsets, self._place,
                                     self._origin, self._distance))  # fmt: skip

    @property
    def prompts(self) -> int:
        """Number of prompts with an eligible response."""
        return len(self._sizes)

    def prompt_of(self, row: int) -> int:
        """Index of a response's prompt among ``prompts``, or -1 when it is not eligible."""
        place = int(self._place[row])
        return -1 if place < 0 else int(np.searchsorted(self._start, place, side="right") - 1)

    def span(self, prompt: int) -> Rows:
        """Numbers of a prompt's pairs."""
        return np.arange(self.offsets[prompt], self.offsets[prompt + 1])

    def find(self, first: int, second: int) -> int:
        """Number of the pair of two rows of one prompt, or -1 when one of them is not eligible."""
        p = self.prompt_of(first)
        if p < 0 or self.prompt_of(second) != p:
            return -1
        j, k = sorted(int(self._place[row]) - int(self._start[p]) for row in (first, second))
        return int(self.offsets[p] + j * self._sizes[p] - j * (j + 1) // 2 + k - j - 1)

    def rows(self, ids: Rows) -> tuple[Rows, Rows]:
        """First and second response of each pair."""
        p = np.searchsorted(self.offsets, ids, side="right") - 1
        size, back = self._sizes[p], self.offsets[p + 1] - 1 - ids  # counted from the prompt's last pair
        row = ((np.sqrt(8.0 * back + 1) - 1) // 2).astype(np.int64)
        j = size - 2 - row
        k = size - 1 - (back - row * (row + 1) // 2)
        return self._rows[self._start[p] + j], self._rows[self._start[p] + k]

    def differences(self, ids: Rows) -> Floats:
        """z of each pair, (n, d), in the features' own precision."""
        first, second = self.rows(ids)
        return np.asarray(self.features[first] - self.features[second])

    def sweep(
        self, form: Form | None, theta: Floats | None, dtype: type[np.floating[Any]] = np.float32
    ) -> Iterator[tuple[Where, Floats, Floats]]:
        """Visit all pairs in blocks of prompts with equally many responses."""
        for block, size in self._blocks():
            upper = np.triu_indices(size, 1)
            responses = self._centred(block, size, dtype)
            yield self._numbers(block, len(upper[0])), *_pairwise(responses, form, theta, upper)

    def _blocks(self) -> Iterator[tuple[Rows, int]]:
        for size in np.unique(self._sizes[self._sizes > 1]).tolist():
            each = size * (size - 1) // 2
            step = max(1, min(_BLOCK_PAIRS // each, _BLOCK_FLOATS // (size * self.dimension)))
            alike = np.flatnonzero(self._sizes == size)
            for begin in range(0, len(alike), step):
                yield alike[begin : begin + step], size

    def _centred(self, block: Rows, size: int, dtype: type[np.floating[Any]]) -> Floats:
        """Responses (B, K, d) relative to the one in the middle, subtracted in the wider of the two precisions."""
        finer = np.promote_types(self.features.dtype, dtype)
        origin = np.asarray(self.features[self._origin[block]], finer)[:, None]
        responses = self._gather(block, size).astype(finer, copy=False)
        return np.asarray(responses - origin, dtype)

    def _gather(self, block: Rows, size: int) -> Floats:
        places = self._start[block][:, None] + np.arange(size)
        rows = self._rows[places].reshape(-1)
        contiguous = rows[-1] - rows[0] == len(rows) - 1 and bool((np.diff(rows) == 1).all())
        taken = self.features[rows[0] : rows[-1] + 1] if contiguous else self.features[rows]
        return np.asarray(taken).reshape(len(block), size, self.dimension)

    def _numbers(self, block: Rows, each: int) -> Where:
        if block[-1] - block[0] == len(block) - 1:
            return slice(int(self.offsets[block[0]]), int(self.offsets[block[-1] + 1]))
        return np.asarray(self.offsets[block][:, None] + np.arange(each)).reshape(-1)


class ExplicitPairs:
    """Pairs given by their differences: pair i is row i. A sweep costs O(N d T), a pass over memory at least."""

    def __init__(self, differences: Floats) -> None:
        self.features = differences
        self.size, self.dimension = int(differences.shape[0]), int(differences.shape[1])

    nbytes = 0
    uneven = False  # |z| comes from z itself, nothing cancels

    @property
    def usual(self) -> float:
        """Median |z| of up to 4,096 pairs spread over all."""
        some = self.spans(
            np.unique(np.linspace(0, max(self.size - 1, 0), min(4096, self.size)).astype(np.int64))
        )
        return float(np.median(some)) if len(some) else 0.0

    def spans(self, ids: Rows) -> Floats:
        """|z| of each pair."""
        return np.asarray(np.linalg.norm(np.asarray(self.features[ids], np.float64), axis=1))

    def widest(self, among: NDArray[np.bool_]) -> float:
        """Largest |z| of the pairs that a mask (N,) keeps. O(N d)."""
        found = 0.0
        for where, norm in norms(self):
            found = max(found, float(norm.max(initial=0.0, where=among[where])))
        return found

    def rows(self, ids: Rows) -> tuple[Rows, Rows]:
        """The pair's own number, and -1."""
        return ids, np.full(len(ids), -1)

    def find(self, first: int, second: int) -> int:
        """The pair's number."""
        return first

    def differences(self, ids: Rows) -> Floats:
        """z of each pair, (n, d), in the features' own precision."""
        return np.asarray(self.features[ids])

    def sweep(
        self, form: Form | None, theta: Floats | None, dtype: type[np.floating[Any]] = np.float32
    ) -> Iterator[tuple[Where, Floats, Floats]]:
        """Visit all pairs in blocks that stay in cache."""
        step = max(1, min(_BLOCK_PAIRS, _BLOCK_FLOATS // self.dimension))
        for begin in range(0, self.size, step):
            block = np.asarray(self.features[begin : begin + step], dtype=dtype)
            quadratic, margin = np.zeros(0, dtype), np.zeros(0, dtype)
            if form is not None:
                left, right = form(block[:, None, :])
                quadratic = np.einsum("nd,nd->n", left[:, 0], right[:, 0])
            if theta is not None:
                margin = block @ theta
            yield slice(begin, begin + len(block)), quadratic, margin


def _pairwise(
    block: Floats, form: Form | None, theta: Floats | None, upper: tuple[Rows, Rows]
) -> tuple[Floats, Floats]:
    j, k = upper
    quadratic, margin = np.zeros(0, block.dtype), np.zeros(0, block.dtype)
    if form is not None:
        left, right = form(block)
        quadratic = _gram(left, right, j, k) if block.shape[1] >= _GRAM_FROM else _direct(left, right, j, k)
    if theta is not None:
        reward = (block.reshape(-1, block.shape[2]) @ theta).reshape(block.shape[:2])
        margin = (reward.take(j, axis=1) - reward.take(k, axis=1)).reshape(-1)
    return quadratic.reshape(-1), margin


def _gram(left: Floats, right: Floats, j: Rows, k: Rows) -> Floats:
    gram = left @ right.transpose(0, 2, 1)
    own = np.ascontiguousarray(np.diagonal(gram, axis1=1, axis2=2))
    fall = own.take(j, axis=1)
    fall += own.take(k, axis=1)
    fall -= 2 * gram.reshape(len(gram), -1).take(j * gram.shape[1] + k, axis=1)
    return np.asarray(fall)


def _direct(left: Floats, right: Floats, j: Rows, k: Rows) -> Floats:
    return np.asarray(np.einsum("bpt,bpt->bp", left[:, j] - left[:, k], right[:, j] - right[:, k]))
