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

from benchmarks.collecting import Run, Settings, Task, collect
from benchmarks.pools import (
    Floats,
    Rows,
    add_pool_arguments,
    load_pool,
    load_votes,
    thin,
)
from benchmarks.preparing import VARIANTS, add_task_arguments, prepare
from learner.efficiency import Curves, area_under_curve, labels_saved, paired_bootstrap
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
        figures |= _compare(variant, runs, clusters, settings, rows)
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
    return [_joined(done[i : i + folds]) for i in range(0, len(done), folds)]


def _collect(work: tuple[Task, str, int, Settings]) -> Run:
    return collect(*work)


def _joined(runs: list[Run]) -> Run:
    count = min(len(run.losses) for run in runs)
    return Run(
        np.concatenate([run.losses[:count] for run in runs], axis=1),
        np.concatenate([run.hits[:count] for run in runs], axis=1),
        np.exp(np.mean([np.log(run.regularization[:count]) for run in runs], axis=0)),
    )


def _compare(
    variant: str, runs: dict[str, list[Run]], clusters: Rows, settings: Settings, rows: list[dict[str, Any]]
) -> dict[str, float]:
    """Figures of one variant: log-loss, accuracy, difference from random, labels saved, area under the curve."""
    count = min(len(run.losses) for each in runs.values() for run in each)
    counts = np.array(settings.checkpoints[:count], dtype=np.float64)
    losses = {rule: np.stack([run.losses[:count] for run in each]) for rule, each in runs.items()}
    right = {rule: np.stack([run.hits[:count] for run in each]) for rule, each in runs.items()}
    curves = {rule: _from_nothing(counts, each, clusters) for rule, each in losses.items()}
    prefix = "" if variant == "clean" else f"{variant}_"
    figures: dict[str, float] = {}
    areas = {rule: area_under_curve(counts, each.transpose(0, 2, 1)) for rule, each in losses.items()}
    best = min(areas, key=lambda rule: float(areas[rule].mean()))
    for rule in runs:
        rng = np.random.default_rng(0)
        figures |= _area_figures(f"{prefix}{{}}_{rule}", areas, rule, best, clusters, rng)
        for i, n in enumerate(counts.astype(int).tolist()):
            if n not in (*CHECKPOINTS, settings.budget):
                continue
            gain = paired_bootstrap(losses["random"][:, i], losses[rule][:, i], clusters, rng=rng)
            better = paired_bootstrap(right[rule][:, i], right["random"][:, i], clusters, rng=rng)
            saved = labels_saved(curves[rule], curves["random"], at=n, rng=rng)
            name = f"{prefix}{{}}_{rule}_at_{n}"
            figures[name.format("log_loss")] = float(losses[rule][:, i].mean())
            figures[name.format("accuracy")] = float(right[rule][:, i].mean())
            for key, interval in (("gain", gain), ("accuracy_gain", better), ("labels_saved", saved.ratio)):
                figures[name.format(key)] = interval.estimate
                figures[name.format(key) + "_low"] = interval.low
                figures[name.format(key) + "_high"] = interval.high
            mean_lambda = float(np.exp(np.mean([np.log(run.regularization[i]) for run in runs[rule]])))
            rows.append(_row(variant, rule, n, figures, name, saved.censored, mean_lambda))
    return figures


def _from_nothing(counts: Floats, losses: Floats, clusters: Rows) -> Curves:
    """Learning curve that begins at no labels, where every model says 1/2."""
    start = np.full((len(losses), 1, losses.shape[2]), np.log(2.0))
    return Curves(np.concatenate([[0.0], counts]), np.concatenate([start, losses], axis=1), clusters)


def _area_figures(
    name: str, areas: dict[str, Floats], rule: str, best: str, clusters: Rows, rng: np.random.Generator
) -> dict[str, float]:
    """Mean log-loss while collecting, and how far it is from the best rule's."""
    behind = paired_bootstrap(areas[rule], areas[best], clusters, rng=rng)
    return {
        name.format("area"): float(areas[rule].mean()),
        name.format("area_behind_best"): behind.estimate,
        name.format("area_behind_best") + "_low": behind.low,
        name.format("area_behind_best") + "_high": behind.high,
    }


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
