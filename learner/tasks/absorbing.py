"""Absorbing: judgments become steps of the log, estimators read them, the next pairs are put in the queue.

One commit per batch. What was learned in memory is dropped when the commit fails, so memory never runs ahead of
the rows for longer than one batch.
"""

from __future__ import annotations

from typing import Any

from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from annotate.models import Estimator, FeatureVersion, Judgment
from learner.errors import LearnerError
from learner.log import ROLES, Entry
from learner.tasks.evaluating import evaluate
from learner.tasks.locks import exclusive
from learner.tasks.queueing import refill
from learner.tasks.saving import drop_checkpoints, save_if_due
from learner.tasks.states import (
    FIELDS,
    ProjectState,
    build_state,
    forget_cached,
    load_state,
    remember,
    state_digests,
)

BATCH = 100


def absorb_waiting(project_id: int) -> int:
    """Absorb until nothing waits. Judgments that come between the last look and the unlocking are looked for again."""
    count = 0
    while True:
        with exclusive("learn", project_id) as held:
            if not held:
                return count
            try:
                count += absorb_locked(project_id)
            except BaseException:
                forget_cached(project_id)
                raise
        if not has_work(project_id):
            return count


def absorb_locked(project_id: int) -> int:
    """Everything that waits, batch by batch, then queue, evaluations and checkpoint. The caller holds the lock."""
    state = load_state(project_id)
    if state is None:
        return 0
    state = forget_replaced(state)
    count = 0
    while batch := list(waiting(project_id, len(state.reader.features))[:BATCH].values_list("pk", *FIELDS)):
        count += len(batch)
        absorb_batch(state, batch)
    refill(state)
    evaluate(state)
    save_if_due(state)
    return count


def has_work(project_id: int) -> bool:
    """Whether judgments wait that can be absorbed now (their responses are embedded), or are to be forgotten."""
    live = FeatureVersion.objects.filter(project=project_id, state=FeatureVersion.State.LIVE)
    embedded = live.values_list("embedded", flat=True).first()
    if embedded is None:
        return False
    return waiting(project_id, embedded).exists() or to_forget(project_id).exists()


def to_forget(project_id: int) -> QuerySet[Judgment]:
    """Absorbed judgments that were undone, edited or withdrawn and are still in the estimators."""
    return Judgment.objects.filter(
        project=project_id, absorbed_step__isnull=False, replaced_at__isnull=False, forgotten_at=None
    )


def waiting(project_id: int, embedded: int) -> QuerySet[Judgment]:
    """Judgments without a step, in id order, whose responses have features."""
    return Judgment.objects.filter(
        project=project_id,
        absorbed_step=None,
        replaced_at=None,
        comparison__first__position__lt=embedded,
        comparison__second__position__lt=embedded,
    ).order_by("id")


def absorb_batch(state: ProjectState, batch: list[tuple[Any, ...]]) -> None:
    """Learn from a batch in memory, then stamp the steps and the estimator rows in one commit."""
    old = state.step
    log = [Entry(old + i, *row[1:]) for i, row in enumerate(batch, start=1)]
    state.follow(state.reader.read_all(log))
    state.held_out += [entry for entry in log if entry.arm == "evaluation"]
    now = timezone.now()
    judgments = [
        Judgment(pk=row[0], absorbed_step=entry.step, absorbed_at=now)
        for row, entry in zip(batch, log, strict=True)
    ]
    with transaction.atomic():
        move_estimators(state, old)
        Judgment.objects.bulk_update(judgments, ["absorbed_step", "absorbed_at"])


def move_estimators(state: ProjectState, old: int, generation: int = 0) -> None:
    """Move the estimator rows on, if they are where this process found them; else somebody else learned."""
    digests = state_digests(state)
    for role in ROLES:
        row = state.estimators[role]
        found = Estimator.objects.filter(pk=row.pk, step=old, generation=row.generation)
        row.step, row.generation = state.step, row.generation + generation
        row.judgments, row.digest = state.reader.counts[role], digests[role]
        moved = found.update(
            step=row.step,
            generation=row.generation,
            judgments=row.judgments,
            digest=row.digest,
            updated_at=timezone.now(),
        )
        if moved != 1:
            raise LearnerError(
                f"the {role} estimator of project {state.project.pk} was moved by another worker"
            )


def forget_replaced(state: ProjectState) -> ProjectState:
    """Rebuild from the last checkpoint before the first judgment that was undone, edited or withdrawn."""
    steps = list(to_forget(state.project.pk).order_by("absorbed_step").values_list("pk", "absorbed_step"))
    if not steps:
        return state
    first = int(steps[0][1] or 0)
    rebuilt = build_state(state.project, state.version, state.estimators, before=first)
    with transaction.atomic():
        move_estimators(rebuilt, state.step, generation=1)
        drop_checkpoints(rebuilt, first)
        Judgment.objects.filter(pk__in=[pk for pk, _ in steps]).update(forgotten_at=timezone.now())
    rebuilt.scores, rebuilt.asked, rebuilt.urns = state.scores, state.asked, state.urns
    rebuilt.last_comparison = state.last_comparison
    rebuilt.rescore()
    remember(rebuilt)
    return rebuilt
