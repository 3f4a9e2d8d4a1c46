"""Events become deliveries: one row for each endpoint that wants them, in the transaction of the event itself.

``project.webhook_events`` is what any living endpoint wants, so where nobody listens nothing is asked or written.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from django.db import transaction
from django.utils import timezone

from annotate import budgets
from annotate.celery import ring
from annotate.models import Delivery, Endpoint, Estimator, Event, Job, Judgment, Project
from annotate.progress.learned import curves
from annotate.webhooks.endpoints import rest_of


def tell(project: Project, event: str, data: dict[str, Any], once: str | None = None) -> None:
    """Write the event for every endpoint that wants it. ``once``: an endpoint is told of this at most once."""
    if event not in project.webhook_events:
        return
    now = timezone.now()
    content = {"type": event, "timestamp": now.isoformat(), "data": {"project": project.slug, **data}}
    body = json.dumps(content, ensure_ascii=False)
    wanting = [one for one in project.endpoints.filter(is_on=True) if event in one.events]
    Delivery.objects.bulk_create(
        (
            Delivery(
                endpoint=one, event=event, body=body, once=once, next_at=first_at(one, now), created_at=now
            )
            for one in wanting
        ),
        ignore_conflicts=once is not None,
    )
    if wanting:
        transaction.on_commit(lambda: ring("deliver"))


def first_at(endpoint: Endpoint, now: datetime) -> datetime:
    """At once; for an endpoint that fails, after a rest: else each event would have it asked again."""
    return now + rest_of(endpoint, now) if endpoint.failing_since else now


def tell_judgment(project: Project, judgment: Judgment) -> None:
    """A new judgment, or one that replaces another; where a budget is listened for, look whether it is reached."""
    if Event.JUDGMENT_RECORDED in project.webhook_events:
        tell(project, Event.JUDGMENT_RECORDED, of_judgment(judgment))
    if project.budget and Event.BUDGET_REACHED in project.webhook_events and not budgets.is_far(project):
        transaction.on_commit(lambda: notice_budget(project))


def of_judgment(judgment: Judgment) -> dict[str, Any]:
    comparison = judgment.comparison
    return {
        "judgment": judgment.pk,
        "replaces": judgment.replaces_id,
        "comparison": comparison.pk,
        "prompt": comparison.prompt_id,
        "first": comparison.first_id,
        "second": comparison.second_id,
        "arm": comparison.arm,
        "answer": judgment.answer,
        "strength": judgment.strength,
        "annotator": judgment.annotator.get_username() if judgment.annotator else None,
        "lead_time": judgment.lead_time,
    }


def notice_budget(project: Project) -> None:
    """After the commit, so that of judgments made at the same moment the last one sees them all."""
    made = budgets.judgments(project).count()
    if project.budget and made >= project.budget:
        data = {"budget": project.budget, "judgments": made}
        with transaction.atomic():
            tell(project, Event.BUDGET_REACHED, data, once=f"budget {project.budget}")


def tell_estimator(project: Project, estimator: Estimator, absorbed: int) -> None:
    """The production estimator read judgments (``absorbed``), in the commit that moved it."""
    data = {
        "step": estimator.step,
        "judgments": estimator.judgments,
        "absorbed": absorbed,
        "generation": estimator.generation,
        "digest": estimator.digest,
    }
    tell(project, Event.ESTIMATOR_ADVANCED, data)


def verdict_of(project: Project) -> tuple[str, str] | None:
    """The verdict in force and its sentence, if anybody wants to be told when it changes."""
    if Event.VERDICT_CHANGED not in project.webhook_events:
        return None
    judged = curves(project).judged
    return (judged.metrics["verdict"], judged.metrics["sentence"]) if judged else None


def tell_verdict(project: Project, before: tuple[str, str] | None) -> None:
    """In the transaction that measures: ``before`` is the verdict that was in force until then."""
    verdict, sentence = verdict_of(project) or (None, None)
    was = before[0] if before else None
    if verdict != was:
        tell(project, Event.VERDICT_CHANGED, {"before": was, "verdict": verdict, "sentence": sentence})


def tell_job(job: Job, state: str) -> None:
    """A job ended: done, failed or cancelled."""
    if job.project is not None:
        data = {"job": job.pk, "kind": job.kind, "state": state, "message": job.message}
        tell(job.project, Event.JOB_FINISHED, data)
