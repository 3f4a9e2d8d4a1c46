"""Deployment (Algorithm 4): cumulative regret and reward of the pair rules under OnePass and MLE over 20 chunks.

Users' prompts come in a random order with some candidate responses each; a rule shows one or two of them, the
answer is drawn from their utilities, and the estimator learns: OnePass after every answer, MLE (ridge, exact)
after every chunk. Regret is that of the mean of the responses shown against the best candidate, in logits.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import expit

from benchmarks import through_api
from benchmarks.pools import Floats, Pool, Rows, add_pool_arguments, features, load_pool, thin
from learner.efficiency import Interval, paired_bootstrap
from learner.errors import LearnerError
from learner.estimators import BatchMLE, Estimator, OnePass, Settings
from learner.selection import DEPLOYMENT_RULES, State

CHUNKS = 20


@dataclass(frozen=True)
class Stream:
    """What users ask, the same for every rule: candidate rows (T, K), and a uniform number for each answer."""

    candidates: Rows
    coins: Floats


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this benchmark."""
    add_pool_arguments(parser)
    parser.add_argument("--rounds", type=int, default=1000, help="users' prompts, in 20 chunks")
    parser.add_argument("--candidates", type=int, default=8, help="responses to choose from at each prompt")
    parser.add_argument("--beta", type=float, default=0.5, help="multiplier of widths in Eq. 7")
    parser.add_argument("--regularization", type=float, default=1.0)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--through-api", action="store_true", help="ask the product, which learns by itself")
    parser.add_argument("--processes", type=int, default=1, help="sites to ask side by side (--through-api)")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Every rule under both estimators on the same streams."""
    if args.utility is None:
        raise LearnerError("deployment: --utility names the field that answers are drawn from")
    pool = thin(load_pool(args), args.responses_per_prompt, np.random.default_rng(1))
    phi = features(pool, np.ones(len(pool.ids), dtype=bool), args)
    streams = [_stream(pool, args, seed) for seed in range(args.seeds)]
    if args.through_api:
        product = through_api.run(pool, phi, streams, list(DEPLOYMENT_RULES), args)
        return _report({("one_pass", rule): trace for rule, trace in product.items()}, args)
    traces = {
        (learner, rule): np.stack(
            [_deploy(pool, phi, s, rule, learner, args, i) for i, s in enumerate(streams)]
        )
        for learner in ("one_pass", "mle")
        for rule in DEPLOYMENT_RULES
    }
    return _report(traces, args)


def _stream(pool: Pool, args: argparse.Namespace, seed: int) -> Stream:
    rng = np.random.default_rng([seed, 5])
    rows = [np.flatnonzero(pool.prompt == number) for number in np.unique(pool.prompt)]
    rows = [mine for mine in rows if len(mine) >= args.candidates]
    if not rows:
        raise LearnerError(f"deployment: no prompt has {args.candidates} responses")
    asked = rng.integers(len(rows), size=args.rounds)
    drawn = np.stack([rng.choice(rows[i], args.candidates, replace=False) for i in asked])
    return Stream(drawn, rng.random(args.rounds))


def _deploy(
    pool: Pool, phi: Floats, stream: Stream, rule: str, learner: str, args: argparse.Namespace, seed: int
) -> Floats:
    """Regret, reward, win rate and questions asked at every round, (4, T)."""
    rng = np.random.default_rng([seed, 6])
    model = _new(learner, phi.shape[1], args.regularization)
    state = _seen(model, args.beta)
    chunk = max(1, args.rounds // CHUNKS)
    trace = np.zeros((4, args.rounds))
    for t, rows in enumerate(stream.candidates):
        one, two = (int(rows[i]) for i in DEPLOYMENT_RULES[rule](state, phi[rows], rng))
        utility = pool.utility[rows]
        shown = (pool.utility[one] + pool.utility[two]) / 2
        wins = float(expit(pool.utility[one] - utility).mean())
        trace[:, t] = utility.max() - shown, shown - utility.mean(), wins, one != two
        if one != two:
            y = float(stream.coins[t] < expit(pool.utility[one] - pool.utility[two]))
            model.learn_one(phi[one] - phi[two], y)
        if learner == "one_pass" or (t + 1) % chunk == 0:
            state = _seen(model, args.beta)
    return trace


def _seen(model: Estimator, beta: float) -> State:
    return State(np.asarray(model.theta, np.float64), np.asarray(model.covariance, np.float64), beta)


def _new(learner: str, dimension: int, regularization: float) -> Estimator:
    if learner == "mle":
        return BatchMLE(dimension, regularization)
    return OnePass(dimension, Settings.practical(regularization), ledger=False)


def _report(traces: dict[tuple[str, str], Floats], args: argparse.Namespace) -> dict[str, Any]:
    figures: dict[str, float] = {}
    rows: list[dict[str, Any]] = []
    for (learner, rule), trace in traces.items():
        rng = np.random.default_rng(0)
        regret, reward = (_over_seeds(trace[:, i].sum(axis=1), rng) for i in (0, 1))
        name = f"regret_{rule}" + ("" if learner == "one_pass" else "_mle")
        figures |= {name: regret.estimate, f"{name}_low": regret.low, f"{name}_high": regret.high}
        figures[name.replace("regret", "reward")] = reward.estimate
        late = trace[:, :, -max(1, args.rounds // CHUNKS) :].mean(axis=(0, 2))
        rows.append(
            {
                "estimator": learner,
                "rule": rule,
                "regret": f"{regret.estimate:.0f} ({regret.low:.0f} to {regret.high:.0f})",
                "reward": f"{reward.estimate:.0f} ({reward.low:.0f} to {reward.high:.0f})",
                "regret_in_last_chunk": round(float(late[0]), 3),
                "win_rate_in_last_chunk": round(float(late[2]), 3),
                "asked": round(float(trace[:, 3].mean()), 3),
                "cumulative_regret": _by_chunk(trace[:, 0]),
            }
        )
    return {"figures": figures | _saved(traces), "rows": rows}


def _saved(traces: dict[tuple[str, str], Floats]) -> dict[str, float]:
    """How much less regret Eq. 6 and 7 had than each baseline on the same streams, with intervals over seeds."""
    figures: dict[str, float] = {}
    totals = {key: trace[:, 0].sum(axis=1) for key, trace in traces.items()}
    for (learner, rule), total in totals.items():
        if rule != "optimistic":
            name = f"saved_over_{rule}" + ("" if learner == "one_pass" else "_mle")
            found = _over_seeds(total - totals[learner, "optimistic"], np.random.default_rng(0))
            figures |= {name: found.estimate, f"{name}_low": found.low, f"{name}_high": found.high}
    return figures


def _over_seeds(totals: Floats, rng: np.random.Generator) -> Interval:
    return paired_bootstrap(totals, np.zeros(len(totals)), rng=rng)


def _by_chunk(regret: Floats) -> list[int]:
    running = np.cumsum(regret.mean(axis=0))
    ends = np.linspace(0, len(running), CHUNKS + 1).astype(int)[1:] - 1
    return [round(float(running[end])) for end in ends]
