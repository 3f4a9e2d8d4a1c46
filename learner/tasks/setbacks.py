"""Backing off: what fails for a row is tried again later and later, by whichever worker; the row says why."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.utils import timezone

from annotate.models import Project, Setback
from learner.errors import LearnerError

logger = logging.getLogger(__name__)

FIRST_SECONDS, LONGEST_SECONDS = 10.0, 600.0


@dataclass(frozen=True)
class Attempt:
    """Whether it is time to try."""

    is_due: bool


def pause(failures: int) -> timedelta:
    """How long to wait after so many failures in a row.

    >>> [pause(n).total_seconds() for n in (1, 2, 3, 30)]
    [10.0, 20.0, 40.0, 600.0]
    """
    return timedelta(seconds=min(LONGEST_SECONDS, FIRST_SECONDS * 2.0 ** min(failures - 1, 20)))


def resting() -> tuple[datetime, datetime]:
    """Between which times a next try is still to come; one beyond was written before the clock was set back."""
    now = timezone.now()
    return now, now + timedelta(seconds=LONGEST_SECONDS)


@contextmanager
def trying(task: str, subject: int, project: Project) -> Iterator[Attempt]:
    """Try a task for a row when it is due. What it raises is kept in a row; success takes that away.

    A LearnerError is an answer, not an accident: it ends here. Anything else goes on to Celery's log.
    """
    row = Setback.objects.filter(task=task, subject=subject).first()
    resting_from, resting_to = resting()
    if row is not None and resting_from < row.next_at <= resting_to:
        yield Attempt(False)
        return
    try:
        yield Attempt(True)
    except LearnerError as error:
        logger.warning("%s %s failed: %s", task, subject, error)
        note(task, subject, project, str(error))
    except Exception as error:
        note(task, subject, project, f"{type(error).__name__}: {error}")
        raise
    else:
        if row is not None:
            Setback.objects.filter(pk=row.pk).delete()


def note(task: str, subject: int, project: Project, message: str) -> None:
    """Count a failure and say when the next try is."""
    now = timezone.now()
    row, _ = Setback.objects.get_or_create(
        task=task, subject=subject,
        defaults={"project": project, "failures": 0, "message": message, "next_at": now},
    )  # fmt: skip
    row.failures += 1
    row.message, row.failed_at, row.next_at = message[:2000], now, now + pause(row.failures)
    row.save()
