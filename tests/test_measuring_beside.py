"""What the dashboard shows is measured beside learning, on a copy: the same figures, and learning does not wait."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from annotate import judging, serving
from annotate.models import (
    Agreement,
    Estimator,
    Evaluation,
    FeatureVersion,
    Finding,
    Judgment,
    Project,
    Reliability,
    User,
)
from learner.tasks import absorbing, measuring
from learner.tasks.absorbing import absorb_waiting
from learner.tasks.locks import exclusive
from learner.tasks.measuring import measure_now, wait_for_measuring
from learner.tasks.states import ProjectState, forget_cached, load_state
from tests.conftest import fill
from tests.learn import judge_forty

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def rung(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Bells that measuring rang, and those that it asked for later."""
    asked: list[Any] = []
    monkeypatch.setattr(measuring, "ring", lambda *what: asked.append(what))
    monkeypatch.setattr(measuring, "ring_later", lambda *what: asked.append(what))
    monkeypatch.setattr(absorbing, "ring_later", lambda *what: asked.append(what))
    return asked


def absorb(project: Project) -> ProjectState:
    """As a bell does."""
    absorb_waiting(project.pk, in_turn=True)
    state = load_state(project.pk)
    assert state is not None
    return state


def answer(project: Project, annotator: User, count: int) -> None:
    for _ in range(count):
        lease = serving.leases_for(project, annotator, 1)[0]
        judging.record(annotator, lease.pk, judging.Submission("left", lead_time=3.0))


def figures(project: Project) -> dict[str, Any]:
    """Everything that measuring writes, without keys and times."""
    rows = Evaluation.objects.filter(estimator__project=project).order_by("estimator__role", "judgments")
    found: dict[str, Any] = {f"{row.estimator.role} {row.judgments}": row.metrics for row in rows}
    found |= {row.name: row.data for row in Finding.objects.filter(project=project).exclude(name="rewards")}
    people = Reliability.objects.filter(project=project).order_by("annotator")
    found["people"] = [[row.judgments, row.estimate, row.side_bias, row.step] for row in people]
    found["agreement"] = list(Agreement.objects.filter(project=project).values_list("alpha", "step"))
    return found


@pytest.fixture
def judged(project: Project, ben: User) -> Project:
    fill(project, prompts=40, responses=4, start=100)
    judge_forty(project, ben)
    answer(project, ben, 30)
    return project


def hold(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Let the measuring thread wait where it begins; what is returned lets it go on."""
    go, measure = threading.Event(), measuring.measure

    def held(state: ProjectState, what: measuring.Due) -> None:
        go.wait(20)
        measure(state, what)

    monkeypatch.setattr(measuring, "measure", held)
    return go.set


def test_the_thread_writes_what_the_learner_itself_would(judged: Project, rung: list[Any]) -> None:
    wait_for_measuring(absorb(judged))
    beside = figures(judged)
    assert rung == [("absorb", judged.pk)]
    assert beside["people"][0][3] == Estimator.objects.get(role="production").step
    forget_cached(judged.pk)
    state = load_state(judged.pk)
    assert state is not None
    measure_now(state)
    assert figures(judged) == beside


def test_learning_goes_on_and_does_not_change_what_is_measured(
    judged: Project, ben: User, rung: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = hold(monkeypatch)
    state = absorb(judged)
    at, taken = state.step, measuring.frozen(state)
    theta = np.array(taken.reader.banks["production"].theta)
    answer(judged, ben, 25)
    assert absorb(judged).step == at + 25
    assert not np.array_equal(state.reader.banks["production"].theta, theta)
    assert np.array_equal(taken.reader.banks["production"].theta, theta)
    go_on()
    wait_for_measuring(state)
    assert {row.step for row in Finding.objects.filter(name="pool")} == {at}
    assert Judgment.objects.filter(absorbed_step=None).count() == 0


def test_its_end_brings_rewards_and_the_report_and_the_next_waits_for_its_turn(
    judged: Project, ben: User, rung: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    reports: list[Any] = []
    monkeypatch.setattr(absorbing, "ring", lambda *what: reports.append(what))
    state = absorb(judged)
    wait_for_measuring(state)
    assert reports == []
    absorb(judged)
    assert reports == [("report", judged.pk)]
    assert state.measuring is None
    rung.clear()
    state.measure_after = float("inf")
    answer(judged, ben, 60)
    assert absorb(judged).measuring is None
    assert rung == [(judged.pk, float("inf"))]


def test_what_cannot_be_measured_costs_no_judgment(
    judged: Project, rung: list[Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(measuring, "measure", lambda *_: 1 / 0)
    state = absorb(judged)
    wait_for_measuring(state)
    assert "could not be measured" in caplog.text
    assert Judgment.objects.filter(absorbed_step=None).count() == 0
    assert absorb(judged).measuring is None


def test_nobody_else_measures_meanwhile_and_a_version_that_went_writes_nothing(
    judged: Project, rung: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    Finding.objects.all().delete()
    go_on = hold(monkeypatch)
    state = absorb(judged)
    until_it_holds(judged)
    forget_cached(judged.pk)
    other = load_state(judged.pk)
    assert other is not None
    assert not measure_now(other)
    assert other.evaluated == ()
    go_on()
    wait_for_measuring(state)
    assert Finding.objects.filter(name="pool").exists()
    Finding.objects.all().delete()
    state.measuring, state.evaluated, state.measure_after = None, (), 0.0
    FeatureVersion.objects.update(state="retired")
    measuring.measure_in_turn(state)
    wait_for_measuring(state)
    assert not Finding.objects.exists()


def until_it_holds(project: Project) -> None:
    """The thread has begun: the lock is its own."""
    for _ in range(200):
        with exclusive(measuring.LOCK, project.pk) as free:
            if not free:
                return
        time.sleep(0.02)
    pytest.fail("nothing began to measure")
