"""Checkpoints: saved states from which the log is replayed. Losing one costs time, never a judgment."""

from __future__ import annotations

import logging
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from django.conf import settings
from django.db import connections, transaction
from django.db.models import F, QuerySet

from annotate.models import Checkpoint, Estimator
from learner import store
from learner.errors import LearnerError
from learner.estimators.blocked import pack
from learner.log import ROLES, State
from learner.tasks.states import DIGESTED_DIMENSION, ProjectState

logger = logging.getLogger(__name__)

STEPS, SECONDS = 50, 60.0
# Where a checkpoint is hundreds of megabytes; replaying as many takes seconds.
LARGE_STEPS, LARGE_SECONDS = 500, 300.0
LEAST_SECONDS = 5.0  # between two: what a crowd of annotators answers meanwhile is read again in a moment
KEPT = 4
_writer = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
_writing: dict[int, Future[None]] = {}


@dataclass(frozen=True)
class Snapshot:
    """What is saved: copies, so that learning goes on while they are written."""

    folder: Path
    step: int
    generation: int
    estimators: dict[str, int]
    states: dict[str, State]


def save_if_due(state: ProjectState) -> bool:
    """Save after every 50 steps (not every second, though), or after a minute with any step; whether it saved or began.

    Large states are copied here and written beside learning, one at a time and more seldom.
    """
    now, steps = time.monotonic(), state.step - state.saved_step
    large = state.reader.features.shape[1] > DIGESTED_DIMENSION
    most, seconds = (LARGE_STEPS, LARGE_SECONDS) if large else (STEPS, SECONDS)
    if steps <= 0 or now - state.saved_at < (LEAST_SECONDS if steps >= most else seconds):
        return False
    begun = save_beside(state) if large else kept(snapshot(state))
    if begun:
        state.saved_step, state.saved_at = state.step, now
    return begun


def save(state: ProjectState) -> None:
    """Save now, and wait for it."""
    write(snapshot(state))


def save_beside(state: ProjectState) -> bool:
    """Copy now, write in a thread; False while the checkpoint before is still being written."""
    running = _writing.get(state.project.pk)
    if running is not None and not running.done():
        return False
    _writing[state.project.pk] = _writer.submit(_write_beside, snapshot(state, quick=True))
    return True


def _write_beside(taken: Snapshot) -> None:
    try:
        kept(replace(taken, states={role: pack(state) for role, state in taken.states.items()}))
    except Exception:
        logger.exception("no checkpoint at step %s", taken.step)
    finally:
        connections.close_all()


def wait_for_writing() -> None:
    """Until every checkpoint that was begun is on the disk."""
    for running in list(_writing.values()):
        running.result()


def snapshot(state: ProjectState, *, quick: bool = False) -> Snapshot:
    """The three states as they are now."""
    return Snapshot(
        Path(settings.DATA) / state.version.folder / "states",
        state.step,
        state.estimators["production"].generation,
        {role: row.pk for role, row in state.estimators.items()},
        {role: state.reader.state(role, quick=quick) for role in ROLES},
    )


def kept(taken: Snapshot) -> bool:
    """Write it; a full disk costs the checkpoint: the log is the truth, learning goes on."""
    try:
        write(taken)
    except LearnerError as error:
        logger.warning("no checkpoint at step %s: %s", taken.step, error)
        return False
    return True


def write(taken: Snapshot) -> None:
    """Write the three state files, then their rows in one commit, then drop the oldest.

    The rows are not written when the log was rewound meanwhile: the files would hold a judgment that was taken back.
    """
    files = {}
    for role, state in taken.states.items():
        path = taken.folder / f"{role}-{taken.step:09d}-{taken.generation}.safetensors"
        digest = store.write_state(path, state, {"step": str(taken.step)})
        files[role] = {
            "path": str(path.relative_to(settings.DATA)), "digest": digest, "bytes": path.stat().st_size,
        }  # fmt: skip
    keys = list(taken.estimators.values())
    with transaction.atomic():
        same = Estimator.objects.select_for_update().filter(pk__in=keys, generation=taken.generation)
        if len(same) < len(keys):
            unlink([str(file["path"]) for file in files.values()])
            return
        for role, key in taken.estimators.items():
            Checkpoint.objects.update_or_create(estimator_id=key, step=taken.step, defaults=files[role])
    steps = Checkpoint.objects.filter(estimator=taken.estimators["production"]).values_list("step", flat=True)
    for old in sorted(steps)[:-KEPT]:
        _drop(Checkpoint.objects.filter(estimator__in=keys, step=old))


def drop_checkpoints(state: ProjectState, since: int) -> None:
    """Drop the checkpoints of this step and later: they hold a judgment that was taken back."""
    _drop(Checkpoint.objects.filter(estimator__in=state.estimators.values(), step__gte=since))


def rewind_others(state: ProjectState, first: int) -> None:
    """Take the estimators of other feature versions back before a judgment that is forgotten.

    They are read on from there when they are wanted again. The generation tells a build that is reading the log
    at this moment that what it holds in memory is no longer the log.
    """
    others = Estimator.objects.filter(project=state.project).exclude(feature_version=state.version)
    _drop(Checkpoint.objects.filter(estimator__in=others, step__gte=first))
    others.update(generation=F("generation") + 1)
    others.filter(step__gte=first).update(step=first - 1, digest="")


def _drop(checkpoints: QuerySet[Checkpoint]) -> None:
    paths = list(checkpoints.values_list("path", flat=True))
    checkpoints.delete()
    transaction.on_commit(lambda: unlink(paths))


def unlink(paths: list[str]) -> None:
    """Remove files below the data folder that no row names any more."""
    for path in paths:
        (Path(settings.DATA) / path).unlink(missing_ok=True)
