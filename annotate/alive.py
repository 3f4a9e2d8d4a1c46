"""What every worker does besides its tasks: say that it is alive and what it does, sweep, end with its parent.

In a pool of threads Celery ends no task that runs too long, so the heartbeat does: it ends the worker, whose
supervisor starts another, and rows are found again.
"""

from __future__ import annotations

import logging
import mmap
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import close_old_connections, connections
from django.utils import timezone

from annotate import measures

logger = logging.getLogger(__name__)

SECONDS = 10.0
GRACE = 10.0
TOO_LONG = 75  # exit status: a task ran beyond its time limit
_stopping = mmap.mmap(-1, 1)  # shared with the processes of a prefork pool, which get no signal


class HandedBack(Exception):
    """Raised in a long task of a worker that was asked to end, between two of its steps: another worker goes on."""


@dataclass(frozen=True)
class Worker:
    """This worker, as its row names it."""

    name: str
    queues: str
    started: datetime = field(default_factory=timezone.now)


def stop_soon() -> None:
    """A worker was asked to end: long tasks hand back at their next step."""
    _stopping[0] = 1


def is_stopping() -> bool:
    """Whether this worker was asked to end; long tasks look here between two steps that are safe to part."""
    return bool(_stopping[0])


def keep_alive(worker: str, queues: str) -> None:
    """Start the thread that beats and sweeps; a database that is away is tried again at the next beat."""
    me = Worker(worker, queues)
    threading.Thread(target=_beat_forever, args=(me,), daemon=True, name="heartbeat").start()


def _beat_forever(worker: Worker) -> None:
    while True:
        try:
            close_old_connections()
            beat(worker)
        except Exception as error:
            logger.warning("heartbeat missed: %s", error)
        finally:
            connections.close_all()
        end_what_runs_too_long()
        time.sleep(SECONDS)


def beat(worker: Worker) -> None:
    """One heartbeat row, and bells for all rows that wait, unless another worker rang them just now."""
    from annotate.models import Heartbeat
    from learner.tasks.sweeping import ring_for_rows

    row, first = Heartbeat.objects.update_or_create(worker=worker.name, defaults=described(worker))
    now = timezone.now()
    # One from later than now was written before the clock was set back.
    recently = (now - timedelta(seconds=0.8 * SECONDS), now + timedelta(seconds=SECONDS))
    if first or not Heartbeat.objects.filter(swept_at__range=recently).exists():
        Heartbeat.objects.filter(pk=row.pk).update(swept_at=timezone.now())
        ring_for_rows()


def described(worker: Worker) -> dict[str, Any]:
    """The row of a worker: where it is, what it takes and what it does."""
    from celery.worker import state

    return {
        "queues": worker.queues,
        "host": socket.gethostname(),
        "started_at": worker.started,
        "seen_at": timezone.now(),
        "doing": [{"task": name, "of": of, "since": since.isoformat()} for name, of, since, _ in running()],
        "done": sum(state.total_count.values()),
        "measures": measures.snapshot(),
    }


def running() -> Iterator[tuple[str, list[Any], datetime, float | None]]:
    """Tasks of this worker that run now: name, ids, since when, and the most seconds they may take."""
    from celery.worker import state

    for request in list(state.active_requests):
        limit = request.time_limits[0] or getattr(request.task, "time_limit", None)
        began = datetime.fromtimestamp(request.time_start or time.time(), UTC)
        yield request.name.rpartition(".")[2], list(request.args or []), began, limit


def end_what_runs_too_long() -> None:
    """End this process when a task runs beyond its limit: a thread cannot be ended alone."""
    now = timezone.now()
    for name, of, since, limit in running():
        if limit and (now - since).total_seconds() > limit + GRACE:
            logger.critical("task %s %s ran longer than %s seconds: this worker ends", name, of, limit)
            os._exit(TOO_LONG)


def forget(worker: str) -> None:
    """Take the row of a worker that ends in peace away: it is not missed."""
    from annotate.models import Heartbeat

    Heartbeat.objects.filter(worker=worker).delete()


def forget_the_dead(after: timedelta = timedelta(days=1)) -> None:
    """Rows of workers that were not heard for a day; the newest of a queue stays, to say when that was."""
    from annotate.models import Heartbeat

    old = Heartbeat.objects.filter(seen_at__lt=timezone.now() - after).order_by("-seen_at")
    kept: set[str] = set(Heartbeat.objects.exclude(pk__in=old).values_list("queues", flat=True))
    for row in old:
        if row.queues in kept:
            row.delete()
        kept.add(row.queues)


def worker_name(hostname: object) -> str:
    """A worker's own name, one for each process."""
    return str(hostname or f"{socket.gethostname()}-{os.getpid()}")


def end_with_parent() -> None:
    """End this process when the parent that passed TOUCHSTONE_PARENT_FD is gone, even by kill -9.

    The parent holds the writing end of a pipe; reading it returns only when that end is closed.
    """
    descriptor = os.environ.pop("TOUCHSTONE_PARENT_FD", "")
    if descriptor:
        threading.Thread(target=_wait_for_end, args=(int(descriptor),), daemon=True, name="parent").start()


def _wait_for_end(descriptor: int) -> None:
    os.read(descriptor, 1)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE)
    os._exit(1)
