"""A new feature version beside the live one: embed, replay the log, compare; then it is ready to take its place.

Nothing here touches the live version. Every step goes on where one that was killed stopped: shards that are written
stay, the replay goes on from the newest checkpoint, and a comparison is made anew.
"""

from __future__ import annotations

import time
from itertools import islice

from django.db import transaction

from annotate import outcomes
from annotate.alive import HandedBack
from annotate.models import Estimator, Evaluation, FeatureVersion, Job, Project
from learner.errors import LearnerError
from learner.log import Entry
from learner.tasks.absorbing import move_estimators
from learner.tasks.comparing import compare
from learner.tasks.embedding import embed_version
from learner.tasks.evaluating import measure
from learner.tasks.jobs import hand_back, own, report
from learner.tasks.locks import exclusive
from learner.tasks.saving import kept, snapshot
from learner.tasks.states import ProjectState, build_state, entries, estimator_rows, state_digests

CHUNK = 500
ATTEMPTS = 5
BETWEEN_SAVES = 30.0


class Cancelled(LearnerError):
    """Somebody cancelled the job: it ends soon, and what it stored stays."""


def build(job: Job) -> str:
    """Bring the job's version as far as it can come: ready, or live if that was asked for."""
    from learner.tasks.switching import switch

    project, version = job_project(job), version_of(job)
    with exclusive("build", version.pk) as held:
        if not held:
            raise LearnerError("Another worker is building this version; look at its job.")
        if version.state == FeatureVersion.State.LIVE:
            return outcomes.LIVE
        try:
            if job.arguments.get("switch"):
                return switch(job, project, version)
            return make_ready(job, project, version)
        except Cancelled:
            return outcomes.NOT_BUILT


def job_project(job: Job) -> Project:
    """The job's project, which every job of these kinds has."""
    if job.project is None:
        raise LearnerError("This job has no project.")
    return job.project


def version_of(job: Job) -> FeatureVersion:
    """The version that the job is about, if it is still there."""
    version = FeatureVersion.objects.filter(
        pk=job.arguments.get("feature_version"), project=job.project_id
    ).first()
    if version is None:
        raise LearnerError("The feature version of this job was dropped.")
    return version


def make_ready(job: Job, project: Project, version: FeatureVersion) -> str:
    """Embed, replay and compare; the live version goes on learning meanwhile."""
    while True:
        embed(job, project, version)
        live = live_state(project)
        if version.embedded >= live.version.embedded:  # an import may have come in between
            break
    state = replayed(job, project, version, live.step)
    report(job, job.done, outcomes.COMPARING)
    found = compare(live, state)
    store_comparison(state, found)
    return outcomes.says(outcomes.READY, n=state.step, judged=int(found["held_out"]))


def embed(job: Job, project: Project, version: FeatureVersion) -> None:
    """Embed everything that is in the pool now."""
    project.refresh_from_db()
    if not version.digest or version.embedded < project.response_count:
        try:
            embed_version(project, version, job)
        except HandedBack:
            hand_back(job, job.done)
        except LearnerError:
            if not own(job).exists():
                raise Cancelled("cancelled") from None
            raise
        version.refresh_from_db()
    if not report(job, job.done, outcomes.REPLAYING):
        raise Cancelled("cancelled")


def live_state(project: Project) -> ProjectState:
    """The live version as it stands in its rows and files, read beside the learner."""
    version = project.feature_versions.filter(state=FeatureVersion.State.LIVE).first()
    if version is None:
        raise LearnerError("The project has no live feature version to compare with yet.")
    return build_state(project, version, estimator_rows(project, version))


def replayed(job: Job, project: Project, version: FeatureVersion, target: int) -> ProjectState:
    """The version's estimators after the log up to ``target``; read again when a judgment was taken back meanwhile."""
    for _attempt in range(ATTEMPTS):
        version.refresh_from_db()
        state = build_state(project, version, estimator_rows(project, version))
        if catch_up(job, state, target):
            return state
    raise LearnerError("Judgments were taken back again and again while they were replayed; try again.")


def catch_up(job: Job, state: ProjectState, target: int) -> bool:
    """Read the log on to ``target``, storing as it goes; False when the log changed below what was read."""
    state.saved_at = time.monotonic()
    while state.step < target:
        old = state.step
        read(state, list(islice(entries(state.project, old, target), CHUNK)), target)
        if not move(state, old):
            return False
        if state.step == target or time.monotonic() - state.saved_at > BETWEEN_SAVES:
            kept(snapshot(state))
            state.saved_at = time.monotonic()
        job.total = target
        if not report(job, state.step, outcomes.says(outcomes.REPLAYED, n=state.step, total=target)):
            raise Cancelled("cancelled")
    return True


def read(state: ProjectState, chunk: list[Entry], target: int) -> None:
    """Let the three estimators read a chunk; after the last one the state stands at ``target``."""
    state.follow(state.reader.read_all(chunk))
    state.held_out += [entry for entry in chunk if entry.arm == "evaluation"]
    if len(chunk) < CHUNK:
        state.reader.step = max(state.reader.step, target)


def move(state: ProjectState, old: int) -> bool:
    """Move the version's estimator rows on, unless a judgment below was taken back since they were read."""
    with transaction.atomic():
        rows = Estimator.objects.select_for_update().filter(
            pk__in=[row.pk for row in state.estimators.values()]
        )
        found = {(row.role, row.step, row.generation) for row in rows}
        if found != {(role, old, row.generation) for role, row in state.estimators.items()}:
            return False
        move_estimators(state, old, state_digests(state))
    return True


def store_comparison(state: ProjectState, found: dict[str, object]) -> None:
    """The comparison and the curves as rows; a version that was being built is ready now."""
    rows, _rewards = measure(state)
    with transaction.atomic():
        Evaluation.objects.filter(estimator__in=state.estimators.values()).delete()
        Evaluation.objects.bulk_create(rows)
        version = FeatureVersion.objects.filter(pk=state.version.pk)
        version.update(comparison=found)
        version.filter(state=FeatureVersion.State.BUILDING).update(state=FeatureVersion.State.READY)
