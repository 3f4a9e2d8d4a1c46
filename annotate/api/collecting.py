"""Annotating from another front end: take pairs, answer them, skip, undo. The pages' own write paths, nothing else."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from django.http import HttpRequest
from ninja import Router, Schema, Status
from pydantic import Field

from annotate import judging, serving
from annotate.api.bearer import Bearer, person, project_of
from annotate.api.problems import Problem
from annotate.api.schemas import Input, Note
from annotate.models import Judgment, Lease, Project, Role
from annotate.views.compare import why_not_begin, why_nothing

router = Router(tags=["Comparing"])
Side = Literal["left", "right", "tie"]
Flag = Literal["harmful", "broken", "language"]


class NextIn(Input):
    count: int = Field(
        1, ge=1, le=2, description="How many pairs to hold at once: this one, and the one after."
    )


class SeenIn(Input):
    version: int = Field(ge=1, le=2**31 - 1)


class JudgmentIn(Input):
    answer: Literal["left", "right", "tie", "both_bad"]
    strength: int | None = Field(None, ge=1, le=3, description="How much better, where the project asks.")
    criteria: Annotated[dict[Note, Side], Field(max_length=50)] = {}
    rationale: Note = Field("", max_length=judging.LONGEST_RATIONALE)
    flags: Annotated[list[Flag], Field(max_length=3)] = []
    lead_time: float | None = Field(
        None, ge=0, allow_inf_nan=False, description="Seconds from shown to answered."
    )


class SkipIn(Input):
    reason: Literal["", "undecided", "expertise", "unclear", "language", "broken", "harmful"] = ""
    note: Note = Field("", max_length=500)


class LeaseOut(Schema):
    """A pair as it is to be shown: which response is left was drawn by lot, and must be kept."""

    id: UUID
    prompt: str
    messages: list[Any]
    left: str
    right: str
    expires_at: datetime


class NextOut(Schema):
    """``nothing`` says why there is no pair: guidelines to be acknowledged, all judged, a limit, the budget, ..."""

    leases: list[LeaseOut]
    nothing: str


class JudgmentOut(Schema):
    id: int
    lease: UUID
    answer: str
    strength: int | None
    lead_time: float | None
    created_at: datetime


class Renewed(Schema):
    leases: int


class LeaseState(Schema):
    id: UUID
    outcome: str


@router.post("/projects/{slug:slug}/next", auth=Bearer("annotate"), response=NextOut)
def next_pairs(request: HttpRequest, slug: str, sent: NextIn) -> Any:
    """The pairs that you hold, after claiming up to ``count``. Asked again, they are the same until answered."""
    project, user = project_of(request, slug, Role.ANNOTATOR), person(request)
    ended = why_not_begin(project, user)
    leases = [] if ended else serving.leases_for(project, user, sent.count)[: sent.count]
    nothing = "" if leases else ended or why_nothing(project, user)
    return NextOut(leases=[lease_out(lease) for lease in leases], nothing=nothing)


def lease_out(lease: Lease) -> LeaseOut:
    prompt, sides = lease.comparison.prompt, (lease.comparison.first.text, lease.comparison.second.text)
    left, right = reversed(sides) if lease.swapped else sides
    return LeaseOut(
        id=lease.pk,
        prompt=prompt.text,
        messages=prompt.conversation,
        left=left,
        right=right,
        expires_at=lease.expires_at,
    )


@router.post("/projects/{slug:slug}/guidelines/seen", auth=Bearer("annotate"), response=Renewed)
def acknowledge_guidelines(request: HttpRequest, slug: str, sent: SeenIn) -> Any:
    """Say that you have read this version of the guidelines; before that no pair is given."""
    project = project_of(request, slug, Role.ANNOTATOR)
    serving.acknowledge(project, person(request), sent.version)
    return Renewed(leases=0)


@router.post(
    "/projects/{slug:slug}/leases/{uuid:lease}/judgment",
    auth=Bearer("annotate"),
    response={200: JudgmentOut, 201: JudgmentOut},
)
def judge(request: HttpRequest, slug: str, lease: UUID, sent: JudgmentIn) -> Any:
    """Answer a pair. The same pair answered again returns the answer that it has, with 200."""
    held = lease_of(request, project_of(request, slug, Role.ANNOTATOR), lease)
    given = sent.model_dump(exclude={"answer"})
    judgment = judging.record(person(request), held.pk, judging.Submission(side=sent.answer, **given))
    return Status(201 if held.outcome == Lease.Outcome.OPEN else 200, judgment_out(judgment, held))


def judgment_out(judgment: Judgment, lease: Lease) -> JudgmentOut:
    """The answer in terms of the screen."""
    return JudgmentOut(
        id=judgment.pk,
        lease=lease.pk,
        answer=judging.side_of(judgment.answer, lease.swapped),
        strength=judgment.strength,
        lead_time=judgment.lead_time,
        created_at=judgment.created_at,
    )


@router.post("/projects/{slug:slug}/leases/{uuid:lease}/skip", auth=Bearer("annotate"), response=LeaseState)
def skip(request: HttpRequest, slug: str, lease: UUID, sent: SkipIn) -> Any:
    """Give a pair back to the others."""
    held = lease_of(request, project_of(request, slug, Role.ANNOTATOR), lease)
    judging.skip(person(request), held.pk, sent.reason, sent.note)
    return LeaseState(id=held.pk, outcome=Lease.Outcome.SKIPPED)


@router.post("/projects/{slug:slug}/undo", auth=Bearer("annotate"), response=LeaseOut)
def undo(request: HttpRequest, slug: str) -> Any:
    """Take back what you did last, an answer or a skip; its pair is yours again, sides as they were."""
    lease = judging.undo(person(request), project_of(request, slug, Role.ANNOTATOR))
    lease.refresh_from_db(fields=["expires_at"])
    return lease_out(lease)


@router.post("/projects/{slug:slug}/renew", auth=Bearer("annotate"), response=Renewed)
def renew(request: HttpRequest, slug: str) -> Any:
    """Keep the pairs that you hold for another lease's length."""
    return Renewed(leases=serving.renew(project_of(request, slug, Role.ANNOTATOR), person(request)))


def lease_of(request: HttpRequest, project: Project, lease_id: UUID) -> Lease:
    """A lease answers at its own project's address and to its own annotator only."""
    found = Lease.objects.filter(pk=lease_id, project=project, annotator=person(request)).first()
    if found is None:
        raise Problem(404, "gone", "This pair was not given to you.")
    return found
