"""The scheduled check on the one-pass state: maximum likelihood over the whole log, and the gap between the two."""

from __future__ import annotations

from typing import Any

from django.db import transaction

from annotate import auditing, outcomes
from annotate.models import Job, Refit
from annotate.versions import GAP_FROM, GAP_LIMIT
from learner.tasks.building import job_project, live_state
from learner.tasks.comparing import beside, cosine, held_out, predictions, refitted
from learner.tasks.findings import LEAST_HELD_OUT
from learner.tasks.jobs import report
from learner.tasks.states import ProjectState


def refit(job: Job) -> str:
    """Fit, compare on the evaluation arm, store the row, and raise the alarm when the gap is beyond the limit."""
    state = live_state(job_project(job))
    report(job, 0, outcomes.FITTING)
    row = checked(state)
    with transaction.atomic():
        before = state.version.refits.first()
        row.save()
        if row.is_alarming and not (before and before.is_alarming):
            gap = row.metrics["log_loss_gap"]
            auditing.record(state.project, None, "drifted", str(state.version), log_loss_gap=gap)
    return outcomes.says(outcomes.FITTED, n=row.judgments, judged=row.held_out)


def checked(state: ProjectState) -> Refit:
    """The row of a refit that is not stored yet."""
    one_pass, model = state.reader.banks["production"], refitted(state)
    judged = held_out(state)
    metrics: dict[str, Any] = {"cosine": cosine(one_pass.theta, model.theta)}
    if len(judged) >= LEAST_HELD_OUT:
        found = beside(
            predictions(state, one_pass.theta, judged), predictions(state, model.theta, judged), judged
        )
        metrics |= {name: found[name] for name in ("log_loss_gap", "accuracy_gap")}
        for name in ("log_loss", "accuracy"):
            metrics[f"{name}_one_pass"], metrics[name] = found[name]
    return Refit(
        feature_version=state.version,
        step=state.step,
        judgments=model.judgments,
        held_out=len(judged),
        regularization=one_pass.regularization,
        metrics=metrics,
        is_alarming=is_alarming(model.judgments, metrics.get("log_loss_gap")),
    )


def is_alarming(judgments: int, gap: list[float | None] | None) -> bool:
    """Whether one-pass, past its first steps, is behind by more than the limit, and surely behind at all."""
    if judgments < GAP_FROM:
        return False
    value, low, _high = gap or [None, None, None]
    return value is not None and low is not None and value > GAP_LIMIT and low > 0
