"""Help for tests that learn: features without an encoder's weights, and the worker's tasks run in place."""

from __future__ import annotations

from annotate import judging, serving
from annotate.judging import Submission
from annotate.models import Job, Judgment, Project, User


def embed_and_absorb(project: Project) -> None:
    """What the workers do when their bells ring, with the hashing encoder."""
    from learner.tasks.absorbing import absorb_waiting
    from learner.tasks.embedding import embed_missing

    project.encoder, project.dimensions = "hashing", 8
    project.save()
    embed_missing(project.pk)
    absorb_waiting(project.pk)


def teach(project: Project, judgments: int = 30) -> None:
    """Ben answers so many pairs by the known utilities, and the learner absorbs them."""
    from learner.tasks.absorbing import absorb_waiting

    embed_and_absorb(project)
    ben = User.objects.get(username="ben")
    for _ in range(judgments):
        lease = serving.leases_for(project, ben, 1)[0]
        left = (lease.left.utility or 0) > (lease.right.utility or 0)  # type: ignore[attr-defined]
        judging.record(ben, lease.pk, Submission("left" if left else "right"))
    absorb_waiting(project.pk)


def judge_forty(project: Project, annotator: User) -> Project:
    """Features and 40 judgments, four in ten of them of the evaluation arm."""
    Project.objects.filter(pk=project.pk).update(evaluation_share=0.4)
    project.refresh_from_db()
    embed_and_absorb(project)
    answer_many(project, annotator, 40)
    return project


def answer_many(project: Project, annotator: User, count: int) -> list[Judgment]:
    """Answers of somebody who prefers the later source, absorbed ten at a time."""
    from learner.tasks.absorbing import absorb_waiting

    made: list[Judgment] = []
    for i in range(count):
        if i % 10 == 0:
            absorb_waiting(project.pk)
        lease = serving.leases_for(project, annotator, 1)[0]
        second_is_better = lease.comparison.first.utility < lease.comparison.second.utility
        side = "left" if second_is_better == lease.swapped else "right"
        made.append(judging.record(annotator, lease.pk, Submission(side, lead_time=2.0)))
    absorb_waiting(project.pk)
    return made


def run_all(project: Project) -> list[Job]:
    """Run the jobs that wait, as a worker would."""
    from learner.tasks.jobs import run

    waiting = list(Job.objects.filter(project=project, state=Job.State.WAITING).order_by("pk"))
    for job in waiting:
        run(job.pk)
        job.refresh_from_db()
    return waiting
