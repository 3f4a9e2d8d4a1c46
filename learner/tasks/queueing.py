"""The queue of comparisons to be served next: drawn arm by arm, a few ahead of the annotators.

The arm of draw number i is a keyed hash of (project, i), so it cannot depend on anything that was learned. Pairs
of the control and evaluation arms are uniform over what was not asked yet; the active arm asks its rule, with the
pairs in flight counted as if they were answered (for selection only).
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
from django.db.models import F, Max, QuerySet
from django.utils import timezone

from annotate import draws, measures
from annotate.models import Comparison, Lease, Response
from learner.errors import LearnerError
from learner.scores.drafting import Draft
from learner.scores.sharded import UndecidedError
from learner.selection import Pick
from learner.tasks.distributing import ask_shards, is_large
from learner.tasks.states import ProjectState, exclude, note_drawn, scores_of

AHEAD = 4
LEAST = 8
PENDING = 64
PACE_SECONDS, COUNT_EVERY = 1.0, 3.0
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
    if state.drafted is None and is_large(state):
        ask_shards(state)
        return 0
    last = Comparison.objects.filter(project=state.project).aggregate(last=Max("draw"))["last"]
    with measures.timed("select"):
        drawn = draw_pairs(state, -1 if last is None else last, missing)
    measures.add("selected", len(drawn))
    if drawn:
        store_rows(state, drawn)
    return len(drawn)


def open_rows(state: ProjectState) -> QuerySet[Comparison]:
    """Comparisons with room for another annotator; gold pairs always have room, and are no part of the queue."""
    return Comparison.objects.filter(
        project=state.project, state=Comparison.State.OPEN, taken__lt=F("wanted")
    ).exclude(arm__in=("gold", "deployment"))


def wanted_depth(state: ProjectState) -> int:
    """Enough for everyone who is here to be a few pairs from the end, and for as many as were answered a moment ago."""
    since = time.monotonic() - PACE_SECONDS
    answered = sum(count for at, count in state.pace if at >= since)
    return max(LEAST, AHEAD * annotators(state), answered)


def annotators(state: ProjectState) -> int:
    """How many were here in the last ten minutes; counted every few seconds, since a crowd has many leases."""
    at, count = state.crowd
    if time.monotonic() - at > COUNT_EVERY:
        since = timezone.now() - timedelta(minutes=10)
        here = Lease.objects.filter(project=state.project, created_at__gte=since)
        count = here.values("annotator").distinct().count()
        state.crowd = time.monotonic(), count
    return count


def draw_pairs(state: ProjectState, last: int, count: int) -> list[Drawn]:
    """Draw until there are ``count`` pairs; an arm that has no pair left passes its draw on."""
    drawn: list[Drawn] = []
    active = ActiveArm(state)
    for draw in range(last + 1, last + 1 + 4 * count):
        arm, probability = draws.arm(state.project, draw)
        try:
            pick = pick_for(state, arm, draw, active)
        except UndecidedError:  # the shards are scored again where this left off
            break
        if pick is None:
            continue
        pair = (min(pick.first, pick.second), max(pick.first, pick.second))
        note_drawn(state, pair)
        if arm != "evaluation":
            active.take(pair)
        rule = state.project.rule if arm == "active" else "random"
        drawn.append(Drawn(draw, arm, probability, rule, pick))
        if len(drawn) == count:
            break
    for pair in active.drawn:
        exclude(state, pair)
    return drawn


class ActiveArm:
    """What the rule picks next, one after another, with the pairs in flight imagined answered (once for all picks)."""

    def __init__(self, state: ProjectState) -> None:
        self.state = state
        self.drawn: list[tuple[int, int]] = []
        self.flight: list[tuple[int, int]] | None = None
        self.draft: Draft | None = None

    def pick(self, rng: np.random.Generator) -> Pick | None:
        """The next pair, or None when none is left.

        Raises
        ------
        UndecidedError
            Shards have to be asked again.
        LearnerError
            Pairs are left, but none is eligible under the cap.
        """
        if self.flight is None:
            self.flight = in_flight(self.state) + self.drawn
        if self.state.drafted is not None:
            return self.state.drafted.pick(1, pending=self.flight, rng=rng)[0]
        self.draft = self.draft or scores_of(self.state).draft(self.flight)
        return self.draft.pick(rng)

    def take(self, pair: tuple[int, int]) -> None:
        """This pair was drawn, by whichever arm."""
        self.drawn.append(pair)
        if self.flight is not None:
            self.flight.append(pair)
        if self.draft is not None:
            self.draft.take(*pair)


def in_flight(state: ProjectState) -> list[tuple[int, int]]:
    """Rows of the pairs that were handed out or wait and have no answer yet, the newest ones."""
    rows = Comparison.objects.filter(project=state.project, state=Comparison.State.OPEN, judged=0)
    rows = rows.exclude(arm__in=("evaluation", "gold", "deployment")).order_by("-id")
    positions = rows.values_list("first__position", "second__position")[:PENDING]
    return [(a, b) for a, b in positions if max(a, b) < len(state.prompt)]


def pick_for(state: ProjectState, arm: str, draw: int, active: ActiveArm) -> Pick | None:
    """The pair of this draw, or None when the arm has no pair left."""
    rng = keyed_rng(state, draw)
    if arm != "active":
        return uniform_pick(state, arm == "evaluation", rng)
    try:
        pick = active.pick(rng)
    except UndecidedError:
        raise
    except LearnerError:  # nothing eligible is left under the cap: the remaining pairs are drawn at random
        pick = None
    return pick or uniform_pick(state, False, rng)


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
