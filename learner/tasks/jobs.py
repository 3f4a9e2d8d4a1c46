"""Jobs: rows that somebody asked for. A job is run by whoever claims its row; a silent one is claimed again."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import timedelta

from django.db.models import Q
from django.utils import timezone

from annotate.errors import TouchstoneError
from annotate.models import Job
from learner.errors import LearnerError

logger = logging.getLogger(__name__)

SILENT_SECONDS = 60.0


def simulate(job: Job) -> str:
    """Let synthetic annotators work on a simulated project."""
    from learner.tasks.simulating import simulate_judgments

    return simulate_judgments(job)


RUNNERS: dict[str, Callable[[Job], str]] = {Job.Kind.SIMULATE: simulate}


def run(job_id: int) -> bool:
    """Claim the job and run it; its row says how it ended."""
    now = timezone.now()
    silent = now - timedelta(seconds=SILENT_SECONDS)
    free = Q(state=Job.State.WAITING) | Q(state=Job.State.RUNNING, heartbeat_at__lt=silent)
    if not Job.objects.filter(free, pk=job_id).update(
        state=Job.State.RUNNING, started_at=now, heartbeat_at=now
    ):
        return False
    job = Job.objects.get(pk=job_id)
    try:
        finish(job, Job.State.DONE, RUNNERS[job.kind](job))
    except (LearnerError, TouchstoneError) as error:
        finish(job, Job.State.FAILED, str(error))
    except Exception as error:
        logger.exception("job %s failed", job_id)
        finish(job, Job.State.FAILED, f"{type(error).__name__}: {error}")
        raise
    return True


def report(job: Job, done: int, message: str = "") -> bool:
    """Show progress on the job's row; False when somebody cancelled it meanwhile."""
    job.done, job.message, job.heartbeat_at = done, message, timezone.now()
    running = Job.objects.filter(pk=job.pk, state=Job.State.RUNNING)
    return bool(running.update(done=done, message=message, total=job.total, heartbeat_at=job.heartbeat_at))


def finish(job: Job, state: str, message: str) -> None:
    """Close the row, unless it was cancelled."""
    now = timezone.now()
    Job.objects.filter(pk=job.pk, state=Job.State.RUNNING).update(
        state=state, message=message, finished_at=now, heartbeat_at=now, result=job.result
    )
