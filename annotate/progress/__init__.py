"""The read path of the dashboard: rows to figures and sentences. It learns nothing and draws nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from django.utils import timezone

from annotate.models import Project
from annotate.progress import learned, paying, tally, trust, working
from annotate.progress.figures import Column, Figure
from annotate.progress.intervals import Share
from annotate.progress.paying import Paying, Stopping

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


def overview(project: Project) -> Overview:
    """Nine queries, whatever the size of the project."""
    now = timezone.now()
    kept = tally.kept(project)
    row = working.status(project, now, kept.mark)
    counts = tally.current(project, kept if kept.rows == row["rows"] else tally.Tally())
    latest, curves = working.recent(project), learned.curves(project)
    pace = working.pace(counts, now)
    at_work = working.working(project, row, counts, latest, now)
    return Overview(
        now=now,
        working=at_work,
        paying=paying.paying(project, curves, counts.arms, pace),
        stopping=paying.stopping(project, curves, at_work.made, sum(pace.values())),
        trust=trust.trust(project, counts, latest, curves),
        rewards=learned.rewards(project),
    )


FIGURES: dict[str, Callable[[Project], Figure]] = {
    "days": lambda project: working.days_figure(tally.current(project)),
    "log-loss": lambda project: learned.efficiency_figure(learned.curves(project), "log-loss"),
    "accuracy": lambda project: learned.efficiency_figure(learned.curves(project), "accuracy"),
    "production": lambda project: learned.production_figure(learned.curves(project)),
    "sides": lambda project: trust.sides_figure(
        trust.annotators(project, tally.current(project), working.Recent({}, []))
    ),
    "rewards": learned.rewards_figure,
}


def figure(project: Project, name: str) -> Figure:
    """One figure by its name in the address."""
    return FIGURES[name](project)
