"""A new feature version beside the live one: built, compared, switched to or dropped, while annotators go on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from annotate import jobs, judging, serving, versions
from annotate.errors import TouchstoneError
from annotate.judging import Submission
from annotate.models import AuditEvent, Comparison, Estimator, FeatureVersion, Job, Project, User
from learner.errors import LearnerError
from learner.tasks import building, encoding, states, switching
from learner.tasks.absorbing import absorb_waiting
from learner.tasks.embedding import embed_missing
from learner.tasks.jobs import run
from learner.tasks.replaying import replay
from tests.conftest import fill
from tests.learn import answer_many, judge_forty, run_all

pytestmark = pytest.mark.django_db(transaction=True)
CONFIG = {"dimensions": 6, "columns": False, "encoder_options": {"dimension": 64}}


@pytest.fixture(autouse=True)
def nothing_cached() -> Iterator[None]:
    states._cache.clear()
    yield
    states._cache.clear()


@pytest.fixture
def judged(project: Project, ben: User) -> Project:
    """The project with features and 40 judgments, four in ten of them of the evaluation arm."""
    return judge_forty(project, ben)


def asked(project: Project, ada: User, **config: Any) -> FeatureVersion:
    job = versions.make(project, ada, "hashing", {**CONFIG, **config}, "smaller")
    return FeatureVersion.objects.get(pk=job.arguments["feature_version"])


def bits_agree(project: Project) -> bool:
    compared = replay(project)
    return bool(compared) and all(one.same for one in compared)


def test_a_version_is_built_and_compared_beside_the_live_one(judged: Project, ada: User) -> None:
    before = dict(Estimator.objects.values_list("pk", "digest"))
    version = asked(judged, ada)
    (job,) = run_all(judged)
    assert (job.state, job.message[:11]) == ("done", "Ready after")
    version.refresh_from_db()
    assert (version.state, version.embedded, version.dimension) == ("ready", 48, 6)
    found = version.comparison
    assert found["held_out"] >= 5
    assert found["verdict"] in {"better", "worse", "open"}
    for name in ("one_pass", "refit"):
        (live, _, _), (new, _, _) = found[name]["log_loss"]
        assert found[name]["log_loss_gap"][0] == pytest.approx(live - new, abs=2e-6)
        assert found[name]["log_loss_gap"][1] < found[name]["log_loss_gap"][2]
    assert version.estimators.get(role="production").step == 40
    assert {pk: d for pk, d in Estimator.objects.values_list("pk", "digest") if pk in before} == before
    assert judged.feature_versions.get(state="live").pk != version.pk


def test_the_switch_makes_queue_scores_curves_and_replay_those_of_the_new_version(
    judged: Project, ada: User, ben: User
) -> None:
    version = asked(judged, ada)
    run_all(judged)
    answer_many(judged, ben, 7)
    held = serving.leases_for(judged, ben, 2)
    drawn = set(Comparison.objects.filter(arm="active", taken=0).values_list("pk", flat=True))
    versions.switch(version, ada)
    (job,) = run_all(judged)
    assert job.state == "done", job.message
    version.refresh_from_db()
    judged.refresh_from_db()
    assert version.state == "live"
    assert (judged.encoder, judged.dimensions) == ("hashing", 6)
    assert FeatureVersion.objects.filter(state="retired").count() == 1
    assert set(version.estimators.values_list("step", flat=True)) == {47}
    assert bits_agree(judged)
    state = states.load_state(judged.pk)
    assert state is not None
    assert state.reader.features.shape == (48, 6)
    assert not Comparison.objects.filter(pk__in=drawn).exists()
    assert Comparison.objects.filter(state="open", taken=0).count() >= 8
    assert version.estimators.get(role="production").evaluations.exists()
    assert {row.step for row in judged.source_rewards.all()} == {47}
    assert AuditEvent.objects.get(verb="switched").actor == ada
    for lease in held:
        judging.record(ben, lease.pk, Submission("left"))
    assert absorb_waiting(judged.pk) == 2
    answer_many(judged, ben, 5)
    assert bits_agree(judged)


def test_judgments_that_are_taken_back_leave_no_trace_in_a_version_that_waits(
    judged: Project, ada: User, ben: User
) -> None:
    version = asked(judged, ada)
    run_all(judged)
    judging.undo(ben, judged)
    absorb_waiting(judged.pk)
    assert version.estimators.get(role="production").step == 39
    versions.switch(version, ada)
    run_all(judged)
    version.refresh_from_db()
    assert version.state == "live"
    assert bits_agree(judged)


def test_a_judgment_taken_back_while_the_log_is_replayed_is_noticed(
    judged: Project, ada: User, ben: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = asked(judged, ada)
    whole, once = building.read, []

    def read_and_undo(state: Any, chunk: Any, target: int) -> None:
        whole(state, chunk, target)
        if not once:
            once.append(judging.undo(ben, judged))
            absorb_waiting(judged.pk)

    monkeypatch.setattr(building, "read", read_and_undo)
    run_all(judged)
    version.refresh_from_db()
    assert version.state == "ready"
    assert (
        version.estimators.get(role="production").judgments
        == judged.estimators.get(feature_version__state="live", role="production").judgments
    )


def test_new_responses_go_into_the_live_version_and_the_one_that_is_ready(
    judged: Project, ada: User, ben: User
) -> None:
    version = asked(judged, ada)
    run_all(judged)
    judged.refresh_from_db()
    fill(judged, prompts=2, responses=4, start=200)
    embed_missing(judged.pk)
    assert set(judged.feature_versions.values_list("state", "embedded")) == {("live", 56), ("ready", 56)}
    version.refresh_from_db()
    versions.switch(version, ada)
    run_all(judged)
    answer_many(judged, ben, 3)
    assert bits_agree(judged)


def test_one_can_switch_back_and_the_old_version_has_caught_up(judged: Project, ada: User, ben: User) -> None:
    old, version = judged.feature_versions.get(), asked(judged, ada)
    run_all(judged)
    versions.switch(version, ada)
    run_all(judged)
    answer_many(judged, ben, 6)
    old.refresh_from_db()
    assert old.state == "retired"
    versions.switch(old, ada)
    run_all(judged)
    old.refresh_from_db()
    assert old.state == "live"
    assert old.estimators.get(role="production").step == 46
    assert bits_agree(judged)


@pytest.mark.parametrize("place", ["move", "make_live", "store"])
def test_an_error_in_the_switch_leaves_the_live_version_as_it_was(
    judged: Project, ada: User, ben: User, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    version, live = asked(judged, ada), judged.feature_versions.get(state="live")
    run_all(judged)

    def fail(*_: Any) -> None:
        raise LearnerError("the disk is full")

    with monkeypatch.context() as broken:
        broken.setattr(switching, place, fail)
        versions.switch(version, ada)
        (job,) = run_all(judged)
    assert (job.state, job.message) == ("failed", "the disk is full")
    assert set(judged.feature_versions.values_list("pk", "state")) == {
        (live.pk, "live"),
        (version.pk, "ready"),
    }
    answer_many(judged, ben, 2)
    assert bits_agree(judged)
    versions.switch(version, ada)
    run_all(judged)
    version.refresh_from_db()
    assert version.state == "live"
    assert bits_agree(judged)


def test_a_build_that_was_killed_goes_on_where_it_stopped(
    judged: Project, ada: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(building, "CHUNK", 10)
    version, moves = asked(judged, ada), []

    def die(state: Any, old: int) -> bool:
        moves.append(old)
        if len(moves) == 3:
            raise KeyboardInterrupt
        return whole(state, old)

    whole = building.move
    monkeypatch.setattr(building, "move", die)
    job = jobs.start(judged, Job.Kind.BUILD, {"feature_version": version.pk}, ada)
    with pytest.raises(KeyboardInterrupt):
        run(job.pk)
    assert version.estimators.get(role="production").step == 20
    Job.objects.filter(pk=job.pk).update(heartbeat_at="2020-01-01T00:00:00Z")
    encoder = encoding.encoder_named("hashing", {"dimension": 64})
    monkeypatch.setattr(type(encoder), "encode", lambda *_: pytest.fail("it was embedded again"))
    assert run(job.pk)
    version.refresh_from_db()
    assert version.state == "ready"
    assert moves[3:] == [20, 30]


def test_a_worker_that_is_asked_to_end_hands_its_build_back(
    judged: Project, ada: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = asked(judged, ada)
    with monkeypatch.context() as ending:
        ending.setattr("learner.tasks.jobs.is_stopping", lambda: True)
        (job,) = run_all(judged)
    assert (job.state, job.attempts) == ("waiting", 0)
    run_all(judged)
    version.refresh_from_db()
    assert version.state == "ready"


def test_a_double_click_makes_one_version_and_one_job(judged: Project, ada: User) -> None:
    first, second = (versions.make(judged, ada, "hashing", CONFIG, "x") for _ in range(2))
    assert first.pk == second.pk
    assert judged.feature_versions.count() == 2


def test_a_dropped_version_takes_its_files_along_and_the_live_one_cannot_be_dropped(
    judged: Project, ada: User
) -> None:
    version = asked(judged, ada)
    with pytest.raises(TouchstoneError, match="A job is working"):
        versions.drop(version, ada)
    run_all(judged)
    folder = Path(settings.DATA) / version.folder
    assert versions.bytes_of(version) > 1000
    assert versions.drop(version, ada) > 1000
    assert not folder.exists()
    assert AuditEvent.objects.get(verb="dropped").details["bytes"] > 1000
    with pytest.raises(TouchstoneError, match="live version cannot be dropped"):
        versions.drop(judged.feature_versions.get(), ada)


def test_a_version_that_cannot_be_made_says_why_and_changes_nothing(judged: Project, ada: User) -> None:
    versions.make(judged, ada, "no-such-model", CONFIG | {"encoder_options": {"local_files_only": True}})
    (job,) = run_all(judged)
    assert job.state == "failed"
    assert "no-such-model" in job.message
    assert judged.feature_versions.get(state="live").encoder == "hashing"


def test_before_anything_is_embedded_there_is_nothing_to_stand_beside(project: Project, ada: User) -> None:
    with pytest.raises(TouchstoneError, match="no live version yet"):
        versions.make(project, ada, "hashing", CONFIG)
