"""The clock goes back while people work: answers are taken, and workers go on sweeping."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from annotate import alive, judging, serving
from annotate.judging import Submission
from annotate.models import Heartbeat, Lease, Project, Setback, User
from learner.tasks import sweeping
from learner.tasks.setbacks import trying

pytestmark = pytest.mark.django_db
LATER = timedelta(hours=2)


def test_an_answer_to_a_pair_from_the_future_took_no_time(project: Project, ben: User) -> None:
    lease = serving.leases_for(project, ben, 1)[0]
    Lease.objects.update(created_at=timezone.now() + LATER, expires_at=timezone.now() + 2 * LATER)
    assert judging.record(ben, lease.pk, Submission("left", lead_time=4.0)).lead_time == 0.0


@pytest.mark.parametrize(("swept", "sweeps"), [(LATER, True), (timedelta(), False), (-LATER, True)])
def test_a_sweep_from_the_future_keeps_nobody_from_sweeping(
    monkeypatch: pytest.MonkeyPatch, swept: timedelta, sweeps: bool
) -> None:
    rung: list[int] = []
    monkeypatch.setattr(sweeping, "ring_for_rows", lambda: rung.append(1))
    me = alive.Worker("me", "learn")
    Heartbeat.objects.create(worker="me", queues="learn")
    Heartbeat.objects.create(worker="other", queues="learn", swept_at=timezone.now() + swept)
    alive.beat(me)
    assert bool(rung) is sweeps


@pytest.mark.parametrize(("wait", "is_due"), [(LATER, True), (timedelta(minutes=5), False)])
def test_what_failed_before_the_clock_went_back_does_not_rest_for_hours(
    project: Project, wait: timedelta, is_due: bool
) -> None:
    Setback.objects.create(
        task="absorb",
        subject=project.pk,
        project=project,
        failures=3,
        message="x",
        next_at=timezone.now() + wait,
    )
    assert (project.pk not in sweeping.resting_subjects()["absorb"]) is is_due
    with trying("absorb", project.pk, project) as attempt:
        assert attempt.is_due is is_due
