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
from numpy.typing import NDArray
from scipy.special import expit

from benchmarks.collecting import Run, Settings, Task, collect
from benchmarks.pools import (
    Floats,
    Pool,
    Rows,
    Votes,
    add_pool_arguments,
    features,
    load_pool,
    load_votes,
    thin,
)
from learner.efficiency import Curves, area_under_curve, labels_saved, paired_bootstrap
from learner.selection import RULES

CHECKPOINTS = (10, 25, 50, 100, 200, 400, 800)
BETWEEN = (15, 35, 70, 140, 280, 560)
VARIANTS = ("clean", "flipped", "junk", "duplicates")
FLIPPED, JUNK, COPIED = 0.3, 0.03, 0.3
TESTS_PER_PROMPT = 40
Mask = NDArray[np.bool_]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this benchmark."""
    add_pool_arguments(parser)
    parser.add_argument(
        "--rules", default=",".join(["random", "random_capped", *[r for r in RULES if r != "random"]])
    )
    parser.add_argument("--variants", default="clean", help=f"of {', '.join(VARIANTS)}")
    parser.add_argument("--budget", type=int, default=800)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--split-seed", type=int, default=0, help="which prompts are held out")
    parser.add_argument("--folds", type=int, default=4, help="the prompts are held out in this many parts")
    parser.add_argument("--all-folds", action="store_true", help="hold out every part in turn (small pools)")
    parser.add_argument(
        "--reserve", type=float, default=0.2, help="share of labels drawn uniformly, for tuning"
    )
    parser.add_argument("--lambda-prior", type=float, default=0.3)
    parser.add_argument("--keep-equal", action="store_true", help="keep held-out pairs of equal utility")
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
        tasks = _tasks(pool, votes, variant, args)
        runs = {rule: _all_runs(tasks, rule, settings, args.jobs) for rule in rules}
        clusters = np.concatenate([task.test_prompt for task in tasks[0]])
        figures |= _compare(variant, runs, clusters, settings, rows)
    return {"figures": figures, "rows": rows}


def _settings(args: argparse.Namespace) -> Settings:
    counts = tuple(sorted(n for n in {*CHECKPOINTS, *BETWEEN, args.budget} if n <= args.budget))
    return Settings(args.budget, counts, args.reserve, args.lambda_prior)


def _tasks(pool: Pool, votes: Votes | None, variant: str, args: argparse.Namespace) -> list[list[Task]]:
    """Tasks by seed, then fold. The held-out judgments of a fold are the same for every seed."""
    order = np.random.default_rng([args.split_seed, 2]).permutation(len(pool.prompts))
    fold = np.empty(len(order), dtype=np.int64)
    fold[order] = np.arange(len(order)) % args.folds
    parts = range(args.folds if args.all_folds else 1)
    held_out = [fold[pool.prompt] == part for part in parts]
    ready = [(mask, features(pool, ~mask, args)) for mask in held_out]
    return [[_task(pool, votes, variant, seed, m, f, args) for m, f in ready] for seed in range(args.seeds)]


def _task(
    pool: Pool,
    votes: Votes | None,
    variant: str,
    seed: int,
    held: Mask,
    phi: Floats,
    args: argparse.Namespace,
) -> Task:
    """One seed's training answers and the fold's held-out judgments."""
    rng = np.random.default_rng([seed, 4])
    fixed = np.random.default_rng([args.split_seed, 3])
    if votes is None:
        first, second, answer = _drawn_test(pool, held, fixed, args.keep_equal)
    else:
        mine = held[votes.first]
        first, second, answer = votes.first[mine], votes.second[mine], votes.answer[mine]
    test = (phi[first] - phi[second], answer, pool.prompt[first])
    phi, utility = _spoiled(variant, pool, phi, ~held, rng)
    if votes is None:
        first, second = _within_prompt(pool.prompt, ~held)
        chance = np.nan_to_num(expit(utility[first] - utility[second]), nan=0.5)
        answer = (rng.random(len(first)) < chance).astype(np.float64)
    else:
        first, second, answer = _one_vote_a_pair(votes, ~held, rng)
        junk = np.isnan(utility[first]) | np.isnan(utility[second])
        answer = np.where(junk & (variant == "junk"), rng.random(len(first)) < 0.5, answer)
    if variant == "flipped":
        answer = np.where(rng.random(len(answer)) < FLIPPED, 1.0 - answer, answer)
    return Task(phi, pool.prompt, first, second, answer, *test, ~held, votes is None)


def _within_prompt(prompt: Rows, allowed: Mask) -> tuple[Rows, Rows]:
    first, second = [], []
    for number in np.unique(prompt[allowed]):
        rows = np.flatnonzero((prompt == number) & allowed)
        one, two = np.triu_indices(len(rows), 1)
        first.append(rows[one])
        second.append(rows[two])
    return np.concatenate(first), np.concatenate(second)


def _drawn_test(
    pool: Pool, held: Mask, rng: np.random.Generator, keep_equal: bool
) -> tuple[Rows, Rows, Floats]:
    """Up to 40 pairs of every held-out prompt with drawn answers, those of equal utility left out."""
    first, second = _within_prompt(pool.prompt, held)
    order = rng.permutation(len(first))
    place = np.zeros(len(first), dtype=np.int64)
    for number in np.unique(pool.prompt[held]):
        mine = order[pool.prompt[first[order]] == number]
        place[mine] = np.arange(len(mine))
    gap = pool.utility[first] - pool.utility[second]
    kept = (place < TESTS_PER_PROMPT) & (keep_equal | (gap != 0.0))
    answer = (rng.random(len(first)) < expit(gap)).astype(np.float64)
    return first[kept], second[kept], answer[kept]


def _one_vote_a_pair(votes: Votes, allowed: Mask, rng: np.random.Generator) -> tuple[Rows, Rows, Floats]:
    """Pairs with votes, each answered by one of its votes drawn uniformly."""
    mine = rng.permutation(np.flatnonzero(allowed[votes.first]))
    keys = votes.first[mine] * len(allowed) + votes.second[mine]
    _, index = np.unique(keys, return_index=True)
    chosen = mine[index]
    return votes.first[chosen], votes.second[chosen], votes.answer[chosen]


def _spoiled(
    variant: str, pool: Pool, phi: Floats, train: Mask, rng: np.random.Generator
) -> tuple[Floats, Floats]:
    """Features and utilities of the variant; held-out responses stay as they are. Junk has no utility."""
    phi, utility = phi.copy(), pool.utility.copy()
    rows = np.flatnonzero(train)
    if variant == "junk":
        junk = rows[rng.random(len(rows)) < JUNK]
        size = np.linalg.norm(phi[rows] - phi[rows].mean(axis=0), axis=1).mean()
        direction = rng.standard_normal((len(junk), phi.shape[1]))
        phi[junk] += 5.0 * size * direction / np.linalg.norm(direction, axis=1, keepdims=True)
        utility[junk] = np.nan
    elif variant == "duplicates":
        for row in rows[rng.random(len(rows)) < COPIED]:
            others = np.flatnonzero((pool.prompt == pool.prompt[row]) & train)
            source = int(rng.choice(others))
            phi[row] = phi[source] + 1e-3 * rng.standard_normal(phi.shape[1]) * np.abs(phi[source]).mean()
            utility[row] = utility[source]
    return phi, utility


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
