"""Whether the parts answer: database, broker, workers, and how far the learner is behind."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.db import DatabaseError, connection
from django.utils import timezone

from annotate.celery import app
from annotate.models import Heartbeat, Judgment

SILENT = timedelta(seconds=30)


def report() -> dict[str, Any]:
    """Everything at once, with no secret in it: names of parts, true or false, seconds and counts."""
    database = database_answers()
    broker = broker_answers()
    return {"ready": database and broker, "database": database, "broker": broker} | (
        learner() if database else {}
    )


def database_answers() -> bool:
    """Whether a query comes back."""
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except DatabaseError:
        return False
    return True


def broker_answers() -> bool:
    """Whether the broker takes a connection. Without it judgments are safe, but bells wait for the sweep."""
    try:
        with app.connection_for_write(connect_timeout=2) as broker:
            broker.ensure_connection(max_retries=1, timeout=2)
    except Exception:
        return False
    return True


def learner() -> dict[str, Any]:
    """Workers heard in the last half minute, judgments that wait, and the age of the oldest."""
    now = timezone.now()
    waiting = Judgment.objects.filter(absorbed_step=None, replaced_at=None)
    oldest = waiting.order_by("id").values_list("created_at", flat=True).first()
    return {
        "workers": Heartbeat.objects.filter(seen_at__gte=now - SILENT).count(),
        "waiting_judgments": waiting.count(),
        "oldest_waiting_seconds": round((now - oldest).total_seconds(), 1) if oldest else 0.0,
    }
