"""The API against its own schema: whatever is sent, no answer is a failure of ours or another than the schema says."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone
from pytest_django.live_server_helper import LiveServer

from annotate import judging, serving
from annotate.judging import Submission
from annotate.models import Heartbeat, Job, Project, User
from tests.fuzz import run
from tests.learn import embed_and_absorb
from tests.programs import token_of
from tests.serving_worker import scoring_worker as scoring_worker

SECONDS = int(os.environ.get("TOUCHSTONE_FUZZ_SECONDS", "20"))


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
def test_nothing_that_is_sent_makes_the_api_fail_or_break_its_schema(
    project: Project,
    ada: User,
    live_server: LiveServer,
    settings: Any,
    tmp_path: Path,
    scoring_worker: None,
) -> None:
    settings.API_REQUESTS_A_MINUTE = 10_000_000
    Heartbeat.objects.update(seen_at=timezone.now() + timedelta(days=1))
    embed_and_absorb(project)
    for _ in range(12):
        lease = serving.leases_for(project, ada, 1)[0]
        judging.record(ada, lease.pk, Submission("left"))
    embed_and_absorb(project)
    Job.objects.create(project=project, kind="export")
    lease = serving.leases_for(project, ada, 1)[0]
    result = run(live_server.url, token_of(ada), SECONDS, tmp_path, lease=lease.pk)
    print(result.stdout[-6_000:])  # noqa: T201
    assert result.returncode == 0, result.stdout[-12_000:] + result.stderr[-2_000:]
