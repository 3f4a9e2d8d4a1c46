"""Rewards of texts that were never seen: asked for by rows, answered by the scoring worker."""

from __future__ import annotations

import threading
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from django.db import OperationalError
from django.utils import timezone

from annotate import deploying, judging, scoring, serving
from annotate.errors import TouchstoneError
from annotate.judging import Submission
from annotate.models import (
    Deployment,
    DeploymentRequest,
    Estimator,
    FeatureVersion,
    Heartbeat,
    PolicyReport,
    Project,
    Response,
    Scoring,
    User,
)
from tests.conftest import fill
from tests.learn import embed_and_absorb, teach
from tests.serving_worker import scoring_worker

__all__ = ["scoring_worker"]

pytestmark = pytest.mark.django_db
NEW = [
    ("Why is the sea salt?", "Rivers bring salt, " * 6),
    ("Why is the sea salt?", "It is not."),
    ("How deep is it?", "Four kilometres on average."),
]


def scores(project: Project, items: list[tuple[object, object]] | None = None) -> dict[str, Any]:
    row = scoring.wait_for(scoring.ask_scores(project, items or NEW), 20)
    assert row.state == Scoring.State.DONE
    return dict(row.result)


def test_the_rewards_are_those_of_the_production_estimator(project: Project, scoring_worker: None) -> None:
    from learner.encoders import load_encoder
    from learner.features import text_columns
    from learner.tasks.following import follow
    from learner.tasks.states import load_state

    teach(project)
    result = scores(project)
    state, held = load_state(project.pk), follow(project.pk)
    assert state is not None and held is not None
    encoder = load_encoder("hashing")
    raw = encoder.encode([encoder.compose(*item) for item in NEW])
    phi = held.pipeline.transform(raw, text_columns([text for _, text in NEW])).astype(float)
    bank = state.reader.banks["production"]
    widths = [float(np.sqrt(row @ np.asarray(bank.covariance) @ row)) for row in phi]
    for told, row, width in zip(result["rewards"], phi, widths, strict=True):
        assert told["reward"] == pytest.approx(float(row @ bank.theta), abs=1e-6)
        assert told["width"] == pytest.approx(width, abs=1e-6)
        assert told["high"] - told["low"] == pytest.approx(2 * 1.959964 * width, abs=1e-5)
        assert told["pessimistic"] == told["low"]
    assert result["step"] == state.step
    assert result["judgments"] == bank.judgments


def test_the_serving_copy_is_the_learners_state_bit_for_bit_after_every_judgment(
    project: Project, ben: User
) -> None:
    from learner.estimators import state_digest
    from learner.tasks.absorbing import absorb_waiting
    from learner.tasks.following import _followers, follow

    teach(project, 5)
    _followers.clear()
    for undo in (False, False, True, False):
        if undo:
            judging.undo(ben, project)
        else:
            judging.record(ben, serving.leases_for(project, ben, 1)[0].pk, Submission("left"))
        absorb_waiting(project.pk)
        held = follow(project.pk)
        row = Estimator.objects.get(project=project, role="production")
        assert held is not None
        assert state_digest(held.reader.state("production")) == row.digest


def test_a_report_follows_the_log_with_a_copy_of_its_own(project: Project, ben: User) -> None:
    from learner.tasks.absorbing import absorb_waiting
    from learner.tasks.following import follow
    from learner.tasks.reporting import report_policies

    teach(project, 5)
    held = follow(project.pk)
    assert held is not None
    step = held.step
    judging.record(ben, serving.leases_for(project, ben, 1)[0].pk, Submission("left"))
    absorb_waiting(project.pk)
    assert report_policies(project.pk)
    assert PolicyReport.objects.get(project=project).step == step + 1
    assert held.step == step  # what the scoring thread computes with does not move under its hands


def test_a_copy_that_failed_while_it_learned_is_not_served(
    project: Project, ben: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    from learner.estimators import OnePassBank, state_digest
    from learner.tasks.absorbing import absorb_waiting
    from learner.tasks.following import follow

    teach(project, 5)
    follow(project.pk)
    judging.record(ben, serving.leases_for(project, ben, 1)[0].pk, Submission("left"))
    absorb_waiting(project.pk)
    with monkeypatch.context() as broken:
        broken.setattr(OnePassBank, "learn_one", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            follow(project.pk)
    held = follow(project.pk)
    row = Estimator.objects.get(project=project, role="production")
    assert held is not None
    assert state_digest(held.reader.state("production")) == row.digest


def test_a_text_is_encoded_once_and_its_reward_follows_the_estimator(
    project: Project, ben: User, scoring_worker: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from learner.encoders.hashing import HashingEncoder
    from learner.tasks.absorbing import absorb_waiting

    teach(project)
    encoded: list[str] = []
    encode = HashingEncoder.encode
    monkeypatch.setattr(
        HashingEncoder,
        "encode",
        lambda self, texts, *rest: encoded.extend(texts) or encode(self, texts, *rest),
    )
    items = [("A prompt of this test alone", "an answer of this test alone")]
    before = scores(project, [*items, *items])
    assert len(encoded) == 1
    judging.record(ben, serving.leases_for(project, ben, 1)[0].pk, Submission("left"))
    absorb_waiting(project.pk)
    after = scores(project, items)
    assert len(encoded) == 1
    assert after["step"] == before["step"] + 1
    assert after["rewards"][0]["reward"] != before["rewards"][0]["reward"]


def test_best_of_gives_three_choices_with_intervals(project: Project, scoring_worker: None) -> None:
    teach(project)
    answers = [f"The moon. {'It pulls the sea. ' * n}" for n in range(4)]
    result = scoring.wait_for(scoring.ask_best_of(project, "Why the tide?", answers), 5).result
    rewards = [one["reward"] for one in result["rewards"]]
    assert sum(rewards) == pytest.approx(0, abs=1e-6)
    assert result["chosen"]["greedy"]["index"] == int(np.argmax(rewards))
    lows = [one["pessimistic"] for one in result["rewards"]]
    assert result["chosen"]["pessimistic"]["index"] == int(np.argmax(lows))
    assert set(result["chosen"]) == {"greedy", "averaged", "pessimistic"}
    for chosen in result["chosen"].values():
        assert chosen["low"] <= chosen["reward"] <= chosen["high"]


def test_waiting_rows_are_answered_in_one_pass_of_the_encoder(
    project: Project, scoring_worker: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from learner.encoders.hashing import HashingEncoder
    from learner.tasks.scoring import answer_waiting

    teach(project)
    passes: list[int] = []
    encode = HashingEncoder.encode
    monkeypatch.setattr(
        HashingEncoder,
        "encode",
        lambda self, texts, *rest: passes.append(len(texts)) or encode(self, texts, *rest),
    )
    rows = [scoring.ask_scores(project, [(f"batched {n}", "yes")]) for n in range(5)]
    assert answer_waiting() == 5
    assert passes == [5]
    assert all(scoring.wait_for(row, 0.5).state == "done" for row in rows)


def test_a_text_that_cannot_be_scored_keeps_no_other_project_waiting(
    project: Project, ada: User, scoring_worker: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from learner.tasks import scoring as worker

    other = Project.objects.create(name="Other", slug="other", seed="01" * 16, overlap_share=0.0)
    fill(other, prompts=4, responses=3)
    for one in (project, other):
        teach(one, 3)
    Deployment.objects.create(project=project, is_on=True)
    rows = [scoring.ask_scores(one, [("p", text)]) for one, text in ((project, "poison"), (other, "fine"))]
    request = deploying.ask(project, "p", [deploying.Candidate("poison")], ada)
    encode = worker.encode

    def out_of_memory(encoder: Any, texts: Any, *rest: Any) -> Any:
        if any("poison" in text for text in texts):
            raise RuntimeError("CUDA out of memory in /srv/models")
        return encode(encoder, texts, *rest)

    monkeypatch.setattr(worker, "encode", out_of_memory)
    worker.answer_all()
    for one in (*rows, request):
        one.refresh_from_db()
    assert [one.state for one in (*rows, request)] == ["failed", "done", "failed"]
    assert {rows[0].message, request.message} == {worker.FAILED}


def test_a_failure_names_no_file_of_the_server(
    project: Project, scoring_worker: None, caplog: pytest.LogCaptureFixture
) -> None:
    from learner.tasks.embedding import pipeline_path
    from learner.tasks.following import _followers
    from learner.tasks.scoring import FAILED

    teach(project, 3)
    _followers.clear()
    pipeline_path(FeatureVersion.objects.get(project=project)).unlink()
    with pytest.raises(TouchstoneError) as refused:
        scores(project)
    assert (str(refused.value), refused.value.code) == (FAILED, "failed")
    assert "pipeline.safetensors" in caplog.text


def test_a_database_that_is_away_fails_nobody(
    project: Project, scoring_worker: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from learner.tasks import scoring as worker

    teach(project, 3)
    row = scoring.ask_scores(project, NEW)

    def away(*_: object) -> None:
        raise OperationalError("the connection is closed")

    monkeypatch.setattr(worker, "follow", away)
    with pytest.raises(OperationalError):
        worker.answer_all()
    row.refresh_from_db()
    assert row.state == "waiting"


@pytest.mark.parametrize("state", ["waiting", "generating"])
def test_a_request_that_nobody_answered_for_an_hour_is_given_up(project: Project, state: str) -> None:
    for age in (2, 0):
        created = timezone.now() - timedelta(hours=age)
        DeploymentRequest.objects.create(project=project, messages=[], state=state, created_at=created)
    scoring.forget_old()
    found = DeploymentRequest.objects.order_by("created_at")
    assert list(found.values_list("state", "problem")) == [("failed", "late"), (state, "")]


def test_it_is_said_what_is_missing(project: Project) -> None:
    with pytest.raises(TouchstoneError, match="no embedded responses") as refused:
        scoring.ask_scores(project, NEW)
    assert refused.value.code == "unready"
    embed_and_absorb(project)
    with pytest.raises(TouchstoneError, match="not learned from any judgment"):
        scoring.ask_scores(project, NEW)
    teach(project)
    Heartbeat.objects.create(worker="w", queues="score", seen_at=timezone.now() - timedelta(minutes=1))
    with pytest.raises(TouchstoneError, match="No scoring worker") as refused:
        scoring.ask_scores(project, NEW)
    assert refused.value.code == "unavailable"


def test_a_switch_of_the_feature_version_refuses_rather_than_mixing_models(
    project: Project, scoring_worker: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from learner.tasks import scoring as worker

    teach(project)
    make = worker.features_of

    def switched(*arguments: Any) -> Any:
        FeatureVersion.objects.filter(project=project).update(state=FeatureVersion.State.RETIRED)
        return make(*arguments)

    monkeypatch.setattr(worker, "features_of", switched)
    with pytest.raises(TouchstoneError, match="being switched") as refused:
        scoring.wait_for(scoring.ask_scores(project, NEW), 20)
    assert refused.value.code == "unavailable"


@pytest.mark.parametrize(
    "items",
    [
        [],
        [("", "a")],
        [("a", "")],
        [("a", None)],
        [(7, "a")],
        [([{"role": "x", "content": "y"}], "a")],
        [("a\0", "b")],
    ],
)
def test_items_that_are_no_texts_are_refused(project: Project, scoring_worker: None, items: Any) -> None:
    teach(project, 3)
    with pytest.raises(TouchstoneError):
        scoring.ask_scores(project, items)
    assert not Scoring.objects.exists()


def test_a_wait_ends_and_the_answer_can_be_fetched_later(
    project: Project, scoring_worker: None, monkeypatch: Any
) -> None:
    from learner.tasks.scoring import answer_waiting

    teach(project, 3)
    monkeypatch.setattr(scoring, "between_looks", lambda _seconds: None)
    row = scoring.wait_for(scoring.ask_scores(project, NEW), 0.01)
    assert row.state == "waiting"
    answer_waiting()
    assert scoring.scoring_of(project, row.pk, "score").result["rewards"]


def test_waits_leave_threads_to_others(
    project: Project, scoring_worker: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from learner.tasks.scoring import answer_waiting

    teach(project, 3)
    monkeypatch.setattr(scoring, "_places", scoring._places)
    scoring.let_wait(1)
    first, second = (scoring.ask_scores(project, NEW) for _ in range(2))
    told: list[str] = []

    def while_the_first_waits(_seconds: float) -> None:
        assert not told, "the second waited, too"
        told.append("looked")
        told.append(scoring.wait_for(second, 30).state)
        answer_waiting()

    monkeypatch.setattr(scoring, "between_looks", while_the_first_waits)
    assert scoring.wait_for(first, 30).state == "done"
    assert told == ["looked", "waiting"]
    told.clear()
    assert scoring.wait_for(scoring.ask_scores(project, NEW), 30).state == "done"  # the place is free again


def test_half_of_a_web_processs_threads_may_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    from annotate.celery import bells
    from annotate.management.commands.serve import begin

    monkeypatch.setattr(bells, "start", lambda: None)
    monkeypatch.setattr("sys.setswitchinterval", lambda _: None)
    monkeypatch.setattr(scoring, "_places", scoring._places)
    begin(SimpleNamespace(cfg=SimpleNamespace(threads=6)))
    assert [scoring._places.acquire(blocking=False) for _ in range(4)] == [True, True, True, False]


def test_the_texts_are_not_kept(project: Project, scoring_worker: None) -> None:
    teach(project, 3)
    scores(project)
    assert Scoring.objects.get().items == []
    Scoring.objects.update(created_at=timezone.now() - timedelta(hours=2))
    assert scoring.forget_old() == 1


@pytest.mark.django_db(transaction=True)
def test_the_scoring_thread_answers_by_itself(project: Project) -> None:
    from learner.tasks.scoring import serve

    teach(project, 3)
    Heartbeat.objects.create(worker="w", queues="score")
    ended = threading.Event()
    thread = threading.Thread(target=serve, args=(ended,), daemon=True)
    thread.start()
    try:
        assert scores(project)["rewards"]
    finally:
        ended.set()
        thread.join(10)
    assert Response.objects.filter(project=project).count() == 48
