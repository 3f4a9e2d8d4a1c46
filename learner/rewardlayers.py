"""Layers of a BERT-like model whose weights are set so that they compute a mean, a length or one direction of it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

TINY = 2.0**-70  # what the last layer is scaled by before the layer that pools, so that its residual vanishes
LINEAR = 1e-3  # how far into tanh and the layer norms values go: they are linear to LINEAR^2


def head_of(model: Any) -> tuple[Any, Any]:
    """The two linear maps around tanh."""
    if hasattr(model.classifier, "out_proj"):
        return model.classifier.dense, model.classifier.out_proj
    return model.base_model.pooler.dense, model.classifier


def largest_norm(norm: Any) -> float:
    """No output of this layer norm is longer."""
    gamma, beta = parameters(norm)
    return float(np.abs(gamma).max() * math.sqrt(len(gamma)) + np.linalg.norm(beta))


def plain_mean(last: Any, layer: Any, weight: Array, eps: float) -> Array:
    """Make `layer` compute ``weight . mean`` along one direction, which is returned.

    Both layer norms work where eps outweighs the variance, so that they only divide by sqrt(eps).
    """
    d = len(weight)
    direction = np.zeros(d)
    direction[:2] = math.sqrt(0.5), -math.sqrt(0.5)
    small = LINEAR * math.sqrt(eps * d) / (float(np.linalg.norm(weight)) * largest_norm(last) or 1.0)
    uniform_attention(layer, rows_of(weight / TINY, d))
    output = np.zeros((d, d))
    output[:, 0] = small * direction
    fill(layer.attention.output.dense, output)
    scale_norm(layer.attention.output.LayerNorm, math.sqrt(eps))
    scale_norm(layer.output.LayerNorm, math.sqrt(eps) / small)
    shrink(last)
    return direction


def unit_mean(last: Any, layer: Any, weight: Array, eps: float) -> Array:
    """Make `layer` compute the mean scaled to length 1; returned is what reads ``weight`` from it.

    The outputs of a layer norm lie in a hyperplane, so a rotation into the vectors of mean 0 loses nothing that
    varies; there a layer norm divides by the length. The hyperplane's distance from 0 is made up by eps.
    """
    d = len(weight)
    gamma, beta = parameters(last)
    normal = normal_of(gamma)
    rotation = complement(np.full(d, d**-0.5)) @ complement(normal).T
    distance = abs(float(beta @ normal))
    size = 1.0 if distance <= math.sqrt(d * eps) else math.sqrt(d * eps) / distance
    uniform_attention(layer, np.eye(d) / TINY)
    fill(layer.attention.output.dense, size * rotation)
    scale_norm(layer.attention.output.LayerNorm, LINEAR * math.sqrt(eps))
    scale_norm(layer.output.LayerNorm, 1 / (LINEAR * math.sqrt(d)))
    shrink(last)
    return np.asarray(rotation @ weight)


def normal_of(gamma: Array) -> Array:
    """The unit normal of ``{gamma * x : sum x = 0}``."""
    smallest = int(np.abs(gamma).argmin())
    normal = gamma[smallest] / np.where(gamma == 0, 1.0, gamma)
    normal[smallest] = 1.0
    return np.asarray(normal / np.linalg.norm(normal))


def complement(normal: Array) -> Array:
    """An orthonormal basis of what is perpendicular to a unit vector, (d, d - 1): a Householder reflection's rest.

    >>> basis = complement(np.array([0.6, 0.8, 0.0]))
    >>> np.allclose(basis.T @ basis, np.eye(2)), np.allclose(basis.T @ [0.6, 0.8, 0.0], 0)
    (True, True)
    """
    v = normal.copy()
    v[0] += 1.0 if v[0] >= 0 else -1.0
    reflection = np.eye(len(v)) - 2.0 * np.outer(v, v) / (v @ v)
    return np.asarray(reflection[:, 1:])


def uniform_attention(layer: Any, value: Array) -> None:
    """No query and no key: every token attends to all tokens alike. The feed-forward part adds nothing."""
    attention = layer.attention.self
    nothing = np.zeros_like(value)
    fill(attention.query, nothing)
    fill(attention.key, nothing)
    fill(attention.value, value)
    for part in (layer.intermediate.dense, layer.output.dense):
        fill(part, np.zeros(tuple(part.weight.shape)))


def shrink(norm: Any) -> None:
    """Scale a layer norm's output to almost nothing: relative to each other its numbers stay as they are."""
    import torch

    with torch.no_grad():
        norm.weight.mul_(TINY)
        norm.bias.mul_(TINY)


def parameters(norm: Any) -> tuple[Array, Array]:
    gamma, beta = (part.detach().double().cpu().numpy() for part in (norm.weight, norm.bias))
    return gamma, beta


def scale_norm(norm: Any, scale: float) -> None:
    """A layer norm that only scales."""
    import torch

    with torch.no_grad():
        norm.weight.fill_(scale)
        norm.bias.zero_()


def rows_of(row: Array, height: int) -> Array:
    """A square matrix with one row, the others zero."""
    matrix = np.zeros((height, len(row)))
    matrix[0] = row
    return matrix


def fill(linear: Any, weight: Array, bias: Array | None = None) -> None:
    """Set a linear map; without ``bias`` it has none."""
    import torch

    with torch.no_grad():
        linear.weight.copy_(torch.from_numpy(weight))
        if linear.bias is not None:
            linear.bias.copy_(torch.from_numpy(np.zeros(len(weight)) if bias is None else bias))
