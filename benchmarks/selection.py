"""Exact pick per judgment against one pass over the same pairs and against full rescoring; memory a pair.

Scores come in two shapes: ``uniform`` (z ~ N(0, I/d): all pairs nearly alike, the hard case) and ``skewed`` (lengths
spread log-normally). Every judgment is drawn from a known theta, learned by OnePass, told to PairScores, and the next
pair is picked and excluded. Both sides run on one thread, so that the ratio does not depend on idle cores.

Memory is the most that Python and NumPy held at once beyond the matrix: while the scores are built and reset, while
judgments are absorbed, and while pairs are picked with others in flight. It is taken on a pool of its own, two million
pairs of eight features, where the short-list and other things that do not grow with the pairs weigh little.
"""

from __future__ import annotations

import argparse
import time
import tracemalloc
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from threadpoolctl import threadpool_limits

from learner.estimators import OnePass
from learner.scores import PairScores
from learner.selection import RULES, Pick, Scored
from learner.selection.candidates import TIE

Floats = NDArray[np.float32]
Difference = Callable[[int, int], NDArray[np.float64]]

_WEIGHED, _FEW_FEATURES = 2_000_000, 8  # pairs and features of the pool whose memory is measured


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this benchmark."""
    parser.add_argument("--pairs", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument(
        "--responses-per-prompt", type=int, default=0, help="0: explicit pairs, z of each held"
    )
    parser.add_argument("--judgments", type=int, default=300)
    parser.add_argument(
        "--rule", default="d_optimal", choices=[n for n, r in RULES.items() if isinstance(r, Scored)]
    )
    parser.add_argument("--checks", type=int, default=20, help="picks compared with full float64 rescoring")
    parser.add_argument(
        "--device", default="cpu", help="cpu (NumPy), or a torch device for the sweeps, such as cuda"
    )
    parser.add_argument("--seed", type=int, default=0)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Both shapes of scores; the figures are the worse of the two (times are means over all judgments)."""
    with threadpool_limits(limits=1):
        rows = [
            _measure(args, shape) | {"peak_bytes_per_pair": _peak(args, shape)}
            for shape in ("uniform", "skewed")
        ]
    figures = {
        "pick_over_pass": max(row["pick_over_pass"] for row in rows),
        "rescore_over_pick": min(row["rescore_over_pick"] for row in rows),
        "same_picks": min(row["same_picks"] for row in rows),
        "peak_bytes_per_pair": max(row["peak_bytes_per_pair"] for row in rows),
        "held_bytes_per_pair": max(row["held_bytes_per_pair"] for row in rows),
        "median_pick_over_pass": max(row["median_pick_over_pass"] for row in rows),
        **{f"pick_over_pass_{row['scores']}": row["pick_over_pass"] for row in rows},
    }
    return {"figures": figures, "rows": rows}


def _measure(args: argparse.Namespace, shape: str) -> dict[str, Any]:
    rng = np.random.default_rng(args.seed)
    build, difference = _pool(args, shape, rng)
    scores = build()
    clock = _clock(args.device)
    learner, truth = OnePass(args.dim), 2 * rng.standard_normal(args.dim)
    started = clock()
    scores.reset(learner.theta, learner.covariance)
    rescore = clock() - started
    check_at = set(np.linspace(0, args.judgments - 1, args.checks).astype(int).tolist())
    times, same = [], True
    for step in range(args.judgments):
        started = clock()
        pick = scores.pick()[0]
        elapsed = clock() - started
        if step in check_at:
            same = same and _is_best(scores, args, pick, learner)
        z = difference(pick.first, pick.second)
        update = learner.learn_one(z, float(rng.random() < expit(z @ truth)))
        started = clock()
        scores.exclude(pick.first, pick.second)
        if update is not None:
            scores.absorb(update.u, update.c, learner.theta)
        times.append(elapsed + clock() - started)
    scores.reset(learner.theta, learner.covariance)  # warm, away from the diagonal start
    started = clock()
    scores.reset(learner.theta, learner.covariance)
    rescore = max(rescore, clock() - started)
    return _row(scores, shape, np.array(times), _one_pass(scores.size, args), rescore, same)


def _peak(args: argparse.Namespace, shape: str) -> float:
    """Most bytes a pair held at once beyond the matrix, through a reset, judgments and picks with pairs in flight."""
    small = argparse.Namespace(**vars(args) | {"pairs": _WEIGHED, "dim": _FEW_FEATURES})
    rng, learner = np.random.default_rng(args.seed), OnePass(_FEW_FEATURES)
    build, difference = _pool(small, shape, rng)
    tracemalloc.start()
    try:
        scores = build()
        scores.reset(learner.theta, learner.covariance)
        for _ in range(20):
            pick = scores.pick()[0]
            update = learner.learn_one(difference(pick.first, pick.second), float(rng.random() < 0.5))
            scores.exclude(pick.first, pick.second)
            if update is not None:
                scores.absorb(update.u, update.c, learner.theta)
        scores.pick(20, pending=[(pick.first, pick.second) for pick in scores.pick(40)])
        scores.reset(learner.theta, learner.covariance)
        return tracemalloc.get_traced_memory()[1] / scores.size
    finally:
        tracemalloc.stop()


def _pool(
    args: argparse.Namespace, shape: str, rng: np.random.Generator
) -> tuple[Callable[[], PairScores], Difference]:
    per_prompt = args.responses_per_prompt
    prompts = round(args.pairs / (per_prompt * (per_prompt - 1) / 2)) if per_prompt else 0
    features = rng.standard_normal((prompts * per_prompt or args.pairs, args.dim), dtype=np.float32)
    features /= np.float32(np.sqrt(args.dim * (2 if per_prompt else 1)))
    if shape == "skewed":
        features *= np.exp(0.7 * rng.standard_normal((len(features), 1))).astype(np.float32)
    if not per_prompt:
        explicit = partial(PairScores.from_pairs, features, rule=args.rule, device=args.device)
        return explicit, lambda first, _: features[first].astype(np.float64)
    prompt = np.repeat(np.arange(prompts), per_prompt)
    build = partial(PairScores, features, prompt, rule=args.rule, device=args.device)
    return build, lambda first, second: features[first].astype(np.float64) - features[second]


def _clock(device: str) -> Callable[[], float]:
    """Processor time of this thread, or the wall's where a device works beside it."""
    return time.thread_time if device == "cpu" else time.perf_counter


def _one_pass(pairs: int, args: argparse.Namespace) -> float:
    """Seconds to read every z once (a product with one vector), on materialised pairs; at most 2 GB are built."""
    held, clock = min(pairs, 2**29 // args.dim), _clock(args.device)
    product = _product(held, args)
    times = []
    for _ in range(15):
        started = clock()
        product()
        times.append(clock() - started)
    return float(np.median(times) * pairs / held)


def _product(held: int, args: argparse.Namespace) -> Callable[[], object]:
    z, u = np.ones((held, args.dim), np.float32), np.ones(args.dim, np.float32)
    if args.device == "cpu":
        return lambda: z @ u
    import torch

    there = args.device.split(":torch")[0]
    placed, direction = torch.as_tensor(z, device=there), torch.as_tensor(u, device=there)
    return lambda: (placed @ direction).cpu()  # waits for the device


def _is_best(scores: PairScores, args: argparse.Namespace, pick: Pick, learner: OnePass) -> bool:
    """The pick is the first of the open pairs with the largest score, every pair rescored in full."""
    rule = RULES[args.rule]
    assert isinstance(rule, Scored)
    theta, covariance = np.asarray(learner.theta, np.float64), np.asarray(learner.covariance, np.float64)
    fresh = np.concatenate([rule.score(q, m, 1.0) for q, m in _rescored(scores, theta, covariance)])
    numbers = scores.open_pairs()
    best = fresh[numbers].max()
    first = int(numbers[np.argmax(fresh[numbers] >= best * (1 - TIE))])
    return scores.rows(first) == (pick.first, pick.second)


def _rescored(
    scores: PairScores, theta: NDArray[np.float64], covariance: NDArray[np.float64]
) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """q and m of every pair in order, from its difference, in float64 and in chunks."""
    out = []
    for begin in range(0, scores.size, 8192):
        z = scores.differences(np.arange(begin, min(begin + 8192, scores.size)))
        out.append((np.einsum("nd,nd->n", z @ covariance, z), z @ theta))
    return out


def _row(
    scores: PairScores, shape: str, times: NDArray[np.float64], one_pass: float, rescore: float, same: bool
) -> dict[str, Any]:
    return {
        "scores": shape,
        "pairs": scores.size,
        "pass_ms": 1e3 * one_pass,
        "pick_ms": 1e3 * float(times.mean()),
        "median_ms": 1e3 * float(np.median(times)),
        "p95_ms": 1e3 * float(np.quantile(times, 0.95)),
        "longest_ms": 1e3 * float(times.max()),
        "rescore_ms": 1e3 * rescore,
        "pick_over_pass": float(times.mean()) / one_pass,
        "median_pick_over_pass": float(np.median(times)) / one_pass,
        "rescore_over_pick": rescore / float(times.mean()),
        "same_picks": int(same),
        "held_bytes_per_pair": scores.nbytes / scores.size,
    }
