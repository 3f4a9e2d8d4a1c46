"""Counts over all judgments of a project, kept up to date by reading only the rows that are new.

Judgments are only ever added, or marked as replaced: so counts over the rows up to a mark are kept in the cache,
rows beyond it are counted afresh, and the few replaced ones are taken off. Rows that were committed late or deleted
show as a different number of rows up to the mark; then everything is counted again.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from django.core.cache import cache
from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Case, Count, F, Func, Max, Q, QuerySet, Value, When
from django.db.models.sql.compiler import SQLCompiler

from annotate.models import Answer, Judgment, Project

DAY = 86_400
Group = tuple[int, str, str, int | None, str, int, int, str]


class TextInUTC(Func):
    """The first characters of a time as YYYY-MM-DD HH:MM:SS in UTC: no Python call for every row or group."""

    output_field = models.CharField()
    template = "substr(to_char(%(expressions)s at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS'), 1, %(length)s)"

    def as_sqlite(
        self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **extra: Any
    ) -> tuple[str, Any]:
        return self.as_sql(compiler, connection, template="substr(%(expressions)s, 1, %(length)s)")


SIDE = Case(
    When(lease=None, then=Value("unknown")),  # imported, or of users: no annotator was shown the pair
    When(answer__in=[Answer.TIE, Answer.BOTH_BAD], then=F("answer")),
    When(
        Q(answer=Answer.FIRST, lease__swapped=False) | Q(answer=Answer.SECOND, lease__swapped=True),
        then=Value("left"),
    ),
    default=Value("right"),
    output_field=models.CharField(),
)


@dataclass
class Tally:
    """Judgments by day and arm, and by annotator and side; when each annotator was last seen."""

    mark: int = 0
    rows: int = 0
    days: Counter[tuple[str, str]] = field(default_factory=Counter)
    sides: Counter[tuple[int | None, str]] = field(default_factory=Counter)
    moments: dict[int, str] = field(default_factory=dict)

    def add(self, group: Group) -> None:
        sign, day, arm, annotator, side, count, last, seen = group
        self.mark, self.rows = max(self.mark, last), self.rows + sign * count
        self.days[day, arm] += sign * count
        self.sides[annotator, side] += sign * count
        if annotator is not None:
            self.moments[annotator] = max(seen, self.moments.get(annotator, seen))

    def copy(self) -> Tally:
        return Tally(self.mark, self.rows, Counter(self.days), Counter(self.sides), dict(self.moments))

    @property
    def seen(self) -> dict[int, datetime]:
        return {who: datetime.fromisoformat(text).replace(tzinfo=UTC) for who, text in self.moments.items()}

    @property
    def arms(self) -> Counter[str]:
        arms: Counter[str] = Counter()
        for (_, arm), count in self.days.items():
            arms[arm] += count
        return arms

    def side(self, side: str, annotator: int | None = None) -> int:
        """Answers on this side, of one annotator or of all."""
        if annotator is not None:
            return self.sides[annotator, side]
        return sum(count for (_, name), count in self.sides.items() if name == side)


def grouped(judgments: QuerySet[Judgment], sign: int) -> QuerySet[Judgment, Group]:
    groups = judgments.order_by().annotate(
        sign=Value(sign), day=TextInUTC("created_at", length=10), arm=F("comparison__arm"), side=SIDE
    )
    counts = groups.values_list("sign", "day", "arm", "annotator", "side")
    last = Max(TextInUTC("created_at", length=19))
    return counts.annotate(number=Count("pk"), newest=Max("pk"), last=last)


def key(project: Project) -> str:
    return f"tally-2-{project.pk}-{project.created_at.timestamp()}"


def kept(project: Project) -> Tally:
    """The counts in the cache, not yet checked or brought up to date."""
    found = cache.get(key(project))
    return found if isinstance(found, Tally) else Tally()


def up_to(project: Project, mark: int) -> QuerySet[Judgment]:
    return Judgment.objects.filter(project=project, pk__lte=mark)


def current(project: Project, old: Tally | None = None) -> Tally:
    """Counts over the current judgments. ``old`` is what `kept` gave, if its number of rows was found right.

    New and replaced rows are read by one statement, so that both are of one moment.
    """
    if old is None:
        old = kept(project)
        if old.rows != up_to(project, old.mark).count():
            old = Tally()
    every = Judgment.objects.filter(project=project)
    # As a subquery: SQLite would otherwise walk all judgments in the order of the grouping, twice as slow.
    gone = Judgment.objects.filter(pk__in=every.filter(replaced_at__isnull=False).values("pk"))
    groups = list(grouped(every.filter(pk__gt=old.mark), 1).union(grouped(gone, -1), all=True))
    for group in groups:
        if group[0] > 0:
            old.add(group)
    if any(group[0] > 0 for group in groups):
        cache.set(key(project), old, DAY)
    now = old.copy()
    for group in groups:
        if group[0] < 0:
            now.add(group)
    return now
