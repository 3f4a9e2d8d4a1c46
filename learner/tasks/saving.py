"""Checkpoints: saved states from which the log is replayed. Losing one costs time, never a judgment."""

from __future__ import annotations

import logging
import time
from pathlib import Path

from django.conf import settings
from django.db import transaction
from django.db.models import QuerySet

from annotate.models import Checkpoint
from learner import store
from learner.errors import LearnerError
from learner.log import ROLES
from learner.tasks.states import ProjectState

logger = logging.getLogger(__name__)

STEPS = 50
SECONDS = 60.0
KEPT = 4


def save_if_due(state: ProjectState) -> bool:
    """Save after every 50 steps, or after a minute with any step; whether it saved."""
    now = time.monotonic()
    steps = state.step - state.saved_step
    if steps <= 0 or (steps < STEPS and now - state.saved_at < SECONDS):
        return False
    try:
        save(state)
    except LearnerError as error:  # a full disk: the log is the truth, learning goes on
        logger.warning("no checkpoint at step %s: %s", state.step, error)
        return False
    state.saved_step, state.saved_at = state.step, now
    return True


def save(state: ProjectState) -> None:
    """Write the three state files, then their rows in one commit, then drop the oldest."""
    rows = []
    folder = Path(settings.DATA) / state.version.folder / "states"
    generation = state.estimators["production"].generation
    for role in ROLES:
        path = folder / f"{role}-{state.step:09d}-{generation}.safetensors"
        digest = store.write_state(path, state.reader.state(role), {"step": str(state.step)})
        relative = str(path.relative_to(settings.DATA))
        rows.append((state.estimators[role], relative, digest, path.stat().st_size))
    with transaction.atomic():
        for estimator, relative, digest, size in rows:
            Checkpoint.objects.update_or_create(
                estimator=estimator,
                step=state.step,
                defaults={"path": relative, "digest": digest, "bytes": size},
            )
    steps = Checkpoint.objects.filter(estimator=state.estimators["production"]).values_list("step", flat=True)
    for old in sorted(steps)[:-KEPT]:
        _drop(state, Checkpoint.objects.filter(estimator__in=state.estimators.values(), step=old))


def drop_checkpoints(state: ProjectState, since: int) -> None:
    """Drop the checkpoints of this step and later: they hold a judgment that was taken back."""
    _drop(state, Checkpoint.objects.filter(estimator__in=state.estimators.values(), step__gte=since))


def _drop(state: ProjectState, checkpoints: QuerySet[Checkpoint]) -> None:
    paths = list(checkpoints.values_list("path", flat=True))
    checkpoints.delete()
    transaction.on_commit(lambda: unlink(paths))


def unlink(paths: list[str]) -> None:
    """Remove files below the data folder that no row names any more."""
    for path in paths:
        (Path(settings.DATA) / path).unlink(missing_ok=True)
