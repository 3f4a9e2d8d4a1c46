"""What users brought is in the pool at once; its features are stored when nobody waits for an answer."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import transaction
from django.utils import timezone

from annotate import deploying, scoring
from annotate.judging import Submission
from annotate.models import DeploymentRequest, Project, User
from learner.tasks import appending
from learner.tasks.absorbing import has_work
from learner.tasks.scoring import answer_all
from learner.tasks.sweeping import unembedded_projects
from tests.serving_worker import scoring_worker
from tests.test_deployment import ANSWERS, ask, deployed

__all__ = ["deployed", "scoring_worker"]  # fixtures
pytestmark = pytest.mark.django_db


def test_features_are_stored_when_nobody_waits_and_a_choice_that_came_before_is_learned_from(
    deployed: Project, ada: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    rung: list[tuple[object, ...]] = []
    monkeypatch.setattr(appending, "ring", lambda *what: rung.append(what))
    monkeypatch.setattr(transaction, "on_commit", lambda call: call())
    monkeypatch.setattr(scoring, "between_looks", lambda _seconds: answer_all())
    before = deployed.feature_versions.get(state="live").embedded
    requests = [ask(deployed, ada, prompt) for prompt in ("Why is the sky blue?", "Why is it red?")]
    assert deployed.feature_versions.get(state="live").embedded == before
    deploying.judge(requests[1].pk, deployed, Submission("left"))
    assert not has_work(deployed.pk)
    appending.store_waiting()
    assert deployed.feature_versions.get(state="live").embedded == before + 2 * len(ANSWERS)
    assert rung == [("absorb", deployed.pk)]
    assert not appending.is_due()


def test_the_sweep_leaves_to_the_scoring_worker_what_it_made_just_now(
    deployed: Project, ada: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring, "between_looks", lambda _seconds: answer_all())
    ask(deployed, ada)
    assert unembedded_projects() == []
    DeploymentRequest.objects.update(created_at=timezone.now() - timedelta(seconds=5))
    assert unembedded_projects() == [deployed.pk]
    appending.store_waiting()
    assert unembedded_projects() == []


def test_features_made_while_an_embed_worker_is_at_work_are_stored_after_it(
    deployed: Project, ada: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring, "between_looks", lambda _seconds: answer_all())
    before = deployed.feature_versions.get(state="live").embedded
    ask(deployed, ada)
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(appending, "append_users_rows", lambda *_: False)
        elsewhere.setattr(appending, "is_over", lambda _version: False)
        appending.store_waiting()
    assert deployed.feature_versions.get(state="live").embedded == before
    appending.store_waiting()
    assert deployed.feature_versions.get(state="live").embedded == before + len(ANSWERS)
