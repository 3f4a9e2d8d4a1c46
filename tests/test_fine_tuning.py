"""Fine-tuning from the model page: evaluation prompts stay out, and what comes of it is a version like any other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.test import Client
from django.urls import reverse

from annotate import versions
from annotate.models import FeatureVersion, Job, Project, User
from learner.tasks import encoding, finetuning, states
from learner.tasks.absorbing import absorb_waiting
from learner.tasks.embedding import embed_missing
from learner.tasks.encoding import encoder_of
from learner.tasks.finetuning import training_pairs
from learner.tasks.states import build_state, estimator_rows
from tests.learn import answer_many, run_all
from tests.learner.models import tiny_bert

pytestmark = pytest.mark.django_db(transaction=True)
ASKED = {
    "method": "layers", "layers": "1", "rank": "4", "optimizer": "adamw", "learning_rate": "0.005",
    "epochs": "2", "batch": "16", "seed": "0",
}  # fmt: skip


@pytest.fixture(autouse=True)
def nothing_cached() -> Iterator[None]:
    for kept in (states._cache, encoding._encoders):
        kept.clear()
    yield
    for kept in (states._cache, encoding._encoders):
        kept.clear()


@pytest.fixture
def judged(project: Project, ben: User, settings: Any, tmp_path: Path) -> Project:
    settings.MODELS = tmp_path / "models"
    tiny_bert(settings.MODELS / "tiny")
    options = {"dtype": "float32", "max_length": 64}
    Project.objects.filter(pk=project.pk).update(
        encoder="models/tiny", encoder_options=options, dimensions=6, evaluation_share=0.2
    )
    project.refresh_from_db()
    embed_missing(project.pk)
    absorb_waiting(project.pk)
    answer_many(project, ben, 40)
    return project


def test_only_judgments_that_train_are_trained_on_and_never_an_evaluation_prompt(judged: Project) -> None:
    version = judged.feature_versions.get()
    state = build_state(judged, version, estimator_rows(judged, version))
    kept = state.reader.features.shape[1] - 2
    pairs = training_pairs(state, encoder_of(version), kept, state.reader.banks["production"].theta)
    assert len(pairs) == state.reader.counts["production"] < 40
    evaluation = set(judged.prompts.filter(is_evaluation=True).values_list("position", flat=True))
    assert evaluation
    assert not evaluation & set(pairs.prompt.tolist())
    texts = set(judged.prompts.filter(is_evaluation=True).values_list("text", flat=True))
    assert not [text for text in (*pairs.first, *pairs.second) if any(text.startswith(one) for one in texts)]
    assert abs(pairs.offset).max() > 0


def test_a_tuned_encoder_becomes_a_version_that_is_compared(
    judged: Project, as_ada: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("learner.finetuning.LEAST_GAIN", -1e9)
    assert as_ada.post(reverse("fine_tune", args=["tides"]), ASKED).status_code == 302
    (job,) = run_all(judged)
    assert job.state == "done", job.message
    assert "is being built" in job.message
    (built,) = run_all(judged)
    assert built.state == "done", built.message
    version = FeatureVersion.objects.get(state="ready")
    assert version.encoder == f"models/tuned-{judged.pk}-{job.pk}"
    assert version.label == "Fine-tuned models/tiny"
    assert version.config["columns"] is True
    assert version.config["encoder_options"]["max_length"] == 64
    assert version.comparison["verdict"] in {"better", "worse", "open"}
    folder = django_settings.MODELS / version.encoder.removeprefix("models/")
    weights = (folder / "model.safetensors").stat().st_size
    assert versions.drop(version, judged.created_by) > weights > 0  # type: ignore[arg-type]
    assert not folder.exists()
    assert (django_settings.MODELS / "tiny").is_dir()


def test_a_run_that_gains_nothing_says_so_and_makes_no_version(
    judged: Project, ada: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("learner.finetuning.LEAST_GAIN", 1e9)
    versions.fine_tune(judged, ada, {"method": "layers", "layers": 1, "epochs": 1})
    (job,) = run_all(judged)
    assert job.state == "done"
    assert "Nothing was gained" in job.message
    assert judged.feature_versions.count() == 1
    assert [path.name for path in django_settings.MODELS.iterdir()] == ["tiny"]


def test_a_cancelled_run_ends_and_keeps_nothing(
    judged: Project, ada: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finetuning, "report", lambda *_: False)
    versions.fine_tune(judged, ada, {"method": "layers", "layers": 1, "epochs": 1})
    (job,) = run_all(judged)
    assert job.message == "Cancelled. Nothing was kept."
    assert judged.feature_versions.count() == 1


def test_a_run_that_was_killed_after_training_does_not_train_again(
    judged: Project, ada: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = versions.fine_tune(judged, ada, {"method": "layers", "layers": 1, "epochs": 1})
    tiny_bert(django_settings.MODELS / f"tuned-{judged.pk}-{job.pk}")
    monkeypatch.setattr(finetuning, "trained", lambda *_: pytest.fail("it was trained again"))
    run_all(judged)
    assert Job.objects.filter(kind="build").count() == 1
