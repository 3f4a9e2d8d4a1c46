"""The scoring worker in tests: alive by its heartbeat, and at work whenever the web process waits."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from annotate import scoring
from annotate.models import Heartbeat


@pytest.fixture
def scoring_worker(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    from learner.tasks.scoring import answer_waiting

    far = timezone.now() + timedelta(days=1)  # a slow machine must not silence it
    Heartbeat.objects.create(worker="w", queues="embed,jobs,learn,score", seen_at=far)
    monkeypatch.setattr(scoring, "between_looks", lambda _seconds: answer_waiting())
