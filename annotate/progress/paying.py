"""Is active collection paying, and can collection stop? Sentences over the learner's figures and the tally."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from statistics import NormalDist
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
)

TONES = {"active is ahead": "good", "random is ahead": "warn", "not yet distinguishable": "open"}
LONGEST_FORECAST_DAYS = 365


@dataclass(frozen=True)
class Need:
    """Evaluation judgments with which a difference in accuracy would be seen four times in five."""

    difference: float
    evaluation: int
    made: int | None
    days: int | None


@dataclass(frozen=True)
class Paying:
    tone: str
    sentence: str
    missing: list[str]
    saved: str
    forecast: str
    cost: str
    needs: list[Need]
    assumed: str
    figures: list[Figure]


def paying(project: Project, found: Curves, arms: Counter[str], pace: dict[str, float]) -> Paying:
    """``arms``: judgments of each arm; ``pace``: judgments of each arm a day."""
    point = found.judged
    settled = point is not None and has_limits(point)
    return Paying(
        tone=TONES.get(str(point.metrics["verdict"]), "open") if point and settled else "open",
        sentence=verdict_sentence(point),
        missing=[] if settled else still_missing(arms),
        saved=saved_sentence(point.metrics.get("labels_saved") if point else None),
        forecast=forecast(point, pace.get(Arm.EVALUATION, 0.0)),
        cost=cost_sentence(project, arms, point.metrics.get("labels_saved") if point else None),
        needs=needs(project, disagreement(point), sum(pace.values())),
        assumed=assumed_sentence(point),
        figures=[efficiency_figure(found, name) for name in ("log-loss", "accuracy")],
    )


def verdict_sentence(point: Point | None) -> str:
    """The learner's own sentence, in the reader's language."""
    if point is None:
        return _("There is no verdict yet.")
    value, low, high = point.limits("sequence")
    if value is None or low is None or high is None:
        return str(point.metrics["sentence"])
    said = {
        "active is ahead": _(
            "Active is ahead on %(held)s evaluation judgments of %(prompts)s prompts: "
            "log-loss lower by %(size)s (%(least)s to %(most)s)."
        ),
        "random is ahead": _(
            "Random is ahead on %(held)s evaluation judgments of %(prompts)s prompts: "
            "log-loss lower by %(size)s (%(least)s to %(most)s)."
        ),
    }
    otherwise = _(
        "Not yet distinguishable on %(held)s evaluation judgments of %(prompts)s prompts: random minus active "
        "log-loss is %(gap)s, and anything from %(low)s to %(high)s fits."
    )
    least, most = sorted((abs(low), abs(high)))
    return said.get(str(point.metrics["verdict"]), otherwise) % {
        "held": f"{point.held_out:,}",
        "prompts": f"{point.metrics.get('prompts', 0):,}",
        "gap": f"{value:+.3f}",
        "low": f"{low:+.3f}",
        "high": f"{high:+.3f}",
        "size": f"{abs(value):.3f}",
        "least": f"{least:.3f}",
        "most": f"{most:.3f}",
    }


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


DIFFERENCES = (0.1, 0.05, 0.02)
USUAL_DISAGREEMENT = 0.2
Z_TWO_SIDED, Z_POWER = NormalDist().inv_cdf(0.975), NormalDist().inv_cdf(0.8)


def disagreement(point: Point | None) -> float:
    """The share of evaluation pairs on which the arms' models predict different winners; a guess before it is known."""
    found = point.metrics.get("disagreement") if point else None
    return float(found) if found else USUAL_DISAGREEMENT


def assumed_sentence(point: Point | None) -> str:
    share = f"{disagreement(point):.0%}"
    if point and point.metrics.get("disagreement"):
        return _(
            "The two arms’ models differ on %(share)s of the evaluation pairs; the fewer, the sooner a claim."
        ) % {"share": share}
    return _("Assuming that the two arms’ models will differ on %(share)s of the evaluation pairs.") % {
        "share": share
    }


def needs(project: Project, share: float, pace: float) -> list[Need]:
    """n = (z + z)^2 D / delta^2 (about 7.85 D / delta^2): McNemar's test at 5 %, with a power of 80 %."""
    found = []
    for difference in DIFFERENCES:
        if difference > share:
            continue
        evaluation = math.ceil((Z_TWO_SIDED + Z_POWER) ** 2 * share / difference**2)
        made = math.ceil(evaluation / project.evaluation_share) if project.evaluation_share else None
        days = math.ceil(made / pace) if made and pace else None
        found.append(
            Need(difference, evaluation, made, days if days and days <= LONGEST_FORECAST_DAYS else None)
        )
    return found


def cost_sentence(project: Project, arms: Counter[str], saved: dict[str, Any] | None = None) -> str:
    made = sum(arms[arm] for arm in (Arm.ACTIVE, Arm.CONTROL, Arm.EVALUATION))
    if not made:
        return ""
    text = _(
        "What knowing costs: %(control)s of %(made)s judgments (%(share)s) went to the control arm, drawn at random; "
        "they train the production estimator too. %(evaluation)s (%(evaluation_share)s) only measure."
    ) % {
        "control": f"{arms[Arm.CONTROL]:,}",
        "made": f"{made:,}",
        "share": f"{arms[Arm.CONTROL] / made:.0%}",
        "evaluation": f"{arms[Arm.EVALUATION]:,}",
        "evaluation_share": f"{arms[Arm.EVALUATION] / made:.0%}",
    }
    ratio = saved["ratio"][0] if saved else None
    if not ratio or ratio <= 1 or not arms[Arm.CONTROL]:
        return text
    return (
        text
        + " "
        + _("Chosen actively, %(fewer)s would have taught as much as the control arm did.")
        % {"fewer": f"{arms[Arm.CONTROL] / ratio:,.0f}"}
    )
