"""The training round: gold pairs with the known answer after each, before real work. Nothing of it is a judgment."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

from django.db import transaction
from django.db.models import Count, F, Q, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from annotate import auditing
from annotate.draws import is_swapped
from annotate.errors import TouchstoneError
from annotate.judging import SIDES, answer_of
from annotate.models import Arm, Comparison, Lease, Membership, Project, Role, TrainingAnswer, User
from annotate.progress.intervals import Share


@dataclass(frozen=True)
class Round:
    """The pairs of one annotator's round, the same for everyone, and what they have answered so far."""

    pairs: list[Comparison]
    answers: dict[int, str]
    mark: float = 0.0

    @cached_property
    def next(self) -> Comparison | None:
        return next((pair for pair in self.pairs if pair.pk not in self.answers), None)

    @property
    def number(self) -> int:
        """Of the pair that comes next, counted from one."""
        return sum(pair.pk in self.answers for pair in self.pairs) + 1

    @property
    def right(self) -> int:
        return sum(self.answers.get(pair.pk) == pair.gold_answer for pair in self.pairs)

    @property
    def needed(self) -> int:
        """How many answers have to be as known."""
        return math.ceil(round(self.mark * len(self.pairs), 6))

    @property
    def is_failed(self) -> bool:
        return self.next is None and self.right < self.needed


def is_due(project: Project, annotator: User) -> bool:
    """Whether the annotator trains first. Reviewers and admins, who make the gold pairs, do not."""
    if not project.training_pairs:
        return False
    untrained = project.memberships.filter(user=annotator, role=Role.ANNOTATOR, trained_at=None)
    return untrained.exists() and gold_of(project).exists()


def round_of(project: Project, annotator: User) -> Round:
    pairs = list(gold_of(project).select_related("prompt", "first", "second")[: project.training_pairs])
    given = TrainingAnswer.objects.filter(annotator=annotator, comparison__in=pairs)
    return Round(pairs, dict(given.values_list("comparison", "answer")), project.training_pass)


def result_of(project: Project, annotator: User) -> Share | None:
    """How many of the training pairs they answered as known; None where they had no round."""
    given = TrainingAnswer.objects.filter(project=project, annotator=annotator)
    found = given.aggregate(all=Count("pk"), right=Count("pk", filter=Q(answer=F("comparison__gold_answer"))))
    return Share(found["right"], found["all"]) if found["all"] else None


def gold_of(project: Project) -> QuerySet[Comparison]:
    return project.comparisons.filter(arm=Arm.GOLD).exclude(gold_answer="").order_by("id")


def shown_to(annotator: User, comparison: Comparison, project: Project) -> Lease:
    """The sides, as a lease that is never stored: a training pair takes no place from anybody."""
    swapped = is_swapped(project, comparison.pk, annotator.pk)
    return Lease(project=project, comparison=comparison, annotator=annotator, swapped=swapped)


@transaction.atomic
def answer(project: Project, annotator: User, comparison_id: int, side: str) -> None:
    """Store the first answer to a pair of the round; with the last one it is passed, or can be tried again."""
    found = round_of(project, annotator)
    pair = next((pair for pair in found.pairs if pair.pk == comparison_id), None)
    if pair is None:
        raise TouchstoneError(_("This pair is not part of the training round."), code="gone")
    if side not in SIDES:
        raise TouchstoneError(_("Choose one of the answers."))
    given = answer_of(side, shown_to(annotator, pair, project).swapped)
    TrainingAnswer.objects.get_or_create(
        comparison=pair, annotator=annotator, defaults={"project": project, "answer": given}
    )
    end_if_passed(project, annotator)


def end_if_passed(project: Project, annotator: User) -> None:
    """Let real work begin after the last pair, if enough answers were as known; also when the mark was lowered."""
    found = round_of(project, annotator)
    if found.pairs and found.next is None and not found.is_failed:
        mine = Membership.objects.filter(project=project, user=annotator, trained_at=None)
        mine.update(trained_at=timezone.now())


@transaction.atomic
def try_again(project: Project, annotator: User) -> None:
    """Forget the answers of a round that fell short, so that it can be taken once more; the audit log counts tries."""
    found = round_of(project, annotator)
    if is_due(project, annotator) and found.is_failed:
        TrainingAnswer.objects.filter(annotator=annotator, comparison__in=found.pairs).delete()
        auditing.record(
            project,
            annotator,
            "retook training",
            right=found.right,
            pairs=len(found.pairs),
            needed=found.needed,
        )
