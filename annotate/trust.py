"""How far one annotator can be trusted, what annotators disagree about, and pairs whose answer is known."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

from django.db import IntegrityError, transaction
from django.db.models import Count, F, Q, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from annotate import auditing, serving
from annotate.errors import TouchstoneError
from annotate.importing.texts import storable
from annotate.judging import SIDES, answer_of
from annotate.models import Answer, Arm, Comparison, Judgment, Lease, Project, Reliability, Response, User
from annotate.progress.intervals import Share, quantile

NEWEST = 1000
BREAK = timedelta(minutes=10)
HASTY_SECONDS = 1.0
FEWEST_GOLD = 10


@dataclass(frozen=True)
class Record:
    """One annotator's work in one project, from rows alone."""

    judgments: int
    first_at: datetime | None
    last_at: datetime | None
    an_hour: float | None
    lead_time: float | None
    quick: float | None
    slow: float | None
    hasty: Share
    left: Share
    ties: Share
    both_bad: Share
    gold: Share
    others: Share
    edited: int
    undone: int
    skipped: Share
    reasons: list[tuple[str, int]]


def record_of(project: Project, annotator: User) -> Record:
    """Ten small queries; times and pace are of the newest thousand judgments."""
    mine = Judgment.objects.filter(project=project, annotator=annotator, lease__isnull=False)
    current = mine.filter(replaced_at=None)
    newest = list(current.order_by("-id").values_list("created_at", "lead_time")[:NEWEST])
    times = [seconds for _at, seconds in newest if seconds is not None]
    counts = current.aggregate(all=Count("pk"), left=Count("pk", filter=LEFT), tie=Count("pk", filter=Q(answer="tie")),
                               bad=Count("pk", filter=Q(answer="both_bad")))  # fmt: skip
    reasons = skip_reasons(project, annotator)
    skipped = sum(number for _reason, number in reasons)
    return Record(
        judgments=counts["all"],
        first_at=current.order_by("id").values_list("created_at", flat=True).first(),
        last_at=newest[0][0] if newest else None,
        an_hour=pace([at for at, _seconds in newest]),
        lead_time=quantile(times, 0.5),
        quick=quantile(times, 0.1),
        slow=quantile(times, 0.9),
        hasty=Share(sum(seconds < HASTY_SECONDS for seconds in times), len(times)),
        left=Share(counts["left"], counts["all"] - counts["tie"] - counts["bad"]),
        ties=Share(counts["tie"], counts["all"]),
        both_bad=Share(counts["bad"], counts["all"]),
        gold=gold_agreement(current),
        others=agreement_with_others(current, annotator),
        edited=mine.filter(replaced_reason="edited").count(),
        undone=mine.filter(replaced_reason="undone").count(),
        skipped=Share(skipped, skipped + counts["all"]),
        reasons=reasons,
    )


LEFT = Q(answer=Answer.FIRST, lease__swapped=False) | Q(answer=Answer.SECOND, lease__swapped=True)


def pace(newest_first: Sequence[datetime]) -> float | None:
    """Judgments an hour while at work: a gap of more than ten minutes is a break."""
    gaps = [later - earlier for later, earlier in pairwise(newest_first)]
    worked = [gap for gap in gaps if gap <= BREAK]
    seconds = sum(worked, timedelta()).total_seconds()
    return 3600 * len(worked) / seconds if seconds else None


def gold_agreement(current: QuerySet[Judgment]) -> Share:
    """How often the known answer was given, of the gold pairs that were judged."""
    gold = current.filter(comparison__arm=Arm.GOLD).exclude(comparison__gold_answer="")
    found = gold.aggregate(all=Count("pk"), right=Count("pk", filter=Q(answer=F("comparison__gold_answer"))))
    return Share(found["right"], found["all"])


def own_gold_agreement(project: Project, annotator: User, now: datetime) -> Share | None:
    """What an annotator may know of it: up to yesterday and not of few, so that no single pair gives itself away."""
    midnight = timezone.localtime(now).replace(hour=0, minute=0, second=0, microsecond=0)
    mine = Judgment.objects.filter(
        project=project, annotator=annotator, replaced_at=None, created_at__lt=midnight
    )
    found = gold_agreement(mine)
    return found if found.total >= FEWEST_GOLD else None


def agreement_with_others(current: QuerySet[Judgment], annotator: User) -> Share:
    """Over the newest pairs that others judged too: how many of the others' answers are the same."""
    shared = current.filter(comparison__judged__gt=1).exclude(comparison__arm=Arm.GOLD).order_by("-id")
    own = dict(shared.values_list("comparison", "answer")[:NEWEST])
    others = Judgment.objects.filter(comparison__in=own, replaced_at=None).exclude(annotator=annotator)
    answers = list(others.values_list("comparison", "answer"))
    return Share(sum(own[comparison] == answer for comparison, answer in answers), len(answers))


def skip_reasons(project: Project, annotator: User) -> list[tuple[str, int]]:
    skipped = Lease.objects.filter(project=project, annotator=annotator, outcome=Lease.Outcome.SKIPPED)
    counted = skipped.order_by().values_list("reason").annotate(number=Count("pk"))
    return sorted(counted, key=lambda row: (-row[1], row[0]))


# --- What the worker measured -------------------------------------------------------------------------------------


def in_a_word(measured: Reliability) -> tuple[str, str]:
    """A tone and a sentence; it warns only of what the intervals hold even for one of many annotators."""
    if measured.high < 0.5:
        return "bad", _("These answers follow what others prefer little more than coin flips would.")
    if measured.side_low > 0.4 or measured.side_high < -0.4:
        return "bad", _("One side of the screen is chosen far more often than the texts explain.")
    if measured.high < 1:
        return "warn", _("These answers follow what others prefer less than the average does.")
    if measured.judgments >= FEWEST_GOLD and measured.hasty > measured.judgments / 5:
        return "warn", _("More than a fifth of the answers came too quickly for the texts to have been read.")
    if measured.run_chance < 0.001:
        return "warn", _("There is a run of one side that chance does not explain.")
    return "good", _("Nothing stands out.")


# --- Disagreements ----------------------------------------------------------------------------------------------


OWN = {"lease__isnull": False}  # An imported judgment had none, and nobody here can ask who gave it.


def disagreements(project: Project, imported: bool = False) -> QuerySet[Comparison]:
    """Comparisons that were judged differently here and that no reviewer has settled, oldest first.

    With ``imported``, also those that imported judgments disagree about, among themselves or with those made here.
    """
    counted = {"replaced_at": None} | ({} if imported else OWN)
    filters = Q(**{f"judgments__{name}": value for name, value in counted.items()})
    answers = Count("judgments__answer", filter=filters, distinct=True)
    judged = Comparison.objects.filter(project=project, judged__gt=1, settled_answer="").exclude(arm=Arm.GOLD)
    return judged.annotate(answers=answers).filter(answers__gt=1).order_by("id")


def votes(comparison: Comparison, swapped: bool, imported: bool = True) -> list[tuple[str, int, list[str]]]:
    """What was answered, in terms of the reviewer's screen: how often, and the reasons that were given."""
    reasons: defaultdict[str, list[str]] = defaultdict(list)
    counted: Counter[str] = Counter()
    current = comparison.judgments.filter(replaced_at=None, **({} if imported else OWN))
    for answer, why in current.values_list("answer", "rationale"):
        side = answer
        if answer in (Answer.FIRST, Answer.SECOND):
            side = "left" if (answer == Answer.SECOND) == swapped else "right"
        counted[side] += 1
        reasons[side] += [why] if why else []
    return [(side, counted[side], reasons[side]) for side in SIDES if counted[side]]


@transaction.atomic
def settle(project: Project, reviewer: User, comparison_id: int, answer: str, note: str) -> None:
    """Write a reviewer's word beside the judgments, for exports to prefer.

    It is no judgment: which comparisons are settled depends on their answers, so learning from them, or measuring
    on them, would bias the arms that were drawn at random.
    """
    if answer not in Answer.values:
        raise TouchstoneError(_("Choose one of the answers."))
    unsettled = Comparison.objects.filter(pk=comparison_id, project=project, judged__gt=1, settled_answer="")
    note = storable(note[:500], "The note")
    values = {"settled_answer": answer, "settled_note": note, "settled_by": reviewer}
    if not unsettled.exclude(arm=Arm.GOLD).update(**values, settled_at=timezone.now()):
        raise TouchstoneError(_("This disagreement was settled meanwhile, or does not exist."), code="gone")
    auditing.record(project, reviewer, "settled", f"comparison {comparison_id}", answer=answer)


# --- Gold -------------------------------------------------------------------------------------------------------


def gold_pairs(project: Project) -> QuerySet[Comparison]:
    return Comparison.objects.filter(project=project, arm=Arm.GOLD).exclude(gold_answer="")


def unasked_pair(project: Project) -> tuple[Response, Response] | None:
    """A random pair that nobody was asked about, the response with the smaller id first."""
    rng = random.SystemRandom()
    drawn = (serving.random_pair(project, rng) for _ in range(serving.TRIES))
    found = next((pair for pair in drawn if pair and not was_asked(*sorted(pair[1:]))), None)
    found = found or serving.remaining_pair(project, rng)
    if found is None:
        return None
    first, second = Response.objects.filter(pk__in=found[1:]).order_by("pk")
    return first, second


def was_asked(first: int, second: int) -> bool:
    return Comparison.objects.filter(first=first, second=second).exclude(arm=Arm.DEPLOYMENT).exists()


def make_gold(
    project: Project, reviewer: User, first_id: int, second_id: int, side: str, note: str = ""
) -> Comparison:
    """Store a pair nobody was asked about as gold, with the answer that is known, left being the first."""
    if side not in SIDES:
        raise TouchstoneError(_("Choose one of the answers."))
    note = storable(note[:500], "The note")
    found = Response.objects.filter(project=project, pk__in=(first_id, second_id)).select_related("prompt")
    responses = list(found.order_by("pk"))
    if (
        len(responses) != 2
        or responses[0].prompt_id != responses[1].prompt_id
        or responses[0].prompt.is_evaluation
    ):
        raise TouchstoneError(_("These are not two responses to one prompt."), code="gone")
    try:
        with transaction.atomic():
            comparison = Comparison.objects.create(
                project=project,
                prompt=responses[0].prompt,
                first=responses[0],
                second=responses[1],
                arm=Arm.GOLD,
                rule="random",
                gold_answer=answer_of(side, swapped=first_id > second_id),
                settled_note=note,
                wanted=serving.EVERYBODY,
            )
            auditing.record(project, reviewer, "made gold", f"comparison {comparison.pk}")
    except IntegrityError:
        raise TouchstoneError(_("Somebody was asked about this pair already; here is another.")) from None
    return comparison
