"""What annotators see of their own work: progress, pace, agreement with known answers. Never how others answered."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

from django.utils import timezone

from annotate import statements, trust
from annotate.models import Judgment, Project, User
from annotate.progress.intervals import Share


@dataclass(frozen=True)
class OwnDay:
    today: int
    all: int
    limit: int | None
    an_hour: float | None
    at_work: float
    gold: Share | None


def own_day(project: Project, annotator: User, now: datetime) -> OwnDay:
    """Four small queries; pace is of the newest thousand answers, time at work is today's without breaks."""
    mine = Judgment.objects.filter(
        project=project, annotator=annotator, replaced_at=None, lease__isnull=False
    )
    begin = midnight(now)
    newest = list(mine.order_by("-id").values_list("created_at", "lead_time")[: trust.NEWEST])
    return OwnDay(
        **progress(project, annotator, now),
        limit=project.annotator_limit,
        an_hour=trust.pace([at for at, _seconds in newest]),
        at_work=at_work([row for row in newest if row[0] >= begin]),
        gold=trust.own_gold_agreement(project, annotator, now),
    )


def progress(project: Project, annotator: User, now: datetime) -> dict[str, int]:
    done, today = statements.own_progress(project.pk, annotator.pk, midnight(now))
    return {"all": done, "today": today}


def midnight(now: datetime) -> datetime:
    return timezone.localtime(now).replace(hour=0, minute=0, second=0, microsecond=0)


def at_work(newest_first: list[tuple[datetime, float | None]]) -> float:
    """Seconds from answer to answer, breaks left out; the first of a stretch counts the time it took itself."""
    if not newest_first:
        return 0.0
    seconds = newest_first[-1][1] or 0.0
    for (later, took), (earlier, _) in pairwise(newest_first):
        gap = later - earlier
        seconds += (
            gap.total_seconds() if gap <= trust.BREAK else min(took or 0.0, trust.BREAK.total_seconds())
        )
    return seconds
