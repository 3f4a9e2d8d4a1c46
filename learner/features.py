"""From encoder output to the features that the reward model is linear in (ALGORITHMS.md, section 7).

A pipeline is fitted once on a sample of a pool, frozen, named by its `version`, and applied row by row.
Rows are not centred per prompt when stored: z = phi(x, a) - phi(x, a') cancels the centre.
`centre_by_prompt` is for policies and reports, where phi appears alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np
import numpy.typing as npt
import scipy.linalg

from learner.errors import LearnerError
from learner.store import state_digest

Array = npt.NDArray[np.float64]
FloatArray = npt.NDArray[np.float32]

MARKS = re.compile(r"^\s{0,3}(?:#{1,6}\s|[-*+]\s|\d{1,3}[.)]\s|>\s|\|)|^\s*```|\*\*|`[^`\n]+`", re.MULTILINE)
_SAMPLE_ROWS = 20_000
_FORMAT = 1
_ARRAYS = ("mean", "components", "column_mean", "column_scale")


def text_columns(responses: Sequence[str]) -> Array:
    """Columns that no encoder of 256 tokens can see: log length and formatting marks. O(characters).

    Parameters
    ----------
    responses : sequence of str
        Whole texts, not cut.

    Returns
    -------
    (n, 2) float64 array
        ln(1 + characters) and ln(1 + headings, list items, quotes, table rows, fences, bold, inline code).

    Examples
    --------
    >>> text_columns(["", "- one\\n- two\\n**bold**"]).round(3).tolist()
    [[0.0, 0.0], [3.045, 1.609]]
    """
    columns = [(len(text), len(MARKS.findall(text))) for text in responses]
    return np.log1p(np.asarray(columns, dtype=np.float64).reshape(len(columns), 2))


def centre_by_prompt(features: npt.ArrayLike, prompt: npt.ArrayLike) -> Array:
    """Features minus the mean over each prompt's responses. O(n d).

    Use it wherever phi stands alone (policies, |Phi|_P, reports): the part of phi that all responses of a
    prompt share is never observed and would dominate the width (ALGORITHMS.md, section 3).

    Parameters
    ----------
    features : (n, d) array
    prompt : (n,) integer array
        Any labels; equal labels belong together, in any order.

    Examples
    --------
    >>> centre_by_prompt([[1.0], [3.0], [10.0]], [7, 7, 2]).ravel().tolist()
    [-1.0, 1.0, 0.0]
    """
    rows = _matrix("features", features)
    index, counts = _prompt_index(prompt, len(rows))
    order = np.argsort(index, kind="stable")
    sums = np.add.reduceat(rows[order], np.cumsum(counts) - counts) if len(rows) else rows
    return np.asarray(rows - (sums / counts[:, None])[index])


def sample_rows(prompt: npt.ArrayLike, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Rows of whole prompts with two responses or more, at most about 20,000, rising: what `fit` looks at. O(n log n).

    Use it to read only those rows of a pool that does not fit into memory; a fit to them is the fit to the pool.

    Raises
    ------
    LearnerError
        No prompt with two responses.

    Examples
    --------
    >>> sample_rows([5, 5, 8, 9, 9], np.random.default_rng(0)).tolist()
    [0, 1, 3, 4]
    """
    labels = np.asarray(prompt)
    index, counts = _prompt_index(labels, len(labels))
    order = rng.permutation(len(counts))
    taken = np.zeros(len(counts), dtype=bool)
    taken[order[np.cumsum(counts[order]) <= max(_SAMPLE_ROWS, counts.max(initial=0))]] = True
    chosen = taken[index] & (counts[index] > 1)
    if not chosen.any():
        raise LearnerError("no prompt has two responses: nothing can be compared")
    return np.flatnonzero(chosen)


def group_means(
    features: npt.NDArray[np.floating], prompt: npt.ArrayLike, group: npt.ArrayLike, block: int = 16_384
) -> Array:
    """Mean over each group's rows of features centred by prompt. O(n d), memory of one block and the result.

    Parameters
    ----------
    features : (n, d) array, a memory map will do
    prompt, group : (n,) integer arrays; groups are 0 to G - 1

    Returns
    -------
    (G, d) float64 array

    Examples
    --------
    >>> group_means(np.array([[1.0], [3.0], [10.0]]), [7, 7, 2], [0, 1, 1], block=1).ravel().tolist()
    [-1.0, 0.5]
    """
    labels, code = np.asarray(prompt), np.asarray(group)
    order = np.argsort(labels, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(labels[order])) + 1, len(order))
    counts = np.bincount(code)
    sums, start = np.zeros((len(counts), features.shape[1])), 0
    while start < len(order):
        stop = int(ends[min(int(np.searchsorted(ends, start + block)), len(ends) - 1)])
        rows = np.sort(order[start:stop])
        np.add.at(sums, code[rows], centre_by_prompt(features[rows], labels[rows]))
        start = stop
    return np.asarray(sums / np.maximum(counts, 1)[:, None])


@dataclass(frozen=True)
class FeaturePipeline:
    """A frozen map from encoder output and text columns to features: centre, project, shrink, append, scale.

    Make one by `fit` or `from_state`. Two pipelines with the same `version` give the same features.

    Parameters
    ----------
    mean : (d0,) array
        Subtracted from encoder output.
    components : (d0, k) array
        Principal directions of the per-prompt-centred sample, each divided by sqrt(e + 0.1 mean e).
    column_mean, column_scale : (c,) arrays
        Columns become (column - column_mean) * column_scale.
    scale : float
        Makes the mean of |phi - prompt mean|^2 over the sample 1.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> raw, prompt = rng.normal(size=(60, 8)), np.repeat(np.arange(20), 3)
    >>> pipeline = FeaturePipeline.fit(raw, prompt, rng=rng, dimensions=4)
    >>> phi = pipeline.transform(raw)
    >>> phi.shape, round(float((centre_by_prompt(phi, prompt) ** 2).sum(axis=1).mean()), 6)
    ((60, 4), 1.0)
    """

    mean: Array
    components: Array
    column_mean: Array
    column_scale: Array
    scale: float
    version: str = field(init=False, default="")

    def __post_init__(self) -> None:
        if self.components.shape[0] != len(self.mean) or len(self.column_mean) != len(self.column_scale):
            raise LearnerError(
                f"a feature pipeline's arrays do not fit together: mean {self.mean.shape}, components "
                f"{self.components.shape}, columns {self.column_mean.shape} and {self.column_scale.shape}"
            )
        object.__setattr__(self, "version", state_digest(self.state()))

    @property
    def dimension(self) -> int:
        """d, the length of a feature vector."""
        return len(self.components.T) + len(self.column_mean)

    @classmethod
    def fit(
        cls,
        raw: npt.ArrayLike,
        prompt: npt.ArrayLike,
        columns: npt.ArrayLike | None = None,
        *,
        rng: np.random.Generator,
        dimensions: int = 32,
        variance: float = 1.0,
        column_weight: float = 4.0,
    ) -> Self:
        """Fit on a sample of a pool. O(n d0^2 + d0^3), with at most 20,000 rows taken (whole prompts).

        Parameters
        ----------
        raw : (n, d0) array
            Encoder output.
        prompt : (n,) integer array
            Which prompt each row answers.
        columns : (n, c) array, optional
            `text_columns` or any other numbers per response.
        rng : numpy.random.Generator
            Draws the sample when there are more rows than are needed.
        dimensions : int
            At most so many principal directions are kept. With MiniLM and up to 1,600 judgments 32 predicted
            as well as 64 or better, and 128 worse, on two human-judged sets and a machine-judged one.
        variance : float
            Fewer are kept when they already explain this share of the within-prompt variance.
        column_weight : float
            Standard deviation of a standardised column relative to a principal direction's: how much a ridge
            estimator trusts a column beforehand. Where length matters, 4 needs far fewer judgments than 1.

        Raises
        ------
        LearnerError
            NaN or infinity, shapes that do not fit, or nothing that varies within a prompt.
        """
        rows, extra, index = _sample(raw, prompt, columns, rng)
        mean = rows.mean(axis=0)
        values, directions = _principal(centre_by_prompt(rows - mean, index), dimensions, variance)
        shrunk = directions / np.sqrt(values + 0.1 * values.mean()) if len(values) else directions
        column_scale = column_weight * _inverse(
            centre_by_prompt(extra, index).std(axis=0), np.abs(extra).max(axis=0, initial=0)
        )
        unscaled = cls(mean, shrunk, extra.mean(axis=0), column_scale, 1.0)
        phi = centre_by_prompt(unscaled._apply(rows, extra), index)
        size = float((phi**2).sum(axis=1).mean())
        if not size > 0:
            raise LearnerError(
                "no feature differs between the responses of any prompt: nothing can be learned"
            )
        return cls(mean, shrunk, extra.mean(axis=0), column_scale, size**-0.5)

    def transform(self, raw: npt.ArrayLike, columns: npt.ArrayLike | None = None) -> FloatArray:
        """Features of some rows, each independent of the others. O(n d0 d).

        Parameters
        ----------
        raw : (n, d0) array
        columns : (n, c) array
            Needed exactly when the pipeline was fitted with columns.

        Returns
        -------
        (n, d) float32 array

        Raises
        ------
        LearnerError
            NaN or infinity, or another number of columns than were fitted.
        """
        rows = _matrix("encoder output", raw, len(self.mean))
        extra = _columns(columns, len(rows), len(self.column_mean))
        return self._apply(rows, extra).astype(np.float32)

    def _apply(self, rows: Array, extra: Array) -> Array:
        parts = [(rows - self.mean) @ self.components, (extra - self.column_mean) * self.column_scale]
        return np.asarray(np.hstack(parts) * self.scale)

    def state(self) -> dict[str, npt.NDArray[np.generic]]:
        """Arrays from which `from_state` rebuilds the pipeline bit for bit."""
        return {
            "format": np.asarray(_FORMAT),
            "mean": self.mean,
            "components": self.components,
            "column_mean": self.column_mean,
            "column_scale": self.column_scale,
            "scale": np.asarray(self.scale),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, npt.ArrayLike]) -> Self:
        """Rebuild a pipeline from `state`.

        Raises
        ------
        LearnerError
            A state of another format or with an array missing.
        """
        missing = {"format", *_ARRAYS, "scale"} - set(state)
        if missing:
            raise LearnerError(f"a feature pipeline's state lacks {', '.join(sorted(missing))}")
        written = int(np.asarray(state["format"]))
        if written != _FORMAT:
            raise LearnerError(f"feature pipeline of format {written}; this program reads {_FORMAT}")
        arrays = {name: np.array(state[name], dtype=np.float64) for name in _ARRAYS}
        return cls(**arrays, scale=float(np.asarray(state["scale"])))


def _matrix(what: str, values: npt.ArrayLike, width: int | None = None) -> Array:
    rows = np.asarray(values, dtype=np.float64)
    if rows.ndim != 2 or (width is not None and rows.shape[1] != width):
        raise LearnerError(
            f"{what} has shape {rows.shape}, expected (n, {width if width is not None else 'd'})"
        )
    if not np.isfinite(rows).all():
        row = int(np.flatnonzero(~np.isfinite(rows).all(axis=1))[0])
        raise LearnerError(f"{what} has NaN or infinity in row {row}")
    return rows


def _columns(columns: npt.ArrayLike | None, count: int, width: int | None) -> Array:
    extra = _matrix("columns", np.zeros((count, 0)) if columns is None else columns, width)
    if len(extra) != count:
        raise LearnerError(f"{len(extra)} rows of columns for {count} rows of encoder output")
    return extra


def _prompt_index(prompt: npt.ArrayLike, count: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    labels = np.asarray(prompt)
    if labels.shape != (count,):
        raise LearnerError(f"prompt has shape {labels.shape} for {count} rows")
    _, index, counts = np.unique(labels, return_inverse=True, return_counts=True)
    return index, counts


def _sample(
    raw: npt.ArrayLike, prompt: npt.ArrayLike, columns: npt.ArrayLike | None, rng: np.random.Generator
) -> tuple[Array, Array, npt.NDArray[np.intp]]:
    rows = np.asarray(raw)
    index, _ = _prompt_index(prompt, len(rows))
    chosen = sample_rows(index, rng)
    extra = _columns(columns, len(rows), None)
    return _matrix("encoder output", rows[chosen]), extra[chosen], index[chosen]


def _principal(centred: Array, dimensions: int, variance: float) -> tuple[Array, Array]:
    """Largest eigenvalues of the covariance, falling, and their directions: as many as are to be kept."""
    width = centred.shape[1]
    if dimensions < 0 or not 0 < variance <= 1:
        raise LearnerError(f"cannot keep {dimensions} dimensions and a share {variance} of the variance")
    if not min(dimensions, width):
        return np.zeros(0), np.zeros((width, 0))
    covariance = centred.T @ centred / len(centred)
    last = width - min(dimensions, width)
    values, directions = scipy.linalg.eigh(covariance, subset_by_index=(last, width - 1))
    values, directions = values[::-1], directions[:, ::-1]
    # eigh leaves each sign to chance; fixing it makes a refit on the same data the same pipeline.
    strongest = np.abs(directions).argmax(axis=0)
    signs = np.sign(directions[strongest, np.arange(directions.shape[1])])
    kept = _kept(values, float(np.trace(covariance)), variance)
    return values[:kept], np.asarray(directions * signs)[:, :kept]


def _kept(values: Array, total: float, variance: float) -> int:
    # Directions at the rounding error of float32 encoder output are noise that shrinking would blow up.
    solid = values[values > max(total, 0.0) * np.finfo(np.float32).eps]
    explained = np.cumsum(solid) / max(total, np.finfo(float).tiny)
    return min(int(np.searchsorted(explained, variance - 1e-12)) + 1, len(solid))


def _inverse(deviation: Array, magnitude: Array) -> Array:
    # A column that never differs within a prompt carries nothing: it gets weight 0, not 1 / rounding error.
    varies = deviation > 1e-9 * np.maximum(magnitude, 1e-300)
    return np.asarray(np.where(varies, 1.0 / np.where(varies, deviation, 1.0), 0.0))
