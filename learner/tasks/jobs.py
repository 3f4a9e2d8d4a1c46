"""Jobs: rows that somebody asked for. A job is run by whoever claims its row; a silent one is claimed again."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import partial
from typing import NoReturn

import structlog
from django.db import connections, transaction
from django.db.models import F, Q, QuerySet
from django.utils import timezone

from annotate import jobs, outcomes, webhooks
from annotate.alive import HandedBack, is_stopping
from annotate.errors import TouchstoneError
from annotate.models import Job
from learner.errors import LearnerError

logger = logging.getLogger(__name__)

SILENT_SECONDS = 60.0
BEAT_SECONDS = 15.0
BETWEEN_REPORTS = 0.3
MOST_ATTEMPTS = 5
MOST_AT_ONCE = 2  # of a process's threads, so that learning and embedding always find one
SHOWN = ("done", "total", "rate", "message", "result", "heartbeat_at")
_room = threading.BoundedSemaphore(MOST_AT_ONCE)


def simulate(job: Job) -> str:
    """Let synthetic annotators work on a simulated project."""
    from learner.tasks.simulating import simulate_judgments

    return simulate_judgments(job)


def build(job: Job) -> str:
    """Build a feature version beside the live one, and switch to it if that was asked for."""
    from learner.tasks.building import build

    return build(job)


def refit(job: Job) -> str:
    """Check the one-pass state against maximum likelihood."""
    from learner.tasks.refitting import refit

    return refit(job)


def import_upload(job: Job) -> str:
    """Bring an uploaded file into the project."""
    from learner.tasks import importing

    return importing.import_upload(job)


def export(job: Job) -> str:
    """Write a project to a file."""
    from learner.tasks.exporting import export_project

    return export_project(job)


def release(job: Job) -> str:
    """Write the reward model as a folder to take away."""
    from learner.tasks.releasing import release

    return release(job)


def dry_run(job: Job) -> str:
    """Compare selection rules on answers that are there already."""
    from learner.tasks.dryrunning import compare_rules

    return compare_rules(job)


def tune(job: Job) -> str:
    """Fine-tune the encoder on the judgments."""
    from learner.tasks.finetuning import tune

    return tune(job)


# A runner goes on, or begins anew, where one that was killed stopped, and ends soon after ``report`` said False.
# ``report`` may also raise `HandedBack`, which passes through it: its worker ends, and another goes on or begins anew.
# It returns the sentence that the job's page shows; what it leaves in job.result and job.total is stored too.
RUNNERS: dict[str, Callable[[Job], str]] = {
    Job.Kind.SIMULATE: simulate,
    Job.Kind.BUILD: build,
    Job.Kind.REFIT: refit,
    Job.Kind.FINE_TUNE: tune,
    Job.Kind.MODEL: release,
    Job.Kind.IMPORT: import_upload,
    Job.Kind.EXPORT: export,
    Job.Kind.DRY_RUN: dry_run,
}


def run(job_id: int) -> bool:
    """Run the job if it is free and there is room for it; when there is none, the next sweep asks again."""
    if not _room.acquire(blocking=False):
        return False
    try:
        return run_claimed(job_id)
    finally:
        _room.release()


def run_claimed(job_id: int) -> bool:
    """Claim the job and run it; its row says how it ended."""
    job = claim(job_id)
    if job is None:
        return False
    try:
        with beating(job), structlog.contextvars.bound_contextvars(job=job.pk, project=job.project_id):
            message = RUNNERS[job.kind](job)
        finish(job, Job.State.DONE, message)
    except HandedBack:
        logger.info("job %s handed back", job_id)
    except (LearnerError, TouchstoneError) as error:
        finish(job, Job.State.FAILED, str(error))
    except Exception as error:
        logger.exception("job %s failed", job_id)
        finish(job, Job.State.FAILED, f"{type(error).__name__}: {error}")
        raise
    return True


def free(now: datetime) -> QuerySet[Job]:
    """Jobs that wait, or whose worker fell silent."""
    silent = now - timedelta(seconds=SILENT_SECONDS)
    waits = Q(state=Job.State.WAITING) | Q(state=Job.State.RUNNING, heartbeat_at__lt=silent)
    return Job.objects.filter(waits, kind__in=RUNNERS)


def claim(job_id: int) -> Job | None:
    """Take the job's row. One that ended all its workers without a word is not tried for ever."""
    now = timezone.now()
    row = free(now).filter(pk=job_id)
    worn = row.filter(attempts__gte=MOST_ATTEMPTS)
    message = outcomes.says(outcomes.SILENT, n=MOST_ATTEMPTS)
    with transaction.atomic():
        if worn.update(state=Job.State.FAILED, finished_at=now, message=message):
            webhooks.tell_job(Job.objects.get(pk=job_id), Job.State.FAILED)
            return None
    taken = row.update(
        state=Job.State.RUNNING, started_at=now, heartbeat_at=now, attempts=F("attempts") + 1, rate=None
    )
    return Job.objects.get(pk=job_id) if taken else None


def own(job: Job) -> QuerySet[Job]:
    """The job's row, while this claim holds: nobody cancelled it, or claimed it again from a stalled worker."""
    return Job.objects.filter(pk=job.pk, state=Job.State.RUNNING, started_at=job.started_at)


@contextmanager
def beating(job: Job) -> Iterator[None]:
    """Keep the row's heartbeat young in a step that reports nothing for minutes; it stops with the process."""
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(BEAT_SECONDS):
            try:
                own(job).update(heartbeat_at=timezone.now())
            except Exception as error:
                logger.warning("job %s could not beat: %s", job.pk, error)
            finally:
                connections.close_all()

    threading.Thread(target=beat, daemon=True, name=f"job-{job.pk}").start()
    try:
        yield
    finally:
        ended.set()


def report(job: Job, done: int, message: str = "") -> bool:
    """Show progress on the job's row; False when it is to end: somebody cancelled it, or another worker has it.

    Call it as often as you like: the row is written and read a few times a second at most. ``job.result`` is stored
    with it, so a runner can leave there what it needs to go on after it was killed.

    Raises
    ------
    HandedBack
        This worker was asked to end, and the job is not done.
    """
    now = timezone.now()
    if is_stopping() and done != job.total:
        hand_back(job, done)
    since = (now - job.heartbeat_at).total_seconds() if job.heartbeat_at else BETWEEN_REPORTS
    if since < BETWEEN_REPORTS and done != job.total:
        return True
    if since >= BETWEEN_REPORTS:
        job.rate = smoothed(job.rate, (done - job.done) / since)
    job.done, job.message, job.heartbeat_at = done, message, now
    shown = {name: getattr(job, name) for name in SHOWN}
    return bool(own(job).update(**shown))


def hand_back(job: Job, done: int) -> NoReturn:
    """Let another worker go on: this one was asked to end."""
    job.done, job.message = done, outcomes.HANDED_BACK
    shown = {name: getattr(job, name) for name in SHOWN}
    if own(job).update(**shown, state=Job.State.WAITING, attempts=0):
        transaction.on_commit(partial(jobs.ring_for, job.pk, job.kind))
    raise HandedBack


def smoothed(before: float | None, rate: float) -> float:
    """The pace of the last few reports; a restart at nothing is not a negative pace."""
    rate = max(0.0, rate)
    return rate if before is None else 0.8 * before + 0.2 * rate


def finish(job: Job, state: str, message: str) -> None:
    """Close the row. One that was cancelled stays so, and says what was done until then."""
    now = timezone.now()
    said = {
        "message": message,
        "result": job.result,
        "done": job.done,
        "total": job.total,
        "heartbeat_at": now,
    }
    with transaction.atomic():
        ended = own(job).update(state=state, finished_at=now, **said)
        if ended:
            job.message = message
            webhooks.tell_job(job, state)
    if not ended:
        cancelled = Job.objects.filter(pk=job.pk, state=Job.State.CANCELLED, started_at=job.started_at)
        cancelled.update(**said)
