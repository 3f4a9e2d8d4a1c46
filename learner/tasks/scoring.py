"""Rewards for whoever waits: texts to be scored and users' requests, all that wait in one batch.

Rows are the queue. A thread of the scoring worker looks for them every few milliseconds while there is something to
do, so an answer needs no message and costs little beyond its encoding.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from django.db import InterfaceError, OperationalError, connections
from django.utils import timezone

from annotate import statements
from annotate.models import DeploymentRequest, Scoring
from learner.errors import LearnerError
from learner.features import text_columns
from learner.policies import MODES, best_of
from learner.tasks import appending
from learner.tasks.encoding import encode, encoder_of
from learner.tasks.following import ROLE, Follower, follow
from learner.tasks.keeping import encode_kept
from learner.tasks.locks import exclusive

logger = logging.getLogger(__name__)

MOST_ROWS = 64
AWAKE_SECONDS, BETWEEN, BETWEEN_IDLE = 20.0, 0.002, 0.025
CONFIDENCE = 0.95
FAILED = "The worker could not score this. Its log says why."
Floats = npt.NDArray[np.float64]
Texts = Sequence[tuple[str, str]]


class Refusal(LearnerError):
    """Why something cannot be scored now; ``code`` is what the caller decides on."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def start() -> None:
    """Serve from a thread of this process until it ends."""
    threading.Thread(target=serve, daemon=True, name="scoring").start()


def serve(ended: threading.Event | None = None) -> None:
    """Answer what waits, for ever; a database that is away is tried again."""
    latest = 0.0
    while ended is None or not ended.is_set():
        try:
            if answer_all():
                latest = time.monotonic()
            if appending.is_due():
                appending.store_waiting()
        except Exception as error:
            logger.warning("scoring paused: %s", error)
            connections.close_all()
            time.sleep(1.0)
        time.sleep(BETWEEN if time.monotonic() - latest < AWAKE_SECONDS else BETWEEN_IDLE)


def answer_waiting() -> int:
    """Answer the rows that wait now, and store the features that were made for it; how many rows there were."""
    count = answer_all()
    appending.store_waiting()
    return count


def answer_all() -> int:
    """Answer the rows that wait now, project by project; how many there were."""
    from learner.tasks.deploying import answer_requests

    scores_wait, requests_wait = statements.who_waits()  # all that is asked while there is nothing to do
    scorings: dict[int, list[Scoring]] = defaultdict(list)
    requests: dict[int, list[DeploymentRequest]] = defaultdict(list)
    if scores_wait:
        rows = Scoring.objects.filter(state=Scoring.State.WAITING).order_by("created_at")
        for row in rows[:MOST_ROWS]:
            scorings[row.project_id].append(row)
    if requests_wait:
        waiting = DeploymentRequest.objects.filter(state=DeploymentRequest.State.WAITING)
        for request in waiting.order_by("created_at")[:MOST_ROWS]:
            requests[request.project_id].append(request)
    count = 0
    for project_id in sorted({*scorings, *requests}):
        with exclusive("score", project_id) as held:
            if held:
                answer_requests(project_id, requests[project_id])
                answer_scorings(project_id, scorings[project_id])
                count += len(requests[project_id]) + len(scorings[project_id])
    return count


def answer_scorings(project_id: int, rows: list[Scoring]) -> None:
    """Encode the texts of all rows together, then write each row's rewards, or why there are none."""
    if not rows:
        return
    try:
        held = serving(project_id)
        texts = [(item["prompt"], item["response"]) for row in rows for item in row.items]
        phi = features_of(held, texts)
        check_still_live(held)
        start = 0
        for row in rows:
            row.result = result_of(row, held, phi[start : start + len(row.items)])
            start += len(row.items)
            finish(row, Scoring.State.DONE)
    except Exception as error:
        problem, message = said(project_id, error)
        for row in rows:
            row.problem, row.message = problem, message
            finish(row, Scoring.State.FAILED)


def said(project_id: int, error: Exception) -> tuple[str, str]:
    """Code and words for whoever waits, so that one project's failure keeps no other waiting.

    What was not written for them may name files of this machine: it is for the log. A database that is away fails
    nobody: all are tried again.
    """
    if isinstance(error, (OperationalError, InterfaceError)):
        raise error
    if isinstance(error, Refusal):
        return error.code, str(error)
    logger.error("what waits in project %s could not be answered", project_id, exc_info=error)
    return "failed", FAILED


def finish(row: Scoring, state: str) -> None:
    row.state, row.finished_at = state, timezone.now()
    fields = {name: getattr(row, name) for name in ("state", "finished_at", "result", "problem", "message")}
    if state == Scoring.State.DONE:
        fields["items"] = []  # the texts are the caller's: they are kept no longer than they are needed
    Scoring.objects.filter(pk=row.pk, state=Scoring.State.WAITING).update(**fields)


def serving(project_id: int, learned: bool = True) -> Follower:
    """The estimator to serve with, or why there is none."""
    held = follow(project_id)
    if held is None:
        raise Refusal("no_features", "The project has no embedded responses yet.")
    if learned and not held.bank.judgments:
        raise Refusal("nothing_learned", "The reward model has not learned from any judgment yet.")
    return held


def check_still_live(held: Follower) -> None:
    """Refuse when the feature version was switched while texts were being encoded: the rewards are another model's."""
    live = statements.live_estimator(held.project.pk, ROLE)
    if live is None or live[0] != held.version.pk:
        raise Refusal("switching", "The feature version is being switched; ask again in a moment.")


def encoded(held: Follower, texts: Texts) -> npt.NDArray[np.float32]:
    """The encoder's output for prompts with responses, from memory where they were met lately."""
    encoder = encoder_of(held.version)
    composed = [encoder.compose(prompt, response) for prompt, response in texts]
    began = time.perf_counter()
    rows = encode_kept(encoder, composed, encode)
    held.encoding = time.perf_counter() - began
    return rows


def features_of(held: Follower, texts: Texts, raw: npt.NDArray[np.float32] | None = None) -> Floats:
    """Features of texts by the frozen pipeline, (n, d)."""
    rows = encoded(held, texts) if raw is None else raw
    use = held.version.config.get("columns", True)
    columns = text_columns([response for _, response in texts]) if use else np.zeros((len(texts), 0))
    return np.asarray(held.pipeline.transform(rows, columns), dtype=np.float64)


def result_of(row: Scoring, held: Follower, phi: Floats) -> dict[str, Any]:
    """What the caller is told, with the state of learning that it comes from."""
    bank = held.bank
    beta = bank.radius(CONFIDENCE)
    about = {
        "step": held.step,
        "judgments": bank.judgments,
        "feature_version": held.version.pk,
        "confidence": CONFIDENCE,
    }
    if row.kind == Scoring.Kind.BEST_OF:
        centred = phi - phi.mean(axis=0)
        choices = {mode: best_of(phi, bank, mode) for mode in MODES}
        chosen = {
            mode: {"index": one.index, **interval(one.reward, one.low, one.high)}
            for mode, one in choices.items()
        }
        return {
            **about,
            "chosen": chosen,
            "rewards": rewards(bank.reward(centred), bank.width(centred), beta),
        }
    return {**about, "rewards": rewards(bank.reward(phi), bank.width(phi), beta)}


def rewards(
    values: npt.NDArray[np.floating], widths: npt.NDArray[np.floating], beta: float
) -> list[dict[str, float]]:
    """Reward, interval, width and pessimistic value (the interval's lower end, Eq. 4 of a single response) of each."""
    return [
        {**interval(value, value - beta * width, value + beta * width), "width": round(width, 9)}
        for value, width in zip(values.tolist(), widths.tolist(), strict=True)
    ]


def interval(reward: float, low: float, high: float) -> dict[str, float]:
    return {
        "reward": round(reward, 9),
        "low": round(low, 9),
        "high": round(high, 9),
        "pessimistic": round(low, 9),
    }
