"""The write path of a judgment: record, skip, undo, edit.

One transaction each. A lease has at most one current judgment, so a double click, a retry and a second tab all end
in the same row. The learner is rung on commit and never waited for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import F
from django.utils import timezone
from django.utils.translation import gettext as _

from annotate import budgets, webhooks
from annotate.celery import ring
from annotate.errors import TouchstoneError
from annotate.importing.texts import storable
from annotate.models import Answer, Comparison, Judgment, Lease, Project, User
from annotate.serving import close
from annotate.statements import close_as_judged, count_judged, insert, lease_of

SIDES = ("left", "right", "tie", "both_bad")
FLAGS = ("harmful", "broken", "language")
EDITED, CORRECTED, UNDONE = "edited", "corrected", "undone"
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


def record(
    annotator: User,
    lease_id: UUID | str,
    submission: Submission,
    project: Project | None = None,
    then: Callable[[bool], object] | None = None,
) -> Judgment:
    """Store the answer to a leased comparison; the same lease answered again returns the judgment it has.

    With a project, a lease of another one does not exist. ``then`` is done in the same transaction, so that the disk
    is waited for once, and told whether the answer is new. What only reads comes before the transaction: on SQLite
    everybody else waits for its end.
    """
    now = timezone.now()
    lease = found_lease(annotator, lease_id, project)
    if lease.outcome != Lease.Outcome.JUDGED:
        check(submission, lease.project)
    with transaction.atomic():
        if not close_as_judged(lease.pk, Lease.Outcome.OPEN, now):  # whoever comes second finds it judged
            lease = own_lease(annotator, lease_id, project)
            if lease.outcome == Lease.Outcome.JUDGED:
                known = lease.judgments.get(replaced_at=None)
                return known if then is None else (then(False), known)[1]
            retake(lease)
            close_as_judged(lease.pk, lease.outcome, now)
        judgment = judgment_of(lease, submission)
        judgment.lead_time, judgment.created_at = plausible_seconds(submission.lead_time, lease, now), now
        insert(judgment)
        count_judged(lease.comparison_id, +1)
        webhooks.tell_judgment(lease.project, judgment)
        transaction.on_commit(lambda: ring("absorb", lease.project_id))
        if then is not None:
            then(True)
    return judgment


def judgment_of(lease: Lease, submission: Submission) -> Judgment:
    """The answer in terms of the comparison, not stored yet."""
    return Judgment(
        project_id=lease.project_id,
        comparison_id=lease.comparison_id,
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
        put_in_place(old, new, EDITED, now)
    return new


ANSWERED = ("answer", "strength", "criteria", "rationale", "flags")


def put_in_place(old: Judgment, new: Judgment, reason: str, now: datetime) -> None:
    """The new row takes the old one's place: the old is marked first, so that two are never current at once."""
    if not Judgment.objects.filter(pk=old.pk, replaced_at=None).update(
        replaced_at=now, replaced_reason=reason
    ):
        raise TouchstoneError(_("This answer was changed meanwhile; look at it again."), code="expired")
    new.replaces, new.lead_time, new.created_at = old, old.lead_time, now
    new.save()
    webhooks.tell_judgment(new.project, new)
    transaction.on_commit(lambda: ring("absorb", old.project_id))


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
    refuse_if_corrected(current)
    refuse_if_late(lease, project, now)
    return lease, current


def refuse_if_corrected(judgment: Judgment) -> None:
    """A reviewer's word in an annotator's place is not the annotator's to change."""
    before = judgment.replaces
    if before is not None and before.replaced_reason.startswith(CORRECTED):
        raise TouchstoneError(_("A reviewer corrected this answer; it stays."), code="expired")


def refuse_if_late(lease: Lease, project: Project, now: datetime) -> None:
    """An answer stands once its window is over, or the project archived."""
    if project.archived_at is not None:
        raise TouchstoneError(_("This project is archived; every answer stays as it is."), code="expired")
    if not is_open_to_edits(lease, project, now):
        raise TouchstoneError(
            _("An answer can be changed for {minutes} minutes; this one is older.").format(
                minutes=project.edit_minutes
            ),
            code="expired",
        )


def is_open_to_edits(lease: Lease, project: Project, now: datetime) -> bool:
    return (
        project.archived_at is None
        and lease.closed_at is not None
        and now <= lease.closed_at + project.edit_window
    )


def skip(annotator: User, lease_id: UUID | str, reason: str = "", note: str = "") -> None:
    """Give the pair back to the others; skipping twice is skipping once."""
    reason, note = storable(reason[:32], "The reason"), storable(note[:500], "The note")
    with transaction.atomic():
        lease = own_lease(annotator, lease_id)
        if lease.outcome == Lease.Outcome.JUDGED:
            raise TouchstoneError(_("This pair has your answer already; undo it first."), code="invalid")
        if lease.outcome == Lease.Outcome.OPEN:
            close(lease, Lease.Outcome.SKIPPED, timezone.now(), reason, note)


def undo(annotator: User, project: Project) -> Lease:
    """Take back what the annotator did last, answer or skip, and put its pair before them again, sides as they were."""
    now = timezone.now()
    with transaction.atomic():
        judgment, lease = done_last(annotator, project)
        refuse_if_late(lease, project, now)
        if judgment is None:
            take_back_skip(lease)
        else:
            take_back(judgment, now)
        Lease.objects.filter(pk=lease.pk).update(
            outcome=Lease.Outcome.OPEN,
            reason="",
            note="",
            closed_at=None,
            expires_at=now + project.lease_duration,
        )
    lease.outcome = Lease.Outcome.OPEN
    return lease


def done_last(annotator: User, project: Project) -> tuple[Judgment | None, Lease]:
    """The annotator's last judgment, or None where they skipped a pair since, and its lease, locked."""
    mine = Judgment.objects.filter(
        project=project, annotator=annotator, replaced_at=None, lease__isnull=False
    )
    judgment = mine.order_by("-id").first()
    skipped = skipped_last(annotator, project, judgment)
    if skipped is not None:
        return None, own_lease(annotator, skipped)
    if judgment is None or judgment.lease_id is None:
        raise TouchstoneError(_("There is nothing to undo."), code="nothing")
    return judgment, own_lease(annotator, judgment.lease_id)


def skipped_last(annotator: User, project: Project, since: Judgment | None) -> UUID | None:
    skipped = Lease.objects.filter(project=project, annotator=annotator, outcome=Lease.Outcome.SKIPPED)
    skipped = skipped.filter(closed_at__gt=since.created_at) if since else skipped.exclude(closed_at=None)
    return skipped.order_by("-closed_at").values_list("pk", flat=True).first()


def take_back(judgment: Judgment, now: datetime) -> None:
    """Once: of two undos at the same moment, the second has waited for the lease and finds it done."""
    refuse_if_corrected(judgment)
    current = Judgment.objects.filter(pk=judgment.pk, replaced_at=None)
    if not current.update(replaced_at=now, replaced_reason=UNDONE):
        raise TouchstoneError(_("This answer was changed meanwhile; look at it again."), code="expired")
    count_judged(judgment.comparison_id, -1)
    transaction.on_commit(lambda: ring("absorb", judgment.project_id))


def take_back_skip(lease: Lease) -> None:
    """Hold the pair again, if it is still free."""
    if lease.outcome != Lease.Outcome.SKIPPED:
        raise TouchstoneError(_("There is nothing to undo."), code="nothing")
    budgets.hold(lease.project, lease.annotator)
    if not (budgets.has_room(lease.project, lease.annotator) and take_place(lease)):
        raise TouchstoneError(_("The pair that you skipped is not free any more."), code="expired")


def undone(leases: list[Lease]) -> dict[UUID, Judgment]:
    """By lease, the answer that was taken back last: what its annotator wrote beside it is theirs to send again."""
    found = Judgment.objects.filter(lease__in=[lease.pk for lease in leases], replaced_reason=UNDONE)
    return {judgment.lease_id: judgment for judgment in found.order_by("id") if judgment.lease_id}


def found_lease(annotator: User, lease_id: UUID | str, project: Project | None) -> Lease:
    """The annotator's lease as it is before anything is locked."""
    try:
        lease = lease_of(UUID(str(lease_id)), annotator.pk)
    except ValueError:
        lease = None
    return its_own(lease, annotator, project)


def own_lease(annotator: User, lease_id: UUID | str, project: Project | None = None) -> Lease:
    """The annotator's lease, locked."""
    leases = Lease.objects.filter(annotator=annotator).select_for_update()
    try:
        lease = leases.filter(pk=lease_id).first()
    except (ValidationError, ValueError):
        lease = None
    return its_own(lease, annotator, project)


def its_own(lease: Lease | None, annotator: User, project: Project | None) -> Lease:
    """Anyone else's lease does not exist, nor at the address of another project."""
    if lease is None or (project is not None and lease.project_id != project.pk):
        raise TouchstoneError(_("This pair was not given to you."), code="gone")
    lease.annotator = annotator
    if project is not None:
        lease.project = project
    return lease


def retake(lease: Lease) -> None:
    """Take the comparison back for a lease that ran out or was skipped, if nobody else has the place by now."""
    if lease.outcome == Lease.Outcome.OPEN:
        return
    if lease.outcome == Lease.Outcome.WITHDRAWN:
        raise TouchstoneError(_("A reviewer took this answer back; it cannot be given again."), code="gone")
    budgets.hold(lease.project, lease.annotator)
    if not budgets.has_room(lease.project, lease.annotator):
        raise TouchstoneError(
            _(
                "Your time for this pair ran out, and this project takes no more. Your answer was not counted."
            ),
            code="expired",
        )
    if not take_place(lease):
        raise TouchstoneError(
            _(
                "Your time for this pair ran out and somebody else has it now. Your answer was not counted; "
                "here is another pair."
            ),
            code="expired",
        )


def take_place(lease: Lease) -> bool:
    """One more place of the lease's comparison, if it has one."""
    free = Comparison.objects.filter(
        pk=lease.comparison_id, taken__lt=F("wanted"), state=Comparison.State.OPEN
    )
    return free.update(taken=F("taken") + 1) == 1


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


def criteria_of(judgment: Judgment, swapped: bool) -> dict[str, str]:
    """What was said about each criterion, in terms of the screen."""
    return {name: side_of(answer, swapped) for name, answer in judgment.criteria.items()}


def check(submission: Submission, project: Project) -> None:
    """Refuse an answer that this project does not offer, with a sentence that says which."""
    if submission.side not in SIDES:
        raise TouchstoneError(not_one_of(submission.side, SIDES))
    if submission.side == "tie" and not project.allow_tie:
        raise TouchstoneError(_("This project does not take ties."))
    if submission.side == "both_bad" and not project.allow_both_bad:
        raise TouchstoneError(_("This project does not take “both bad”."))
    if submission.strength is not None and submission.strength not in (1, 2, 3):
        raise TouchstoneError(not_one_of(str(submission.strength), ("1", "2", "3")))
    if submission.strength is not None and submission.side not in ("left", "right"):
        raise TouchstoneError(_("Only the better of two responses is better by so much."))
    check_extras(submission, project)
    if len(submission.rationale) > LONGEST_RATIONALE:
        sentence = _("A rationale has at most {most} characters.")
        raise TouchstoneError(sentence.format(most=f"{LONGEST_RATIONALE:,}"))
    storable(submission.rationale, "The rationale")


def check_extras(submission: Submission, project: Project) -> None:
    for name, side in submission.criteria.items():
        if name not in project.criteria:
            raise TouchstoneError(_("This project does not ask about “{name}”.").format(name=name[:60]))
        if side not in ("left", "tie", "right"):
            raise TouchstoneError(not_one_of(side, ("left", "tie", "right")))
    if unknown := set(submission.flags) - set(FLAGS):
        raise TouchstoneError(not_one_of(min(unknown), FLAGS))


def not_one_of(given: str, known: tuple[str, ...]) -> str:
    """For whoever writes to the addresses by hand: the screen offers nothing else."""
    return _("“{given}” is not one of: {known}.").format(given=given[:40], known=", ".join(known))


def plausible_seconds(seconds: float | None, lease: Lease, now: datetime) -> float | None:
    """The browser's own time, bounded by what the server knows: never negative, never before the lease began."""
    if seconds is None or seconds != seconds:
        return None
    held = (now - lease.created_at).total_seconds()  # below zero, if the clock was set back
    return max(0.0, min(seconds, held))
