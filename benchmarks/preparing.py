"""Tasks for the benchmarks: which prompts are held out, who answers what, and how the variants spoil the pool."""

from __future__ import annotations

import argparse

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from benchmarks.pools import Floats, Pool, features
from learner.dryrun import Task, Votes, drawn_answers, one_vote_a_pair, within_prompt

VARIANTS = ("clean", "flipped", "junk", "duplicates")
FLIPPED, JUNK, COPIED = 0.3, 0.03, 0.3
Mask = NDArray[np.bool_]


def add_task_arguments(parser: argparse.ArgumentParser) -> None:
    """Options that decide what is held out and how often all is repeated."""
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--split-seed", type=int, default=0, help="which prompts are held out")
    parser.add_argument("--folds", type=int, default=4, help="the prompts are held out in this many parts")
    parser.add_argument("--all-folds", action="store_true", help="hold out every part in turn (small pools)")
    parser.add_argument("--keep-equal", action="store_true", help="keep held-out pairs of equal utility")


def prepare(pool: Pool, votes: Votes | None, variant: str, args: argparse.Namespace) -> list[list[Task]]:
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
        first, second, answer = drawn_answers(pool.prompt, pool.utility, held, fixed, args.keep_equal)
    else:
        mine = held[votes.first]
        first, second, answer = votes.first[mine], votes.second[mine], votes.answer[mine]
    test = (phi[first] - phi[second], answer, pool.prompt[first])
    phi, utility = _spoiled(variant, pool, phi, ~held, rng)
    if votes is None:
        first, second = within_prompt(pool.prompt, ~held)
        chance = np.nan_to_num(expit(utility[first] - utility[second]), nan=0.5)
        answer = (rng.random(len(first)) < chance).astype(np.float64)
    else:
        first, second, answer = one_vote_a_pair(votes, ~held, rng)
        junk = np.isnan(utility[first]) | np.isnan(utility[second])
        answer = np.where(junk & (variant == "junk"), rng.random(len(first)) < 0.5, answer)
    if variant == "flipped":
        answer = np.where(rng.random(len(answer)) < FLIPPED, 1.0 - answer, answer)
    return Task(phi, pool.prompt, first, second, answer, *test, ~held, votes is None)


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
