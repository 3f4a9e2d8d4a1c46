"""The paper's three experiments in kind on a pool given by path, beside its published numbers.

Passive: one stream of uniform pairs, log-loss and accuracy against labels, one-pass (OMD) against MLE by SGD and
exact MLE. Active: the four rows of the paper's table (random or Eq. 5 with no norm cap, MLE refitted at every batch
or OMD) with the time each took, and this project's default rule below them. Deployment: as ``deployment``, in short.

What differs: a linear head on a small sentence encoder instead of Llama-3-8B's 4,096 features; a pool of many
responses a prompt instead of binarised UltraFeedback; fewer labels; CPU. Times compare within one run only.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks import deployment
from benchmarks.pools import Floats, add_pool_arguments, load_pool, load_votes, thin
from benchmarks.preparing import add_task_arguments, prepare
from learner.dryrun import NEAR_DUPLICATE, NORM_CAP, Task, Uniform
from learner.efficiency import accuracy, log_loss
from learner.estimators import SGD, BatchMLE, Estimator, OnePass, Settings
from learner.scores import PairScores

PUBLISHED = {
    "Rand-MLE": (69.51, 0.5, 4876),
    "Active-MLE": (69.82, 0.4, 4982),
    "Rand-OMD": (68.97, 0.6, 1456),
    "Active-OMD": (70.43, 0.3, 1489),
}
PASSIVE_COUNTS = (100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600)


@dataclass
class Clock:
    """Processor seconds by what they went into."""

    spent: dict[str, float] = field(default_factory=dict)

    def time(self, name: str, call: Callable[..., Any], *arguments: Any) -> Any:
        """Call and add its time under ``name``."""
        start = time.process_time()
        result = call(*arguments)
        self.spent[name] = self.spent.get(name, 0.0) + time.process_time() - start
        return result


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this benchmark."""
    add_pool_arguments(parser)
    add_task_arguments(parser)
    parser.set_defaults(seeds=3)
    parser.add_argument("--labels", type=int, default=6400, help="labels of the active experiment")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--stream", type=int, default=25600, help="labels of the passive experiment")
    parser.add_argument("--rounds", type=int, default=1000, help="rounds of the deployment experiment")
    parser.add_argument("--candidates", type=int, default=8, help="responses to choose from when deployed")
    parser.add_argument("--regularization", type=float, default=1.0)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """All three experiments."""
    pool = thin(load_pool(args), args.responses_per_prompt, np.random.default_rng([args.split_seed, 1]))
    votes = None if args.pairs is None else load_votes(args.pairs, pool)
    tasks = [folds[0] for folds in prepare(pool, votes, "clean", args)]
    figures: dict[str, float] = {}
    rows = [*_passive(tasks, args, figures), *_active(tasks, args, figures)]
    if args.utility is not None:
        rows += _deployment(args, figures)
    return {"figures": figures, "rows": rows}


def _passive(tasks: list[Task], args: argparse.Namespace, figures: dict[str, float]) -> list[dict[str, Any]]:
    counts = [n for n in PASSIVE_COUNTS if n <= min(args.stream, len(tasks[0].first))]
    names = ("OMD", "MLE by SGD", "MLE exact")
    scores = {name: np.zeros((len(tasks), len(counts), 2)) for name in names}
    clocks = {name: Clock() for name in names}
    for s, task in enumerate(tasks):
        order = np.random.default_rng([s, 7]).permutation(len(task.first))
        for name in names:
            model, done = _learner(name, task.features.shape[1], args.regularization), 0
            for c, count in enumerate(counts):
                z, y = _judgments(task, order[done:count])
                clocks[name].time("learn", _learn, model, z, y)
                done = count
                p = model.predict(task.test_z)
                scores[name][s, c] = log_loss(p, task.test_answer), accuracy(p, task.test_answer)
    rows = []
    for name in names:
        for c, count in enumerate(counts):
            loss, right = scores[name][:, c].mean(axis=0)
            rows.append({"experiment": "passive", "method": name, "labels": count}
                        | {"log_loss": round(loss, 4), "accuracy": round(100 * right, 2)}
                        | {"seconds": round(clocks[name].spent["learn"] / len(tasks), 2)})  # fmt: skip
        figures[f"passive_log_loss_{_key(name)}"], figures[f"passive_accuracy_{_key(name)}"] = loss, right
    return rows


def _learner(name: str, dimension: int, regularization: float) -> Estimator:
    if name == "MLE exact":
        return BatchMLE(dimension, regularization)
    if name == "MLE by SGD":
        return SGD(dimension)
    return OnePass(dimension, Settings.practical(regularization), ledger=False)


def _learn(model: Estimator, z: Floats, y: Floats) -> Floats:
    model.learn_many(z, y)
    return np.asarray(model.theta, dtype=np.float64)  # an exact fit happens when it is read


def _judgments(task: Task, numbers: Any) -> tuple[Floats, Floats]:
    return task.features[task.first[numbers]] - task.features[task.second[numbers]], task.answer[numbers]


def _active(tasks: list[Task], args: argparse.Namespace, figures: dict[str, float]) -> list[dict[str, Any]]:
    methods = {
        "Rand-MLE": ("random", "MLE exact"),
        "Active-MLE": ("max_uncertainty", "MLE exact"),
        "Rand-OMD": ("random", "OMD"),
        "Active-OMD": ("max_uncertainty", "OMD"),
        "default": ("d_optimal", "OMD"),
    }
    rows = []
    for name, (rule, learner) in methods.items():
        done = [_collect(task, rule, learner, s, args) for s, task in enumerate(tasks)]
        right = 100 * np.array([score[1] for score, _ in done])
        row = {"experiment": "active", "method": name, "labels": args.labels}
        row |= {"log_loss": round(float(np.mean([score[0] for score, _ in done])), 4)}
        row |= {"accuracy": round(float(right.mean()), 2), "accuracy_sd": round(float(right.std(ddof=1)), 2)}
        row |= {"seconds": round(float(np.mean([sum(clock.spent.values()) for _, clock in done])), 2)}
        row |= {"learning_s": round(float(np.mean([clock.spent["learn"] for _, clock in done])), 2)}
        if name in PUBLISHED:
            mean, deviation, seconds = PUBLISHED[name]
            row |= {"published": f"{mean} +- {deviation} %, {seconds} s"}
        figures[f"active_accuracy_{_key(name)}"], figures[f"active_seconds_{_key(name)}"] = (
            float(right.mean()), float(row["seconds"]),
        )  # fmt: skip
        rows.append(row)
    return rows


def _collect(
    task: Task, rule: str, learner: str, seed: int, args: argparse.Namespace
) -> tuple[tuple[float, float], Clock]:
    """Batches of picks until the labels are spent, the MLE refitted (warm) after each; no tuning, one lambda."""
    clock = Clock()
    model = _learner(learner, task.features.shape[1], args.regularization)
    choose = _batches(task, rule, seed, args.batch, model, clock)
    for _ in range(min(args.labels, len(task.first)) // args.batch):
        z, y = _judgments(task, clock.time("choose", choose))
        clock.time("learn", _learn, model, z, y)
    p = model.predict(task.test_z)
    return (log_loss(p, task.test_answer), accuracy(p, task.test_answer)), clock


def _batches(
    task: Task, rule: str, seed: int, batch: int, model: Estimator, clock: Clock
) -> Callable[[], list[int]]:
    """A function that returns the numbers of the next batch's pairs."""
    used: set[int] = set()
    if rule == "random":
        uniform = Uniform(np.ones(len(task.first), dtype=bool), np.random.default_rng([seed, 3]))

        def draw() -> list[int]:
            numbers = []
            for _ in range(batch):
                numbers.append(uniform.draw(used))
                used.add(numbers[-1])
            return numbers

        return draw
    safe = rule == "d_optimal"
    cap, near = (NORM_CAP, NEAR_DUPLICATE) if safe else (None, None)
    scores = PairScores(
        task.features, task.prompt, rule=rule, norm_cap=cap, near_duplicate=near, eligible=task.eligible
    )
    number = {pair: i for i, pair in enumerate(zip(task.first.tolist(), task.second.tolist(), strict=True))}

    def pick() -> list[int]:
        scores.reset(model.theta, model.covariance)
        picks = [(min(p.first, p.second), max(p.first, p.second)) for p in scores.pick(batch)]
        for pair in picks:
            scores.exclude(*pair)
        return [number[pair] for pair in picks]

    return pick


def _deployment(args: argparse.Namespace, figures: dict[str, float]) -> list[dict[str, Any]]:
    parser = argparse.ArgumentParser()
    deployment.add_arguments(parser)
    options = vars(parser.parse_args(["--pool", str(args.pool)])) | vars(args)
    report = deployment.run(argparse.Namespace(**options))
    figures |= {f"deployment_{key}": value for key, value in report["figures"].items()}
    return [
        {
            "experiment": "deployment",
            "method": f"{row['rule']}, {row['estimator']}",
            "labels": args.rounds,
            "regret": row["regret"],
            "win_rate": row["win_rate_in_last_chunk"],
        }
        for row in report["rows"]
    ]


def _key(name: str) -> str:
    return name.lower().replace(" ", "_").replace("-", "_")
