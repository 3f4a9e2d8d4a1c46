"""Can collection stop? What the next judgments are expected to bring, what is left in the pool, and the budget."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from annotate.models import Project
from annotate.progress.figures import Cell, Column, Figure
from annotate.progress.found import Documents
from annotate.progress.learned import Curves, production_figure

LONGEST_FORECAST_DAYS = 365
WORTH = 0.002  # nats of log-loss: less than this for a hundred judgments is little


@dataclass(frozen=True)
class Stopping:
    tone: str
    verdict: str
    facts: list[str]
    sentence: str
    budget: str
    figures: list[Figure]


def stopping(project: Project, found: Curves, documents: Documents, made: int, pace: float) -> Stopping:
    tone, verdict = in_a_word(documents)
    figures = [production_figure(found), forecast_figure(documents), widths_figure(documents)]
    return Stopping(
        tone=tone,
        verdict=verdict,
        facts=[fact for fact in (left_in_the_pool(documents), may_still_change(documents)) if fact],
        sentence=last_doubling(found),
        budget=budget_sentence(project, made, pace),
        figures=figures,
    )


def in_a_word(documents: Documents) -> tuple[str, str]:
    """By the interval of the expected gain, not by its best guess."""
    found = documents.get("gain", {})
    value, low, high = found.get("gain") or (None, None, None)
    if value is None or low is None or high is None:
        return "open", _("Too early to say: the learning curve needs three points on evaluation judgments.")
    text = _(
        "The next %(more)s judgments are expected to lower log-loss by %(gain)s (%(low)s to %(high)s)."
    ) % {
        "more": found["more"],
        "gain": f"{value:.4f}",
        "low": f"{max(low, 0.0):.4f}",
        "high": f"{high:.4f}",
    }
    if high <= WORTH:
        return "good", _("More of the same brings little.") + " " + text
    if low > WORTH:
        return "open", _("More judgments still pay.") + " " + text
    return "open", _("It cannot be told yet whether more judgments pay.") + " " + text


def left_in_the_pool(documents: Documents) -> str:
    found = documents.get("pool", {})
    if not found.get("pairs"):
        return nothing_left(found) if found else ""
    low, middle, high = found["widths"]
    text = _(
        "Pairs that nobody was asked about have a width of %(middle)s in the middle, "
        "%(low)s to %(high)s for nine in ten"
    ) % {"middle": f"{middle:.3g}", "low": f"{low:.3g}", "high": f"{high:.3g}"}
    history = found.get("history", [])
    if len(history) < 2 or not history[0][2]:
        return f"{text}."
    return text + _("; it was %(before)s after %(count)s judgments.") % {
        "before": f"{history[0][2]:.3g}",
        "count": f"{history[0][0]:,}",
    }


def nothing_left(found: dict[str, Any]) -> str:
    """Why there are no widths of pairs that nobody was asked about."""
    if found["left"]:
        return _(
            "Every pair of the sample that widths are measured on was asked about, or waits in the queue."
        )
    return _("No width is left: every pair of the pool was asked about, or waits in the queue.")


def may_still_change(documents: Documents) -> str:
    found = documents.get("pool", {})
    if not found.get("pairs"):
        return ""
    return _(
        "%(share)s of predicted winners would be expected to change with all the labels in the world, "
        "by the model’s own account (%(pairs)s pairs drawn at random)."
    ) % {"share": f"{found['flips']:.1%}", "pairs": f"{found['pairs']:,}"}


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


def forecast_figure(documents: Documents) -> Figure:
    """The measured curve, and the power law through it, as far as four hundred judgments on."""
    found = documents.get("gain", {})
    measured = dict(found.get("measured", []))
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (count, measured.get(count), value, low, high) for count, value, low, high in found.get("fitted", [])
    )
    columns = (
        Column("judgments", _("Judgments learned from"), "count"),
        Column("measured", _("Measured"), ".3f"),
        Column("fitted", _("Fitted"), ".3f"),
        Column("low", _("low"), ".3f"),
        Column("high", _("high"), ".3f"),
    )
    alt = _("A curve is fitted when the production estimator has been measured at three counts of judgments.")
    if rows:
        alt = _(
            "Log-loss of the production estimator and the curve fitted to it, falling from %(first)s to %(last)s "
            "at %(now)s judgments, and to %(then)s at %(later)s."
        ) % {
            "first": f"{rows[0][2]:.3f}",
            "last": f"{next(row for row in rows if row[0] == found['last'])[2]:.3f}",
            "now": f"{found['last']:,}",
            "then": f"{rows[-1][2]:.3f}",
            "later": f"{rows[-1][0]:,}",
        }
    return Figure("forecast", _("Log-loss, and where it is going"), alt, columns, rows)


def widths_figure(documents: Documents) -> Figure:
    """How wide the pairs are that nobody was asked about."""
    found = documents.get("pool", {})
    rows: tuple[tuple[Cell, ...], ...] = tuple(tuple(row) for row in found.get("bins", []))
    columns = (
        Column("from", _("Width from"), ".3f"),
        Column("to", _("to"), ".3f"),
        Column("pairs", _("Pairs"), "count"),
    )
    alt = _("Widths are shown when the first judgments were learned from.")
    if found and not found["pairs"]:
        alt = nothing_left(found)
    elif rows:
        alt = _(
            "Widths of %(pairs)s pairs that nobody was asked about, drawn at random: "
            "%(middle)s in the middle, the widest %(most)s."
        ) % {
            "pairs": f"{found['pairs']:,}",
            "middle": f"{found['widths'][1]:.3g}",
            "most": f"{rows[-1][1]:.3g}",
        }
    return Figure("widths", _("Widths left in the pool"), alt, columns, rows)
