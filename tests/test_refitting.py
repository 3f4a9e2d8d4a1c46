"""The scheduled check: maximum likelihood against the one-pass state, when it is due, and the alarm."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import numpy as np
import pytest
import scipy.optimize
from django.utils import timezone

from annotate import versions
from annotate.models import AuditEvent, Job, Project, Refit, User
from learner.tasks import refitting, states
from learner.tasks.comparing import refitted
from learner.tasks.sweeping import ring_for_rows
from tests.learn import answer_many, judge_forty, run_all

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def nothing_cached() -> Iterator[None]:
    states._cache.clear()
    yield
    states._cache.clear()


@pytest.fixture
def judged(project: Project, ben: User) -> Project:
    return judge_forty(project, ben)


def test_a_refit_is_the_maximum_of_the_penalised_likelihood(judged: Project) -> None:
    state = states.load_state(judged.pk)
    assert state is not None
    model = refitted(state)
    rows, labels = model.data()
    assert len(labels) == state.reader.counts["production"]

    def objective(theta: np.ndarray) -> float:
        margins = rows @ theta
        return float(
            np.sum(np.logaddexp(0, margins) - labels * margins)
            + model.settings.regularization * theta @ theta / 2
        )

    found = scipy.optimize.minimize(objective, np.zeros(rows.shape[1]), tol=1e-12)
    assert np.allclose(found.x, model.theta, atol=1e-4)


def test_the_row_says_how_far_apart_the_two_are(judged: Project, ada: User) -> None:
    versions.refit(judged, ada)
    (job,) = run_all(judged)
    assert job.state == "done", job.message
    row = Refit.objects.get()
    assert row.step == 40
    assert row.held_out >= 5
    assert 0.5 < row.metrics["cosine"] <= 1
    gap = row.metrics["log_loss_one_pass"][0] - row.metrics["log_loss"][0]
    assert row.metrics["log_loss_gap"][0] == pytest.approx(gap, abs=2e-6)
    assert not row.is_alarming


def test_the_sweep_asks_for_a_check_once_when_it_is_due(
    judged: Project, ben: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(versions, "REFIT_FIRST", 10)
    monkeypatch.setattr(versions, "REFIT_EVERY", 5)
    ring_for_rows()
    ring_for_rows()
    assert Job.objects.filter(kind="refit").count() == 1
    run_all(judged)
    assert versions.due_refits() == []
    answer_many(judged, ben, 2)
    assert versions.due_refits() == []
    Refit.objects.update(created_at=timezone.now() - timedelta(days=2))
    assert len(versions.due_refits()) == 1
    Refit.objects.update(created_at=timezone.now())
    answer_many(judged, ben, 10)
    assert len(versions.due_refits()) == 1
    Project.objects.update(archived_at=timezone.now())
    assert versions.due_refits() == []


def test_a_check_that_failed_is_not_asked_for_again_the_same_day(
    judged: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(versions, "REFIT_FIRST", 10)
    Job.objects.create(project=judged, kind="refit", state="failed", finished_at=timezone.now())
    assert versions.due_refits() == []


@pytest.mark.parametrize(
    ("judgments", "gap", "alarming"),
    [
        (100, [0.05, 0.01, 0.09], True),
        (99, [0.05, 0.01, 0.09], False),
        (100, [0.05, -0.01, 0.09], False),
        (100, [0.01, 0.005, 0.02], False),
        (100, None, False),
    ],
)
def test_an_alarm_needs_a_large_gap_that_is_sure(
    judgments: int, gap: list[float | None] | None, alarming: bool
) -> None:
    assert refitting.is_alarming(judgments, gap) is alarming


def test_the_alarm_is_one_line_in_the_audit_log_however_long_it_lasts(
    judged: Project, ada: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refitting, "is_alarming", lambda *_: True)
    for _ in range(2):
        versions.refit(judged, ada)
        run_all(judged)
    assert Refit.objects.filter(is_alarming=True).count() == 2
    assert AuditEvent.objects.filter(verb="drifted").count() == 1
