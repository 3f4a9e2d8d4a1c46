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
    from learner.tasks.absorbing import absorb_rung

    return absorb_rung(project_id)


@shared_task(name="learner.tasks.embed")
def embed(project_id: int) -> int:
    """Embed the project's responses that have no features yet; how many were embedded. Queue: embed."""
    from learner.tasks.embedding import embed_missing
    from learner.tasks.onethread import in_turn

    return in_turn(embed_missing, project_id)


@shared_task(name="learner.tasks.embed_shards")
def embed_shards(version_id: int) -> bool:
    """Help a worker that embeds this version; whether there was a shard to take. Queue: embed."""
    from learner.tasks.embedding import help_embedding
    from learner.tasks.onethread import in_turn

    return bool(in_turn(help_embedding, version_id))


@shared_task(name="learner.tasks.report")
def report(project_id: int) -> bool:
    """Value the project's policies under what was learned so far; whether there was something. Queue: jobs."""
    from learner.tasks.reporting import report_policies

    return report_policies(project_id)


@shared_task(name="learner.tasks.score_shard", ignore_result=False)
def score_shard(version_id: int, step: int, shard: int, shards: int) -> int:
    """Score the pairs of one shard of a pool that is too large for one machine. Queue: embed."""
    from learner.tasks.distributing import score

    return score(version_id, step, shard, shards)


@shared_task(name="learner.tasks.draw_from_shards")
def draw_from_shards(version_id: int, step: int, shards: int) -> int:
    """Draw the next comparisons from what the shards named; how many. Queue: learn."""
    from learner.tasks.distributing import draw

    return draw(version_id, step, shards)


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


@shared_task(name="learner.tasks.deliver")
def deliver() -> None:
    """Wake the thread of this process that sends webhooks. Queue: jobs."""
    from annotate.webhooks.sending import ring_here

    ring_here()
