"""One update against the floor of memory and against refits; and what each estimator predicts on held-out pairs.

The floor is one symv and one syr of the size of the problem, on one thread, through the same library, timed in
turns with the updates. Without ``--pool`` the differences are synthetic. With ``--pool`` and ``--pairs`` they are
centred embeddings scaled to mean |phi|^2 = 1, a fifth of the prompts held out, sides drawn by coin; every order of
the judgments is a seed. All estimators use the same lambda. Refits are those after one more judgment, and the
figures take the faster of ours and scikit-learn's. Gaps are OnePass less BatchMLE: points of accuracy, nats.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.blas import dsymv, dsyr
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from benchmarks.pools import add_pool_arguments, load_pool, load_votes
from learner.errors import LearnerError
from learner.estimators import SGD, BatchMLE, Estimator, HessianFree, ImplicitOMD, OnePass, Settings
from learner.estimators.arrays import one_thread
from learner.features import centre_by_prompt

Floats = NDArray[np.float64]
Row = dict[str, Any]


@dataclass(frozen=True)
class Data:
    """Differences and answers in a drawn order, and those held out."""

    Z: Floats
    y: Floats
    test_Z: Floats
    test_y: Floats


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this benchmark."""
    add_pool_arguments(parser)
    for action in parser._actions:
        if action.dest == "pool":
            action.required = False
    parser.add_argument("--dim", type=int, default=384, help="of synthetic differences")
    parser.add_argument("--judgments", type=int, default=6400)
    parser.add_argument("--regularization", type=float, default=1.0)
    parser.add_argument("--seeds", type=int, default=3, help="orders (synthetic: draws) for the predictions")
    parser.add_argument("--repeats", type=int, default=15, help="turns of 200 updates and 200 floors")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Time updates, floor and refits; compare predictions."""
    data = [draw(args, seed) for seed in range(args.seeds)]
    d = data[0].Z.shape[1]
    ratio, update, rows = against_floor(data[0], args)
    refits = refit_times(data[0], args.regularization)
    rows += [{"what": name, "milliseconds": 1e3 * seconds} for name, seconds in refits.items()]
    predictions = [predict(name, build, data) for name, build in estimators(d, args.regularization).items()]
    online, batch = predictions[0], next(row for row in predictions if row["what"] == "BatchMLE")
    warm = min(refits["BatchMLE, warm refit"], refits["scikit-learn, warm refit"])
    return {
        "figures": {
            "dimension": d,
            "judgments": len(data[0].Z),
            "milliseconds_per_judgment": 1e3 * update,
            "update_over_floor": ratio,
            "warm_refit_over_update": warm / update,
            "cold_refit_over_update": min(refits["BatchMLE, cold refit"], refits["scikit-learn, cold refit"])
            / update,
            "accuracy_gap": online["accuracy"] - batch["accuracy"],
            "log_loss_gap": online["log_loss"] - batch["log_loss"],
        },
        "rows": rows + predictions,
    }


def draw(args: argparse.Namespace, seed: int) -> Data:
    """Judgments of one seed: synthetic, or votes on a pool split by prompt."""
    rng = np.random.default_rng(seed)
    if args.pool is not None:
        return _votes(args, rng)
    theta = rng.normal(size=args.dim)
    Z = rng.normal(size=(args.judgments + 4000, args.dim)) / np.sqrt(args.dim)
    y = (rng.random(len(Z)) < expit(1.5 * Z @ theta)).astype(np.float64)
    return Data(Z[: args.judgments], y[: args.judgments], Z[args.judgments :], y[args.judgments :])


def _votes(args: argparse.Namespace, rng: np.random.Generator) -> Data:
    if args.pairs is None:
        raise LearnerError("--pool needs --pairs: the votes to learn")
    pool = load_pool(args)
    votes = load_votes(args.pairs, pool)
    phi = centre_by_prompt(pool.raw, pool.prompt)
    phi /= np.sqrt((phi * phi).sum(axis=1).mean())
    Z = phi[votes.first] - phi[votes.second]
    held = np.random.default_rng(0).permutation(len(pool.prompts)) % 5 == 0
    test = held[pool.prompt[votes.first]]
    train, sides = rng.permutation(np.flatnonzero(~test))[: args.judgments], rng.random(len(Z)) < 0.5
    Z[sides], y = -Z[sides], np.where(sides, 1 - votes.answer, votes.answer)
    return Data(Z[train], y[train], Z[test], y[test])


def against_floor(data: Data, args: argparse.Namespace) -> tuple[float, float, list[Row]]:
    """Median over turns of update time over floor time; seconds an update; rows of each variant."""
    d, lam = data.Z.shape[1], args.regularization
    variants: dict[str, Callable[[], OnePass]] = {
        "OnePass": lambda: OnePass(d, regularization=lam),
        "OnePass, no ledger": lambda: OnePass(d, regularization=lam, ledger=False),
        "OnePass, float32": lambda: OnePass(d, regularization=lam, dtype="float32"),
    }
    models = {name: build() for name, build in variants.items()}
    matrix = np.asfortranarray(np.eye(d))
    times: dict[str, list[float]] = {name: [] for name in ("floor", *models)}
    for turn in range(args.repeats):
        part = np.arange(200 * turn, 200 * (turn + 1)) % len(data.Z)
        Z, y = data.Z[part], data.y[part].tolist()
        times["floor"].append(_floor(matrix, Z))
        for name, model in models.items():
            started = time.perf_counter()
            for z, answer in zip(Z, y, strict=True):
                model.learn_one(z, answer)
            times[name].append((time.perf_counter() - started) / len(Z))
    floor = np.array(times["floor"])
    rows = [
        {
            "what": name,
            "milliseconds": 1e3 * np.median(spent),
            "over_floor": np.median(np.array(spent) / floor),
        }
        for name, spent in times.items()
    ]
    return float(rows[1]["over_floor"]), float(np.median(times["OnePass"])), rows


def _floor(matrix: Floats, Z: Floats) -> float:
    started = time.perf_counter()
    with one_thread:
        for z in Z:
            u = dsymv(1.0, matrix, z, lower=1)
            dsyr(-1e-12, u, lower=1, a=matrix, overwrite_a=1)
    return (time.perf_counter() - started) / len(Z)


def refit_times(data: Data, lam: float) -> dict[str, float]:
    """Seconds of a refit after one more judgment, warm and cold, ours and scikit-learn's; medians of five."""
    return {
        "BatchMLE, warm refit": float(np.median([_refit(data, lam, warm=True, last=k) for k in range(1, 6)])),
        "BatchMLE, cold refit": float(
            np.median([_refit(data, lam, warm=False, last=k) for k in range(1, 4)])
        ),
        "scikit-learn, warm refit": float(
            np.median([_sklearn(data, lam, warm=True, last=k) for k in range(1, 6)])
        ),
        "scikit-learn, cold refit": float(
            np.median([_sklearn(data, lam, warm=False, last=k) for k in range(1, 4)])
        ),
    }


def _refit(data: Data, lam: float, *, warm: bool, last: int) -> float:
    model = BatchMLE(data.Z.shape[1], regularization=lam, warm=warm)
    model.learn_many(data.Z[:-last], data.y[:-last])
    if warm:
        model.fit()
    model.learn_one(data.Z[-last], float(data.y[-last]))
    model.data()
    started = time.perf_counter()
    model.fit()
    return time.perf_counter() - started


def _sklearn(data: Data, lam: float, *, warm: bool, last: int) -> float:
    model = LogisticRegression(C=1 / lam, fit_intercept=False, warm_start=True, max_iter=1000, tol=1e-6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if warm:
            model.fit(data.Z[:-last], data.y[:-last])
        stop = len(data.Z) - last + 1
        started = time.perf_counter()
        model.fit(data.Z[:stop], data.y[:stop])
        return time.perf_counter() - started


def estimators(d: int, lam: float) -> dict[str, Callable[[], Estimator]]:
    """Everything whose predictions are compared; OnePass comes first."""
    return {
        "OnePass": lambda: OnePass(d, regularization=lam),
        "OnePass, float32": lambda: OnePass(d, regularization=lam, dtype="float32"),
        "OnePass, theory (B = 1, L = 1)": lambda: OnePass(d, Settings.theory(d), ledger=False),
        "ImplicitOMD": lambda: ImplicitOMD(d, regularization=lam),
        "HessianFree, memory 512": lambda: HessianFree(d, regularization=lam, memory=512),
        "SGD": lambda: SGD(d),
        "BatchMLE": lambda: BatchMLE(d, regularization=lam),
    }


def predict(name: str, build: Callable[[], Estimator], data: list[Data]) -> Row:
    """Held-out accuracy (percent) and log-loss (nats), means over the seeds; and the time of learning."""
    hits, losses, spent = [], [], []
    for part in data:
        model = build()
        started = time.perf_counter()
        model.learn_many(part.Z, part.y)
        p = np.clip(model.predict(part.test_Z), 1e-12, 1 - 1e-12)
        spent.append((time.perf_counter() - started) / len(part.Z))
        hits.append(100 * np.mean((p > 0.5) == (part.test_y > 0.5)))
        losses.append(float(-np.mean(part.test_y * np.log(p) + (1 - part.test_y) * np.log1p(-p))))
    return {
        "what": name,
        "accuracy": float(np.mean(hits)),
        "log_loss": float(np.mean(losses)),
        "all_judgments_milliseconds_each": 1e3 * float(np.median(spent)),
    }
