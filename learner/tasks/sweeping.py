"""Finding rows whose bell was lost."""

from __future__ import annotations

from datetime import timedelta

from django.db.models import F, Q
from django.utils import timezone

from annotate import serving
from annotate.celery import ring
from annotate.models import Job, Judgment, Lease, Project
from learner.tasks.jobs import RUNNERS, SILENT_SECONDS


def ring_for_rows() -> int:
    """Ring for every project with waiting judgments, judgments to forget, or responses to embed; end old leases."""
    waiting = Q(absorbed_step=None, replaced_at=None) | Q(
        absorbed_step__isnull=False, replaced_at__isnull=False, forgotten_at=None
    )
    to_absorb = set(Judgment.objects.filter(waiting).values_list("project", flat=True).distinct())
    to_embed = set(unembedded_projects())
    for project_id in sorted(to_embed):
        ring("embed", project_id)
    for project_id in sorted(to_absorb):
        ring("absorb", project_id)
    for job_id in orphaned_jobs():
        ring("run_job", job_id)
    release_leases()
    return len(to_absorb | to_embed)


def orphaned_jobs() -> list[int]:
    """Jobs that wait, or whose worker fell silent."""
    silent = timezone.now() - timedelta(seconds=SILENT_SECONDS)
    waits = Q(state=Job.State.WAITING) | Q(state=Job.State.RUNNING, heartbeat_at__lt=silent)
    return list(Job.objects.filter(waits, kind__in=RUNNERS).values_list("pk", flat=True))


def unembedded_projects() -> list[int]:
    """Projects whose pool has grown beyond what is embedded."""
    grown = Project.objects.filter(response_count__gt=0).exclude(
        feature_versions__embedded__gte=F("response_count")
    )
    return list(grown.values_list("pk", flat=True))


def release_leases() -> None:
    """Give every lease that ran out back, in projects that nobody asks at the moment too."""
    now = timezone.now()
    expired = Lease.objects.filter(outcome=Lease.Outcome.OPEN, expires_at__lte=now)
    for project in Project.objects.filter(pk__in=expired.values("project")):
        serving.release_expired(project, now, limit=1000)
