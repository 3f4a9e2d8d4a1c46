"""Measuring: curves of the three estimators on the evaluation arm, the verdict, and rewards by source, as rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from django.db import transaction
from scipy.special import expit

from annotate import webhooks
from annotate.models import Evaluation, Response, SourceReward
from learner import efficiency
from learner.features import group_means
from learner.log import LABELS, ROLES, Entry
from learner.tasks.findings import LEAST_HELD_OUT, findings, finite, keep_findings, limits
from learner.tasks.states import ProjectState

Array = npt.NDArray[np.float64]
NORMAL_95 = 1.96


def is_to_evaluate(state: ProjectState) -> bool:
    """Whether a curve has a new point, or the evaluation arm grew by a tenth."""
    *points, held_out = state.measurable()
    return state.evaluated[:-1] != tuple(points) or held_out >= 1.1 * state.evaluated[-1] + 1


def evaluate(state: ProjectState) -> None:
    """Measure curves, rewards by source and what else the dashboard asks for, and store it."""
    store(state, *measure(state))
    keep_findings(state, findings(state, held_out_of(state)))


def held_out_of(state: ProjectState) -> list[Entry]:
    """Judgments of the evaluation arm that have a label."""
    return [entry for entry in state.held_out if entry.answer in LABELS]


def measure(state: ProjectState) -> tuple[list[Evaluation], list[SourceReward]]:
    """Curves and rewards by source as rows that are not stored yet."""
    held_out = held_out_of(state)
    rows = measured(state, held_out) if len(held_out) >= LEAST_HELD_OUT else []
    return rows, source_rewards(state)


def store(state: ProjectState, rows: list[Evaluation], rewards: list[SourceReward]) -> None:
    """Put the rows in the place of those that were there, in one commit."""
    with transaction.atomic():
        before = webhooks.verdict_of(state.project)
        Evaluation.objects.filter(estimator__in=state.estimators.values()).delete()
        Evaluation.objects.bulk_create(rows)
        webhooks.tell_verdict(state.project, before)
        SourceReward.objects.filter(project=state.project).delete()
        SourceReward.objects.bulk_create(rewards)


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
        "log_loss": limits(
            efficiency.paired_bootstrap(losses, zero, prompts, rng=rng, draws=400).within(0.0)
        ),
        "accuracy": limits(
            efficiency.paired_bootstrap(hits, zero, prompts, rng=rng, draws=400).within(0.0, 1.0)
        ),
        "ece": limits(efficiency.calibration(p, y, clusters=prompts, rng=rng, draws=200).ece),
    }


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
        active[n].metrics |= {"sequence": limits(verdict.interval), "prompts": verdict.prompts}
        sides = [predictions[role][counts[role].index(n)] > 0.5 for role in ("control", "active")]
        active[n].metrics["disagreement"] = finite(float((sides[0] != sides[1]).mean()))
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
    codes: dict[str, int] = {}
    sources = rows.values_list("source", flat=True).iterator(chunk_size=20_000)
    code = np.fromiter((codes.setdefault(name, len(codes)) for name in sources), np.int64, len(state.prompt))
    sizes, names = np.bincount(code, minlength=len(codes)), list(codes)
    order = np.argsort(-sizes, kind="stable")[:most]
    rank = np.full(len(names), len(order))  # the small ones share a row that is not shown
    rank[order] = np.arange(len(order))
    means = group_means(state.reader.features, state.prompt, rank[code])
    return {names[i] or "(no source)": (int(sizes[i]), means[rank[i]]) for i in order}
