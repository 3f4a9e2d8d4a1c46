"""The write path of jobs: ask for one, cancel it, keep its files, and let old ones go.

A job's row is the queue; the bell that rings a worker may be lost. Its files are in Django's default storage, so a
worker on another machine reads and writes them too.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path, PurePosixPath
from tempfile import NamedTemporaryFile
from typing import Any

from django.conf import settings
from django.core.exceptions import SuspiciousFileOperation
from django.core.files.storage import default_storage
from django.core.files.uploadedfile import TemporaryUploadedFile, UploadedFile
from django.db import transaction
from django.db.models import Q
from django.utils import timezone
from django.utils.text import get_valid_filename
from django.utils.translation import gettext as _

from annotate import auditing, outcomes, webhooks
from annotate.celery import ring
from annotate.errors import TouchstoneError
from annotate.models import Job, Project, User

MOST_OPEN = 20
MOST_DRAFTS = 10
OPEN = (Job.State.WAITING, Job.State.RUNNING)
# Work for the machine with the accelerator; everything else is for the queue "jobs".
QUEUES = dict.fromkeys(
    (Job.Kind.REFIT, Job.Kind.BUILD, Job.Kind.FINE_TUNE, Job.Kind.MODEL, Job.Kind.GENERATE), "embed"
)
REPEATABLE = {Job.Kind.IMPORT, Job.Kind.EXPORT}
ENDLESS = {Job.Kind.EMBED}  # The sweep would start it again: it is not cancelled.


def start(project: Project, kind: str, arguments: dict[str, Any], actor: User | None) -> Job:
    """A job that waits for a worker. Asked for twice (a double click), it is one job while it has not ended."""
    with transaction.atomic():
        Project.objects.select_for_update(no_key=True).get(pk=project.pk)
        same = project.jobs.filter(kind=kind, arguments=arguments, state__in=OPEN).first()
        if same:
            return same
        refuse_too_many(project)
        job = Job.objects.create(project=project, kind=kind, arguments=arguments, created_by=actor)
        auditing.record(project, actor, "started", kind, job=job.pk)
        transaction.on_commit(partial(ring_for, job.pk, kind))
    return job


def draft(project: Project, kind: str, actor: User, file: UploadedFile[bytes]) -> Job:
    """A job that is not started yet, with the file that it is to read; after a day it is let go."""
    if project.jobs.filter(kind=kind, state=Job.State.DRAFT).count() >= MOST_DRAFTS:
        raise TouchstoneError(
            _("Too many uploads wait to be started; start or discard some first."), code="limit"
        )
    job = Job.objects.create(project=project, kind=kind, state=Job.State.DRAFT, created_by=actor)
    name = stored_name(file.name or "")
    size = file.size or 0
    path = default_storage.save(f"{folder_of(job)}/{name}", file)
    job.arguments = {"name": (file.name or name)[:200], "upload": {"path": path, "size": size}}
    job.save(update_fields=["arguments"])
    return job


def stored_name(name: str) -> str:
    """A name that is safe on every disk and keeps the ending, by which a format may be told."""
    try:
        safe = get_valid_filename(last_part(name))
    except SuspiciousFileOperation:
        return "upload"
    return f"u-{safe[-80:]}"


def last_part(name: str) -> str:
    """Of a name that may be a path, on whichever system."""
    return PurePosixPath(name.replace("\\", "/")).name


def submit(job: Job, actor: User, arguments: dict[str, Any]) -> None:
    """Let a draft wait for a worker; what was started already stays as it is."""
    with transaction.atomic():
        refuse_too_many(job.project)
        draft = Job.objects.filter(pk=job.pk, state=Job.State.DRAFT)
        if draft.update(state=Job.State.WAITING, arguments=arguments):
            auditing.record(job.project, actor, "started", job.kind, job=job.pk)
            transaction.on_commit(partial(ring_for, job.pk, job.kind))


def refuse_too_many(project: Project | None) -> None:
    if Job.objects.filter(project=project, state__in=OPEN).count() >= MOST_OPEN:
        raise TouchstoneError(
            _("{n} jobs of this project wait or run; let some end, or cancel them.").format(n=MOST_OPEN),
            code="limit",
        )


def ring_for(job_id: int, kind: str) -> None:
    ring("run_job", job_id, queue=QUEUES.get(Job.Kind(kind), "jobs"))


def may_cancel(job: Job) -> bool:
    return job.state in (*OPEN, Job.State.DRAFT) and job.kind not in ENDLESS


def may_run_again(job: Job) -> bool:
    """Whether a failed import or export can be repeated as it was asked for; an import needs its file for that."""
    if job.state != Job.State.FAILED or job.kind not in REPEATABLE:
        return False
    upload = job.arguments.get("upload")
    return job.kind != Job.Kind.IMPORT or bool(upload and default_storage.exists(upload["path"]))


def run_again(job: Job, actor: User) -> bool:
    """Let a failed job wait for a worker once more. Its runner goes on as it does where a worker was killed."""
    if not may_run_again(job):
        return False
    with transaction.atomic():
        refuse_too_many(job.project)
        failed = Job.objects.filter(pk=job.pk, state=Job.State.FAILED)
        again = failed.update(state=Job.State.WAITING, attempts=0, message="", finished_at=None)
        if again:
            auditing.record(job.project, actor, "started", job.kind, job=job.pk, again=True)
            transaction.on_commit(partial(ring_for, job.pk, job.kind))
    return bool(again)


def cancel(job: Job, actor: User) -> bool:
    """End a job. Its worker notices at its next report, and what was done until then stays."""
    if not may_cancel(job):
        return False
    with transaction.atomic():
        unfinished = Job.objects.filter(pk=job.pk, state__in=(*OPEN, Job.State.DRAFT))
        ended = unfinished.update(state=Job.State.CANCELLED, finished_at=timezone.now())
        if ended:
            auditing.record(job.project, actor, "cancelled", job.kind, job=job.pk)
            webhooks.tell_job(job, Job.State.CANCELLED)
    if ended and job.state == Job.State.DRAFT:
        forget_upload(job)
    return bool(ended)


# --- Files --------------------------------------------------------------------------------------------------


def folder_of(job: Job) -> str:
    return f"projects/{job.project_id}/jobs/{job.pk}"


@contextmanager
def new_file(job: Job, name: str, title: str = "", folder: str = "") -> Iterator[TemporaryUploadedFile]:
    """A file to write to; when all went well it is stored and listed among the job's files."""
    with temporary(name) as file:
        yield file
        file.flush()
        file.size = file.tell()
        keep(job, file, name, title, folder)


def temporary(name: str) -> TemporaryUploadedFile:
    """A file that a storage on this disk takes over by renaming it."""
    return TemporaryUploadedFile(name, "application/octet-stream", 0, None)


def keep(job: Job, file: Any, name: str, title: str, folder: str) -> None:
    """Store a file of the job's; one of the same name (of a run that was killed) makes way."""
    path = f"{folder or folder_of(job)}/{name}"
    default_storage.delete(path)
    size = file.size
    stored = default_storage.save(path, file)
    entry = {"name": name, "title": title, "path": stored, "size": size}
    others = [one for one in job.result.get("files", []) if one["name"] != name]
    job.result = {**job.result, "files": [*others, entry]}


def files_of(job: Job) -> list[dict[str, Any]]:
    return list(job.result.get("files", [])) if isinstance(job.result, dict) else []


@contextmanager
def local_path(stored: str) -> Iterator[Path]:
    """The path of a stored file; of one in a storage elsewhere, that of a copy for as long as it is needed."""
    try:
        yield Path(default_storage.path(stored))
    except NotImplementedError:
        with (
            default_storage.open(stored) as there,
            NamedTemporaryFile(dir=settings.FILE_UPLOAD_TEMP_DIR, suffix=Path(stored).suffix) as here,
        ):
            shutil.copyfileobj(there, here, 1 << 20)
            here.flush()
            yield Path(here.name)


# --- Letting go ---------------------------------------------------------------------------------------------


def prune() -> int:
    """Delete the files of jobs that ended long ago, and what was uploaded for jobs that will not read it again."""
    now = timezone.now()
    drafts = Job.objects.filter(state=Job.State.DRAFT, created_at__lt=now - timedelta(days=1))
    drafts.update(state=Job.State.CANCELLED, finished_at=now, message=outcomes.NEVER_STARTED)
    ended = Job.objects.filter(finished_at__isnull=False)
    old = ended.filter(
        Q(result__has_key="files", finished_at__lt=now - timedelta(days=settings.JOB_FILE_DAYS))
        & ~Q(arguments__has_key="scheduled")  # a schedule keeps as many as it says
        | Q(arguments__has_key="upload", finished_at__lt=now - timedelta(days=1))
    )
    return sum(forget_files(job, now) for job in old[:100])


def forget_files(job: Job, now: datetime) -> bool:
    forget_upload(job)
    if not files_of(job) or (
        job.finished_at and job.finished_at > now - timedelta(days=settings.JOB_FILE_DAYS)
    ):
        return False
    for file in files_of(job):
        default_storage.delete(file["path"])
    strike_files(job)
    return True


def strike_files(job: Job) -> None:
    """The list of what is there no more becomes the fact that it was."""
    job.result = {key: value for key, value in job.result.items() if key != "files"} | {"files_removed": True}
    Job.objects.filter(pk=job.pk).update(result=job.result)


def forget_upload(job: Job) -> None:
    """Delete the file that a job was to read; its name stays."""
    upload = job.arguments.get("upload")
    if upload:
        default_storage.delete(upload["path"])
        job.arguments = {key: value for key, value in job.arguments.items() if key != "upload"}
        Job.objects.filter(pk=job.pk).update(arguments=job.arguments)


def forget_project(project_id: int) -> None:
    """Delete every stored file of a project that is going."""
    stored = Q(result__has_key="files") | Q(arguments__has_key="upload")
    for job in Job.objects.filter(stored, project=project_id):
        paths = [file["path"] for file in files_of(job)]
        for path in [*paths, job.arguments.get("upload", {}).get("path")]:
            if path:
                default_storage.delete(path)
