"""Can I trust it? Sides, ties, skips, every annotator, and how far two annotators agree."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from django.db.models import Count, F, FloatField, Q, Subquery, Value
from django.db.models.functions import Cast
from django.utils.translation import gettext as _

from annotate.models import Arm, Comparison, Judgment, Lease, Project, Reliability, User
from annotate.progress.figures import Cell, Column, Figure
from annotate.progress.found import Documents
from annotate.progress.intervals import Share, ceiling, quantile
from annotate.progress.learned import Curves, interval_text
from annotate.progress.tally import Tally
from annotate.progress.working import Recent

NEWEST_OVERLAP = 1000
MOST_ANNOTATORS = 50
FEWEST_SIDES = 20
CARELESS = 0.5  # of the average annotator's reliability, at the upper limit
NOTHING = Share(0, 0)


@dataclass(frozen=True)
class Annotator:
    name: str
    judgments: int
    left: Share
    ties: int
    both_bad: int
    skipped: int
    lead_time: float | None
    seen_at: datetime | None
    is_one_sided: bool
    key: int = 0
    gold: Share = NOTHING
    others: Share = NOTHING
    reliability: tuple[float, float, float] | None = None


@dataclass(frozen=True)
class Agreement:
    """Pairs of judgments of the same comparison; ``decided``: of those where both chose a side."""

    alike: Share
    decided: Share

    @property
    def ceiling(self) -> tuple[float, float, float] | None:
        if self.decided.value is None:
            return None
        return ceiling(self.decided.value), ceiling(self.decided.low), ceiling(self.decided.high)


@dataclass(frozen=True)
class Trust:
    tone: str
    sentence: str
    left: Share
    ties: Share
    both_bad: Share
    skipped: Share
    agreement: Agreement
    gold: Share
    calibration: str
    annotators: list[Annotator]
    more_annotators: int
    figures: list[Figure]
    questions: list[dict[str, Any]]


def trust(
    project: Project,
    counts: Tally,
    latest: Recent,
    found: Curves,
    documents: Documents,
    is_blind: bool = False,
) -> Trust:
    agreed, own = agreement(project)
    everyone = [
        replace(one, others=own.get(one.key, NOTHING))
        for one in annotators(project, counts, latest, is_blind)
    ]
    every = {side: counts.side(side) for side in ("left", "right", "tie", "both_bad")}
    made, skipped = sum(every.values()), sum(one.skipped for one in everyone)
    left = Share(every["left"], every["left"] + every["right"])
    tone, sentence = in_a_word(left, agreed, everyone)
    newest = found.newest
    return Trust(
        tone=tone,
        sentence=sentence,
        left=left,
        ties=Share(every["tie"], made),
        both_bad=Share(every["both_bad"], made),
        skipped=Share(skipped, made + skipped),
        agreement=agreed,
        gold=Share(sum(one.gold.count for one in everyone), sum(one.gold.total for one in everyone)),
        calibration=interval_text(newest.limits("ece")) if newest else "",
        annotators=everyone[:MOST_ANNOTATORS],
        more_annotators=max(0, len(everyone) - MOST_ANNOTATORS),
        figures=[sides_figure(everyone), calibration_figure(documents)],
        questions=documents.get("agreement", {}).get("questions", []),
    )


Known = dict[int, dict[str, tuple[float, float, float]]]


def known_of(project: Project) -> Known:
    """Skips, gold answers and reliability of everybody, by one statement: {annotator: {what: three numbers}}."""
    nothing = Value(0.0, FloatField())
    skips = Lease.objects.filter(project=project, outcome=Lease.Outcome.SKIPPED).order_by()
    # The gold pairs are few: found first, instead of looking at the pair of every judgment.
    pairs = Comparison.objects.filter(project=project, arm=Arm.GOLD)
    gold = Judgment.objects.filter(comparison__in=pairs, replaced_at=None).order_by()
    right = Count("pk", filter=Q(answer=F("comparison__gold_answer")))
    rows = skips.values_list(Value("skipped"), "annotator").annotate(
        a=as_float(Count("pk")), b=nothing, c=nothing
    )
    rows = rows.union(
        gold.filter(annotator__isnull=False)
        .values_list(Value("gold"), "annotator")
        .annotate(a=as_float(right), b=as_float(Count("pk")), c=nothing),
        Reliability.objects.filter(project=project)
        .order_by()
        .values_list(Value("reliability"), "annotator", "estimate", "low", "high"),
        all=True,
    )
    found: Known = {}
    for what, annotator, *numbers in rows:
        found.setdefault(annotator, {})[what] = (numbers[0], numbers[1], numbers[2])
    return found


def as_float(count: Count) -> Cast:
    return Cast(count, FloatField())


def annotators(project: Project, counts: Tally, latest: Recent, is_blind: bool = False) -> list[Annotator]:
    """Everyone who judged or skipped, most judgments first; by numbers for who reviews blindly."""
    known = known_of(project)
    ids = {annotator for annotator, _side in counts.sides if annotator is not None} | {*known}
    users = User.objects.filter(pk__in=ids).only("username", "first_name", "last_name")
    everyone = [one_annotator(user, known.get(user.pk, {}), counts, latest, len(ids)) for user in users]
    if is_blind:
        everyone = [replace(one, name=user.pseudonym) for one, user in zip(everyone, users, strict=True)]
    return sorted(everyone, key=lambda one: (-one.judgments, one.name))


def one_annotator(
    user: User, known: dict[str, tuple[float, float, float]], counts: Tally, latest: Recent, of: int
) -> Annotator:
    """``of``: among how many; each is suspected at 1/of of the error, so that one chance finding is rare."""
    sides = {side: counts.side(side, user.pk) for side in ("left", "right", "tie", "both_bad")}
    decided = sides["left"] + sides["right"]
    strict = Share(sides["left"], decided, 1 - 0.05 / of)
    return Annotator(
        name=user.name,
        judgments=sum(sides.values()),
        left=Share(sides["left"], decided),
        ties=sides["tie"],
        both_bad=sides["both_bad"],
        skipped=int(known.get("skipped", (0, 0, 0))[0]),
        lead_time=quantile(latest.lead_times.get(user.pk, []), 0.5),
        seen_at=counts.seen.get(user.pk),
        is_one_sided=decided >= FEWEST_SIDES and strict.excludes(0.5),
        key=user.pk,
        gold=Share(*(int(n) for n in known.get("gold", (0, 0, 0))[:2])),
        reliability=known.get("reliability"),
    )


def agreement(project: Project) -> tuple[Agreement, dict[int, Share]]:
    """Of all, and of each annotator with the others; over the newest comparisons with two or more judgments.

    Those were drawn for overlap at random, so they speak for the rest.
    """
    shared = Comparison.objects.filter(project=project, judged__gt=1).exclude(arm=Arm.GOLD)
    newest = shared.order_by("-pk").values("pk")[:NEWEST_OVERLAP]
    rows = Judgment.objects.filter(comparison__in=Subquery(newest), replaced_at=None)
    answers: defaultdict[int, Counter[str]] = defaultdict(Counter)
    own: list[tuple[int, int, str]] = []
    for comparison, annotator, answer in rows.values_list("comparison", "annotator", "answer"):
        answers[comparison][answer] += 1
        if annotator is not None:
            own.append((annotator, comparison, answer))
    decided = [Counter({side: given[side] for side in ("first", "second")}) for given in answers.values()]
    return Agreement(alike(list(answers.values())), alike(decided)), with_others(answers, own)


def with_others(answers: dict[int, Counter[str]], own: list[tuple[int, int, str]]) -> dict[int, Share]:
    same: Counter[int] = Counter()
    every: Counter[int] = Counter()
    for annotator, comparison, answer in own:
        same[annotator] += answers[comparison][answer] - 1
        every[annotator] += answers[comparison].total() - 1
    return {annotator: Share(same[annotator], every[annotator]) for annotator in every}


def alike(answers: list[Counter[str]]) -> Share:
    """Pairs of judgments of one comparison that are the same, of all such pairs."""
    pairs = sum(given.total() * (given.total() - 1) // 2 for given in answers)
    return Share(sum(n * (n - 1) // 2 for given in answers for n in given.values()), pairs)


def in_a_word(left: Share, agreed: Agreement, everyone: list[Annotator]) -> tuple[str, str]:
    one_sided = [one.name for one in everyone if one.is_one_sided]
    careless = [one.name for one in everyone if one.reliability and one.reliability[2] < CARELESS]
    if not left.total:
        return "open", _("There is nothing to check yet.")
    if one_sided:
        names = ", ".join(one_sided[:3]) + (" …" if len(one_sided) > 3 else "")
        return "warn", _(
            "Look at %(names)s: one side of the screen is chosen more often than chance allows."
        ) % {"names": names}
    if careless:
        names = ", ".join(careless[:3]) + (" …" if len(careless) > 3 else "")
        return "warn", _("Look at %(names)s: their answers are little better than coin flips.") % {
            "names": names
        }
    if agreed.decided.total and agreed.decided.high < 0.6:
        return "warn", _(
            "Two annotators agree little more often than chance; the guidelines may need examples."
        )
    if left.excludes(0.5):
        return "warn", _("One side of the screen is chosen more often than the other, over all annotators.")
    return "good", _("Nothing speaks against it: no side of the screen is favoured.")


def sides_figure(everyone: list[Annotator]) -> Figure:
    """Share of left choices of each annotator who decided often enough, and of all together."""
    shown = [one for one in everyone if one.left.total >= FEWEST_SIDES][:MOST_ANNOTATORS]
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (one.name, one.left.total, one.left.value, one.left.low, one.left.high, int(one.is_one_sided))
        for one in shown
    )
    columns = (
        Column("annotator", _("Annotator")),
        Column("decided", _("Sides chosen"), "count"),
        Column("left", _("Left"), "share"),
        Column("low", _("low"), "share"),
        Column("high", _("high"), "share"),
        Column("one_sided", _("One-sided"), "count"),
    )
    alt = _("Side bias is shown for annotators who have chosen a side at least %(count)d times.") % {
        "count": FEWEST_SIDES
    }
    if rows:
        one_sided = ", ".join(str(row[0]) for row in rows if row[-1]) or _("nobody")
        alt = _(
            "How often each of %(count)d annotators chose the left response, with 95%% intervals. "
            "Beyond chance: %(names)s."
        ) % {"count": len(rows), "names": one_sided}
    return Figure("sides", _("How often the left response was chosen"), alt, columns, rows, "list")


def calibration_figure(documents: Documents) -> Figure:
    """How often the production estimator is right when it is so sure, on evaluation judgments."""
    found = documents.get("calibration", {})
    rows: tuple[tuple[Cell, ...], ...] = tuple(tuple(row) for row in found.get("bins", []))
    columns = (
        Column("predicted", _("Sure by"), "share"),
        Column("observed", _("Right"), "share"),
        Column("low", _("low"), "share"),
        Column("high", _("high"), "share"),
        Column("judgments", _("Judgments"), "count"),
    )
    alt = _("The calibration curve needs at least five evaluation judgments.")
    if rows:
        error, low, high = (one if one is not None else math.nan for one in found["ece"])
        alt = _(
            "How often the estimator is right against how sure it is, in %(bins)d groups of "
            "%(n)s evaluation judgments. "
            "Expected calibration error %(error)s (%(low)s to %(high)s); a perfect model would show %(floor)s."
        ) % {
            "bins": len(rows),
            "n": f"{found['held_out']:,}",
            **{
                k: f"{v:.3f}"
                for k, v in (("error", error), ("low", low), ("high", high), ("floor", found["floor"]))
            },
        }
    return Figure("calibration", _("Calibration: right as often as sure?"), alt, columns, rows)
