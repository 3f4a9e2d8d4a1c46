"""From texts to vectors: the encoder that ships with the package, any Hugging Face model, a hashing one.

Every encoder has `name`, `dimension`, `digest` (what a feature version is bound to), `compose` (one text from
a prompt and a response) and `encode`. Importing this package does not import torch.
"""

from learner.encoders.base import Encoder, batches_by_length, compose, file_sha256
from learner.encoders.hashing import HashingEncoder
from learner.encoders.presets import ENCODERS, MINILM_SHA256, load_encoder
from learner.encoders.transformer import HuggingFaceEncoder, pool

__all__ = [
    "ENCODERS",
    "MINILM_SHA256",
    "Encoder",
    "HashingEncoder",
    "HuggingFaceEncoder",
    "batches_by_length",
    "compose",
    "file_sha256",
    "load_encoder",
    "pool",
]
