"""Label efficiency: held-out log-loss and accuracy by label count for every rule, and labels saved against random.

Without ``--pairs`` answers are drawn from the utilities of the two responses (Bradley-Terry), coin flips included
where both are equal; held-out pairs with equal utilities have no right answer and are left out of the figures
(``--keep-equal`` keeps them). Variants: 30 % of the training answers flipped; 3 % of the training responses made
junk (inflated norm, answers by coin); 30 % of them made near-copies of another response.
"""

from __future__ import annotations

import argparse
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import numpy as np

from benchmarks.pools import (
    add_pool_arguments,
    load_pool,
    load_votes,
    thin,
)
from benchmarks.preparing import VARIANTS, add_task_arguments, prepare
from learner.dryrun import Outcome, Run, Settings, Task, collect, compare, joined
from learner.selection import RULES

CHECKPOINTS = (10, 25, 50, 100, 200, 400, 800)
BETWEEN = (15, 35, 70, 140, 280, 560)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this benchmark."""
    add_pool_arguments(parser)
    parser.add_argument(
        "--rules", default=",".join(["random", "random_capped", *[r for r in RULES if r != "random"]])
    )
    parser.add_argument("--variants", default="clean", help=f"of {', '.join(VARIANTS)}")
    parser.add_argument("--budget", type=int, default=800)
    add_task_arguments(parser)
    parser.add_argument(
        "--reserve", type=float, default=0.1, help="share of labels drawn uniformly, for tuning"
    )
    parser.add_argument("--lambda-prior", type=float, default=0.3)
    parser.add_argument("--jobs", type=int, default=1)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Collect with every rule, seed, fold and variant; compare with random."""
    pool = thin(load_pool(args), args.responses_per_prompt, np.random.default_rng([args.split_seed, 1]))
    votes = None if args.pairs is None else load_votes(args.pairs, pool)
    rules = args.rules.split(",")
    rules = rules if "random" in rules else ["random", *rules]
    settings = _settings(args)
    figures: dict[str, float] = {}
    rows: list[dict[str, Any]] = []
    for variant in args.variants.split(","):
        tasks = prepare(pool, votes, variant, args)
        runs = {rule: _all_runs(tasks, rule, settings, args.jobs) for rule in rules}
        clusters = np.concatenate([task.test_prompt for task in tasks[0]])
        shown = {*CHECKPOINTS, settings.budget}
        figures |= _figures(variant, compare(runs, settings.checkpoints, clusters, shown), rows)
    return {"figures": figures, "rows": rows}


def _settings(args: argparse.Namespace) -> Settings:
    counts = tuple(sorted(n for n in {*CHECKPOINTS, *BETWEEN, args.budget} if n <= args.budget))
    return Settings(args.budget, counts, args.reserve, args.lambda_prior)


def _all_runs(tasks: list[list[Task]], rule: str, settings: Settings, jobs: int) -> list[Run]:
    """One run a seed, its folds side by side as more held-out judgments."""
    work = [(task, rule, seed, settings) for seed, folds in enumerate(tasks) for task in folds]
    if jobs > 1:
        with ProcessPoolExecutor(jobs) as workers:
            done = list(workers.map(_collect, work, chunksize=max(1, len(work) // (4 * jobs))))
    else:
        done = [_collect(item) for item in work]
    folds = len(tasks[0])
    return [joined(done[i : i + folds]) for i in range(0, len(done), folds)]


def _collect(work: tuple[Task, str, int, Settings]) -> Run:
    return collect(*work)


def _figures(variant: str, outcomes: dict[str, Outcome], rows: list[dict[str, Any]]) -> dict[str, float]:
    """Figures of one variant: log-loss, accuracy, difference from random, labels saved, area under the curve."""
    prefix = "" if variant == "clean" else f"{variant}_"
    figures: dict[str, float] = {}
    for rule, one in outcomes.items():
        figures |= {
            f"{prefix}area_{rule}": one.area,
            f"{prefix}area_behind_best_{rule}": one.behind.estimate,
            f"{prefix}area_behind_best_{rule}_low": one.behind.low,
            f"{prefix}area_behind_best_{rule}_high": one.behind.high,
        }
        for i, n in enumerate(one.counts):
            name = f"{prefix}{{}}_{rule}_at_{n}"
            figures[name.format("log_loss")] = one.log_loss[i].estimate
            figures[name.format("accuracy")] = one.accuracy[i].estimate
            intervals = (("gain", one.gain), ("accuracy_gain", one.accuracy_gain))
            saved = ("labels_saved", [each.ratio for each in one.saved])
            for key, found in (*intervals, saved):
                figures[name.format(key)] = found[i].estimate
                figures[name.format(key) + "_low"] = found[i].low
                figures[name.format(key) + "_high"] = found[i].high
            rows.append(_row(variant, rule, n, figures, name, one.saved[i].censored, one.regularization[i]))
    return figures


def _row(
    variant: str, rule: str, n: int, figures: dict[str, float], name: str, censored: bool, mean_lambda: float
) -> dict[str, Any]:
    value = {key: figures[name.format(key)] for key in ("log_loss", "accuracy", "gain", "labels_saved")}
    low, high = figures[name.format("labels_saved") + "_low"], figures[name.format("labels_saved") + "_high"]
    gain_low, gain_high = figures[name.format("gain") + "_low"], figures[name.format("gain") + "_high"]
    return {
        "variant": variant,
        "rule": rule,
        "labels": n,
        "log_loss": round(value["log_loss"], 4),
        "accuracy": round(value["accuracy"], 4),
        "better_by": f"{value['gain']:+.4f} ({gain_low:+.4f} to {gain_high:+.4f})",
        "labels_saved": f"{'>= ' if censored else ''}{value['labels_saved']:.2f} ({low:.2f} to {high:.2f})",
        "lambda": round(mean_lambda, 2),
    }
