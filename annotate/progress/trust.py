"""Can I trust it? Sides, ties, skips, every annotator, and how far two annotators agree."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from datetime import datetime

from django.db.models import Count, Subquery
from django.utils.translation import gettext as _

from annotate.models import Comparison, Judgment, Lease, Project, User
from annotate.progress.figures import Cell, Column, Figure
from annotate.progress.intervals import Share, ceiling, quantile
from annotate.progress.learned import Curves, interval_text
from annotate.progress.tally import Tally
from annotate.progress.working import Recent

NEWEST_OVERLAP = 1000
MOST_ANNOTATORS = 50
FEWEST_SIDES = 20


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
    calibration: str
    annotators: list[Annotator]
    more_annotators: int
    figure: Figure


def trust(project: Project, counts: Tally, latest: Recent, found: Curves) -> Trust:
    everyone = annotators(project, counts, latest)
    every = {side: counts.side(side) for side in ("left", "right", "tie", "both_bad")}
    made, skipped = sum(every.values()), sum(one.skipped for one in everyone)
    left = Share(every["left"], every["left"] + every["right"])
    agreed = agreement(project)
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
        calibration=interval_text(newest.limits("ece")) if newest else "",
        annotators=everyone[:MOST_ANNOTATORS],
        more_annotators=max(0, len(everyone) - MOST_ANNOTATORS),
        figure=sides_figure(everyone),
    )


def annotators(project: Project, counts: Tally, latest: Recent) -> list[Annotator]:
    """Everyone who judged or skipped, most judgments first."""
    skipped = dict(
        Lease.objects.filter(project=project, outcome=Lease.Outcome.SKIPPED)
        .order_by()
        .values_list("annotator")
        .annotate(Count("pk"))
    )
    ids = {annotator for annotator, _side in counts.sides if annotator is not None} | {*skipped}
    users = User.objects.filter(pk__in=ids).only("username", "first_name", "last_name")
    everyone = [one_annotator(user, skipped.get(user.pk, 0), counts, latest, len(ids)) for user in users]
    return sorted(everyone, key=lambda one: (-one.judgments, one.name))


def one_annotator(user: User, skipped: int, counts: Tally, latest: Recent, of: int) -> Annotator:
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
        skipped=skipped,
        lead_time=quantile(latest.lead_times.get(user.pk, []), 0.5),
        seen_at=counts.seen.get(user.pk),
        is_one_sided=decided >= FEWEST_SIDES and strict.excludes(0.5),
    )


def agreement(project: Project) -> Agreement:
    """Over the newest comparisons with two or more judgments, which were drawn for overlap at random."""
    newest = (
        Comparison.objects.filter(project=project, judged__gt=1).order_by("-pk").values("pk")[:NEWEST_OVERLAP]
    )
    rows = Judgment.objects.filter(comparison__in=Subquery(newest), replaced_at=None)
    answers: defaultdict[int, Counter[str]] = defaultdict(Counter)
    for comparison, answer in rows.values_list("comparison", "answer"):
        answers[comparison][answer] += 1
    decided = [Counter({side: given[side] for side in ("first", "second")}) for given in answers.values()]
    return Agreement(alike(list(answers.values())), alike(decided))


def alike(answers: list[Counter[str]]) -> Share:
    """Pairs of judgments of one comparison that are the same, of all such pairs."""
    pairs = sum(given.total() * (given.total() - 1) // 2 for given in answers)
    return Share(sum(n * (n - 1) // 2 for given in answers for n in given.values()), pairs)


def in_a_word(left: Share, agreed: Agreement, everyone: list[Annotator]) -> tuple[str, str]:
    one_sided = [one.name for one in everyone if one.is_one_sided]
    if not left.total:
        return "open", _("There is nothing to check yet.")
    if one_sided:
        names = ", ".join(one_sided[:3]) + (" …" if len(one_sided) > 3 else "")
        return "warn", _(
            "Look at %(names)s: one side of the screen is chosen more often than chance allows."
        ) % {"names": names}
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
