"""The same pairs with their sweeps on a torch device: features stay there, what is kept per pair comes back.

Only the matrix products move. The bounds, the short-list and the float64 settling are those of ``LazyArgmax``, which
measures the device's float32 error on probes and allows for it; so the picks are the same on every device.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from learner.errors import LearnerError
from learner.scores.pairs import ExplicitPairs, Form, PairSpace, Where, WithinPromptPairs
from learner.selection.candidates import Floats, Rows

_BLOCK_FLOATS = 1 << 26  # of a block's Gram matrices or differences: 256 MB on the device
_BLOCK_ROWS = 1 << 14  # responses made relative at a time, in float64
_NONE = np.zeros(0, np.float32)


def pairs_of(
    features: Floats, prompt: Rows | None, eligible: NDArray[np.bool_] | None, device: str
) -> PairSpace:
    """Pairs within prompts, or one a row where ``prompt`` is None, swept on ``device`` ("cpu": NumPy)."""
    if prompt is None or eligible is None:
        return ExplicitPairs(features) if device == "cpu" else DeviceExplicitPairs(features, device)
    if device == "cpu":
        return WithinPromptPairs(features, prompt, eligible)
    return DeviceWithinPromptPairs(features, prompt, eligible, device)


class _Resident:
    """Features (M, d), less those of their ``origin`` rows (M,), in float32 on a device: 4 M d bytes there.

    The device is "cuda", "cuda:1" or "cpu:torch".
    """

    def __init__(self, features: Floats, device: str, origin: Rows | None = None) -> None:
        import torch

        self._torch = torch
        try:
            self.device = torch.device(device.split(":torch")[0])
            self.features = self.place(features) if origin is None else self._relative(features, origin)
        except (RuntimeError, AssertionError) as error:  # no such device, no memory, a torch without CUDA
            reason = str(error).splitlines()[0]
            raise LearnerError(f"PairScores: {device!r} cannot hold the features: {reason}") from error

    def _relative(self, features: Floats, origin: Rows) -> Any:
        there = self._torch.empty(features.shape, dtype=self._torch.float32, device=self.device)
        for begin in range(0, len(features), _BLOCK_ROWS):
            part = slice(begin, begin + _BLOCK_ROWS)
            there[part] = self.place(np.asarray(features[part], np.float64) - features[origin[part]])
        return there

    def place(self, array: Any) -> Any:
        return self._torch.as_tensor(np.ascontiguousarray(array, np.float32), device=self.device)

    def rows(self, rows: Rows) -> Any:
        return self.features[self._torch.as_tensor(rows, device=self.device)]

    def upper(self, size: int) -> tuple[Any, Any]:
        j, k = self._torch.triu_indices(size, size, 1, device=self.device)
        return j, k


class DeviceWithinPromptPairs(WithinPromptPairs):
    """``WithinPromptPairs`` with float32 sweeps on a torch device, the same costs there."""

    def __init__(self, features: Floats, prompt: Rows, eligible: NDArray[np.bool_], device: str) -> None:
        super().__init__(features, prompt, eligible)
        origin = np.arange(len(features))
        origin[self._rows] = np.repeat(self._origin, self._sizes)
        self._resident = _Resident(features, device, origin)

    def sweep(
        self, form: Form | None, theta: Floats | None, dtype: type[np.floating[Any]] = np.float32
    ) -> Iterator[tuple[Where, Floats, Floats]]:
        """Visit all pairs in blocks of prompts with equally many responses; float64 sweeps run on the processor."""
        if dtype is not np.float32:
            yield from super().sweep(form, theta, dtype)
            return
        placed = None if form is None else form.on(self._resident.place)
        along = None if theta is None else self._resident.place(theta)
        for size in np.unique(self._sizes[self._sizes > 1]).tolist():
            upper, each = self._resident.upper(size), size * (size - 1) // 2
            alike = np.flatnonzero(self._sizes == size)
            step = max(1, _BLOCK_FLOATS // (size * max(size, self.dimension)))
            for begin in range(0, len(alike), step):
                block = alike[begin : begin + step]
                places = self._start[block][:, None] + np.arange(size)
                features = self._resident.rows(self._rows[places])
                yield self._numbers(block, each), *_pairwise(features, placed, along, upper)


class DeviceExplicitPairs(ExplicitPairs):
    """``ExplicitPairs`` with float32 sweeps on a torch device."""

    def __init__(self, differences: Floats, device: str) -> None:
        super().__init__(differences)
        self._resident = _Resident(differences, device)

    def sweep(
        self, form: Form | None, theta: Floats | None, dtype: type[np.floating[Any]] = np.float32
    ) -> Iterator[tuple[Where, Floats, Floats]]:
        """Visit all pairs in blocks; float64 sweeps run on the processor."""
        if dtype is not np.float32:
            yield from super().sweep(form, theta, dtype)
            return
        placed = None if form is None else form.on(self._resident.place)
        along = None if theta is None else self._resident.place(theta)
        step = max(1, _BLOCK_FLOATS // self.dimension)
        for begin in range(0, self.size, step):
            block = self._resident.features[begin : begin + step]
            quadratic, margin = _NONE, _NONE
            if placed is not None:
                left, right = placed(block[:, None, :])
                quadratic = _numpy((left[:, 0] * right[:, 0]).sum(1))
            if along is not None:
                margin = _numpy(block @ along)
            yield slice(begin, begin + len(block)), quadratic, margin


def _pairwise(
    block: Any, form: Form | None, theta: Any | None, upper: tuple[Any, Any]
) -> tuple[Floats, Floats]:
    j, k = upper
    quadratic, margin = _NONE, _NONE
    if form is not None:
        left, right = form(block)
        gram = left @ right.mT
        own = gram.diagonal(dim1=1, dim2=2)
        quadratic = _numpy((own[:, j] + own[:, k] - 2 * gram[:, j, k]).reshape(-1))
    if theta is not None:
        reward = block @ theta
        margin = _numpy((reward[:, j] - reward[:, k]).reshape(-1))
    return quadratic, margin


def _numpy(tensor: Any) -> Floats:
    array: Floats = tensor.cpu().numpy()
    return array
