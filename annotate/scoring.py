"""Rewards of texts: the web process asks by a row, and waits for the scoring worker to answer it.

The worker has the encoder and the estimator; here nothing numerical is loaded. A wait is bounded, and so is
how many wait; what is not answered by then can be fetched later by the row's id.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import TypeVar
from uuid import UUID

from django.utils import timezone
from django.utils.translation import gettext as _

from annotate import statements
from annotate.errors import TouchstoneError
from annotate.importing import conversations, texts
from annotate.models import DeploymentRequest, Project, Scoring

MOST_ITEMS = 512
LONGEST_WAIT = 30.0
SILENT = timedelta(seconds=30)
KEPT = timedelta(hours=1)
LATE_BY = 0.02
UNANSWERED = (Scoring.State.WAITING, DeploymentRequest.State.GENERATING)
Row = TypeVar("Row", Scoring, DeploymentRequest)
_places = threading.BoundedSemaphore(4)

STATUS = {"no_features": "unready", "nothing_learned": "unready", "switching": "unavailable"}


def ask_scores(project: Project, items: Sequence[tuple[object, object]]) -> Scoring:
    """Ask for the rewards of (prompt, response) items. A prompt is a text or messages."""
    if not 1 <= len(items) <= MOST_ITEMS:
        raise TouchstoneError(
            _("Between 1 and {most} items can be scored at once; these were {count}.").format(
                most=MOST_ITEMS, count=len(items)
            )
        )
    refuse_unready(project)
    checked = [
        {"prompt": prompt_text(prompt, f"prompt {i}"), "response": response_text(response, f"response {i}")}
        for i, (prompt, response) in enumerate(items, 1)
    ]
    return Scoring.objects.create(project=project, kind=Scoring.Kind.SCORE, items=checked)


def ask_best_of(project: Project, prompt: object, responses: Sequence[object]) -> Scoring:
    """Ask which of K responses to a prompt is best."""
    if not 1 <= len(responses) <= MOST_ITEMS:
        raise TouchstoneError(
            _("Between 1 and {most} responses can be chosen from; these were {count}.").format(
                most=MOST_ITEMS, count=len(responses)
            )
        )
    refuse_unready(project)
    text = prompt_text(prompt, "prompt")
    items = [
        {"prompt": text, "response": response_text(response, f"response {i}")}
        for i, response in enumerate(responses, 1)
    ]
    return Scoring.objects.create(project=project, kind=Scoring.Kind.BEST_OF, items=items)


def prompt_text(value: object, name: str) -> str:
    """The prompt as the pool stores it."""
    return conversations.as_text(conversations.prompt_messages(value, name))


def response_text(value: object, name: str) -> str:
    return texts.text_of(value, name)


def refuse_unready(project: Project, learned: bool = True) -> None:
    """Say at once what would keep the worker from answering, instead of waiting for it.

    Scores need a model that has ``learned``; a user can be answered by one that has not, and so teaches it.
    """
    embedded, taught, alive = statements.ready(project.pk, timezone.now() - SILENT)
    if not embedded:
        raise TouchstoneError(_("The project has no embedded responses yet."), code="unready")
    if learned and not taught:
        raise TouchstoneError(_("The reward model has not learned from any judgment yet."), code="unready")
    if not alive:
        raise TouchstoneError(
            _("No scoring worker is running. Start one with: manage.py work"), code="unavailable"
        )


def let_wait(most: int) -> None:
    """How many of this process's threads may wait at once: the others are left to the people who use the site."""
    global _places
    _places = threading.BoundedSemaphore(most)


def wait_for(row: Row, seconds: float) -> Row:
    """The row when it is answered, or as it is when the time is up, or at once when enough others wait."""
    state: str | None = row.state
    if state in UNANSWERED and _places.acquire(blocking=False):
        try:
            state = looked_at(row, min(max(seconds, 0.0), LONGEST_WAIT))
        finally:
            _places.release()
    if state is None:  # deleted with its project
        raise TouchstoneError(_("There is no such request in this project."), code="gone")
    if state != row.state:
        read_again(row)
    if row.state == Scoring.State.FAILED:
        raise TouchstoneError(row.message, code=STATUS.get(row.problem, "failed"))
    return row


def looked_at(row: Row, seconds: float) -> str | None:
    """The row's state, when it is answered or the time is up; None when it is gone."""
    began = time.monotonic()
    deadline, state = began + seconds, str(row.state)
    while state in UNANSWERED and (now := time.monotonic()) < deadline:
        between_looks(min(pause_after(now - began), deadline - now))
        found = statements.state_of(row)
        if found is None:
            return None
        state = found
    return state


def read_again(row: Scoring | DeploymentRequest) -> None:
    """The whole row, with what a user is shown."""
    if isinstance(row, Scoring):
        row.refresh_from_db()
        return
    shown = DeploymentRequest.objects.select_related("left", "right", "comparison")
    row.refresh_from_db(from_queryset=shown)


def pause_after(waited: float) -> float:
    """Looked at often at first, then less: a look comes late by a few hundredths of the wait at the most."""
    return min(max(0.002, LATE_BY * waited), 0.1)


def between_looks(seconds: float) -> None:
    time.sleep(seconds)


def scoring_of(project: Project, scoring_id: UUID, kind: str) -> Scoring:
    """A scoring asked for earlier; kept for an hour."""
    found = Scoring.objects.filter(project=project, pk=scoring_id, kind=kind).first()
    if found is None:
        raise TouchstoneError(_("There is no such scoring, or it was older than an hour."), code="gone")
    return found


def forget_old() -> int:
    """Delete scorings that nobody fetches any more: their texts are not ours to keep. End requests nobody waits for."""
    before = timezone.now() - KEPT
    DeploymentRequest.objects.filter(state__in=UNANSWERED, created_at__lt=before).update(
        state=DeploymentRequest.State.FAILED,
        problem="late",
        message="No worker answered it in time.",
        answered_at=timezone.now(),
    )
    return Scoring.objects.filter(created_at__lt=before).delete()[0]
