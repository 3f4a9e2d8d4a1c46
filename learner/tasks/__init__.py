"""The bridge between the site's rows and the mathematics: Celery tasks, the only part of learner/ that knows Django.

Every task takes ids, finds its work in the rows and leaves its results as rows, so a lost or doubled message
changes nothing. The numeric core is imported inside the bodies: sending a task never loads it.
"""

from __future__ import annotations

import logging

from celery import shared_task

logger = logging.getLogger(__name__)


@shared_task(name="learner.tasks.absorb")
def absorb(project_id: int) -> int:
    """Learn from the project's waiting judgments; how many were absorbed. Queue: learn."""
    from learner.tasks.absorbing import absorb_waiting

    return absorb_waiting(project_id)


@shared_task(name="learner.tasks.embed")
def embed(project_id: int) -> int:
    """Embed the project's responses that have no features yet; how many were embedded. Queue: embed."""
    from learner.tasks.embedding import embed_missing

    return embed_missing(project_id)


@shared_task(name="learner.tasks.run_job")
def run_job(job_id: int) -> bool:
    """Run a job's row, if nobody runs it; whether this call did. Queue: jobs."""
    from learner.tasks.jobs import run

    return run(job_id)


@shared_task(name="learner.tasks.sweep")
def sweep() -> int:
    """Ring for every project that has work without a message: what makes a lost message cost nothing."""
    from learner.tasks.sweeping import ring_for_rows

    return ring_for_rows()
