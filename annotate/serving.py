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

from django.db import IntegrityError, connection, transaction
from django.db.models import Count, Exists, F, OuterRef, QuerySet
from django.utils import timezone

from annotate import draws
from annotate.models import Arm, Comparison, Judgment, Lease, Project, Prompt, Response, User

TRIES = 12


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
    with transaction.atomic():
        release_expired(project, now)
        if budget_left(project) <= 0:
            return None
        comparison = waiting_comparison(project, annotator) or random_comparison(project)
        if comparison is None:
            return None
        Comparison.objects.filter(pk=comparison.pk).update(taken=F("taken") + 1)
        comparison.taken += 1
        return lease_of(comparison, annotator, now)


def lease_of(comparison: Comparison, annotator: User, now: datetime) -> Lease:
    """A new lease, or the annotator's own expired one opened again: there is one row for each of them and a pair."""
    project = comparison.project
    lease, _ = Lease.objects.update_or_create(
        comparison=comparison,
        annotator=annotator,
        defaults={
            "project": project,
            "swapped": draws.is_swapped(project, comparison.pk, annotator.pk),
            "outcome": Lease.Outcome.OPEN,
            "created_at": now,
            "closed_at": None,
            "expires_at": now + project.lease_duration,
        },
    )
    return lease


def waiting_comparison(project: Project, annotator: User) -> Comparison | None:
    """The oldest open comparison with room that this annotator never had, or let expire; locked for this claim."""
    had = Lease.objects.filter(comparison=OuterRef("pk"), annotator=annotator).exclude(
        outcome=Lease.Outcome.EXPIRED
    )
    waiting = Comparison.objects.filter(
        ~Exists(had), project=project, state=Comparison.State.OPEN, taken__lt=F("wanted")
    )
    waiting = waiting.select_related("prompt", "first", "second").order_by("id")
    comparison = locked(waiting).first()
    if comparison is not None:
        comparison.project = project  # with its settings, without another query
    return comparison


def locked(comparisons: QuerySet[Comparison]) -> QuerySet[Comparison]:
    """Lock rows, passing over those that another process is claiming (SQLite has one writer at a time anyway)."""
    if connection.features.has_select_for_update_skip_locked:
        return comparisons.select_for_update(skip_locked=True, of=("self",))
    return comparisons


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
