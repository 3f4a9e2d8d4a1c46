"""The Celery app: three queues (learn, embed, jobs); messages are only doorbells, rows are the queue."""

from __future__ import annotations

import logging
import os

from celery import Celery

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
