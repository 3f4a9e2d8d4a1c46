"""Is it working? Judgments, people, pace, the worker, what waits, and how long a judgment takes to matter."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from django.db.models import Count, Exists, F, IntegerField, OuterRef, Q, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from annotate.models import Arm, FeatureVersion, Heartbeat, Job, Judgment, Project, Setback
from annotate.progress import tally as tallies
from annotate.progress.crew import Crew, crew
from annotate.progress.figures import Cell, Column, Figure
from annotate.progress.intervals import quantile

ALIVE_SECONDS = 30
LAG_OF = 200
RECENT = 1000
MOST_BARS = 62
MANY_WAITING = 100
SERVED = (Arm.ACTIVE, Arm.CONTROL, Arm.EVALUATION)


@dataclass(frozen=True)
class Recent:
    """The newest judgments of people: who, how long they took, and when they were learned from."""

    lead_times: dict[int | None, list[float]]
    lags: list[float]


@dataclass(frozen=True)
class Worker:
    seen_at: datetime | None
    is_alive: bool


@dataclass(frozen=True)
class Running:
    """A job on its way, or one that failed within the last day."""

    job: Job
    percent: float | None
    seconds_left: float | None

    @property
    def has_failed(self) -> bool:
        return self.job.state == Job.State.FAILED


@dataclass(frozen=True)
class Working:
    tone: str
    sentence: str
    made: int
    imported: int
    last_day: int
    people: int
    pace: float
    worker: Worker
    crew: Crew
    waiting: int
    unembedded: int
    lag: tuple[float | None, float | None]
    lag_of: int
    jobs: list[Running]
    figure: Figure


def status(project: Project, now: datetime, mark: int) -> dict[str, Any]:
    """The scalars of the page in one query; ``rows`` is what the tally is checked by."""
    judgments = Judgment.objects.filter(project=OuterRef("pk"))
    learning = Heartbeat.objects.filter(queues__contains="learn").order_by("-seen_at")
    live = FeatureVersion.objects.filter(project=OuterRef("pk"), state=FeatureVersion.State.LIVE)
    row = Project.objects.filter(pk=project.pk).annotate(
        rows=counted(judgments.filter(pk__lte=mark)),
        waiting=counted(judgments.filter(absorbed_step=None, replaced_at=None)),
        last_day=counted(
            judgments.filter(created_at__gte=now - timedelta(days=1), lease__isnull=False, replaced_at=None)
        ),
        worker_seen=Subquery(learning.values("seen_at")[:1]),
        embedded=Coalesce(Subquery(live.values("embedded")[:1]), 0),
        failing=Exists(Setback.objects.filter(project=OuterRef("pk"))),
    )
    names = ("rows", "waiting", "last_day", "worker_seen", "embedded", "failing", "response_count")
    return dict(row.values(*names).get())


def counted(judgments: QuerySet[Judgment]) -> Coalesce:
    numbers = judgments.order_by().values("project").annotate(number=Count("pk")).values("number")
    return Coalesce(Subquery(numbers, output_field=IntegerField()), 0)


def recent(project: Project) -> Recent:
    rows = Judgment.objects.filter(project=project, lease__isnull=False).order_by("-pk")
    lead_times: dict[int | None, list[float]] = {}
    lags: list[float] = []
    for annotator, seconds, made, absorbed in rows.values_list(
        "annotator", "lead_time", "created_at", "absorbed_at"
    )[:RECENT]:
        if seconds is not None:
            lead_times.setdefault(annotator, []).append(seconds)
        if absorbed is not None and len(lags) < LAG_OF:
            lags.append(max(0.0, (absorbed - made).total_seconds()))
    return Recent(lead_times, lags)


def working(
    project: Project, row: dict[str, Any], counts: tallies.Tally, latest: Recent, now: datetime
) -> Working:
    seen = row["worker_seen"]
    worker = Worker(seen, seen is not None and now - seen < timedelta(seconds=ALIVE_SECONDS))
    arms = counts.arms
    tone, sentence = in_a_word(worker, row, sum(arms.values()))
    return Working(
        tone=tone,
        sentence=sentence,
        made=sum(count for arm, count in arms.items() if arm != Arm.IMPORTED),
        imported=arms[Arm.IMPORTED],
        last_day=row["last_day"],
        people=sum(now - at < timedelta(days=1) for at in counts.seen.values()),
        pace=sum(pace(counts, now).values()),
        worker=worker,
        crew=crew(project, now, failing=row["failing"]),
        waiting=row["waiting"],
        unembedded=max(0, row["response_count"] - row["embedded"]),
        lag=(quantile(latest.lags, 0.5), quantile(latest.lags, 0.95)),
        lag_of=len(latest.lags),
        jobs=list(running_jobs(project, now)),
        figure=days_figure(counts),
    )


def in_a_word(worker: Worker, row: dict[str, Any], made: int) -> tuple[str, str]:
    """A tone, and the answer to the section's question."""
    if not row["response_count"]:
        return "open", _("Empty. Import prompts with their responses first.")
    if not worker.is_alive:
        return "bad", _("No. Judgments are stored, but no worker is learning from them.")
    if not made:
        return "open", _("Ready. The worker is there; the first judgment is awaited.")
    if row["waiting"] > MANY_WAITING:
        return "warn", _("Behind. The worker is alive, but judgments come in faster than it learns.")
    if not row["last_day"]:
        return "open", _("Idle. Everything is up, and nobody has judged in the last 24 hours.")
    return "good", _("Yes. Judgments come in and are learned from.")


def pace(counts: tallies.Tally, now: datetime, days: int = 7) -> dict[str, float]:
    """Judgments of each arm a day, over the last week or as long as the project has been judged."""
    today = now.date()
    first = min((day for day, _arm in counts.days), default="")
    span = min(days, (today - date.fromisoformat(first)).days + 1) if first else days
    since = (today - timedelta(days=span - 1)).isoformat()
    made: Counter[str] = Counter()
    for (day, arm), count in counts.days.items():
        if day >= since and arm != Arm.IMPORTED:
            made[arm] += count
    return {arm: count / span for arm, count in made.items()}


def running_jobs(project: Project, now: datetime) -> Iterable[Running]:
    open_or_failed = Q(state__in=[Job.State.WAITING, Job.State.RUNNING]) | Q(
        state=Job.State.FAILED, finished_at__gte=now - timedelta(days=1)
    )
    for job in Job.objects.filter(open_or_failed, project=project).order_by(F("id").desc())[:5]:
        share = min(1.0, job.done / job.total) if job.total else None
        left = (job.total - job.done) / job.rate if job.total and job.rate else None
        yield Running(job, None if share is None else round(100 * share, 1), left)


def days_figure(counts: tallies.Tally) -> Figure:
    """Judgments made here by day and arm; by week or month when the days would not fit."""
    made = Counter({key: count for key, count in counts.days.items() if key[1] != Arm.IMPORTED and count > 0})
    known = [str(arm) for arm in Arm if arm in SERVED or any(key[1] == arm for key in made)]
    known.remove(Arm.IMPORTED) if Arm.IMPORTED in known else None
    step, periods = period_of([day for day, _arm in made])
    binned: Counter[tuple[str, str]] = Counter()
    for (day, arm), count in made.items():
        binned[start_of(day, step), arm] += count
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (start, *(binned[start, arm] for arm in known), sum(binned[start, arm] for arm in known))
        for start in periods
    )
    columns = [Column("start", STEPS[step]()), *(Column(arm, str(Arm(arm).label), "count") for arm in known)]
    title = _("Judgments by %(step)s and arm") % {"step": STEPS[step]().lower()}
    return Figure(
        "days", title, days_alt(rows, step), (*columns, Column("total", _("All"), "count")), rows, "bars"
    )


STEPS = {"day": lambda: _("Day"), "week": lambda: _("Week"), "month": lambda: _("Month")}


def period_of(days: list[str]) -> tuple[str, list[str]]:
    """The step that gives few enough bars, and every bar's first day, empty ones included."""
    if not days:
        return "day", []
    first, last = date.fromisoformat(min(days)), date.fromisoformat(max(days))
    length = (last - first).days + 1
    step = "day" if length <= MOST_BARS else "week" if length <= 7 * MOST_BARS else "month"
    every = (first + timedelta(days=i) for i in range(length))
    return step, list(dict.fromkeys(start_of(day.isoformat(), step) for day in every))


def start_of(day: str, step: str) -> str:
    if step == "month":
        return f"{day[:7]}-01"
    if step == "week":
        at = date.fromisoformat(day)
        return (at - timedelta(days=at.weekday())).isoformat()
    return day


def days_alt(rows: tuple[tuple[Cell, ...], ...], step: str) -> str:
    if not rows:
        return _("Nobody has judged a pair yet. Invite annotators, or judge the first pairs yourself.")
    made = sum(int(row[-1] or 0) for row in rows)
    most = max(rows, key=lambda row: int(row[-1] or 0))
    judgments = ngettext("%(made)s judgment", "%(made)s judgments", made) % {"made": f"{made:,}"}
    return _(
        "%(judgments)s from %(first)s to %(last)s, stacked by arm; most in the %(step)s of %(most)s: %(count)s."
    ) % {
        "judgments": judgments,
        "first": rows[0][0],
        "last": rows[-1][0],
        "step": STEPS[step]().lower(),
        "most": most[0],
        "count": f"{most[-1]:,}",
    }
