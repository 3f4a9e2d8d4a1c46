"""The queue of comparisons to be served next: drawn arm by arm, a few ahead of the annotators.

The arm of draw number i is a keyed hash of (project, i), so it cannot depend on anything that was learned. Pairs
of the control and evaluation arms are uniform over what was not asked yet; the active arm asks its rule, with the
pairs in flight counted as if they were answered (for selection only).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
from django.db.models import F, Max, QuerySet
from django.utils import timezone

from annotate import draws
from annotate.models import Comparison, Lease, Response
from learner.errors import LearnerError
from learner.selection import Pick
from learner.tasks.states import ProjectState, note_asked, scores_of

AHEAD = 4
LEAST = 8
PENDING = 64
MOST_WAITING_FOR_OVERLAP = 200


@dataclass(frozen=True)
class Drawn:
    """A pair with its arm and with what is known about the draw."""

    draw: int
    arm: str
    arm_probability: float
    rule: str
    pick: Pick


def refill(state: ProjectState) -> int:
    """Top the queue up; how many comparisons were added."""
    missing = wanted_depth(state) - open_rows(state).filter(taken=0).count()
    if missing <= 0:
        return 0
    last = Comparison.objects.filter(project=state.project).aggregate(last=Max("draw"))["last"]
    drawn = draw_pairs(state, -1 if last is None else last, missing)
    if drawn:
        store_rows(state, drawn)
    return len(drawn)


def open_rows(state: ProjectState) -> QuerySet[Comparison]:
    """Comparisons with room for another annotator; gold pairs always have room, and are no part of the queue."""
    return Comparison.objects.filter(
        project=state.project, state=Comparison.State.OPEN, taken__lt=F("wanted")
    ).exclude(arm="gold")


def wanted_depth(state: ProjectState) -> int:
    """Enough for everyone who was here in the last ten minutes to be a few pairs from the end."""
    since = timezone.now() - timedelta(minutes=10)
    here = Lease.objects.filter(project=state.project, created_at__gte=since)
    return max(LEAST, AHEAD * here.values("annotator").distinct().count())


def draw_pairs(state: ProjectState, last: int, count: int) -> list[Drawn]:
    """Draw until there are ``count`` pairs; an arm that has no pair left passes its draw on."""
    drawn: list[Drawn] = []
    flight = in_flight(state)
    for draw in range(last + 1, last + 1 + 4 * count):
        arm, probability = draws.arm(state.project, draw)
        pick = pick_for(state, arm, draw, flight)
        if pick is None:
            continue
        note_asked(state, pick.first, pick.second)
        if arm != "evaluation":
            flight.append((pick.first, pick.second))
        rule = state.project.rule if arm == "active" else "random"
        drawn.append(Drawn(draw, arm, probability, rule, pick))
        if len(drawn) == count:
            break
    return drawn


def in_flight(state: ProjectState) -> list[tuple[int, int]]:
    """Rows of the pairs that were handed out or wait and have no answer yet, the newest ones."""
    rows = Comparison.objects.filter(project=state.project, state=Comparison.State.OPEN, judged=0)
    rows = rows.exclude(arm__in=("evaluation", "gold")).order_by("-id")
    positions = rows.values_list("first__position", "second__position")[:PENDING]
    return [(a, b) for a, b in positions if max(a, b) < len(state.prompt)]


def pick_for(state: ProjectState, arm: str, draw: int, flight: list[tuple[int, int]]) -> Pick | None:
    """The pair of this draw, or None when the arm has no pair left."""
    rng = keyed_rng(state, draw)
    if arm != "active":
        return uniform_pick(state, arm == "evaluation", rng)
    try:
        return scores_of(state).pick(1, pending=flight, rng=rng)[0]
    except LearnerError:  # nothing eligible is left under the cap: the remaining pairs are drawn at random
        return uniform_pick(state, False, rng)


def keyed_rng(state: ProjectState, draw: int) -> np.random.Generator:
    """Randomness of one draw, a function of the project's seed and the draw's index."""
    digest = hashlib.sha256(f"{state.project.seed}/pair/{draw}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "big"))


def uniform_pick(state: ProjectState, evaluation: bool, rng: np.random.Generator) -> Pick | None:
    """A pair uniform over those within prompts that nobody was asked about; its probability is stored."""
    drawn = state.urns[evaluation].draw(rng)
    return None if drawn is None else describe(state, *drawn)


def describe(state: ProjectState, first: int, second: int, probability: float) -> Pick:
    """A pair with the width and margin it has now."""
    z = state.reader.difference(first, second)
    bank = state.reader.banks["production"]
    width = float(bank.width(z[None])[0])
    return Pick(first, second, width, width, probability)


def store_rows(state: ProjectState, drawn: list[Drawn]) -> None:
    """Write the drawn pairs as open comparisons, skipping any that the web process made in between."""
    positions = {row for item in drawn for row in (item.pick.first, item.pick.second)}
    responses = Response.objects.filter(project=state.project, position__in=positions)
    by_row = {
        position: (pk, prompt) for pk, position, prompt in responses.values_list("pk", "position", "prompt")
    }
    backlog = open_rows(state).filter(judged__gt=0).count()
    rows = [comparison_row(state, item, by_row, backlog < MOST_WAITING_FOR_OVERLAP) for item in drawn]
    Comparison.objects.bulk_create(rows, ignore_conflicts=True)


def comparison_row(
    state: ProjectState, item: Drawn, by_row: dict[int, tuple[int, int]], may_overlap: bool
) -> Comparison:
    """The row of a drawn pair, first and second in the order of their ids."""
    (first, prompt), (second, _) = sorted((by_row[item.pick.first], by_row[item.pick.second]))
    z = state.reader.difference(*sorted((item.pick.first, item.pick.second)))
    return Comparison(
        project=state.project,
        prompt_id=prompt,
        first_id=first,
        second_id=second,
        arm=item.arm,
        draw=item.draw,
        arm_probability=item.arm_probability,
        rule=item.rule,
        probability=item.pick.probability,
        score=item.pick.score,
        width=item.pick.width,
        predicted=float(state.reader.banks["production"].predict(z[None])[0]),
        estimator_step=state.step,
        wanted=draws.wanted(state.project, item.draw) if may_overlap else 1,
    )
