"""How many more judgments a project takes, of all and of one annotator: exact, also when many ask at once.

Whoever takes a place holds a lock while counting, so that no two count the same last place. Counting everything at
every click would be slow, so a budget that is far away is not counted again before it could have been used up.
Locks are taken in the order lease, project, annotator, comparison.
"""

from __future__ import annotations

import time

from django.db.models import QuerySet

from annotate.models import Judgment, Lease, Project, User

AT_ONCE = 1_000  # Claims that may be under way at the same moment.
A_SECOND = 1_000  # More claims than an installation makes in a second.
_far_until: dict[tuple[int, int], float] = {}


def hold(project: Project, annotator: User) -> None:
    """Lock what `has_room` is about to count, in the transaction that takes the place; before any comparison."""
    if project.budget is not None and not is_far(project):
        _far_until.pop((project.pk, project.budget), None)
        Project.objects.select_for_update(no_key=True).filter(pk=project.pk).values_list("pk").first()
    if project.annotator_limit is not None:
        User.objects.select_for_update(no_key=True).filter(pk=annotator.pk).values_list("pk").first()


def is_far(project: Project) -> bool:
    """Whether the budget was counted, and cannot have been used up since."""
    return time.monotonic() < _far_until.get((project.pk, project.budget or 0), 0.0)


def has_room(project: Project, annotator: User) -> bool:
    """Whether one more place may be taken."""
    return limit_left(project, annotator) > 0 and budget_has_room(project)


def budget_has_room(project: Project) -> bool:
    if project.budget is None or (project.pk, project.budget) in _far_until:
        return True
    left = budget_left(project)
    if left > AT_ONCE:
        _far_until[project.pk, project.budget] = time.monotonic() + (left - AT_ONCE) / A_SECOND
    return left > 0


def budget_left(project: Project) -> float:
    """How many more judgments the project may take, counting those being made; infinite without a budget."""
    return (
        float("inf") if project.budget is None else project.budget - taken(judgments(project), held(project))
    )


def limit_left(project: Project, annotator: User) -> float:
    """How many more judgments the project takes of this annotator, counting the pairs they hold."""
    if project.annotator_limit is None:
        return float("inf")
    mine = judgments(project).filter(annotator=annotator), held(project).filter(annotator=annotator)
    return project.annotator_limit - taken(*mine)


def judgments(project: Project) -> QuerySet[Judgment]:
    return Judgment.objects.filter(project=project, replaced_at=None, lease__isnull=False)


def held(project: Project) -> QuerySet[Lease]:
    return Lease.objects.filter(project=project, outcome=Lease.Outcome.OPEN)


def taken(made: QuerySet[Judgment], leased: QuerySet[Lease]) -> int:
    """Judgments and open leases, by one statement: what turns from one into the other is counted once."""
    return made.values_list("annotator").union(leased.values_list("annotator"), all=True).count()
