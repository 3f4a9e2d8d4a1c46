"""The Celery app: queues learn, embed, jobs, score; messages are only doorbells, rows are the queue."""

from __future__ import annotations

import logging
import os
import sys
from typing import Any

import structlog
from celery import Celery
from celery.signals import task_postrun, task_prerun, worker_ready, worker_shutdown, worker_shutting_down
from django.conf import settings
from kombu.transport import TRANSPORT_ALIASES

from annotate.bells import Bell, Bells

logger = logging.getLogger(__name__)

# Seconds. A thread that comes back from the database, with rows locked or with judgments to learn from, waits at most
# so long for one that renders a page or computes.
SWITCH = 0.0005

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "annotate.settings")

TRANSPORT_ALIASES["filesystem"] = "annotate.folder:Transport"
app = Celery("touchstone")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks(["learner"])


def ring(task: str, *ids: int, queue: str | None = None) -> None:
    """Ring a worker. A bell that cannot be rung costs nothing: the rows wait, and the next sweep finds them."""
    request_id = str(structlog.contextvars.get_contextvars().get("request_id", ""))
    bell = Bell(task, ids, queue, request_id)
    if not bells.take(bell):
        send(bell)


def send(bell: Bell) -> None:
    headers = {"request_id": bell.request_id} if bell.request_id else None
    try:
        app.send_task(
            f"learner.tasks.{bell.task}", list(bell.ids), retry=False, queue=bell.queue, headers=headers
        )
    except Exception as error:
        logger.warning("the %s bell could not be rung (%s); the sweep will find the rows", bell.task, error)


bells = Bells(send)


@task_prerun.connect
def name_the_task(task_id: str, task: Any, args: Any = (), **_: Any) -> None:
    """Every line that a task logs says which it is, what it is about, and which request rang for it."""
    structlog.contextvars.bind_contextvars(
        task=task.name.rpartition(".")[2],
        task_id=task_id,
        of=list(args or ()),
        request_id=str(getattr(task.request, "request_id", None) or ""),
    )


@task_postrun.connect
def forget_the_task(state: str | None = None, **_: Any) -> None:
    if settings.LOG_REQUESTS:
        logger.info("task ended", extra={"state": state})
    structlog.contextvars.clear_contextvars()


@worker_ready.connect
def start_heartbeat(sender: Any, **_: Any) -> None:
    """Beat and sweep from the moment a worker can take tasks."""
    from annotate.alive import keep_alive, worker_name
    from annotate.webhooks.sending import start_thread

    sys.setswitchinterval(SWITCH)
    queues = ",".join(sorted(sender.app.amqp.queues.consume_from))
    keep_alive(worker_name(sender.hostname), queues)
    start_thread()
    if "score" in sender.app.amqp.queues.consume_from:
        from learner.tasks import generating, scoring

        scoring.start()
        generating.start()


@worker_shutting_down.connect
def hand_back(**_: Any) -> None:
    """SIGTERM: short tasks end, long ones hand back what they have not begun."""
    from annotate.alive import stop_soon

    stop_soon()


@worker_shutdown.connect
def say_goodbye(sender: Any, **_: Any) -> None:
    """A worker that ends in peace takes its row with it."""
    from annotate.alive import forget, worker_name

    try:
        forget(worker_name(sender.hostname))
    except Exception as error:
        logger.warning("the heartbeat row stays (%s)", error)
