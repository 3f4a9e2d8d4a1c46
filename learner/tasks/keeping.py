"""Encodings kept in memory by what was encoded: a text asked about again costs no forward pass."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from learner.encoders import Encoder

MOST_BYTES = 128 * 2**20
Floats = npt.NDArray[np.float32]


class Kept:
    """The vectors used last, up to so many bytes; safe for several threads."""

    def __init__(self, most: int = MOST_BYTES) -> None:
        self.most, self.size = most, 0
        self.rows: OrderedDict[bytes, Floats] = OrderedDict()
        self.lock = threading.Lock()

    def get(self, key: bytes) -> Floats | None:
        with self.lock:
            if key in self.rows:
                self.rows.move_to_end(key)
            return self.rows.get(key)

    def put(self, key: bytes, row: Floats) -> None:
        with self.lock:
            old = self.rows.pop(key, None)
            self.size += row.nbytes - (0 if old is None else old.nbytes)
            self.rows[key] = row
            while self.size > self.most and len(self.rows) > 1:
                self.size -= self.rows.popitem(last=False)[1].nbytes


kept = Kept()


def key_of(encoder: Encoder, text: str) -> bytes:
    """The content's name: what an encoder of this digest makes of it never changes."""
    return hashlib.sha256(f"{encoder.digest}\0{text}".encode("utf-8", "surrogatepass")).digest()


def encode_kept(
    encoder: Encoder, texts: Sequence[str], encode: Callable[[Encoder, Sequence[str]], Floats]
) -> Floats:
    """One row a text; only texts that were not met lately are encoded, each once, all together."""
    keys = [key_of(encoder, text) for text in texts]
    found = {key: row for key in set(keys) if (row := kept.get(key)) is not None}
    new = {key: text for key, text in zip(keys, texts, strict=True) if key not in found}
    if new:
        rows = encode(encoder, list(new.values()))
        for key, row in zip(new, rows, strict=True):
            found[key] = row.copy()
            kept.put(key, found[key])
    return np.stack([found[key] for key in keys]) if keys else np.zeros((0, encoder.dimension), np.float32)
