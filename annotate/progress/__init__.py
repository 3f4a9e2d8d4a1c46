"""The read path of the dashboard: rows to figures and sentences. It learns nothing and draws nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

from django.utils import timezone

from annotate.models import Project
from annotate.progress import (
    checking,
    contests,
    found,
    learned,
    paying,
    policies,
    serving,
    stopping,
    tally,
    trust,
    working,
)
from annotate.progress.figures import Column, Figure
from annotate.progress.intervals import Share
from annotate.progress.paying import Paying
from annotate.progress.stopping import Stopping

__all__ = ["FIGURES", "Column", "Figure", "Overview", "Share", "figure", "overview"]


@dataclass(frozen=True)
class Overview:
    """The five answers of the page, top to bottom."""

    now: datetime
    working: working.Working
    paying: Paying
    stopping: Stopping
    trust: trust.Trust
    rewards: learned.Rewards
    check: checking.Check | None
    contests: contests.Contests


def overview(project: Project, is_blind: bool = False) -> Overview:
    """Nine queries, whatever the size of the project. ``is_blind``: annotators go by numbers."""
    now = timezone.now()
    kept = tally.kept(project)
    row = working.status(project, now, kept.mark)
    counts = tally.current(project, kept if kept.rows == row["rows"] else tally.Tally())
    latest, (curves, documents, sources) = working.recent(project), found.measured(project)
    check = checking.newest_check(project)
    pace = working.pace(counts, now)
    at_work = working.working(project, row, counts, latest, now)
    return Overview(
        now=now,
        working=at_work,
        paying=paying.paying(project, curves, counts.arms, pace),
        stopping=stopping.stopping(project, curves, documents, at_work.made, sum(pace.values())),
        trust=warned(trust.trust(project, counts, latest, curves, documents, is_blind), check),
        rewards=learned.rewards(sources),
        contests=contests.contests(documents),
        check=check,
    )


def warned(found: trust.Trust, check: checking.Check | None) -> trust.Trust:
    """An alarm of the check on the one-pass state is the section's answer, unless people are its first concern."""
    if check is None or not check.row.is_alarming or found.tone not in ("good", "open"):
        return found
    return replace(found, tone="warn", sentence=check.sentence)


FIGURES: dict[str, Callable[[Project], Figure]] = {
    "days": lambda project: working.days_figure(tally.current(project)),
    "log-loss": lambda project: learned.efficiency_figure(learned.curves(project), "log-loss"),
    "accuracy": lambda project: learned.efficiency_figure(learned.curves(project), "accuracy"),
    "production": lambda project: learned.production_figure(learned.curves(project)),
    "sides": lambda project: sides(project),
    "rewards": learned.rewards_figure,
    "forecast": lambda project: stopping.forecast_figure(found.documents(project)),
    "widths": lambda project: stopping.widths_figure(found.documents(project)),
    "calibration": lambda project: trust.calibration_figure(found.documents(project)),
    "winners": lambda project: contests.winners_figure(found.documents(project)),
    "tags": lambda project: contests.tags_figure(found.documents(project)),
    "policy-sources": lambda project: policies.report(project).figure,
    "policy-policies": lambda project: policies.report(project).learned_figure,
    "served-regret": lambda project: serving.serving(project).regret,
    "served-reward": lambda project: serving.serving(project).reward,
    "drift": lambda project: serving.serving(project).drift,
}


def sides(project: Project, is_blind: bool = False) -> Figure:
    """The one figure that names people."""
    return trust.sides_figure(
        trust.annotators(project, tally.current(project), working.Recent({}, []), is_blind)
    )


def figure(project: Project, name: str, is_blind: bool = False) -> Figure:
    """One figure by its name in the address."""
    return sides(project, is_blind) if name == "sides" else FIGURES[name](project)
