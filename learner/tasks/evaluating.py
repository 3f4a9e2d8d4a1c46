"""Measuring: curves of the three estimators on the evaluation arm, the verdict, and rewards by source, as rows."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from django.db import transaction
from scipy.special import expit

from annotate.models import Evaluation, Response, SourceReward
from learner import efficiency
from learner.features import centre_by_prompt
from learner.log import LABELS, ROLES, Entry
from learner.tasks.states import ProjectState

Array = npt.NDArray[np.float64]
LEAST_HELD_OUT = 5
NORMAL_95 = 1.96


def evaluate(state: ProjectState) -> bool:
    """Measure again when a curve has a new point or the evaluation arm grew by a tenth; whether it did."""
    held_out = [entry for entry in state.held_out if entry.answer in LABELS]
    points = tuple(len(state.reader.curves[role].counts) for role in ROLES)
    if state.evaluated[:-1] == points and len(held_out) < 1.1 * state.evaluated[-1] + 1:
        return False
    rows = measured(state, held_out) if len(held_out) >= LEAST_HELD_OUT else []
    rewards = source_rewards(state)
    with transaction.atomic():
        Evaluation.objects.filter(estimator__in=state.estimators.values()).delete()
        Evaluation.objects.bulk_create(rows)
        SourceReward.objects.filter(project=state.project).delete()
        SourceReward.objects.bulk_create(rewards)
    state.evaluated = (*points, len(held_out))
    return True


def measured(state: ProjectState, held_out: list[Entry]) -> list[Evaluation]:
    """The evaluation rows of every estimator; those of the active arm also carry the comparison of the arms."""
    z = np.array([state.reader.difference(entry.first, entry.second) for entry in held_out])
    y = np.array([LABELS[entry.answer] for entry in held_out])
    prompts = state.prompt[[entry.first for entry in held_out]]
    predictions = {role: expit(thetas(state, role) @ z.T) for role in ROLES}
    rows = []
    for role in ROLES:
        for count, p in zip(state.reader.curves[role].counts, predictions[role], strict=True):
            rows.append(
                Evaluation(
                    estimator=state.estimators[role],
                    judgments=count,
                    held_out=len(y),
                    metrics=metrics(p, y, prompts),
                )
            )
    compare_arms(state, rows, predictions, y, prompts)
    return rows


def thetas(state: ProjectState, role: str) -> Array:
    """Parameters at every point of a curve, (C, d)."""
    curve = state.reader.curves[role]
    return np.array(curve.thetas, dtype=np.float64).reshape(len(curve.counts), state.reader.features.shape[1])


def metrics(p: Array, y: Array, prompts: npt.NDArray[np.int64]) -> dict[str, Any]:
    """Log-loss, accuracy and calibration error with intervals that resample prompts."""
    rng = np.random.default_rng(0)
    zero = np.zeros(len(y))
    losses, hits = efficiency.log_losses(p, y), efficiency.hits(p, y)
    return {
        "log_loss": limits(efficiency.paired_bootstrap(losses, zero, prompts, rng=rng, draws=400)),
        "accuracy": limits(efficiency.paired_bootstrap(hits, zero, prompts, rng=rng, draws=400)),
        "ece": limits(efficiency.calibration(p, y, clusters=prompts, rng=rng, draws=200).ece),
    }


def limits(interval: efficiency.Interval) -> list[float | None]:
    """Value, low, high; what is unknown or unbounded is None, since JSON has no infinity."""
    return [finite(interval.estimate), finite(interval.low), finite(interval.high)]


def finite(value: float) -> float | None:
    """The number, or None."""
    return round(float(value), 6) if math.isfinite(value) else None


def compare_arms(
    state: ProjectState,
    rows: list[Evaluation],
    predictions: dict[str, Array],
    y: Array,
    prompts: npt.NDArray[np.int64],
) -> None:
    """Add gap, verdict and labels saved to the active arm's rows, where both arms have learned from as many."""
    counts = {role: state.reader.curves[role].counts for role in ("active", "control")}
    both = [n for n in counts["active"] if n in counts["control"]]
    if not both:
        return
    losses = {role: np.array([efficiency.log_losses(p, y) for p in predictions[role]]) for role in counts}
    active = {row.judgments: row for row in rows if row.estimator.role == "active"}
    for number, n in enumerate(both, start=1):
        pair = [losses[role][counts[role].index(n)] for role in ("control", "active")]
        verdict = efficiency.verdict(pair[0], pair[1], prompts, checkpoint=number)
        gap = efficiency.paired_bootstrap(pair[0], pair[1], prompts, rng=np.random.default_rng(0), draws=400)
        active[n].metrics |= {"gap": limits(gap), "verdict": verdict.name, "sentence": verdict.sentence}
    active[both[-1]].metrics["labels_saved"] = labels_saved(counts, losses, prompts, both[-1])


def labels_saved(
    counts: dict[str, list[int]], losses: dict[str, Array], prompts: npt.NDArray[np.int64], at: int
) -> dict[str, Any] | None:
    """How many active labels gave the control arm's final loss, as a ratio with its interval."""
    if len(counts["control"]) < 2 or len(counts["active"]) < 2:
        return None
    curves = {role: efficiency.Curves(counts[role], losses[role], prompts) for role in counts}
    saved = efficiency.labels_saved(
        curves["active"], curves["control"], rng=np.random.default_rng(0), draws=400
    )
    return {"ratio": limits(saved.ratio), "at": at, "censored": saved.censored}


def source_rewards(state: ProjectState) -> list[SourceReward]:
    """Mean reward of every source, centred per prompt, with 95 % limits from the width of its mean feature."""
    if not state.sources:
        state.sources = source_features(state)
    bank = state.reader.banks["production"]
    rows = []
    for source, (responses, mean) in state.sources.items():
        reward, half = float(mean @ bank.theta), NORMAL_95 * float(bank.width(mean[None])[0])
        rows.append(
            SourceReward(
                project=state.project,
                source=source,
                responses=responses,
                reward=reward,
                low=reward - half,
                high=reward + half,
                step=state.step,
            )
        )
    return rows


def source_features(state: ProjectState, most: int = 500) -> dict[str, tuple[int, Array]]:
    """Responses and mean centred feature of every source; the ``most`` largest ones."""
    rows = Response.objects.filter(project=state.project, position__lt=len(state.prompt)).order_by("position")
    names = np.array([name or "(no source)" for name in rows.values_list("source", flat=True).iterator()])
    centred = centre_by_prompt(state.reader.features, state.prompt)
    unique, code, sizes = np.unique(names, return_inverse=True, return_counts=True)
    order = np.argsort(-sizes, kind="stable")[:most]
    return {str(unique[i]): (int(sizes[i]), centred[code == i].mean(axis=0)) for i in order}
