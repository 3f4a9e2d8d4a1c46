"""What the API answers, typed. A field that a newer server adds is kept out of the way, not refused."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Generic, Literal, TypeVar
from uuid import UUID

from pydantic import BaseModel

Item = TypeVar("Item")
Message = dict[str, str]
PromptText = str | list[Message]


class Page(BaseModel, Generic[Item]):
    items: list[Item]
    next: str | None = None


class Project(BaseModel):
    slug: str
    name: str
    question: str
    guidelines: str
    guidelines_version: int
    allow_tie: bool
    allow_both_bad: bool
    ask_strength: bool
    criteria: list[str]
    budget: int | None
    prompt_count: int
    response_count: int
    role: str | None = None
    collection: dict[str, Any] | None = None


class Prompt(BaseModel):
    id: int
    external_id: str
    text: str
    messages: list[Message] | None
    tags: list[str]
    is_evaluation: bool
    response_count: int


class Response(BaseModel):
    id: int
    prompt_id: int
    external_id: str
    text: str
    source: str
    metadata: dict[str, Any]


class ErrorAt(BaseModel):
    where: str
    what: str


class Added(BaseModel):
    """What an upload changed; the sum, where it went in several requests."""

    read: int = 0
    prompts_added: int = 0
    responses_added: int = 0
    judgments_added: int = 0
    gold_added: int = 0
    duplicates: int = 0
    bad: int = 0
    errors: list[ErrorAt] = []

    def __add__(self, other: Added) -> Added:
        counts = {
            name: getattr(self, name) + getattr(other, name)
            for name in Added.model_fields
            if name != "errors"
        }
        return Added(**counts, errors=[*self.errors, *other.errors])


class Lease(BaseModel):
    """A pair to be shown: which response is left was drawn by lot, and must be kept."""

    id: UUID
    prompt: str
    messages: list[Message]
    left: str
    right: str
    expires_at: datetime


class Next(BaseModel):
    leases: list[Lease]
    nothing: str


class Judgment(BaseModel):
    id: int
    lease: UUID
    answer: str
    strength: int | None
    lead_time: float | None
    created_at: datetime


class File(BaseModel):
    name: str
    size: int


class Job(BaseModel):
    id: int
    kind: str
    state: Literal["draft", "waiting", "running", "done", "failed", "cancelled"]
    done: int
    total: int | None
    message: str
    files: list[File]
    imported: dict[str, int] | None = None

    @property
    def has_ended(self) -> bool:
        return self.state in ("done", "failed", "cancelled")


class Limits(BaseModel):
    value: float | None
    low: float | None
    high: float | None


class Point(BaseModel):
    judgments: int
    held_out: int
    metrics: dict[str, Limits]


class Estimator(BaseModel):
    role: str
    step: int
    judgments: int
    regularization: float | None
    digest: str
    generation: int
    evaluation: Point | None


class Learning(BaseModel):
    waiting: int
    encoder: str | None
    feature_version: int | None
    dimension: int | None
    estimators: list[Estimator]

    @property
    def production(self) -> Estimator | None:
        return next((one for one in self.estimators if one.role == "production"), None)


class LabelEfficiency(BaseModel):
    verdict: str | None
    sentence: str | None
    gap: Limits | None
    labels_saved: Limits | None
    curves: dict[str, list[Point]]


class Reward(BaseModel):
    """In logits, with its interval; ``width`` is one standard deviation."""

    reward: float
    low: float
    high: float
    width: float


class Scores(BaseModel):
    id: UUID
    state: Literal["done", "waiting"]
    rewards: list[Reward] = []
    step: int | None = None


class Chosen(BaseModel):
    index: int
    reward: float
    low: float
    high: float


class Best(Scores):
    """Rewards of the responses, and which is best: greedy, averaged, pessimistic."""

    chosen: dict[str, Chosen] = {}


class Shown(BaseModel):
    index: int
    text: str
    source: str | None = None


class ServedRequest(BaseModel):
    """Two responses to show a user in this order, or one when there is nothing to ask."""

    id: UUID
    state: str
    kind: Literal["pair", "single"] | None = None
    responses: list[Shown] = []
    judged: bool = False


class Feedback(BaseModel):
    id: int
    request: UUID
    answer: str
    sources: list[str] | None = None
