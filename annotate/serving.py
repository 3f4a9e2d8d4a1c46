"""The write path of a lease: which comparison next, for whom.

Comparisons wait as rows; the learner keeps a few ahead. An annotator claims one under a lease, and holds up to
two: the pair on the screen and the next one. If none waits, a uniformly random pair is made on the spot, so that
nobody ever waits for a worker. Locks are taken in the order lease, comparison; overlap is exact because
``taken`` is changed under the comparison's lock and the database refuses taken > wanted.
"""

from __future__ import annotations

import random
from datetime import datetime
from itertools import combinations
from typing import TypeVar

from django.db import IntegrityError, connection, transaction
from django.db.models import Count, Exists, F, OuterRef, QuerySet
from django.utils import timezone

from annotate import draws
from annotate.models import Arm, Comparison, Judgment, Lease, Project, Prompt, Response, User

TRIES = 12
EVERYBODY = 32_767  # As many annotators as the column holds: a gold pair is for everyone.
Row = TypeVar("Row", Comparison, Lease)


def leases_for(project: Project, annotator: User, count: int = 2) -> list[Lease]:
    """The annotator's open leases, oldest first, after claiming up to ``count``; fewer when work runs out."""
    held = open_leases(project, annotator, timezone.now())
    while len(held) < count:
        lease = claim(project, annotator)
        if lease is None:
            break
        held.append(lease)
    return held


def open_leases(project: Project, annotator: User, now: datetime) -> list[Lease]:
    """What the annotator holds already: so a reload, a second tab and the back button show the same pairs."""
    leases = Lease.objects.filter(
        project=project, annotator=annotator, outcome=Lease.Outcome.OPEN, expires_at__gt=now
    ).select_related("comparison__prompt", "comparison__first", "comparison__second")
    return list(leases.order_by("created_at", "id"))


def claim(project: Project, annotator: User) -> Lease | None:
    """Lease one more comparison to the annotator: one that waits, or else a random pair."""
    now = timezone.now()
    try:
        with transaction.atomic():
            release_expired(project, now)
            if budget_left(project) <= 0 or limit_left(project, annotator) <= 0:
                return None
            comparison = next_comparison(project, annotator)
            if comparison is None:
                return None
            Comparison.objects.filter(pk=comparison.pk).update(taken=F("taken") + 1)
            comparison.taken += 1
            return lease_on(comparison, project, annotator, now)
    except IntegrityError:  # Another tab of this annotator took it at this moment: the page asks again.
        return None


def lease_on(comparison: Comparison, project: Project, annotator: User, now: datetime) -> Lease:
    """A new lease, or the one that this annotator had let expire, with its sides as they were.

    Its row is passed over while it is locked: whoever answers it late holds it, and waits for the comparison that
    is locked here. The insert then fails on the pair's uniqueness, and nothing was taken.
    """
    mine = Lease.objects.filter(comparison=comparison, annotator=annotator, outcome=Lease.Outcome.EXPIRED)
    lease = locked(mine).first() or Lease(
        project=project,
        comparison=comparison,
        annotator=annotator,
        swapped=draws.is_swapped(project, comparison.pk, annotator.pk),
    )
    lease.comparison = comparison
    lease.outcome, lease.reason, lease.note, lease.closed_at = Lease.Outcome.OPEN, "", "", None
    lease.created_at, lease.expires_at = now, now + project.lease_duration
    lease.save()
    return lease


def next_comparison(project: Project, annotator: User) -> Comparison | None:
    return (
        gold_comparison(project, annotator)
        or waiting_comparison(project, annotator)
        or random_comparison(project)
    )


def unseen_by(annotator: User, project: Project) -> QuerySet[Comparison]:
    """Open comparisons with room that this annotator never had; one they let expire may come back to them."""
    had = Lease.objects.filter(comparison=OuterRef("pk"), annotator=annotator)
    return Comparison.objects.filter(
        ~Exists(had.exclude(outcome=Lease.Outcome.EXPIRED)),
        project=project,
        state=Comparison.State.OPEN,
        taken__lt=F("wanted"),
    )


def waiting_comparison(project: Project, annotator: User) -> Comparison | None:
    """The oldest comparison that waits for this annotator, locked against other processes."""
    waiting = unseen_by(annotator, project).exclude(arm=Arm.GOLD)
    return locked(waiting.select_related("prompt", "first", "second").order_by("id")).first()


def gold_comparison(project: Project, annotator: User) -> Comparison | None:
    """A comparison whose answer is known, if this draw of the annotator is to be one.

    The draw is keyed by how many pairs the annotator has had, so nothing that they or others do can foretell it.
    """
    if not project.gold_share:
        return None
    number = Lease.objects.filter(project=project, annotator=annotator).count()
    if not draws.is_gold(project, annotator.pk, number):
        return None
    unseen = unseen_by(annotator, project).filter(arm=Arm.GOLD).exclude(gold_answer="")
    keys = list(unseen.order_by("id").values_list("pk", flat=True))
    if not keys:
        return None
    chosen = keys[draws.which_gold(project, annotator.pk, number, len(keys))]
    return locked(unseen.select_related("prompt", "first", "second").filter(pk=chosen)).first()


def locked(rows: QuerySet[Row]) -> QuerySet[Row]:
    """Lock rows, passing over those that another process is claiming (SQLite has one writer at a time anyway)."""
    if connection.features.has_select_for_update_skip_locked:
        return rows.select_for_update(skip_locked=True, of=("self",))
    return rows


@transaction.atomic(savepoint=False)
def release_expired(project: Project, now: datetime, limit: int = 100) -> int:
    """Give leases that ran out back to the others. Their annotator may still answer while nobody else took the pair."""
    leases = Lease.objects.filter(project=project, outcome=Lease.Outcome.OPEN, expires_at__lte=now).order_by(
        "id"
    )
    if connection.features.has_select_for_update_skip_locked:
        leases = leases.select_for_update(skip_locked=True)
    expired = list(leases[:limit])
    for lease in expired:
        close(lease, Lease.Outcome.EXPIRED, now)
    return len(expired)


def close(lease: Lease, outcome: str, now: datetime, reason: str = "", note: str = "") -> None:
    """Close a lease without a judgment; its place in the comparison is free again."""
    lease.outcome, lease.closed_at, lease.reason, lease.note = outcome, now, reason, note
    lease.save(update_fields=["outcome", "closed_at", "reason", "note"])
    Comparison.objects.filter(pk=lease.comparison_id).update(taken=F("taken") - 1)


def renew(project: Project, annotator: User) -> int:
    """Extend the annotator's open leases while their page is visible."""
    now = timezone.now()
    leases = Lease.objects.filter(
        project=project, annotator=annotator, outcome=Lease.Outcome.OPEN, expires_at__gt=now
    )
    return leases.update(expires_at=now + project.lease_duration)


def budget_left(project: Project) -> float:
    """How many more judgments the project may take, counting those being made; infinite without a budget."""
    if project.budget is None:
        return float("inf")
    made = Judgment.objects.filter(project=project, replaced_at=None, lease__isnull=False).count()
    return project.budget - made - Lease.objects.filter(project=project, outcome=Lease.Outcome.OPEN).count()


def limit_left(project: Project, annotator: User) -> float:
    """How many more judgments the project takes of this annotator, counting the pairs they hold."""
    if project.annotator_limit is None:
        return float("inf")
    held = Lease.objects.filter(project=project, annotator=annotator, outcome=Lease.Outcome.OPEN).count()
    return project.annotator_limit - judgments_of(project, annotator) - held


def judgments_of(project: Project, annotator: User) -> int:
    mine = Judgment.objects.filter(project=project, annotator=annotator, replaced_at=None)
    return mine.filter(lease__isnull=False).count()


def unread_guidelines(project: Project, annotator: User) -> int | None:
    """The version that this member has acknowledged, if the guidelines are newer (0: none so far)."""
    if not project.guidelines:
        return None
    seen = project.memberships.filter(user=annotator, guidelines_seen__lt=project.guidelines_version)
    return seen.values_list("guidelines_seen", flat=True).first()


def acknowledge(project: Project, annotator: User, version: int) -> None:
    """Remember that the member read this version; never a later one than there is, never an earlier one again."""
    if version <= project.guidelines_version:
        members = project.memberships.filter(user=annotator, guidelines_seen__lt=version)
        members.update(guidelines_seen=version)


def random_comparison(project: Project) -> Comparison | None:
    """A pair drawn uniformly from all prompts that do not evaluate, when the queue is empty (arm: control)."""
    rng = random.SystemRandom()
    for _ in range(TRIES):
        for pair in random_pairs(project, rng):
            if comparison := new_control_comparison(project, pair):
                return comparison
    pair_left = remaining_pair(project, rng)
    return new_control_comparison(project, pair_left) if pair_left else None


def random_pairs(
    project: Project, rng: random.Random, draws_at_once: int = 16
) -> list[tuple[Response, Response]]:
    """Uniform draws over pairs: a uniform response, kept with probability (k-1)/(max k - 1), and a uniform partner.

    A prompt with k responses is hit with probability proportional to k, so each of its k(k-1)/2 pairs comes out
    equally likely over the whole pool, without listing the pool.
    """
    if project.response_count < 2 or project.largest_prompt < 2:
        return []
    positions = {rng.randrange(project.response_count) for _ in range(draws_at_once)}
    drawn = Response.objects.filter(project=project, position__in=positions, prompt__is_evaluation=False)
    pairs = []
    for response in sorted(drawn.select_related("prompt"), key=lambda _: rng.random()):
        if rng.random() * (project.largest_prompt - 1) < response.prompt.response_count - 1:
            others = list(Response.objects.filter(prompt=response.prompt).exclude(pk=response.pk))
            pairs.append((response, rng.choice(others)))
            break
    return pairs


def remaining_pair(project: Project, rng: random.Random) -> tuple[Response, Response] | None:
    """A pair nobody was asked about yet, found by looking: only when random draws keep hitting old pairs."""
    pairs = F("response_count") * (F("response_count") - 1) / 2
    prompts = Prompt.objects.filter(project=project, is_evaluation=False, response_count__gte=2)
    unfinished = list(prompts.annotate(asked=Count("comparisons")).filter(asked__lt=pairs)[:500])
    if not unfinished:
        return None
    prompt = rng.choice(unfinished)
    asked = set(prompt.comparisons.values_list("first", "second"))
    responses = list(prompt.responses.order_by("pk"))
    free = [pair for pair in combinations(responses, 2) if (pair[0].pk, pair[1].pk) not in asked]
    return rng.choice(free) if free else None


def new_control_comparison(project: Project, pair: tuple[Response, Response]) -> Comparison | None:
    """Store the random pair as a control comparison; None if it exists already (somebody was asked before)."""
    first, second = sorted(pair, key=lambda response: response.pk)
    try:
        with transaction.atomic():
            comparison = Comparison.objects.create(
                project=project,
                prompt=first.prompt,
                first=first,
                second=second,
                arm=Arm.CONTROL,
                rule="random",
                wanted=draws.wanted(project, f"{first.pk}-{second.pk}"),
            )
    except IntegrityError:
        return None
    return comparison
