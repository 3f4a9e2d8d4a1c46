"""Pools, votes and embeddings from files given by path, as the arrays that the benchmarks work on.

A pool is JSON Lines (gzip or not): ``{"id", "prompt", "responses": [{"id", "text", ...}]}``; votes are
``{"chosen_id", "rejected_id"}``; embeddings are an .npz with ``ids`` and ``E`` (one row a response id).
"""

from __future__ import annotations

import argparse
import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from learner.dryrun import Votes
from learner.encoders import load_encoder
from learner.errors import LearnerError
from learner.features import FeaturePipeline, text_columns

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]
CLIP = 1e-3


@dataclass(frozen=True)
class Pool:
    """Responses of a pool: row i answers prompt ``prompt[i]``; ``utility`` is NaN where unknown."""

    ids: list[str]
    texts: list[str]
    prompt: Rows
    prompts: list[str]
    raw: Floats
    utility: Floats

    def take(self, rows: Rows) -> Pool:
        """The same pool with these responses only; prompts keep their numbers."""
        ids, texts = [self.ids[i] for i in rows], [self.texts[i] for i in rows]
        return Pool(ids, texts, self.prompt[rows], self.prompts, self.raw[rows], self.utility[rows])


def add_pool_arguments(parser: argparse.ArgumentParser) -> None:
    """Options that name the data."""
    parser.add_argument("--pool", type=Path, required=True, help="pool of prompts and responses, JSON Lines")
    parser.add_argument("--embeddings", type=Path, help="npz with ids and E; without it --encoder is run")
    parser.add_argument("--encoder", default="hashing", help="encoder for pools without embeddings")
    parser.add_argument("--pairs", type=Path, help="votes; without it answers are drawn from --utility")
    parser.add_argument("--utility", help="field of a response that holds its utility")
    parser.add_argument("--utility-is", choices=("utility", "probability"), default="utility")
    parser.add_argument("--responses-per-prompt", type=int, default=44)
    parser.add_argument("--dimensions", type=int, default=32, help="principal directions kept")
    parser.add_argument("--no-columns", action="store_true", help="leave out length and formatting columns")
    parser.add_argument("--column-weight", type=float, default=8.0, help="weight of those columns")


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Objects of a JSON Lines file, gzip or not."""
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            try:
                yield json.loads(line)
            except json.JSONDecodeError as error:
                raise LearnerError(f"{path.name}, line {number}: {error}") from error


def load_pool(args: argparse.Namespace) -> Pool:
    """Read the pool that the options name, with embeddings and utilities."""
    ids: list[str] = []
    texts: list[str] = []
    owner: list[int] = []
    values: list[float] = []
    prompts: list[str] = []
    for number, row in enumerate(read_lines(args.pool)):
        prompts.append(str(row["prompt"]))
        for response in row["responses"]:
            value = response.get(args.utility) if args.utility else None
            if args.utility and value is None:
                continue
            ids.append(str(response["id"]))
            texts.append(str(response["text"]))
            owner.append(number)
            values.append(float("nan") if value is None else float(value))
    if not ids:
        raise LearnerError(f"{args.pool.name}: no response has the field {args.utility!r}")
    index = np.array(owner, dtype=np.int64)
    raw = _embeddings(args, ids, [prompts[i] for i in owner], texts)
    return Pool(ids, texts, index, prompts, raw, _utility(np.array(values), args.utility_is))


def _utility(values: Floats, kind: str) -> Floats:
    if kind == "utility":
        return values
    clipped = np.clip(values, CLIP, 1.0 - CLIP)
    return np.asarray(np.log(clipped) - np.log1p(-clipped))


def _embeddings(args: argparse.Namespace, ids: list[str], prompts: list[str], texts: list[str]) -> Floats:
    if args.embeddings is None:
        encoder = load_encoder(args.encoder)
        composed = [encoder.compose(prompt, text) for prompt, text in zip(prompts, texts, strict=True)]
        return np.asarray(encoder.encode(composed), dtype=np.float64)
    with np.load(args.embeddings) as stored:
        where = {str(name): row for row, name in enumerate(stored["ids"])}
        missing = [name for name in ids if name not in where]
        if missing:
            raise LearnerError(
                f"{args.embeddings.name}: no embedding of {len(missing)} responses, e.g. {missing[0]}"
            )
        return np.asarray(stored["E"][[where[name] for name in ids]], dtype=np.float64)


def load_votes(path: Path, pool: Pool) -> Votes:
    """Votes on the pool's responses; those on responses that the pool lacks are left out."""
    where = {name: row for row, name in enumerate(pool.ids)}
    chosen, rejected = [], []
    for vote in read_lines(path):
        if vote["chosen_id"] in where and vote["rejected_id"] in where:
            chosen.append(where[vote["chosen_id"]])
            rejected.append(where[vote["rejected_id"]])
    if not chosen:
        raise LearnerError(f"{path.name}: no vote is on two responses of the pool")
    one, two = np.array(chosen, dtype=np.int64), np.array(rejected, dtype=np.int64)
    return Votes(np.minimum(one, two), np.maximum(one, two), (one < two).astype(np.float64))


def thin(pool: Pool, per_prompt: int, rng: np.random.Generator) -> Pool:
    """At most ``per_prompt`` responses of each prompt, drawn uniformly, in their old order."""
    order = rng.permutation(len(pool.ids))
    order = order[np.argsort(pool.prompt[order], kind="stable")]
    counts = np.bincount(pool.prompt, minlength=len(pool.prompts))
    place = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    return pool.take(np.sort(order[place < per_prompt]))


def features(pool: Pool, train: NDArray[np.bool_], args: argparse.Namespace) -> Floats:
    """Feature pipeline fitted on the responses of the training prompts, applied to all."""
    columns = None if args.no_columns else text_columns(pool.texts)
    pipeline = FeaturePipeline.fit(
        pool.raw[train],
        pool.prompt[train],
        None if columns is None else columns[train],
        rng=np.random.default_rng(0),
        dimensions=args.dimensions,
        column_weight=args.column_weight,
    )
    return np.asarray(pipeline.transform(pool.raw, columns), dtype=np.float64)
