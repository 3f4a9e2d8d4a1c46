"""The switch: one transaction after which another feature version is live, with its estimators at the log's end."""

from __future__ import annotations

import time

from django.db import transaction
from django.db.models import Exists, OuterRef
from django.utils import timezone

from annotate import auditing, outcomes
from annotate.celery import ring
from annotate.models import Comparison, FeatureVersion, Job, Lease, Project
from learner.errors import LearnerError
from learner.tasks.absorbing import forget_replaced
from learner.tasks.building import Cancelled, embed, live_state, move, read, replayed
from learner.tasks.comparing import compare
from learner.tasks.evaluating import measure, store
from learner.tasks.jobs import report
from learner.tasks.locks import exclusive
from learner.tasks.measuring import LOCK
from learner.tasks.queueing import refill
from learner.tasks.saving import save_if_due
from learner.tasks.states import (
    build_state,
    entries,
    estimator_rows,
    load_state,
    notice_all,
    remember,
)

PATIENCE = 300.0


def switch(job: Job, project: Project, version: FeatureVersion) -> str:
    """Catch up beside the learner, take its lock for the last steps, and switch; annotators notice nothing."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        embed(job, project, version)
        replayed(job, project, version, live_state(project).step)
        with exclusive("learn", project.pk) as held, exclusive(LOCK, project.pk) as may_measure:
            if held and may_measure and switch_locked(job, project, version):
                break
        if not report(job, job.done, outcomes.LEARNER_BUSY):
            raise Cancelled("cancelled")
        time.sleep(0.1)
    else:
        raise LearnerError("The learner was busy for five minutes; the live version is as it was. Try again.")
    ring("absorb", project.pk)
    return outcomes.LIVE_NOW


def switch_locked(job: Job, project: Project, version: FeatureVersion) -> bool:
    """Read the last steps and make the version live, all or nothing; False when it is not that far yet."""
    version.refresh_from_db()
    live = load_state(project.pk)
    if live is None or version.embedded < live.version.embedded:
        return False
    live = forget_replaced(live)
    state = build_state(project, version, estimator_rows(project, version))
    old, rest = state.step, list(entries(project, state.step, live.step))
    read(state, rest, live.step)
    state.reader.step = max(state.reader.step, live.step)
    found = compare(live, state)
    measured = measure(state)
    with transaction.atomic():
        if not move(state, old):
            return False
        make_live(job, live.version, version, found)
        store(state, *measured)
        withdraw_unseen(project)
    version.refresh_from_db()
    notice_all(state)
    remember(state)
    refill(state)
    save_if_due(state)
    return True


def make_live(job: Job, old: FeatureVersion, new: FeatureVersion, found: dict[str, object]) -> None:
    """The rows of the switch; the project's settings name the encoder that is in use."""
    FeatureVersion.objects.filter(pk=old.pk).update(state=FeatureVersion.State.RETIRED)
    FeatureVersion.objects.filter(pk=new.pk).update(
        state=FeatureVersion.State.LIVE, live_at=timezone.now(), comparison=found
    )
    Project.objects.filter(pk=new.project_id).update(
        encoder=new.encoder,
        encoder_options=new.config.get("encoder_options") or {},
        dimensions=int(new.config["dimensions"]),
    )
    auditing.record(new.project, job.created_by, "switched", str(new), before=str(old), step=found["step"])


def withdraw_unseen(project: Project) -> None:
    """Active pairs that nobody was given yet were chosen by the old version: the new one chooses again.

    Their draws are free again, so the same draws go to the same arm. Pairs that somebody holds, skipped or judged
    stay as they are, and so do those of the other arms, which were drawn without looking at any features.
    """
    given = Lease.objects.filter(comparison=OuterRef("pk"))
    unseen = Comparison.objects.filter(~Exists(given), project=project, arm="active", taken=0, judged=0)
    unseen = unseen.filter(state=Comparison.State.OPEN)
    unseen._raw_delete(unseen.db)  # in one statement: a claim comes before or after
