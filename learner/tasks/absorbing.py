"""Absorbing: judgments become steps of the log, estimators read them, the next pairs are put in the queue.

One commit per batch. What was learned in memory is dropped when the commit fails, so memory never runs ahead of
the rows for longer than one batch.
"""

from __future__ import annotations

import math
import time
from typing import Any

from django.db import connection, transaction
from django.db.models import QuerySet
from django.utils import timezone

from annotate import measures, webhooks
from annotate.alive import is_stopping
from annotate.celery import ring
from annotate.models import Estimator, FeatureVersion, Judgment, Project
from learner.errors import LearnerError
from learner.log import ROLES, Entry
from learner.tasks.locks import exclusive
from learner.tasks.measuring import measure_in_turn, measure_now
from learner.tasks.queueing import refill
from learner.tasks.rewards import write_rewards
from learner.tasks.ringing import ring_later
from learner.tasks.saving import drop_checkpoints, rewind_others, save_if_due
from learner.tasks.setbacks import trying
from learner.tasks.states import (
    FIELDS,
    ProjectState,
    build_state,
    forget_cached,
    load_state,
    remember,
    state_digests,
)
from learner.tasks.trusting import weights

BATCH = 100
BETWEEN_REFILLS = 2.0
# Seconds from the end of one run to the next, so that what a crowd answers meanwhile is one batch: three times what
# the run took, so that learning leaves most of a core to whoever answers, within these bounds.
LEAST_PAUSE, MOST_PAUSE = 0.04, 0.15
COLUMNS = ("pk", "annotator", "lease", *FIELDS)
STAMP = "UPDATE annotate_judgment SET absorbed_step = %s, absorbed_at = %s, weight = %s WHERE id = %s"


_next: dict[int, float] = {}  # when each project may be learned from again


class MovedElsewhereError(LearnerError):
    """Another worker learned meanwhile: nothing is wrong, and what was learned here is thrown away."""


def absorb_rung(project_id: int) -> int:
    """What a bell asks for: absorb, unless that failed a moment ago; a worker that lost a race looks again.

    Bells that come right after a run become one at the end of the pause, so that a crowd is learned from in batches.
    """
    began = time.monotonic()
    if began < _next.get(project_id, 0.0):
        ring_later(project_id, _next[project_id] - began)
        return 0
    count = 0
    project = Project.objects.filter(pk=project_id).first()
    if project is None:
        return 0
    with trying("absorb", project_id, project) as attempt:
        try:
            count = absorb_waiting(project_id, in_turn=True) if attempt.is_due else 0
        except MovedElsewhereError:
            ring("absorb", project_id)
    ended = time.monotonic()
    _next[project_id] = ended + min(max(3 * (ended - began), LEAST_PAUSE), MOST_PAUSE)
    return count


def absorb_waiting(project_id: int, in_turn: bool = False) -> int:
    """Absorb until nothing waits. Judgments that come between the last look and the unlocking are looked for again."""
    count = 0
    while True:
        with exclusive("learn", project_id) as held:
            if not held:
                return count
            try:
                count += absorb_locked(project_id, in_turn)
            except BaseException:
                forget_cached(project_id)
                raise
        if not has_work(project_id):
            return count
        if is_stopping():
            ring("absorb", project_id)
            return count


def absorb_locked(project_id: int, in_turn: bool = False) -> int:
    """Everything that waits, batch by batch, then queue, evaluations and checkpoint. The caller holds the lock."""
    state = load_state(project_id)
    if state is None:
        return 0
    state = forget_replaced(state)
    note_drift(state.reader.banks["production"].member.drift)
    count = 0
    rows = waiting(project_id, len(state.reader.features)).values_list(*COLUMNS)
    refilled = time.monotonic()
    while not is_stopping() and (batch := list(rows[:BATCH])):
        count += len(batch)
        with measures.timed("absorb"):
            absorb_batch(state, batch)
        measures.add("absorbed", len(batch))
        here = sum(lease is not None for _, _, lease, *_ in batch)  # those that came with a file tell no pace
        state.pace.append((time.monotonic(), here))
        state.own += here
        if time.monotonic() - refilled > BETWEEN_REFILLS:  # a long backlog must not leave the queue empty
            refill(state)
            save_if_due(state)
            refilled = time.monotonic()
    refill(state)
    measured = measure_in_turn(state) if in_turn else measure_now(state)
    save_if_due(state)
    if measured:
        ring("report", state.project.pk)
    if (measured or state.writing is not None) and write_rewards(state, at_once=not in_turn):
        ring_later(state.project.pk, LEAST_PAUSE)
    return count


def note_drift(drift: float) -> None:
    """What the last probe found; a large d has no ledger, so nothing was measured and nothing is reported."""
    if not math.isnan(drift):
        measures.put("covariance_drift", drift)


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
    trusted = weights(state.project)
    log = [Entry(*[old + i, *row[3:], trusted.get(row[1], 1.0)]) for i, row in enumerate(batch, start=1)]
    state.follow(state.reader.read_all(log))
    state.held_out += [entry for entry in log if entry.arm == "evaluation"]
    now = timezone.now()
    stamps = [
        (entry.step, connection.ops.adapt_datetimefield_value(now), entry.weight, row[0])
        for row, entry in zip(batch, log, strict=True)
    ]
    digests = state_digests(state)
    with transaction.atomic():
        move_estimators(state, old, digests)
        with connection.cursor() as cursor:  # a prepared statement a row: a tenth of the time of bulk_update
            cursor.executemany(STAMP, stamps)
        webhooks.tell_estimator(state.project, state.estimators["production"], len(batch))


def move_estimators(state: ProjectState, old: int, digests: dict[str, str], generation: int = 0) -> None:
    """Move the estimator rows on, if they are where this process found them; else somebody else learned."""
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
            regularization=state.reader.banks[role].regularization,
            updated_at=timezone.now(),
        )
        if moved != 1:
            raise MovedElsewhereError(
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
        move_estimators(rebuilt, state.step, state_digests(rebuilt), generation=1)
        drop_checkpoints(rebuilt, first)
        rewind_others(rebuilt, first)
        Judgment.objects.filter(pk__in=[pk for pk, _ in steps]).update(forgotten_at=timezone.now())
    rebuilt.scores, rebuilt.asked, rebuilt.urns = state.scores, state.asked, state.urns
    rebuilt.last_comparison, rebuilt.trusted = state.last_comparison, state.trusted
    rebuilt.measuring, rebuilt.measure_after = state.measuring, state.measure_after
    rebuilt.rescore()
    remember(rebuilt)
    return rebuilt
