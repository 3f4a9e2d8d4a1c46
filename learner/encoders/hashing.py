"""An encoder without a model, for tests and for pools of millions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from learner.encoders.base import COMPOSE_VERSION, FloatArray, Progress, compose, digest_of
from learner.errors import LearnerError


class HashingEncoder:
    """Signed hashed counts of character trigrams: no model, no download, the same everywhere.

    Use it for tests and for pools of millions where nothing but plumbing is studied; it knows spelling,
    not meaning. Cost: O(characters), about 10 million characters a second and core.

    Parameters
    ----------
    dimension : int
        Length of a vector.

    Examples
    --------
    >>> encoder = HashingEncoder(dimension=64)
    >>> vectors = encoder.encode(["red roses", "red roses!", "binary search"])
    >>> bool(vectors[0] @ vectors[1] > 0.7 > 0.3 > vectors[0] @ vectors[2])
    True
    """

    name = "hashing"

    def __init__(self, dimension: int = 256) -> None:
        if dimension < 1:
            raise LearnerError(f"a hashing encoder needs a positive dimension, not {dimension}")
        self.dimension = dimension

    @property
    def digest(self) -> str:
        """Bound to the dimension and this module's definition of the hash."""
        return digest_of("hashing", 1, self.dimension, COMPOSE_VERSION)

    def compose(self, prompt: str, response: str) -> str:
        """Join the end of the prompt and the start of the response, about 9,000 characters in all."""
        return compose(prompt, response, tokens=1024)

    def encode(self, texts: Sequence[str], progress: Progress | None = None) -> FloatArray:
        """Return unit vectors, one per text, in order. O(characters)."""
        result = np.empty((len(texts), self.dimension), np.float32)
        for start in range(0, len(texts), 256):
            block = texts[start : start + 256]
            result[start : start + len(block)] = self._encode_block(block)
            if progress is not None:
                progress(start + len(block), len(texts))
        return result

    def _encode_block(self, texts: Sequence[str]) -> FloatArray:
        encoded = [b"\x02" + text.lower().encode("utf-8", "replace") + b"\x03\x03" for text in texts]
        lengths = np.fromiter(map(len, encoded), np.int64, len(encoded))
        codes = np.frombuffer(b"".join(encoded), np.uint8).astype(np.uint32)
        trigrams = (codes[:-2] << 16) | (codes[1:-1] << 8) | codes[2:]
        owner = np.repeat(np.arange(len(texts)), lengths)[:-2]
        inside = np.ones(len(codes), dtype=bool)
        # A trigram that starts on one of a text's two closing marks would reach into the next text.
        inside[np.cumsum(lengths) - 1] = inside[np.cumsum(lengths) - 2] = False
        mixed = _mix(np.asarray(trigrams[inside[:-2]], np.uint32))
        cell = owner[inside[:-2]] * self.dimension + (mixed >> 1) % np.uint32(self.dimension)
        signs = 1.0 - 2.0 * (mixed & 1)
        counts = np.bincount(cell, signs, len(texts) * self.dimension).reshape(len(texts), self.dimension)
        damped = np.sign(counts) * np.log1p(np.abs(counts))
        return np.asarray(
            damped / np.maximum(np.linalg.norm(damped, axis=1, keepdims=True), 1e-12), np.float32
        )


def _mix(values: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint32]:
    # The finaliser of MurmurHash3: every input bit reaches every output bit.
    mixed = (values ^ (values >> 16)) * np.uint32(0x85EBCA6B)
    mixed = (mixed ^ (mixed >> 13)) * np.uint32(0xC2B2AE35)
    return np.asarray(mixed ^ (mixed >> 16))
