"""Serving: rewards of texts, the best of K, and users' requests with what they chose."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from uuid import UUID

from django.http import HttpRequest
from ninja import Query, Router, Schema, Status
from pydantic import Field

from annotate import deploying, generating, judging, scoring
from annotate.api.bearer import Bearer, person, project_of
from annotate.api.schemas import Input, Name, Note, Text
from annotate.judging import Submission
from annotate.models import DeploymentRequest, Role, Scoring

router = Router(tags=["Serving"])


class MessageIn(Input):
    role: Literal["user", "assistant", "system", "developer", "tool"]
    content: Text


PromptIn = Text | Annotated[list[MessageIn], Field(min_length=1, max_length=1_000)]


class ItemIn(Input):
    prompt: PromptIn
    response: Text


class ScoreIn(Input):
    items: Annotated[list[ItemIn], Field(min_length=1, max_length=scoring.MOST_ITEMS)]


class BestOfIn(Input):
    prompt: PromptIn
    responses: Annotated[list[Text], Field(min_length=1, max_length=scoring.MOST_ITEMS)]


class CandidateIn(Input):
    text: Text
    source: Name = Field(
        "", description="Which model or system wrote it; shown to users after their choice only."
    )


class RequestIn(Input):
    prompt: PromptIn
    responses: Annotated[list[Text | CandidateIn], Field(max_length=deploying.MOST_CANDIDATES)] = Field(
        [], description="The candidates; none where the project's generators are to write them."
    )


class FeedbackIn(Input):
    answer: Literal["left", "right", "tie", "both_bad"] = Field(
        description="Left is the first of the two responses that were returned, right the second."
    )
    strength: int | None = Field(None, ge=1, le=3, description="How much better, where the project asks.")
    rationale: Note = Field("", max_length=judging.LONGEST_RATIONALE)
    lead_time: float | None = Field(
        None, ge=0, allow_inf_nan=False, description="Seconds from shown to answered."
    )


class Patience(Schema):
    wait: float = Field(
        10.0, ge=0, le=scoring.LONGEST_WAIT, allow_inf_nan=False,
        description="Seconds to wait for the answer; what takes longer, or comes while many others wait, is "
        "answered 202 and can be fetched by its id.",
    )  # fmt: skip


class RewardOut(Schema):
    """A reward in logits with its interval. Rewards compare responses to one prompt, not prompts."""

    reward: float
    low: float
    high: float
    pessimistic: float


class WideRewardOut(RewardOut):
    width: float = Field(description="One standard deviation.")


class ChosenOut(RewardOut):
    index: int


class Served(Schema):
    id: UUID
    state: Literal["done", "waiting"]
    rewards: list[WideRewardOut] = []
    confidence: float | None = None
    step: int | None = Field(None, description="Of the log that the reward model has learned from.")
    judgments: int | None = None
    feature_version: int | None = None


class BestOfOut(Served):
    """Rewards above the mean of the responses, and which is best by three rules."""

    chosen: dict[Literal["greedy", "averaged", "pessimistic"], ChosenOut] = {}


class ShownOut(Schema):
    index: int = Field(description="Its place among the candidates.")
    text: str
    source: str | None = Field(None, description="After the choice, where the project says it.")


class RequestOut(Schema):
    """Two responses in the order in which to show them, or a single one when there is nothing to ask."""

    id: UUID
    state: Literal["generating", "waiting", "answered", "failed"]
    kind: Literal["pair", "single"] | None = None
    responses: list[ShownOut] = []
    judged: bool = False


class FeedbackOut(Schema):
    id: int
    request: UUID
    answer: Literal["left", "right", "tie", "both_bad"]
    sources: list[str] | None = Field(None, description="Of left and right, where the project says them.")


@router.post("/projects/{slug:slug}/score", auth=Bearer("deploy"), response={200: Served, 202: Served})
def score(request: HttpRequest, slug: str, sent: ScoreIn, patience: Query[Patience]) -> Any:
    """Rewards of responses to prompts, seen before or not."""
    project = project_of(request, slug, Role.REVIEWER)
    row = scoring.ask_scores(project, [(plain(item.prompt), item.response) for item in sent.items])
    return served(scoring.wait_for(row, patience.wait), Served)


@router.get(
    "/projects/{slug:slug}/score/{uuid:scoring_id}",
    auth=Bearer("deploy"),
    response={200: Served, 202: Served},
)
def get_score(request: HttpRequest, slug: str, scoring_id: UUID) -> Any:
    """Scores that were asked for within the last hour."""
    row = scoring.scoring_of(project_of(request, slug, Role.REVIEWER), scoring_id, Scoring.Kind.SCORE)
    return served(scoring.wait_for(row, 0), Served)


@router.post(
    "/projects/{slug:slug}/best-of", auth=Bearer("deploy"), response={200: BestOfOut, 202: BestOfOut}
)
def best_of(request: HttpRequest, slug: str, sent: BestOfIn, patience: Query[Patience]) -> Any:
    """The best of K responses: by the largest reward, by the averaged estimator, by the largest lower limit."""
    project = project_of(request, slug, Role.REVIEWER)
    row = scoring.ask_best_of(project, plain(sent.prompt), sent.responses)
    return served(scoring.wait_for(row, patience.wait), BestOfOut)


@router.get(
    "/projects/{slug:slug}/best-of/{uuid:scoring_id}",
    auth=Bearer("deploy"),
    response={200: BestOfOut, 202: BestOfOut},
)
def get_best_of(request: HttpRequest, slug: str, scoring_id: UUID) -> Any:
    """A best-of-K that was asked for within the last hour."""
    row = scoring.scoring_of(project_of(request, slug, Role.REVIEWER), scoring_id, Scoring.Kind.BEST_OF)
    return served(scoring.wait_for(row, 0), BestOfOut)


@router.post(
    "/projects/{slug:slug}/deployment", auth=Bearer("deploy"), response={200: RequestOut, 202: RequestOut}
)
def ask(request: HttpRequest, slug: str, sent: RequestIn, patience: Query[Patience]) -> Any:
    """What to show a user: the pair of Eq. 6 and 7 (or of a baseline, for a share), or a single response."""
    project = project_of(request, slug, Role.REVIEWER)
    prompt, user = plain(sent.prompt), person(request)
    if sent.responses:
        asked = deploying.ask(project, prompt, candidates(sent.responses), user)
    else:
        asked = generating.ask(project, prompt, user)
    return shown(scoring.wait_for(asked, patience.wait))


@router.get(
    "/projects/{slug:slug}/deployment/{uuid:request_id}",
    auth=Bearer("deploy"),
    response={200: RequestOut, 202: RequestOut},
)
def get_request(request: HttpRequest, slug: str, request_id: UUID, patience: Query[Patience]) -> Any:
    """A request of yours."""
    project = project_of(request, slug, Role.REVIEWER)
    return shown(scoring.wait_for(deploying.request_of(project, request_id, person(request)), patience.wait))


@router.post(
    "/projects/{slug:slug}/deployment/{uuid:request_id}/judgment", auth=Bearer("deploy"), response=FeedbackOut
)
def judge_request(request: HttpRequest, slug: str, request_id: UUID, sent: FeedbackIn) -> Any:
    """What the user chose. Sent again, the answer is the one that was stored first."""
    project = project_of(request, slug, Role.REVIEWER)
    found = deploying.request_of(project, request_id, person(request))
    given = sent.model_dump(exclude={"answer"})
    judgment = deploying.judge(found.pk, project, Submission(side=sent.answer, **given), person(request))
    return FeedbackOut(
        id=judgment.pk,
        request=found.pk,
        answer=judging.side_of(judgment.answer, found.is_swapped),  # type: ignore[arg-type]
        sources=deploying.sources_of(found),
    )


def plain(prompt: str | list[MessageIn]) -> object:
    return prompt if isinstance(prompt, str) else [message.model_dump() for message in prompt]


def candidates(responses: list[str | CandidateIn]) -> list[deploying.Candidate]:
    return [
        deploying.Candidate(one) if isinstance(one, str) else deploying.Candidate(one.text, one.source)
        for one in responses
    ]


def served(row: Scoring, schema: type[Served]) -> Any:
    waiting = row.state == Scoring.State.WAITING
    return Status(
        202 if waiting else 200, schema(id=row.pk, state="waiting" if waiting else "done", **row.result)
    )


def shown(asked: DeploymentRequest) -> Any:
    """202 while it is being written or chosen."""
    ready = asked.state == DeploymentRequest.State.ANSWERED
    answer = RequestOut(id=asked.pk, state=asked.state)  # type: ignore[arg-type]
    if ready:
        answer.kind = "pair" if asked.is_pair else "single"
        answer.judged = deploying.is_judged(asked)
        sources = deploying.sources_of(asked) if answer.judged or not asked.is_pair else None
        answer.responses = [
            ShownOut(
                index=asked.candidates.index(one.pk), text=one.text, source=sources[i] if sources else None
            )
            for i, one in enumerate(asked.shown)
        ]
    return Status(200 if ready else 202, answer)
