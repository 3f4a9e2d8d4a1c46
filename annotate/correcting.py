"""The write path when a reviewer corrects a judgment or withdraws it: the same rows, locks and bell as in `judging`.

A lease, or a vote that was imported, has at most one current judgment afterwards; the old row stays as history with
the reason, and the learner forgets it if it had learned from it.
"""

from __future__ import annotations

from datetime import datetime

from django.db import transaction
from django.db.models import F
from django.utils import timezone
from django.utils.translation import gettext as _

from annotate import auditing
from annotate.celery import ring
from annotate.errors import TouchstoneError
from annotate.importing.texts import storable
from annotate.judging import CORRECTED, put_in_place
from annotate.models import Answer, Arm, Comparison, Judgment, Lease, Project, User
from annotate.statements import count_judged

WITHDRAWN = "withdrawn"
LONGEST_REASON = 180


def correct(
    reviewer: User, project: Project, judgment_id: int, answer: str, strength: int | None, reason: str
) -> Judgment:
    """Put the reviewer's answer in the place of the annotator's. Everything else that was said stays."""
    reason, now = reason_for(reason), timezone.now()
    check(answer, strength, project)
    with transaction.atomic():
        old = locked(project, judgment_id)
        if (old.answer, old.strength) == (answer, strength):
            raise TouchstoneError(_("That is the answer already."))
        new = Judgment.objects.get(pk=old.pk)
        new.pk, new.answer, new.strength = None, answer, strength
        new.absorbed_step = new.absorbed_at = new.forgotten_at = None
        new._state.adding = True
        put_in_place(old, new, f"{CORRECTED}: {reason}", now)
        auditing.record(
            project, reviewer, "corrected", f"judgment {old.pk}", answer=[old.answer, answer], reason=reason
        )
    return new


def withdraw(reviewer: User, project: Project, judgment_id: int, reason: str) -> Judgment:
    """Take a judgment away. Its place on the pair is open again, to somebody else; an imported vote has none."""
    reason, now = reason_for(reason), timezone.now()
    with transaction.atomic():
        old = locked(project, judgment_id)
        current = Judgment.objects.filter(pk=old.pk, replaced_at=None)
        if not current.update(replaced_at=now, replaced_reason=f"{WITHDRAWN}: {reason}"):
            raise TouchstoneError(_("This answer was changed meanwhile; look at it again."), code="expired")
        give_place_back(old, now)
        auditing.record(project, reviewer, "withdrew", f"judgment {old.pk}", answer=old.answer, reason=reason)
        transaction.on_commit(lambda: ring("absorb", project.pk))
    return old


def locked(project: Project, judgment_id: int) -> Judgment:
    """The judgment, after its lease was locked as annotators lock it, if it still stands."""
    found = Judgment.objects.filter(project=project, pk=judgment_id).select_related("comparison").first()
    if found is None:
        raise TouchstoneError(_("There is no such judgment in this project."), code="gone")
    if found.lease_id:
        Lease.objects.select_for_update().get(pk=found.lease_id)
    if not Judgment.objects.filter(pk=found.pk, replaced_at=None).exists():
        raise TouchstoneError(_("This answer was changed meanwhile; look at it again."), code="expired")
    return found


def give_place_back(judgment: Judgment, now: datetime) -> None:
    """Counters follow the current judgments. The annotator's lease is closed for good: no retry revives the answer."""
    rows = Comparison.objects.filter(pk=judgment.comparison_id)
    if judgment.comparison.arm == Arm.IMPORTED:
        rows.update(judged=F("judged") - 1, taken=F("taken") - 1, wanted=F("wanted") - 1)
        rows.filter(judged=0).update(state=Comparison.State.WITHDRAWN)
        return
    count_judged(judgment.comparison_id, -1)
    rows.update(taken=F("taken") - 1)
    if judgment.lease_id:
        Lease.objects.filter(pk=judgment.lease_id).update(outcome=Lease.Outcome.WITHDRAWN, closed_at=now)


def reason_for(text: str) -> str:
    reason = " ".join(text.split())
    if not reason:
        raise TouchstoneError(_("Say why: the reason stays beside the judgment, and in the audit log."))
    if len(reason) > LONGEST_REASON:
        raise TouchstoneError(_("A reason has at most {n} characters.").format(n=LONGEST_REASON))
    return storable(reason, "The reason")


def check(answer: str, strength: int | None, project: Project) -> None:
    """Refuse an answer that the project does not offer; ties in imported votes stay what they are."""
    if answer not in Answer.values:
        raise TouchstoneError(_("Choose one of the answers."))
    if (answer == Answer.TIE and not project.allow_tie) or (
        answer == Answer.BOTH_BAD and not project.allow_both_bad
    ):
        raise TouchstoneError(_("This project does not take that answer."))
    if strength is not None and (strength not in (1, 2, 3) or answer not in (Answer.FIRST, Answer.SECOND)):
        raise TouchstoneError(_("Strength is 1, 2 or 3, and only of a response that is better."))
