"""Exports by themselves, every day or week: the project's row says which, the workers' sweep starts them.

No clock has to run (docs/decisions/0002): an export is due when the last one is old enough, whoever looks first.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from django.core.files.storage import default_storage
from django.db import transaction
from django.db.models import QuerySet

from annotate import auditing, jobs
from annotate.errors import TouchstoneError
from annotate.models import Job, Project, User

EVERY = {"daily": timedelta(days=1), "weekly": timedelta(days=7)}
SLACK = timedelta(minutes=30)  # a day's export does not move later from day to day by how long a sweep takes


def change_schedule(
    project: Project, actor: User, every: str, keep: int, arguments: Mapping[str, Any]
) -> None:
    """Export by itself from now on, or no more ("off")."""
    schedule = {} if every == "off" else {"every": every, "keep": keep, "arguments": dict(arguments)}
    with transaction.atomic():
        locked = Project.objects.select_for_update(no_key=True).get(pk=project.pk)
        if locked.export_schedule == schedule:
            return
        before = locked.export_schedule.get("every", "off")
        locked.export_schedule = schedule
        locked.save(update_fields=["export_schedule"])
        auditing.record(locked, actor, "changed", "", export_schedule=[before, every])


def scheduled(project: Project) -> QuerySet[Job]:
    return project.jobs.filter(kind=Job.Kind.EXPORT, arguments__has_key="scheduled").order_by("-id")


def start_due(now: datetime) -> int:
    """Ask for every export whose time has come; how many there were."""
    started = 0
    for project in Project.objects.exclude(export_schedule={}).filter(archived_at=None):
        schedule = project.export_schedule
        last = scheduled(project).first()
        if last and last.created_at > now - EVERY[schedule["every"]] + SLACK:
            continue
        try:
            jobs.start(
                project, Job.Kind.EXPORT, {**schedule["arguments"], "scheduled": f"{now:%Y-%m-%d}"}, None
            )
            started += 1
        except TouchstoneError:  # Too many jobs wait; the next sweep looks again.
            continue
    return started


def dated(job: Job, name: str) -> str:
    """The file's name, with its day if it is one of many."""
    day = job.arguments.get("scheduled")
    return f"{day}-{name}" if day else name


def folder_for(job: Job) -> str:
    """Where an operator finds the exports of a schedule; empty: the job's own folder."""
    return f"exports/{job.project.slug}" if job.project and job.arguments.get("scheduled") else ""


def let_older_go(job: Job) -> None:
    """Keep as many exports of the schedule as it says, this one among them."""
    if not job.project or not job.arguments.get("scheduled"):
        return
    keep = int(job.project.export_schedule.get("keep", 1))
    others = scheduled(job.project).filter(state=Job.State.DONE).exclude(pk=job.pk)
    for old in others.filter(result__has_key="files")[max(0, keep - 1) :]:
        for file in jobs.files_of(old):
            if file["path"] not in [kept["path"] for kept in jobs.files_of(job)]:
                default_storage.delete(file["path"])
        jobs.strike_files(old)
