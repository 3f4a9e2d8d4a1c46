"""A crowd that answers quickly: learned from in batches, served from a deeper queue, never leased too much."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from django.utils import timezone

from annotate import judging, serving
from annotate.models import Judgment, Project, User
from annotate.views.compare import Claiming
from learner.tasks import absorbing, queueing, ringing
from learner.tasks.states import load_state
from tests.learn import teach
from tests.test_trusting import imported_votes

pytestmark = pytest.mark.django_db

Rung = list[tuple[int, float]]


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Rung:
    """Bells that were asked for later, instead of timers; and no thread that measures."""
    asked: Rung = []
    monkeypatch.setattr(absorbing, "measure_in_turn", absorbing.measure_now)
    monkeypatch.setattr(absorbing, "ring_later", lambda project, seconds: asked.append((project, seconds)))
    monkeypatch.setattr(absorbing, "_next", {})
    return asked


def answer(project: Project, annotator: User) -> UUID:
    lease = serving.leases_for(project, annotator, 1)[0]
    judging.record(annotator, lease.pk, judging.Submission("left"), project)
    return lease.pk


def test_bells_right_after_a_run_become_one_at_the_end_of_the_pause(
    project: Project, ben: User, later: Rung, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(absorbing, "time", SimpleNamespace(monotonic=lambda: now[0]))
    teach(project)
    answer(project, ben)
    assert absorbing.absorb_rung(project.pk) == 1
    answer(project, ben)
    assert absorbing.absorb_rung(project.pk) == 0
    ((asked, seconds),) = later
    assert asked == project.pk
    assert seconds == pytest.approx(absorbing.LEAST_PAUSE)
    now[0] += seconds
    answer(project, ben)
    assert absorbing.absorb_rung(project.pk) == 2
    assert not Judgment.objects.filter(absorbed_step=None).exists()


def test_of_two_later_bells_the_earlier_one_rings(monkeypatch: pytest.MonkeyPatch) -> None:
    timers: list[Any] = []

    class Timer:
        def __init__(self, seconds: float, *_what: object) -> None:
            self.seconds, self.is_off = seconds, False
            timers.append(self)

        def start(self) -> None:
            pass

        def cancel(self) -> None:
            self.is_off = True

    monkeypatch.setattr(ringing.threading, "Timer", Timer)
    monkeypatch.setattr(ringing, "_due", {})
    for seconds in (9.0, 1.0, 5.0):
        ringing.ring_later(1, seconds)
    ringing.ring_later(2, 5.0)
    assert [timer.seconds for timer in timers if not timer.is_off] == [1.0, 5.0]


def test_the_queue_is_as_deep_as_was_answered_in_the_last_second(project: Project, ben: User) -> None:
    teach(project)
    state = load_state(project.pk)
    assert state is not None
    now = time.monotonic()
    state.pace.clear()
    assert queueing.wanted_depth(state) == queueing.LEAST
    state.pace.extend([(now - 2 * queueing.PACE_SECONDS, 70), (now, 20), (now, 15)])
    assert queueing.wanted_depth(state) == 35


def test_imported_judgments_make_the_queue_no_deeper(project: Project, ben: User, later: Rung) -> None:
    teach(project)
    imported_votes(project, *["first"] * 40)
    answer(project, ben)
    state = load_state(project.pk)
    assert state is not None
    state.pace.clear()
    assert absorbing.absorb_waiting(project.pk) == 41
    assert [count for _at, count in state.pace] == [1]


def test_an_answer_sent_twice_at_once_leases_no_third_pair(project: Project, ben: User) -> None:
    answered = serving.leases_for(project, ben)[0].pk
    both = [Claiming([], project, ben, answered) for _ in range(2)]  # each looked before either was stored
    for claiming in both:
        judging.record(ben, answered, judging.Submission("left"), project, claiming)
    held = serving.open_leases(project, ben, timezone.now())
    assert len(held) == 2
    assert {lease.pk for lease in held} == {lease.pk for lease in both[1].leases}
    assert Judgment.objects.count() == 1
