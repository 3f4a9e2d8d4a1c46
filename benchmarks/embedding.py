"""An encoder's speed here: texts and tokens a second, batches by length against naive padding, share of the peak.

Without ``--random`` the encoder that is named is timed on synthetic texts of the lengths that answers have (log-normal,
cut at the encoder's limit). ``--random`` makes a Llama architecture with random weights instead, which is as fast as
the trained one: ``8b`` has Llama-3-8B's shape (d = 4,096, 32 layers; 16 GB in bfloat16, for a GPU), ``tiny`` is for
trying the same code on any processor. The peak is the card's dense bfloat16 one; none is known for a processor.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from learner.encoders import HuggingFaceEncoder, batches_by_length, load_encoder
from learner.encoders.transformer import default_budget, forward
from learner.errors import LearnerError

Tokens = list[list[int]]
SHAPES: dict[str, dict[str, Any]] = {
    "8b": {
        "hidden_size": 4096, "intermediate_size": 14_336, "num_hidden_layers": 32, "num_attention_heads": 32,
        "num_key_value_heads": 8, "vocab_size": 128_256, "max_position_embeddings": 8192,
    },
    "tiny": {
        "hidden_size": 64, "intermediate_size": 192, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "vocab_size": 1000, "max_position_embeddings": 2048,
    },
}  # fmt: skip
PEAKS = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "L4": 121e12, "A10": 125e12}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this benchmark."""
    parser.add_argument(
        "--encoder", default="all-MiniLM-L6-v2", help="a name as in a project's settings, or a folder"
    )
    parser.add_argument("--random", choices=sorted(SHAPES), help="random weights of this shape instead")
    parser.add_argument("--device", default=None, help="cuda or cpu; what there is when not given")
    parser.add_argument("--texts", type=int, default=256)
    parser.add_argument("--longest", type=int, default=1024, help="tokens of a text at most, with --random")
    parser.add_argument("--token-budget", type=int, default=None, help="padded tokens a batch")
    parser.add_argument("--repeats", type=int, default=3, help="turns of both ways; medians count")
    parser.add_argument("--naive-batch", type=int, default=32, help="texts a batch of the naive way")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Time both ways over the same tokens."""
    model, tokens, device, budget = of_shape(args) if args.random else of_name(args)
    by_length = [batch.tolist() for batch in batches_by_length([len(t) for t in tokens], budget)]
    order = list(range(len(tokens)))
    naive = [order[i : i + args.naive_batch] for i in range(0, len(order), args.naive_batch)]
    timed(model, tokens, by_length[:2], device)  # kernels are chosen and memory is taken at the first batches
    read = sum(map(len, tokens))
    operations = work(model, tokens)
    ways = {"by length": by_length, "naive": naive}
    spent = [{name: timed(model, tokens, ways[name], device) for name in ways} for _ in range(args.repeats)]
    rows: list[dict[str, Any]] = []
    for name, batches in ways.items():
        seconds = float(np.median([turn[name] for turn in spent]))
        padded = sum(len(batch) * max(len(tokens[i]) for i in batch) for batch in batches)
        rows.append(
            {
                "batches": name, "seconds": seconds, "texts_per_s": len(tokens) / seconds,
                "tokens_per_s": read / seconds, "padding_share": 1 - read / padded,
                "teraflops": operations / seconds / 1e12, "share_of_peak": share(operations / seconds, device),
            }
        )  # fmt: skip
    figures = {
        "texts": len(tokens),
        "tokens": read,
        "dimension": int(model.config.hidden_size),
        "gigabytes": sum(p.numel() * p.element_size() for p in model.parameters()) / 1e9,
        "speedup_over_naive": rows[1]["seconds"] / rows[0]["seconds"],
    }
    return {
        "figures": figures | {k: rows[0][k] for k in rows[0] if k not in ("batches", "seconds")},
        "rows": rows,
    }


def of_name(args: argparse.Namespace) -> tuple[Any, Tokens, str, int]:
    """An encoder as projects use it, and synthetic texts as its tokens."""
    encoder = load_encoder(args.encoder, **({"device": args.device} if args.device else {}))
    if not isinstance(encoder, HuggingFaceEncoder):
        raise LearnerError(f"{args.encoder} is no transformer: there is nothing to batch")
    rng = np.random.default_rng(0)
    texts = [
        " ".join(f"{word:x}" for word in rng.integers(1 << 16, size=n // 2))
        for n in lengths(args.texts, 2000)
    ]
    return encoder._model, encoder._tokens(texts), encoder.device, args.token_budget or encoder.token_budget


def of_shape(args: argparse.Namespace) -> tuple[Any, Tokens, str, int]:
    """Random weights made on the device, and random tokens."""
    import torch
    from transformers import LlamaConfig, LlamaModel

    device = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
    shape = SHAPES[args.random]
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16 if device.startswith("cuda") else torch.float32)
    try:
        with torch.device(device):
            model: Any = LlamaModel(LlamaConfig(**shape))
    finally:
        torch.set_default_dtype(before)
    rng = np.random.default_rng(0)
    tokens = [rng.integers(shape["vocab_size"], size=n).tolist() for n in lengths(args.texts, args.longest)]
    budget = args.token_budget or default_budget(device)
    return model.eval().requires_grad_(False), tokens, device, budget


def lengths(count: int, longest: int) -> list[int]:
    """Tokens of so many answers: a median of 220, one in ten beyond 600."""
    drawn = np.random.default_rng(1).lognormal(np.log(220), 0.8, count)
    return [int(n) for n in np.clip(drawn, 8, longest)]


def timed(model: Any, tokens: Tokens, batches: Sequence[Sequence[int]], device: str) -> float:
    """Seconds of all batches, from tokens to vectors on the processor."""
    wait: Callable[[], None] = _synchronize if device.startswith("cuda") else lambda: None
    wait()
    started = time.perf_counter()
    for batch in batches:
        forward(model, [tokens[i] for i in batch], "last", device).float().cpu()
    wait()
    return time.perf_counter() - started


def _synchronize() -> None:
    import torch

    torch.cuda.synchronize()


def work(model: Any, tokens: Tokens) -> float:
    """Floating-point operations that the tokens need, padding not counted: 2 a weight and token, and attention."""
    config = model.config
    weights = sum(p.numel() for name, p in model.named_parameters() if "embed" not in name)
    attention = sum(4 * config.num_hidden_layers * config.hidden_size * len(t) ** 2 for t in tokens)
    causal = 0.5 if getattr(config, "model_type", "") == "llama" else 1.0
    return float(2.0 * weights * sum(map(len, tokens)) + causal * attention)


def share(flops: float, device: str) -> float | None:
    """Of the card's peak, where it is known."""
    if not device.startswith("cuda"):
        return None
    import torch

    name = torch.cuda.get_device_name(device)
    return next((flops / peak for card, peak in PEAKS.items() if card in name), None)
