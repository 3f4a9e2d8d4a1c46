"""The Celery app: three queues (learn, embed, jobs); messages are only doorbells, rows are the queue."""

from __future__ import annotations

import logging
import os
from typing import Any

from celery import Celery
from celery.signals import worker_ready

logger = logging.getLogger(__name__)

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "annotate.settings")

app = Celery("touchstone")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks(["learner"])


def ring(task: str, *ids: int) -> None:
    """Ring a worker. A bell that cannot be rung costs nothing: the rows wait, and the next sweep finds them."""
    try:
        app.send_task(f"learner.tasks.{task}", list(ids), retry=False)
    except Exception as error:
        logger.warning("the %s bell could not be rung (%s); the sweep will find the rows", task, error)


@worker_ready.connect
def start_heartbeat(sender: Any, **_: Any) -> None:
    """Beat and sweep from the moment a worker can take tasks."""
    from annotate.alive import keep_alive, worker_name

    queues = ",".join(sorted(sender.app.amqp.queues.consume_from))
    keep_alive(worker_name(sender.hostname), queues)
