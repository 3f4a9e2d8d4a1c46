"""Filling a simulated project: synthetic annotators take leases and answer through the write path of people."""

from __future__ import annotations

import time

import numpy as np

from annotate import judging, outcomes, serving
from annotate.judging import Submission
from annotate.models import FeatureVersion, Job, Judgment, Lease, Membership, Project, Role, User
from learner.errors import LearnerError
from learner.simulate import SimulatedAnnotator, crowd, utility
from learner.tasks.absorbing import absorb_waiting
from learner.tasks.embedding import embed_missing
from learner.tasks.jobs import report

ANNOTATORS = 6
BETWEEN_LOOKS = 4
SIDES = {"first": "left", "second": "right", "tie": "tie", "both_bad": "both_bad"}


def simulate_judgments(job: Job) -> str:
    """Answer until the project has as many judgments as asked for; continues where a killed run stopped."""
    project = job.project
    if project is None or not project.is_simulated:
        raise LearnerError("Only a project marked as simulated takes synthetic judgments.")
    job.total = int(job.arguments["judgments"])
    wait_for_features(job, project)
    rng = np.random.default_rng(int(job.arguments.get("seed", 0)))
    people = list(zip(synthetic_users(project), crowd(ANNOTATORS, rng), strict=True))
    done = Judgment.objects.filter(project=project, replaced_at=None).count()
    while done < job.total:
        if not answer_once(project, *people[done % len(people)], rng):
            break
        done += 1
        if done % BETWEEN_LOOKS == 0:
            let_the_learner_catch_up(project)
            if not report(job, done, outcomes.says(outcomes.ANSWERING, n=done, total=job.total)):
                break
    absorb_waiting(project.pk)
    report(job, done)
    return outcomes.says(outcomes.ANSWERED, n=done, people=len(people))


def let_the_learner_catch_up(project: Project, seconds: float = 5.0) -> None:
    """Absorb here, or wait for the worker that does: an empty queue would serve random pairs only."""
    deadline = time.monotonic() + seconds
    absorb_waiting(project.pk)
    while time.monotonic() < deadline and not project.comparisons.filter(state="open", taken=0).exists():
        time.sleep(0.05)
        absorb_waiting(project.pk)


def wait_for_features(job: Job, project: Project, seconds: float = 1800.0) -> None:
    """Embed the pool here, or wait for the worker that does: without features every pair would be random."""
    deadline = time.monotonic() + seconds
    while not project.feature_versions.filter(state=FeatureVersion.State.LIVE).exists():
        if time.monotonic() > deadline:
            raise LearnerError("The responses were not embedded in half an hour; is there an embed worker?")
        if not embed_missing(project.pk):
            report(job, 0, outcomes.EMBEDDING_FIRST)
            time.sleep(1.0)
    absorb_waiting(project.pk)


def synthetic_users(project: Project) -> list[User]:
    """Members who never sign in, made on first use."""
    users = []
    for i in range(1, ANNOTATORS + 1):
        user, made = User.objects.get_or_create(username=f"synthetic-{i}", defaults={"is_synthetic": True})
        if made:
            user.set_unusable_password()
            user.save()
        Membership.objects.get_or_create(project=project, user=user, defaults={"role": Role.ANNOTATOR})
        users.append(user)
    return users


def answer_once(
    project: Project, user: User, annotator: SimulatedAnnotator, rng: np.random.Generator
) -> bool:
    """One lease, one answer; False when there is nothing to do."""
    leases = serving.leases_for(project, user, 1)
    if not leases:
        return False
    left, right = worth(leases[0], "left"), worth(leases[0], "right")
    answer = annotator.answer(left, right, rng)
    seconds = float(rng.lognormal(2.5, 0.5))
    judging.record(user, leases[0].pk, Submission(SIDES[str(answer)], lead_time=seconds))
    return True


def worth(lease: Lease, side: str) -> float:
    """Utility, in logits, of the response on that side, from its known quality between 0 and 1."""
    response = lease.left if side == "left" else lease.right
    return float(utility(getattr(response, "utility", None) or 0.0))
