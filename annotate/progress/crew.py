"""Who works for a project: the workers heard lately and what they do, queues without one, and what is tried again."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.utils.dateparse import parse_datetime
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy

from annotate.models import Heartbeat, Project, Setback

ALIVE = timedelta(seconds=30)
REMEMBERED = timedelta(days=7)
CONSEQUENCES: dict[str, Any] = {
    "learn": gettext_lazy(
        "Judgments are stored and nothing learns from them; annotators get random pairs meanwhile."
    ),
    "embed": gettext_lazy("New responses are not embedded, so they are not chosen actively."),
    "jobs": gettext_lazy("Imports, exports and other jobs wait."),
}
TASKS: dict[str, str | Promise] = {
    "absorb": gettext_lazy("learning"),
    "embed": gettext_lazy("embedding"),
    "embed_shards": gettext_lazy("embedding"),
    "run_job": gettext_lazy("a job"),
    "sweep": gettext_lazy("looking for lost messages"),
}
FAILED: dict[str, Any] = {
    "absorb": gettext_lazy("Learning from the judgments fails."),
    "embed": gettext_lazy("Embedding the responses fails."),
}


@dataclass(frozen=True)
class Doing:
    what: str | Promise
    since: datetime | None


@dataclass(frozen=True)
class Member:
    name: str
    queues: str
    doing: list[Doing]
    done: int


@dataclass(frozen=True)
class Lost:
    """A queue that nobody takes from, and since when."""

    queue: str
    consequence: str | Promise
    seen_at: datetime | None


@dataclass(frozen=True)
class Retry:
    """What failed, why, and when it is tried again."""

    title: str | Promise
    message: str
    failures: int
    next_at: datetime


@dataclass(frozen=True)
class Crew:
    members: list[Member]
    lost: list[Lost]
    retries: list[Retry]


def crew(project: Project, now: datetime, *, failing: bool) -> Crew:
    """One query, whatever the number of workers; one more where something fails."""
    rows = list(Heartbeat.objects.filter(seen_at__gte=now - REMEMBERED).order_by("-seen_at")[:500])
    alive = [row for row in rows if now - row.seen_at < ALIVE]
    setbacks = Setback.objects.filter(project=project).order_by("task") if failing else []
    return Crew(
        [Member(row.worker, row.queues, doing(row), row.done) for row in alive],
        lost(rows, alive) if alive else [],  # without any worker the page says so in its first sentence
        [Retry(FAILED.get(row.task, row.task), row.message, row.failures, row.next_at) for row in setbacks],
    )


def lost(rows: list[Heartbeat], alive: list[Heartbeat]) -> list[Lost]:
    found = []
    for queue, consequence in CONSEQUENCES.items():
        if not any(queue in row.queues.split(",") for row in alive):
            seen = next((row.seen_at for row in rows if queue in row.queues.split(",")), None)
            found.append(Lost(queue, consequence, seen))
    return found


def doing(row: Heartbeat) -> list[Doing]:
    return [
        Doing(TASKS.get(str(one.get("task")), str(one.get("task"))), parse_datetime(str(one.get("since"))))
        for one in row.doing
    ]
