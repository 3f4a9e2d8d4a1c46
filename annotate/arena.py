"""The arena: a person's conversation with anonymous sources, one request a turn; who may have it, and how often."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from django.db.models import QuerySet
from django.utils.translation import gettext as _

from annotate import deploying, draws, generating, judging
from annotate.caching import counted
from annotate.errors import TouchstoneError
from annotate.importing.conversations import Message
from annotate.models import Answer, DeploymentRequest, Generation, Judgment, Project, User

MOST_A_WINDOW = 20  # prompts
LONGEST_PROMPT = 20_000
MOST_MESSAGES = 60
NEWEST = 20
SKELETONS = ("", "")


@dataclass(frozen=True)
class Guest:
    """Who is in the arena: a member of the project, or a session that has its public address."""

    project: Project
    base: str
    user: User | None = None
    visitor: str = ""
    address: str = ""

    @property
    def requests(self) -> QuerySet[DeploymentRequest]:
        """Their own; anybody else's does not exist."""
        mine = DeploymentRequest.objects.filter(project=self.project).select_related(
            "left", "right", "comparison"
        )
        return mine.filter(user=self.user) if self.user else mine.filter(user=None, visitor=self.visitor)


@dataclass(frozen=True)
class Turn:
    """A request as its page shows it."""

    request: DeploymentRequest
    earlier: Sequence[Message]
    prompt: str
    judgment: Judgment | None
    sources: list[str] | None
    live: Sequence[str]
    written: int
    wanted: int

    @property
    def is_busy(self) -> bool:
        return self.request.state in (DeploymentRequest.State.GENERATING, DeploymentRequest.State.WAITING)

    @property
    def side(self) -> str:
        return judging.side_of(self.judgment.answer, self.request.is_swapped) if self.judgment else ""

    @property
    def may_go_on(self) -> bool:
        """After a choice, or a single answer; when both were bad there is nothing to go on from."""
        if self.request.state != DeploymentRequest.State.ANSWERED:
            return False
        return not self.request.is_pair or (bool(self.side) and self.side != Answer.BOTH_BAD)


def ask(guest: Guest, text: str, parent_id: UUID | None = None) -> DeploymentRequest:
    """A new turn, or the first; its candidates are written by the project's generators."""
    text = text.strip()
    if not text:
        raise TouchstoneError(_("Write something to ask."))
    if len(text) > LONGEST_PROMPT:
        raise TouchstoneError(_("A prompt has at most {most} characters.").format(most=f"{LONGEST_PROMPT:,}"))
    count(guest)
    parent = request_of(guest, parent_id) if parent_id else None
    messages = [*(said_before(parent) if parent else []), {"role": "user", "content": text}]
    if len(messages) > MOST_MESSAGES:
        raise TouchstoneError(_("This conversation is long enough. Begin another."))
    return generating.ask(guest.project, messages, guest.user, guest.visitor, parent)


def said_before(parent: DeploymentRequest) -> list[Message]:
    """The conversation up to now: after a choice it goes on with what was chosen; after a tie, with the left answer."""
    turn = turn_of(parent)
    if not turn.may_go_on or parent.left is None:
        raise TouchstoneError(_("Choose between the answers first."), code="expired")
    chosen = parent.right if turn.side == "right" and parent.right else parent.left
    return [*parent.messages, {"role": "assistant", "content": chosen.text}]


def choose(guest: Guest, request_id: UUID, side: str) -> Judgment:
    request = request_of(guest, request_id)
    return deploying.judge(request.pk, guest.project, judging.Submission(side), guest.user)


def request_of(guest: Guest, request_id: UUID) -> DeploymentRequest:
    found = guest.requests.filter(pk=request_id).first()
    if found is None:
        raise TouchstoneError(_("There is no such conversation, or it is not yours."), code="gone")
    return found


def count(guest: Guest) -> None:
    """So many prompts a minute: of a member, or of an address where nobody signed in."""
    who = f"user:{guest.user.pk}" if guest.user else f"address:{guest.address}"
    if counted(f"arena:{guest.project.pk}:{who}") > MOST_A_WINDOW:
        raise TouchstoneError(_("That was a lot at once; wait a minute."), code="limit")


def turn_of(request: DeploymentRequest) -> Turn:
    comparison = request.comparison
    judgment = comparison.judgments.filter(replaced_at=None).first() if comparison else None
    answered = request.state == DeploymentRequest.State.ANSWERED
    said = answered and (judgment is not None or not request.is_pair)
    rows = [] if answered else list(request.generations.all())
    return Turn(
        request=request,
        earlier=request.messages[:-1],
        prompt=request.messages[-1]["content"],
        judgment=judgment,
        sources=deploying.sources_of(request) if said else None,
        live=live(request, rows),
        written=sum(row.state in (Generation.State.DONE, Generation.State.FAILED) for row in rows),
        wanted=len(rows),
    )


def live(request: DeploymentRequest, rows: Sequence[Generation]) -> Sequence[str]:
    """Two answers as they grow, on the sides where they will stand; of more, it is not known which will be shown."""
    if len(rows) != 2:
        return SKELETONS
    texts = [row.text for row in rows]
    swapped = draws.uniform(request.project.seed, "deployment side", request.pk) < 0.5
    return texts[::-1] if swapped else texts


def newest(guest: Guest) -> list[DeploymentRequest]:
    """Their last conversations, by their last turn."""
    return list(guest.requests.filter(following=None).order_by("-created_at")[:NEWEST])
