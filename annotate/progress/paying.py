"""Is active collection paying, and can collection stop? Sentences over the learner's figures and the tally."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from annotate.models import Arm, Project
from annotate.progress.figures import Figure
from annotate.progress.learned import (
    FIRST_CHECKPOINT,
    FIRST_VERDICT,
    Curves,
    Point,
    efficiency_figure,
    production_figure,
)

TONES = {"active is ahead": "good", "random is ahead": "warn", "not yet distinguishable": "open"}
LONGEST_FORECAST_DAYS = 365


@dataclass(frozen=True)
class Paying:
    tone: str
    sentence: str
    missing: list[str]
    saved: str
    forecast: str
    cost: str
    figures: list[Figure]


def paying(project: Project, found: Curves, arms: Counter[str], pace: dict[str, float]) -> Paying:
    """``arms``: judgments of each arm; ``pace``: judgments of each arm a day."""
    point = found.judged
    settled = point is not None and has_limits(point)
    return Paying(
        tone=TONES.get(str(point.metrics["verdict"]), "open") if point and settled else "open",
        sentence=str(point.metrics["sentence"]) if point else _("There is no verdict yet."),
        missing=[] if settled else still_missing(arms),
        saved=saved_sentence(point.metrics.get("labels_saved") if point else None),
        forecast=forecast(point, pace.get(Arm.EVALUATION, 0.0)),
        cost=cost_sentence(project, arms),
        figures=[efficiency_figure(found, name) for name in ("log-loss", "accuracy")],
    )


def has_limits(point: Point) -> bool:
    return None not in point.limits("gap") and "Too early" not in str(point.metrics["sentence"])


def still_missing(arms: Counter[str]) -> list[str]:
    """How many judgments of each arm a first verdict still needs."""
    needed = {Arm.EVALUATION: FIRST_VERDICT, Arm.ACTIVE: FIRST_CHECKPOINT, Arm.CONTROL: FIRST_CHECKPOINT}
    words = {
        Arm.EVALUATION: lambda n: ngettext("%(n)s evaluation judgment", "%(n)s evaluation judgments", n),
        Arm.ACTIVE: lambda n: ngettext("%(n)s active judgment", "%(n)s active judgments", n),
        Arm.CONTROL: lambda n: ngettext("%(n)s control judgment", "%(n)s control judgments", n),
    }
    short = {arm: least - arms[arm] for arm, least in needed.items()}
    return [words[arm](n) % {"n": n} for arm, n in short.items() if n > 0]


def saved_sentence(saved: dict[str, Any] | None) -> str:
    """In the words of what was measured; never beyond it."""
    if not saved or saved["ratio"][0] is None:
        return ""
    (ratio, low, high), at = saved["ratio"], int(saved["at"])
    if ratio <= 0 or (saved.get("censored") and ratio < 1):
        return _("The active arm has not yet reached the log-loss that %(at)s random labels gave.") % {
            "at": f"{at:,}"
        }
    least = _("at least ") if saved.get("censored") else ""
    limits = (
        ""
        if low is None
        else _(" (%(low)s to %(high)s)")
        % {
            "low": f"{low:.2g}",
            "high": _("unbounded") if high is None else f"{high:.2g}",
        }
    )
    return _(
        "%(active)s active labels did the work of %(at)s random ones: one was worth %(least)s%(ratio)s%(limits)s."
    ) % {
        "active": f"{at / ratio:,.0f}",
        "at": f"{at:,}",
        "least": least,
        "ratio": f"{ratio:.2g}",
        "limits": limits,
    }


def forecast(point: Point | None, evaluations_a_day: float) -> str:
    """The least that an open verdict still takes: an interval narrows with the root of the evaluation judgments.

    The verdict's own interval, which must hold at every look, is wider than the gap's; hence "at least".
    """
    if point is None or point.metrics["verdict"] != "not yet distinguishable" or not has_limits(point):
        return ""
    gap, low, high = point.limits("gap")
    if gap is None or low is None or high is None or abs(gap) < 1e-4:
        return ""
    more = round(point.held_out * (((high - low) / 2 / abs(gap)) ** 2 - 1))
    if more <= 0:
        return ""
    if more > 50 * point.held_out:
        return _("At this size of gap, no realistic number of evaluation judgments would settle it.")
    text = _(
        "If the gap stays as it is, it takes at least some %(more)s more evaluation judgments to settle it"
    ) % {"more": f"{rounded(more):,}"}
    days = more / evaluations_a_day if evaluations_a_day else math.inf
    if days > LONGEST_FORECAST_DAYS:
        return f"{text}."
    whole = max(1, math.ceil(days))
    return text + ngettext(
        ", about %(n)d day at this week’s pace.", ", about %(n)d days at this week’s pace.", whole
    ) % {"n": whole}


def rounded(number: int) -> int:
    """To two figures: a forecast is no count."""
    scale = int(10 ** max(0, math.floor(math.log10(max(number, 1))) - 1))
    return round(number / scale) * scale


def cost_sentence(project: Project, arms: Counter[str]) -> str:
    made = sum(arms[arm] for arm in (Arm.ACTIVE, Arm.CONTROL, Arm.EVALUATION))
    if not made:
        return ""
    return _(
        "What knowing costs: %(control)s of %(made)s judgments (%(share)s) went to the control arm, drawn at random; "
        "they train the production estimator too. %(evaluation)s (%(evaluation_share)s) only measure."
    ) % {
        "control": f"{arms[Arm.CONTROL]:,}",
        "made": f"{made:,}",
        "share": f"{arms[Arm.CONTROL] / made:.0%}",
        "evaluation": f"{arms[Arm.EVALUATION]:,}",
        "evaluation_share": f"{arms[Arm.EVALUATION] / made:.0%}",
    }


@dataclass(frozen=True)
class Stopping:
    sentence: str
    budget: str
    figure: Figure


def stopping(project: Project, found: Curves, made: int, pace: float) -> Stopping:
    return Stopping(last_doubling(found), budget_sentence(project, made, pace), production_figure(found))


def last_doubling(found: Curves) -> str:
    """What the newest doubling of the judgments brought, with both intervals in view."""
    last = found.newest
    half = next(
        (p for p in reversed(found.of("production")) if last and 2 * p.judgments <= last.judgments), None
    )
    if last is None or half is None:
        return _("Too early to say: the curve needs a doubling of its judgments.")
    (before, *_before), (now, low, high) = half.limits("log_loss"), last.limits("log_loss")
    if before is None or now is None:
        return _("Too early to say: the curve has no finite values yet.")
    change = _("From %(half)s to %(last)s judgments, log-loss went from %(before)s to %(now)s.") % {
        "half": f"{half.judgments:,}",
        "last": f"{last.judgments:,}",
        "before": f"{before:.3f}",
        "now": f"{now:.3f}",
    }
    if low is not None and high is not None and low <= before <= high:
        return (
            change
            + " "
            + _("That lies within the interval: the last doubling brought nothing that can be measured yet.")
        )
    return (
        change
        + " "
        + (_("The last doubling paid.") if now < before else _("The last doubling made it worse."))
    )


def budget_sentence(project: Project, made: int, pace: float) -> str:
    if project.budget is None:
        return _("No budget is set: collection goes on until somebody stops it.")
    left = max(project.budget - made, 0)
    text = _("%(made)s of %(budget)s judgments of the budget are made, %(left)s are left") % {
        "made": f"{made:,}",
        "budget": f"{project.budget:,}",
        "left": f"{left:,}",
    }
    if not left or pace <= 0 or left / pace > LONGEST_FORECAST_DAYS:
        return f"{text}."
    days = max(1, math.ceil(left / pace))
    return text + ngettext(
        ", about %(n)d day at this week’s pace.", ", about %(n)d days at this week’s pace.", days
    ) % {"n": days}
