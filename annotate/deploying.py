"""The write path of a user's request: candidates into the pool, a rule by lot, and the judgment that comes back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any
from uuid import UUID

from django.db import connection, transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from annotate import auditing, draws, judging, scoring, statements, webhooks
from annotate.celery import ring
from annotate.errors import TouchstoneError
from annotate.importing import chunk, conversations, texts
from annotate.importing.conversations import Message
from annotate.importing.rows import PromptIn, ResponseIn
from annotate.judging import Submission
from annotate.models import Deployment, DeploymentRequest, Judgment, Project, User
from annotate.models.deployment import new_link

OURS = "optimistic"
BASELINES = ("random", "best_two", "best_worst", "best_quantile")
MOST_CANDIDATES = 64


@dataclass(frozen=True)
class Candidate:
    text: str
    source: str = ""


def settings_of(project: Project) -> Deployment:
    """The project's deployment, made on first use: off."""
    return Deployment.objects.get_or_create(project=project)[0]


def refuse_off(project: Project) -> Deployment:
    settings = settings_of(project)
    if not settings.is_on or project.archived_at:
        raise TouchstoneError(_("This project does not answer users: deployment is off."), code="unready")
    return settings


def ask(
    project: Project,
    prompt: object,
    candidates: Sequence[Candidate],
    user: User | None = None,
    visitor: str = "",
    parent: DeploymentRequest | None = None,
) -> DeploymentRequest:
    """A request with the responses to choose from. The scoring worker answers it."""
    settings = refuse_off(project)
    scoring.refuse_unready(project, learned=False)
    if not 1 <= len(candidates) <= MOST_CANDIDATES:
        raise TouchstoneError(
            _("Between 1 and {most} responses can be chosen from; these were {count}.").format(
                most=MOST_CANDIDATES, count=len(candidates)
            )
        )
    messages = conversations.prompt_messages(prompt)
    with transaction.atomic():
        request = new_request(project, settings, messages, user, visitor, parent)
        give_candidates(request, candidates)
        request.save()
    return request


def new_request(
    project: Project,
    settings: Deployment,
    messages: list[Message],
    user: User | None,
    visitor: str,
    parent: DeploymentRequest | None,
) -> DeploymentRequest:
    """Not stored yet; its rule is drawn by its id, which nobody can choose."""
    request = DeploymentRequest(project=project, user=user, visitor=visitor, parent=parent, messages=messages)
    request.rule, request.probability = drawn_rule(project, settings, request.pk)
    return request


def drawn_rule(project: Project, settings: Deployment, request_id: UUID) -> tuple[str, float]:
    """Eq. 6 and 7, or for a share of the requests one of the baselines; with the probability of the draw."""
    share = settings.baseline_share if settings.explores else 0.0
    point = draws.uniform(project.seed, "deployment rule", request_id)
    if point >= share:
        return OURS, 1.0 - share
    return BASELINES[int(point / share * len(BASELINES))], share / len(BASELINES)


def give_candidates(request: DeploymentRequest, candidates: Sequence[Candidate]) -> None:
    """Prompt and responses enter the pool, where they are not there already; the request keeps their ids."""
    prompt = PromptIn(request.messages, texts.digest_of_messages(request.messages), is_deployment=True)
    given = [
        ResponseIn(text, texts.digest(text), source=texts.source_of(one.source, f"source {i}"))
        for i, one in enumerate(candidates, 1)
        if (text := texts.text_of(one.text, f"response {i}"))
    ]
    stored = chunk.keep(request.project_id, prompt, given)
    request.candidates = [stored.by_digest[response.digest].pk for response in given]
    request.prompt_id = stored.prompt.pk


def request_of(project: Project, request_id: UUID, user: User) -> DeploymentRequest:
    """One's own request; anybody else's does not exist."""
    found = DeploymentRequest.objects.filter(project=project, pk=request_id, user=user)
    request = found.select_related("left", "right", "comparison").first()
    if request is None:
        raise TouchstoneError(_("There is no such request in this project."), code="gone")
    return request


def judge(request_id: UUID, project: Project, submission: Submission, user: User | None = None) -> Judgment:
    """Store what the user chose; sent again, it is the judgment that is there already."""
    now = timezone.now()
    with transaction.atomic():
        request = locked(project, request_id)
        if request.comparison is None:
            raise TouchstoneError(
                _("One answer was given to this request, so there is nothing to compare."), code="expired"
            )
        if known := request.comparison.judgments.filter(replaced_at=None).first():
            return known
        if request.comparison.judgments.exists():
            raise TouchstoneError(
                _("A reviewer took this answer back; it cannot be given again."), code="expired"
            )
        judging.check(submission, project)
        judgment = judgment_of(request, submission, user)
        judgment.created_at = now
        if submission.lead_time is not None and request.answered_at and submission.lead_time >= 0:
            passed = (now - request.answered_at).total_seconds()
            judgment.lead_time = max(0.0, min(submission.lead_time, passed))
        judgment.save()
        webhooks.tell_judgment(project, judgment)
        statements.count_judged(request.comparison.pk, +1)
        transaction.on_commit(partial(ring, "absorb", project.pk))
    return judgment


def locked(project: Project, request_id: UUID) -> DeploymentRequest:
    rows = DeploymentRequest.objects.select_related("comparison").filter(project=project)
    if connection.features.has_select_for_update_of:
        rows = rows.select_for_update(of=("self",))
    request = rows.filter(pk=request_id).first()
    if request is None:
        raise TouchstoneError(_("There is no such request in this project."), code="gone")
    if request.state != DeploymentRequest.State.ANSWERED:
        raise TouchstoneError(_("This request has not been answered yet."), code="expired")
    return request


def judgment_of(request: DeploymentRequest, submission: Submission, user: User | None) -> Judgment:
    """The answer in terms of the comparison, not stored yet."""
    comparison = request.comparison
    assert comparison is not None  # noqa: S101 - the caller has looked
    swapped = request.is_swapped
    return Judgment(
        project_id=request.project_id,
        comparison=comparison,
        annotator=user or request.user,
        answer=judging.answer_of(submission.side, swapped),
        strength=submission.strength,
        criteria={name: judging.answer_of(side, swapped) for name, side in submission.criteria.items()},
        rationale=submission.rationale,
        flags=submission.flags,
    )


def is_judged(request: DeploymentRequest) -> bool:
    comparison = request.comparison
    return comparison is not None and comparison.judgments.filter(replaced_at=None).exists()


def sources_of(request: DeploymentRequest) -> list[str] | None:
    """Where what was shown came from, left first; None where the project does not say it."""
    if not settings_of(request.project).reveals_sources:
        return None
    return [str(getattr(one, "source", "")) for one in request.shown]


def change(project: Project, actor: User, values: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Store the settings that differ; {field: [before, after]}."""
    with transaction.atomic():
        settings = Deployment.objects.select_for_update().get(pk=settings_of(project).pk)
        changes = {
            name: [getattr(settings, name), value]
            for name, value in values.items()
            if getattr(settings, name) != value
        }
        for name, value in values.items():
            setattr(settings, name, value)
        settings.full_clean()
        settings.save()
        if changes:
            auditing.record(project, actor, "deployment", "", **changes)
    return changes


def renew_link(project: Project, actor: User) -> None:
    """Give the arena another public address: whoever has the old one is out."""
    with transaction.atomic():
        Deployment.objects.filter(pk=settings_of(project).pk).update(link=new_link())
        auditing.record(project, actor, "renewed the arena's address")
