"""The write path of a judgment: record, skip, undo, edit.

One transaction each. A lease has at most one current judgment, so a double click, a retry and a second tab all end
in the same row. The learner is rung on commit and never waited for.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from django.core.exceptions import ValidationError
from django.db import connection, transaction
from django.db.models import F
from django.utils import timezone
from django.utils.translation import gettext as _

from annotate.celery import ring
from annotate.errors import TouchstoneError
from annotate.models import Answer, Comparison, Judgment, Lease, Project, User
from annotate.serving import close

SIDES = ("left", "right", "tie", "both_bad")
FLAGS = ("harmful", "broken", "language")
EDITED = "edited"
LONGEST_RATIONALE = 5_000


@dataclass(frozen=True)
class Submission:
    """What the annotator sent, in terms of the screen: which side, how strongly, why, how long it took.

    ``criteria`` maps a criterion of the project to left, tie or right.
    """

    side: str
    strength: int | None = None
    criteria: dict[str, str] = field(default_factory=dict)
    rationale: str = ""
    flags: list[str] = field(default_factory=list)
    lead_time: float | None = None


def record(annotator: User, lease_id: UUID | str, submission: Submission) -> Judgment:
    """Store the answer to a leased comparison; the same lease answered again returns the judgment it has."""
    now = timezone.now()
    with transaction.atomic():
        lease = own_lease(annotator, lease_id)
        if lease.outcome == Lease.Outcome.JUDGED:
            return lease.judgments.get(replaced_at=None)
        check(submission, lease.project)
        retake(lease)
        judgment = judgment_of(lease, submission)
        judgment.lead_time, judgment.created_at = plausible_seconds(submission.lead_time, lease, now), now
        judgment.save()
        Lease.objects.filter(pk=lease.pk).update(outcome=Lease.Outcome.JUDGED, closed_at=now)
        count_judged(lease.comparison, +1)
        transaction.on_commit(lambda: ring("absorb", lease.project_id))
    return judgment


def judgment_of(lease: Lease, submission: Submission) -> Judgment:
    """The answer in terms of the comparison, not stored yet."""
    return Judgment(
        project=lease.project,
        comparison=lease.comparison,
        lease=lease,
        annotator=lease.annotator,
        answer=answer_of(submission.side, lease.swapped),
        strength=submission.strength,
        criteria={name: answer_of(side, lease.swapped) for name, side in submission.criteria.items()},
        rationale=submission.rationale,
        flags=sorted(submission.flags),
    )


def edit(annotator: User, project: Project, judgment_id: int, submission: Submission) -> Judgment:
    """Put another answer in the place of an earlier one, within the project's window.

    The lease keeps exactly one current judgment; the old row stays as history, and the learner forgets it if it
    had learned from it. Counters do not move. The window begins with the first answer, so edits never prolong it.
    """
    now = timezone.now()
    with transaction.atomic():
        lease, old = editable(annotator, project, judgment_id, now)
        check(submission, project)
        new = judgment_of(lease, submission)
        if all(getattr(new, name) == getattr(old, name) for name in ANSWERED):
            return old
        Judgment.objects.filter(pk=old.pk).update(replaced_at=now, replaced_reason=EDITED)
        new.replaces, new.lead_time, new.created_at = old, old.lead_time, now
        new.save()
        transaction.on_commit(lambda: ring("absorb", project.pk))
    return new


ANSWERED = ("answer", "strength", "criteria", "rationale", "flags")


def editable(annotator: User, project: Project, judgment_id: int, now: datetime) -> tuple[Lease, Judgment]:
    """The annotator's current judgment and its lease, locked, if the window is open."""
    mine = Judgment.objects.filter(project=project, annotator=annotator, lease__isnull=False)
    found = mine.filter(pk=judgment_id).first()
    if found is None:
        raise TouchstoneError(_("This answer is not yours, or does not exist."), code="gone")
    lease = own_lease(annotator, str(found.lease_id))
    current = mine.filter(pk=judgment_id, replaced_at=None).first()
    if current is None:
        raise TouchstoneError(_("This answer was changed meanwhile; look at it again."), code="expired")
    if not is_open_to_edits(lease, project, now):
        raise TouchstoneError(
            _("An answer can be changed for {minutes} minutes; this one is older.").format(
                minutes=project.edit_minutes
            ),
            code="expired",
        )
    return lease, current


def is_open_to_edits(lease: Lease, project: Project, now: datetime) -> bool:
    return (
        project.archived_at is None
        and lease.closed_at is not None
        and now <= lease.closed_at + project.edit_window
    )


def skip(annotator: User, lease_id: UUID | str, reason: str = "", note: str = "") -> None:
    """Give the pair back to the others; skipping twice is skipping once."""
    with transaction.atomic():
        lease = own_lease(annotator, lease_id)
        if lease.outcome == Lease.Outcome.JUDGED:
            raise TouchstoneError("This pair has your answer already; undo it first.", code="invalid")
        if lease.outcome == Lease.Outcome.OPEN:
            close(lease, Lease.Outcome.SKIPPED, timezone.now(), reason[:32], note[:500])


def undo(annotator: User, project: Project) -> Lease:
    """Take the annotator's last judgment back and put its pair before them again, sides as they were."""
    now = timezone.now()
    with transaction.atomic():
        mine = Judgment.objects.filter(
            project=project, annotator=annotator, replaced_at=None, lease__isnull=False
        )
        last = mine.order_by("-id").first()
        if last is None or last.lease_id is None:
            raise TouchstoneError("There is nothing to undo.", code="invalid")
        lease = own_lease(annotator, last.lease_id)
        Judgment.objects.filter(pk=last.pk).update(replaced_at=now, replaced_reason="undone")
        Lease.objects.filter(pk=lease.pk).update(
            outcome=Lease.Outcome.OPEN, closed_at=None, expires_at=now + project.lease_duration
        )
        count_judged(lease.comparison, -1)
        transaction.on_commit(lambda: ring("absorb", project.pk))
    lease.outcome = Lease.Outcome.OPEN
    return lease


def own_lease(annotator: User, lease_id: UUID | str) -> Lease:
    """The annotator's lease, locked; anyone else's does not exist."""
    leases = Lease.objects.select_related("project", "comparison", "annotator").filter(annotator=annotator)
    if connection.features.has_select_for_update_of:
        leases = leases.select_for_update(of=("self",))
    try:
        return leases.get(pk=lease_id)
    except (Lease.DoesNotExist, ValidationError, ValueError):
        raise TouchstoneError("This pair was not given to you.", code="gone") from None


def retake(lease: Lease) -> None:
    """Take the comparison back for a lease that ran out or was skipped, if nobody else has the place by now."""
    if lease.outcome == Lease.Outcome.OPEN:
        return
    free = Comparison.objects.filter(
        pk=lease.comparison_id, taken__lt=F("wanted"), state=Comparison.State.OPEN
    ).update(taken=F("taken") + 1)
    if not free:
        raise TouchstoneError(
            "Your time for this pair ran out and somebody else has it now. Your answer was not counted; "
            "here is another pair.",
            code="expired",
        )


def count_judged(comparison: Comparison, change: int) -> None:
    """Keep the comparison's counter and state in step with its current judgments."""
    rows = Comparison.objects.filter(pk=comparison.pk)
    rows.update(judged=F("judged") + change)
    rows.filter(judged__gte=F("wanted"), state=Comparison.State.OPEN).update(state=Comparison.State.DONE)
    rows.filter(judged__lt=F("wanted"), state=Comparison.State.DONE).update(state=Comparison.State.OPEN)


def answer_of(side: str, swapped: bool) -> str:
    """The answer in terms of the comparison, whichever side the responses were shown on."""
    if side in ("left", "right"):
        return Answer.SECOND if (side == "left") == swapped else Answer.FIRST
    return Answer.TIE if side == "tie" else Answer.BOTH_BAD


def side_of(answer: str, swapped: bool) -> str:
    """The answer in terms of the screen: the inverse of ``answer_of``."""
    if answer in (Answer.FIRST, Answer.SECOND):
        return "left" if (answer == Answer.SECOND) == swapped else "right"
    return answer


def check(submission: Submission, project: Project) -> None:
    """Refuse an answer that this project does not offer, with a sentence that says which."""
    if submission.side not in SIDES:
        raise TouchstoneError(f"An answer is one of {', '.join(SIDES)}; this was {submission.side[:40]!r}.")
    if submission.side == "tie" and not project.allow_tie:
        raise TouchstoneError("This project does not take ties.")
    if submission.side == "both_bad" and not project.allow_both_bad:
        raise TouchstoneError("This project does not take “both bad”.")
    if submission.strength is not None and submission.strength not in (1, 2, 3):
        raise TouchstoneError(f"Strength is 1, 2 or 3; this was {submission.strength!r}.")
    if submission.strength is not None and submission.side not in ("left", "right"):
        raise TouchstoneError("Only the better of two responses is better by so much.")
    check_extras(submission, project)
    if len(submission.rationale) > LONGEST_RATIONALE:
        raise TouchstoneError(f"A rationale has at most {LONGEST_RATIONALE:,} characters.")


def check_extras(submission: Submission, project: Project) -> None:
    for name, side in submission.criteria.items():
        if name not in project.criteria:
            raise TouchstoneError(f"This project does not ask about {name[:60]!r}.")
        if side not in ("left", "tie", "right"):
            raise TouchstoneError(f"A criterion is answered by left, tie or right; this was {side[:40]!r}.")
    if unknown := set(submission.flags) - set(FLAGS):
        raise TouchstoneError(f"A problem is one of {', '.join(FLAGS)}; this was {min(unknown)[:40]!r}.")


def plausible_seconds(seconds: float | None, lease: Lease, now: datetime) -> float | None:
    """The browser's own time, bounded by what the server knows: never negative, never before the lease began."""
    if seconds is None or seconds != seconds:
        return None
    return min(max(seconds, 0.0), (now - lease.created_at).total_seconds())
