"""Finding rows whose bell was lost."""

from __future__ import annotations

from collections import defaultdict
from datetime import timedelta

from django.contrib.sessions.backends.db import SessionStore
from django.core.cache import cache
from django.db.models import Exists, OuterRef, Q
from django.utils import timezone

from annotate import jobs, scheduling, scoring, serving, versions
from annotate.alive import forget_the_dead
from annotate.api.repeating import forget_old
from annotate.celery import ring
from annotate.models import (
    DeploymentRequest,
    EmbeddingShard,
    FeatureVersion,
    Job,
    Judgment,
    Lease,
    Project,
    Setback,
)
from annotate.webhooks import sending
from learner.tasks.jobs import free
from learner.tasks.setbacks import resting
from learner.tasks.shards import SILENT_SECONDS

BEING_STORED_SECONDS = 2
SESSIONS_SECONDS = 3_600


def ring_for_rows() -> int:
    """Ring for every project with waiting judgments, judgments to forget, or responses to embed; end old leases."""
    waiting = Q(absorbed_step=None, replaced_at=None) | Q(
        absorbed_step__isnull=False, replaced_at__isnull=False, forgotten_at=None
    )
    resting = resting_subjects()
    to_absorb = set(Judgment.objects.filter(waiting).values_list("project", flat=True).distinct())
    to_absorb -= resting["absorb"]
    to_embed = set(unembedded_projects())
    for version_id in versions_without_help():
        ring("embed_shards", version_id)
    for project_id in sorted(to_embed):
        ring("embed", project_id)
    for project_id in sorted(to_absorb):
        ring("absorb", project_id)
    scheduling.start_due(timezone.now())
    for job_id, kind in free(timezone.now()).values_list("pk", "kind"):
        jobs.ring_for(job_id, kind)
    jobs.prune()
    sending.sweep()
    forget_old()
    scoring.forget_old()
    versions.start_due_refits()
    release_leases()
    forget_the_dead()
    forget_sessions()
    return len(to_absorb | to_embed)


def unembedded_projects() -> list[int]:
    """Projects whose pool has grown beyond what is embedded, for the live version or one that may replace it.

    The first features are frozen as they are fitted: they wait for the end of a running import, which rings itself.
    What users brought just now is stored by the worker that answered them.
    """
    importing = Job.objects.filter(project=OuterRef("pk"), kind=Job.Kind.IMPORT, state=Job.State.RUNNING)
    current = FeatureVersion.objects.filter(project=OuterRef("pk"))
    live = current.filter(state=FeatureVersion.State.LIVE)
    behind = current.filter(
        state__in=[FeatureVersion.State.LIVE, FeatureVersion.State.READY],
        embedded__lt=OuterRef("response_count"),
    )
    just_now = timezone.now() - timedelta(seconds=BEING_STORED_SECONDS)
    asked = DeploymentRequest.objects.filter(project=OuterRef("pk"), created_at__gte=just_now)
    grown = Project.objects.filter(
        (~Exists(live) & ~Exists(importing)) | (Exists(behind) & ~Exists(asked)), response_count__gt=0
    )
    return list(grown.values_list("pk", flat=True))


def resting_subjects() -> dict[str, set[int]]:
    """What failed and is not to be tried yet, by task."""
    found: dict[str, set[int]] = defaultdict(set)
    earliest, latest = resting()
    later = Setback.objects.filter(next_at__gt=earliest, next_at__lte=latest)
    for task, subject in later.values_list("task", "subject"):
        found[task].add(subject)
    return found


def versions_without_help() -> list[int]:
    """Versions being embedded that have shards nobody works on: for workers that came later, or lost messages."""
    silent = timezone.now() - timedelta(seconds=SILENT_SECONDS)
    idle = Q(claimed_at=None) | Q(seen_at__lt=silent)
    shards = EmbeddingShard.objects.filter(idle, finished_at=None)
    return list(shards.order_by().values_list("feature_version", flat=True).distinct())


def release_leases() -> None:
    """Give every lease that ran out back, in projects that nobody asks at the moment too."""
    now = timezone.now()
    expired = Lease.objects.filter(outcome=Lease.Outcome.OPEN, expires_at__lte=now)
    for project in Project.objects.filter(pk__in=expired.values("project")):
        serving.release_expired(project, now, limit=1000)


def forget_sessions() -> None:
    """Every visitor of an arena has one, and nobody else would delete them. Once an hour: there may be many."""
    if cache.add("sessions-forgotten", True, SESSIONS_SECONDS):
        SessionStore.clear_expired()
