"""The write path of a lease: which comparison next, for whom.

Comparisons wait as rows; the learner keeps a few ahead. An annotator claims one under a lease, and holds up to
two: the pair on the screen and the next one. If none waits, a uniformly random pair is made on the spot, so that
nobody ever waits for a worker. Locks are taken in the order lease, budget, comparison; overlap is exact because
``taken`` is changed under the comparison's lock and the database refuses taken > wanted.
"""

from __future__ import annotations

import random
from datetime import datetime
from itertools import combinations
from typing import TypeVar

from django.db import IntegrityError, connection, transaction
from django.db.models import Count, Exists, F, OuterRef, Q, QuerySet
from django.utils import timezone

from annotate import budgets, draws, statements
from annotate.models import Arm, Comparison, Lease, Project, Prompt, Response, User

TRIES = 12
EVERYBODY = 32_767  # As many annotators as the column holds: a gold pair is for everyone.
Row = TypeVar("Row", Comparison, Lease)


def leases_for(
    project: Project, annotator: User, count: int = 2, held: list[Lease] | None = None
) -> list[Lease]:
    """The annotator's open leases, oldest first, after claiming up to ``count``; fewer when work runs out.

    Whoever looked already which they hold says so.
    """
    held = open_leases(project, annotator, timezone.now()) if held is None else held
    while len(held) < count:
        lease = claim(project, annotator)
        if lease is None:
            break
        held.append(lease)
    return held


def open_leases(project: Project, annotator: User, now: datetime) -> list[Lease]:
    """What the annotator holds already: so a reload, a second tab and the back button show the same pairs."""
    return statements.open_leases(project.pk, annotator.pk, now)


def with_texts(leases: list[Lease]) -> list[Lease]:
    """The same leases with prompt and responses; it needs no lock, so it is not under one."""
    statements.put_texts(leases)
    return leases


def claim(project: Project, annotator: User) -> Lease | None:
    """Lease one more comparison to the annotator: one that waits, or else a random pair."""
    now = timezone.now()
    try:
        with transaction.atomic():
            budgets.hold(project, annotator)
            if not has_room(project, annotator, now):
                return None
            taken = take_next(project, annotator, now)
            return None if taken is None else lease_on(*taken, project, annotator, now)
    except IntegrityError:  # Another tab of this annotator took it at this moment: the page asks again.
        return None


def has_room(project: Project, annotator: User, now: datetime) -> bool:
    """Whether one more place may be taken, after leases that ran out were given back."""
    if budgets.has_room(project, annotator):
        return True
    return release_expired(project, now) > 0 and budgets.has_room(project, annotator)


def lease_on(comparison_id: int, had: bool, project: Project, annotator: User, now: datetime) -> Lease:
    """A new lease, or the one that this annotator had let expire, with its sides as they were.

    Its row is passed over while it is locked: whoever answers it late holds it, and waits for the comparison that
    is locked here. The insert then fails on the pair's uniqueness, and nothing was taken.
    """
    lease = expired_lease(comparison_id, annotator) if had else None
    lease = lease or Lease(
        project=project,
        annotator=annotator,
        comparison_id=comparison_id,
        swapped=draws.is_swapped(project, comparison_id, annotator.pk),
    )
    lease.outcome, lease.reason, lease.note, lease.closed_at = Lease.Outcome.OPEN, "", "", None
    lease.created_at, lease.expires_at = now, now + project.lease_duration
    if lease._state.adding:
        statements.insert(lease)
    else:
        lease.save()
    return lease


def expired_lease(comparison_id: int, annotator: User) -> Lease | None:
    mine = Lease.objects.filter(comparison=comparison_id, annotator=annotator, outcome=Lease.Outcome.EXPIRED)
    return locked(mine).first()


def take_next(project: Project, annotator: User, now: datetime) -> tuple[int, bool] | None:
    """Take a place of a comparison: which it is, and whether this annotator had it before.

    Leases that ran out are given back when nothing waits (and by every sweep), not at every click.
    """
    taken = take_gold(project, annotator) or statements.take_waiting(project.pk, annotator.pk)
    if taken is None and release_expired(project, now):
        taken = statements.take_waiting(project.pk, annotator.pk)
    return taken or take_random(project)


def unseen_by(annotator: User, project: Project) -> QuerySet[Comparison]:
    """Open comparisons with room that this annotator never had; one they let expire may come back to them."""
    had = Lease.objects.filter(comparison=OuterRef("pk"), annotator=annotator)
    return Comparison.objects.filter(
        ~Exists(had.exclude(outcome=Lease.Outcome.EXPIRED)),
        project=project,
        state=Comparison.State.OPEN,
        taken__lt=F("wanted"),
    ).annotate(had=Exists(had))


def take_gold(project: Project, annotator: User) -> tuple[int, bool] | None:
    """A place of a comparison whose answer is known, if this draw of the annotator is to be one.

    The draw is keyed by how many pairs the annotator has had, so nothing that they or others do can foretell it.
    """
    if not project.gold_share:
        return None
    number = Lease.objects.filter(project=project, annotator=annotator).count()
    if not draws.is_gold(project, annotator.pk, number):
        return None
    unseen = unseen_by(annotator, project).filter(arm=Arm.GOLD).exclude(gold_answer="")
    unseen = unseen.exclude(training_answers__annotator=annotator)
    keys = list(unseen.order_by("id").values_list("pk", flat=True))
    if not keys:
        return None
    chosen = keys[draws.which_gold(project, annotator.pk, number, len(keys))]
    gold = locked(unseen.filter(pk=chosen)).first()
    if gold is None:
        return None
    statements.take(gold.pk)
    return gold.pk, bool(getattr(gold, "had", False))


def locked(rows: QuerySet[Row]) -> QuerySet[Row]:
    """Lock rows, passing over those that another process is claiming (SQLite has one writer at a time anyway)."""
    if connection.features.has_select_for_update_skip_locked:
        return rows.select_for_update(skip_locked=True, no_key=True, of=("self",))
    return rows


@transaction.atomic(savepoint=False)
def release_expired(project: Project, now: datetime, limit: int = 100) -> int:
    """Give leases that ran out back to the others. Their annotator may still answer while nobody else took the pair."""
    if not statements.any_expired(project.pk, now):
        return 0
    leases = Lease.objects.filter(project=project, outcome=Lease.Outcome.OPEN, expires_at__lte=now).order_by(
        "id"
    )
    if connection.features.has_select_for_update_skip_locked:  # what somebody works on is for the next time
        leases = leases.select_related("comparison").select_for_update(
            skip_locked=True, no_key=True, of=("self", "comparison")
        )
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


def take_random(project: Project) -> tuple[int, bool] | None:
    """A pair drawn uniformly from all prompts that do not evaluate, when the queue is empty (arm: control)."""
    rng = random.SystemRandom()
    for _ in range(TRIES):
        pair = random_pair(project, rng)
        if pair and (key := new_control_comparison(project, *pair)):
            return key, False
    pair = remaining_pair(project, rng)
    key = new_control_comparison(project, *pair) if pair else None
    return (key, False) if key else None


def random_pair(project: Project, rng: random.Random, draws_at_once: int = 16) -> tuple[int, int, int] | None:
    """A prompt and two of its responses: a uniform response, kept with probability (k-1)/(max k - 1), and a partner.

    A prompt with k responses is hit with probability proportional to k, so each of its k(k-1)/2 pairs comes out
    equally likely over the whole pool, without listing the pool. None where no draw of these is kept.
    """
    if project.response_count < 2 or project.largest_prompt < 2:
        return None
    positions = list({rng.randrange(project.response_count) for _ in range(draws_at_once)})
    drawn = statements.offered(project.pk, positions)
    rng.shuffle(drawn)
    for response, prompt, of in drawn:
        if rng.random() * (project.largest_prompt - 1) < of - 1:
            return prompt, response, rng.choice(statements.partners(prompt, response))
    return None


def remaining_pair(project: Project, rng: random.Random) -> tuple[int, int, int] | None:
    """A pair nobody was asked about yet, each as likely, found by looking: when random draws keep hitting old pairs."""
    pairs = F("response_count") * (F("response_count") - 1) / 2
    prompts = Prompt.objects.filter(
        project=project, is_evaluation=False, is_deployment=False, response_count__gte=2
    )
    mine = Count("comparisons", filter=~Q(comparisons__arm=Arm.DEPLOYMENT))
    unfinished = prompts.annotate(left=pairs - mine).filter(left__gt=0).values_list("pk", "left")
    if not (found := dict(unfinished)):
        return None
    [prompt] = rng.choices(list(found), weights=list(found.values()))
    comparisons = Comparison.objects.filter(prompt=prompt).exclude(arm=Arm.DEPLOYMENT)
    asked = set(comparisons.values_list("first", "second"))
    responses = list(Response.objects.filter(prompt=prompt).order_by("pk").values_list("pk", flat=True))
    free = [pair for pair in combinations(responses, 2) if pair not in asked]
    return (prompt, *rng.choice(free)) if free else None


def new_control_comparison(project: Project, prompt: int, one: int, other: int) -> int | None:
    """Store the random pair as a control comparison with one place taken; None if it exists (it was asked before).

    How probable the pair was, one of all that were left, the learner notes when it takes the pair in: it counts them.
    """
    first, second = sorted((one, other))
    comparison = Comparison(
        project=project,
        prompt_id=prompt,
        first_id=first,
        second_id=second,
        arm=Arm.CONTROL,
        rule="random",
        wanted=draws.wanted(project, f"{first}-{second}"),
        taken=1,
    )
    try:
        with transaction.atomic():
            statements.insert(comparison)
    except IntegrityError:
        return None
    return comparison.pk
