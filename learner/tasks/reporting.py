"""The policy report: what every way of answering is worth under the production estimator, and how sure that is.

It has its own copy of the estimator and runs on the jobs queue, so learning never waits for it.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from django.utils import timezone

from annotate.models import DeploymentRequest, PolicyReport, Project, Response
from learner.estimators import OnePassBank
from learner.features import centre_by_prompt
from learner.policies import MODES, Mixture, Value, best_of_policy, frank_wolfe, source_policies
from learner.tasks.embedding import load_features
from learner.tasks.following import Follower, followed

Floats = npt.NDArray[np.float64]
MOST_ROWS = 40_000
MOST_SOURCES, MOST_WIDEST, MOST_REQUESTS = 200, 12, 2_000
STEPS = 100
CONFIDENCE = 0.95
NO_SOURCE = "(no source)"


@dataclass(frozen=True)
class Pool:
    """Rows of prompts with at least two responses, centred per prompt."""

    phi: Floats
    prompt: npt.NDArray[np.int64]
    source: npt.NDArray[np.str_]


def report_policies(project_id: int) -> bool:
    """Write the project's report anew."""
    project = Project.objects.get(pk=project_id)
    held = followed(project_id)
    if held is None or not held.bank.judgments:
        return False
    pool = pool_of(held)
    bank, beta = held.bank, held.bank.radius(CONFIDENCE)
    sources = source_values(pool, bank) if len(pool.phi) else {}
    PolicyReport.objects.update_or_create(
        project=project,
        defaults={
            "step": held.step,
            "judgments": bank.judgments,
            "beta": beta,
            "policies": policies(pool, bank, sources),
            "gaps": gaps(pool, bank, sources, beta),
            "widest": widest(pool, bank),
            "served": served(held, beta),
            "created_at": timezone.now(),
        },
    )
    return True


def pool_of(held: Follower) -> Pool:
    """The pool that was imported, whole prompts up to so many rows; users' prompts are reported on their own."""
    rows = Response.objects.filter(
        project=held.project,
        position__lt=held.version.embedded,
        prompt__is_deployment=False,
        prompt__response_count__gte=2,
    ).order_by("prompt__position", "position")
    table = list(rows.values_list("position", "prompt_id", "source")[: MOST_ROWS + 1])
    if len(table) > MOST_ROWS:
        last = table[-1][1]
        table = [row for row in table if row[1] != last]
    positions = [row[0] for row in table]
    prompt = np.array([row[1] for row in table], dtype=np.int64)
    source = np.array([row[2] or NO_SOURCE for row in table], dtype=np.str_)
    if not positions:
        return Pool(np.zeros((0, held.bank.dimension)), prompt, source)
    phi = load_features(held.version, positions).astype(np.float64)
    return Pool(centre_by_prompt(phi, prompt), prompt, source)


def source_values(pool: Pool, bank: OnePassBank) -> dict[str, tuple[Value, int]]:
    """Sources by their pessimistic value, the best first."""
    table = source_policies(pool.phi, pool.prompt, pool.source.tolist(), bank, confidence=CONFIDENCE)
    order = sorted(table, key=lambda name: (-table[name][0].pessimistic, name))
    return {name: table[name] for name in order[:MOST_SOURCES]}


def policies(pool: Pool, bank: OnePassBank, sources: dict[str, tuple[Value, int]]) -> list[dict[str, Any]]:
    """Eq. 4 of every source, of best of K by three rules, and of the best mixture."""
    found = [entry("source", name, value, prompts) for name, (value, prompts) in sources.items()]
    if not len(pool.phi):
        return found
    prompts = len(np.unique(pool.prompt))
    for mode in MODES:
        policy = best_of_policy(pool.phi, pool.prompt, bank, mode, confidence=CONFIDENCE)
        found.append(entry("best_of", mode, policy.value, prompts))
    mixture = frank_wolfe(pool.phi, pool.prompt, bank, confidence=CONFIDENCE, steps=STEPS, tolerance=1e-4)
    return [
        *found,
        entry("mixture", "frank_wolfe", mixture.value, prompts) | {"shares": shares(pool, mixture)},
    ]


def entry(kind: str, name: str, value: Value, prompts: int) -> dict[str, Any]:
    low, high = value.interval
    numbers = {"reward": value.reward, "low": low, "high": high, "width": value.width}
    return {
        "kind": kind,
        "name": name,
        "prompts": prompts,
        **{key: round(one, 6) for key, one in numbers.items()},
    }


def shares(pool: Pool, mixture: Mixture, most: int = 8) -> list[list[Any]]:
    """How often the mixture answers with each source, the most frequent first."""
    total: dict[str, float] = defaultdict(float)
    for weight, rows in zip(mixture.weights.tolist(), mixture.rows, strict=True):
        names, counts = np.unique(pool.source[rows], return_counts=True)
        for name, count in zip(names.tolist(), counts.tolist(), strict=True):
            total[name] += weight * count / len(rows)
    ordered = sorted(total.items(), key=lambda item: (-item[1], item[0]))
    return [[name, round(share, 4)] for name, share in ordered[:most]]


def gaps(pool: Pool, bank: OnePassBank, sources: dict[str, tuple[Value, int]], beta: float) -> dict[str, Any]:
    """How far the best source is ahead of each other one, on the prompts that both answered."""
    if not sources:
        return {}
    best = next(iter(sources))
    means = {name: prompt_means(pool, name) for name in sources}
    rivals = []
    for name in list(sources)[1:]:
        shared = means[best].keys() & means[name].keys()
        if shared:
            line = np.mean([means[best][key] - means[name][key] for key in shared], axis=0)[None]
            ahead, reach = float(bank.reward(line)[0]), beta * float(bank.width(line)[0])
            limits = {"ahead": ahead, "low": ahead - reach, "high": ahead + reach}
            rivals.append(
                {"name": name, "prompts": len(shared), **{k: round(v, 6) for k, v in limits.items()}}
            )
    return {"best": best, "rivals": rivals}


def prompt_means(pool: Pool, source: str) -> dict[int, Floats]:
    """A source's mean feature at each prompt that it answered."""
    mine = np.flatnonzero(pool.source == source)
    prompts, code, counts = np.unique(pool.prompt[mine], return_inverse=True, return_counts=True)
    sums = np.zeros((len(prompts), pool.phi.shape[1]))
    np.add.at(sums, code, pool.phi[mine])
    return dict(zip(prompts.tolist(), sums / counts[:, None], strict=True))


def widest(pool: Pool, bank: OnePassBank) -> list[dict[str, Any]]:
    """The prompts whose responses the estimator can tell apart least: where comparisons would teach most."""
    if not len(pool.phi):
        return []
    width = bank.width(pool.phi)
    prompts, code, counts = np.unique(pool.prompt, return_inverse=True, return_counts=True)
    mean = np.bincount(code, weights=width) / counts
    order = np.argsort(-mean, kind="stable")[:MOST_WIDEST]
    return [
        {"prompt": int(prompts[i]), "width": round(float(mean[i]), 6), "responses": int(counts[i])}
        for i in order
    ]


def served(held: Follower, beta: float) -> list[dict[str, Any]]:
    """Reward and regret of what users were shown lately, by rule, under this estimator, with intervals."""
    requests = DeploymentRequest.objects.filter(
        project=held.project, state=DeploymentRequest.State.ANSWERED, left__position__lt=held.version.embedded
    ).order_by("-created_at")[:MOST_REQUESTS]
    found = list(requests.values_list("rule", "candidates", "left_id", "right_id"))
    features = features_of_candidates(held, {key for row in found for key in row[1]})
    lines: dict[str, list[tuple[Floats, Floats, bool]]] = defaultdict(list)
    for rule, candidates, left, right in found:
        keys = [key for key in dict.fromkeys(candidates) if key in features]
        if left in features and (right is None or right in features):
            phi = np.stack([features[key] for key in keys])
            shown = (features[left] + features[right or left]) / 2
            best = phi[int(np.argmax(phi @ held.bank.theta))]
            lines[rule].append((shown - phi.mean(axis=0), best - shown, right is None))
    return [summary(rule, rows, held.bank, beta) for rule, rows in sorted(lines.items())]


def features_of_candidates(held: Follower, keys: set[int]) -> dict[int, Floats]:
    rows = Response.objects.filter(pk__in=keys, position__lt=held.version.embedded)
    positions = dict(rows.values_list("pk", "position"))
    if not positions:
        return {}
    phi = load_features(held.version, list(positions.values())).astype(np.float64)
    return dict(zip(positions, phi, strict=True))


def summary(
    rule: str, rows: list[tuple[Floats, Floats, bool]], bank: OnePassBank, beta: float
) -> dict[str, Any]:
    """Means over requests; the interval is that of the mean direction, so it says what the model does not know."""
    above, short = np.stack([row[0] for row in rows]), np.stack([row[1] for row in rows])
    mean = np.stack([above.mean(axis=0), short.mean(axis=0)])
    values, reach = bank.reward(mean), beta * bank.width(mean)
    reward, regret = (
        [round(float(one), 6) for one in (v, v - r, v + r)] for v, r in zip(values, reach, strict=True)
    )
    return {
        "rule": rule,
        "requests": len(rows),
        "single": sum(row[2] for row in rows),
        "reward": reward,
        "regret": regret,
    }
