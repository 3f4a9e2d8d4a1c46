"""The write path of feature versions: ask for one, let it take the live one's place, drop it; and the checks on them.

What takes long is a job: the live version goes on learning until the one transaction in which another takes its place.
"""

from __future__ import annotations

import shutil
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import Exists, F, OuterRef, Q, Subquery
from django.utils import timezone
from django.utils.translation import gettext as _

from annotate import auditing, jobs
from annotate.errors import TouchstoneError
from annotate.models import Estimator, FeatureVersion, Job, Project, Refit, User

State = FeatureVersion.State
REFIT_FIRST = 50  # judgments before the first check on the one-pass state
REFIT_EVERY = 200  # judgments after the last one
REFIT_AGE = timedelta(days=1)  # or this long after it, if anything was learned since
TUNED = "tuned"  # what the folders of fine-tuned encoders begin with, before project and job
GAP_LIMIT = 0.02  # nats of log-loss that one-pass may be behind the refit before somebody is told
GAP_FROM = 100  # judgments before a gap is one: until then the first steps of one-pass still weigh


def live_version(project: Project) -> FeatureVersion | None:
    return project.feature_versions.filter(state=State.LIVE).first()


def open_job(version: FeatureVersion) -> Job | None:
    """The job that builds this version or switches to it, if one waits or runs."""
    mine = version.project.jobs.filter(kind=Job.Kind.BUILD, arguments__feature_version=version.pk)
    return mine.filter(state__in=jobs.OPEN).first()


def make(project: Project, actor: User | None, encoder: str, config: dict[str, Any], label: str = "") -> Job:
    """A version that is built beside the live one. Asked for twice, it is one version while it is being built."""
    with transaction.atomic():
        Project.objects.select_for_update(no_key=True).get(pk=project.pk)
        if live_version(project) is None:
            raise TouchstoneError(
                _(
                    "There is no live version yet. Change the encoder in the settings, before anything is embedded."
                )
            )
        if job := asked_just_now(project, encoder, config, label):
            return job
        version = project.feature_versions.create(encoder=encoder, config=config, label=label)
        auditing.record(project, actor, "versioned", str(version), model=encoder, config=config)
        return jobs.start(project, Job.Kind.BUILD, {"feature_version": version.pk}, actor)


def asked_just_now(project: Project, encoder: str, config: dict[str, Any], label: str) -> Job | None:
    """The job of the same version, asked for within a minute: a double click."""
    since = timezone.now() - timedelta(minutes=1)
    for version in project.feature_versions.filter(encoder=encoder, label=label, created_at__gte=since):
        if config.items() <= version.config.items() and (job := open_job(version)):
            return job
    return None


def build_on(version: FeatureVersion, actor: User) -> Job:
    """Go on with a build that failed or was cancelled, or compare again with what was judged since."""
    refuse_while_busy(version)
    return jobs.start(version.project, Job.Kind.BUILD, {"feature_version": version.pk}, actor)


def switch(version: FeatureVersion, actor: User) -> Job:
    """Make it the live version, by a job that first catches up."""
    if version.state == State.LIVE:
        raise TouchstoneError(_("This version is live already."))
    refuse_while_busy(version)
    arguments = {"feature_version": version.pk, "switch": True}
    return jobs.start(version.project, Job.Kind.BUILD, arguments, actor)


def drop(version: FeatureVersion, actor: User) -> int:
    """Delete a version that is not live, with its files; how many bytes that were."""
    with transaction.atomic():
        locked = FeatureVersion.objects.select_for_update().get(pk=version.pk)
        if locked.state == State.LIVE:
            raise TouchstoneError(_("The live version cannot be dropped. Switch to another one first."))
        refuse_while_busy(locked)
        size = bytes_of(locked)
        auditing.record(locked.project, actor, "dropped", str(locked), bytes=size)
        folders = folders_of(locked)
        locked.delete()
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
    return size


def fine_tune(project: Project, actor: User, values: dict[str, Any]) -> Job:
    """Train the live version's encoder on the judgments; what comes of it is a version that is built and compared."""
    version = live_version(project)
    if version is None:
        raise TouchstoneError(_("There is no live version yet, so there is no encoder to train."))
    arguments = {"feature_version": version.pk, **values}
    return jobs.start(project, Job.Kind.FINE_TUNE, arguments, actor)


def export(version: FeatureVersion, actor: User | None) -> Job:
    """The reward model of this version as a folder to take away."""
    if not version.embedded:
        raise TouchstoneError(_("This version has learned nothing yet, so there is nothing to take away."))
    return jobs.start(version.project, Job.Kind.MODEL, {"feature_version": version.pk}, actor)


def refuse_while_busy(version: FeatureVersion) -> None:
    if open_job(version):
        raise TouchstoneError(_("A job is working on this version. Wait for it, or cancel it first."))


def folders_of(version: FeatureVersion) -> list[Path]:
    """Its embeddings and states; and its fine-tuned encoder, if no other version has the same."""
    folders = [Path(settings.DATA) / version.folder]
    others = FeatureVersion.objects.filter(encoder=version.encoder).exclude(pk=version.pk)
    if is_fine_tuned(version) and not others.exists():
        folders.append(settings.MODELS / version.encoder.removeprefix("models/"))
    return folders


def is_fine_tuned(version: FeatureVersion) -> bool:
    """Whether its encoder was made here, by a job of this project."""
    return version.encoder.startswith(f"models/{TUNED}-{version.project_id}-")


def bytes_of(version: FeatureVersion) -> int:
    """What it takes on the disk, by looking."""
    files = (path for folder in folders_of(version) for path in folder.rglob("*") if path.is_file())
    return sum(path.stat().st_size for path in files)


# --- Checks on the one-pass state ---------------------------------------------------------------------------


def refit(project: Project, actor: User | None) -> Job:
    """Check the live version now."""
    version = live_version(project)
    if version is None:
        raise TouchstoneError(_("There is no live version yet, so there is nothing to check."))
    return jobs.start(project, Job.Kind.REFIT, {"feature_version": version.pk}, actor)


def start_due_refits() -> None:
    """Ask for a check wherever one is due. Every worker's sweep calls this: a job that waits is one job."""
    for version in due_refits():
        try:
            refit(version.project, None)
        except TouchstoneError:  # too many jobs at the moment: the next sweep asks again
            continue


def due_refits() -> list[FeatureVersion]:
    """Live versions that learned enough since their last check; not those whose last check failed today."""
    now = timezone.now()
    production = Estimator.objects.filter(feature_version=OuterRef("pk"), role="production")
    last = Refit.objects.filter(feature_version=OuterRef("pk")).order_by("-id")
    checks = Job.objects.filter(project=OuterRef("project"), kind=Job.Kind.REFIT)
    failed = Q(state__in=[Job.State.FAILED, Job.State.CANCELLED], finished_at__gte=now - REFIT_AGE)
    live = FeatureVersion.objects.filter(
        ~Exists(checks.filter(Q(state__in=jobs.OPEN) | failed)), state=State.LIVE, project__archived_at=None
    ).annotate(
        learned=Subquery(production.values("judgments")[:1]),
        fitted=Subquery(last.values("judgments")[:1]),
        fitted_at=Subquery(last.values("created_at")[:1]),
    )
    is_due = (
        Q(fitted=None, learned__gte=REFIT_FIRST)
        | Q(learned__gte=F("fitted") + REFIT_EVERY)
        | Q(learned__gt=F("fitted"), fitted_at__lt=now - REFIT_AGE)
    )
    return list(live.filter(is_due).select_related("project"))
