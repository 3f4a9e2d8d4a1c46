"""Taking the reward model away: the job, the zip, the command, and that scores are ours."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from django.core.files.storage import default_storage
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse
from touchstone_client import RewardModel

from annotate import versions
from annotate.models import AuditEvent, FeatureVersion, Job, Project, User
from learner.rewardmodel import scores
from learner.tasks import encoding, states
from learner.tasks.absorbing import absorb_waiting
from learner.tasks.embedding import embed_missing, load_features
from learner.tasks.encoding import encoder_of
from learner.tasks.states import build_state, estimator_rows
from tests.learn import answer_many, run_all
from tests.learner.models import tiny_bert

pytestmark = pytest.mark.django_db(transaction=True)
OPTIONS = {"dtype": "float32", "max_length": 64}


@pytest.fixture(autouse=True)
def nothing_cached() -> Iterator[None]:
    states._cache.clear()
    encoding._encoders.clear()
    yield
    states._cache.clear()
    encoding._encoders.clear()


@pytest.fixture
def tuned(project: Project, ben: User, settings: Any, tmp_path: Path) -> Project:
    """A project whose encoder is a small BERT with unscaled means, with 48 judgments."""
    settings.MODELS = tmp_path / "models"
    tiny_bert(settings.MODELS / "tiny")
    Project.objects.filter(pk=project.pk).update(
        encoder="models/tiny",
        encoder_options=OPTIONS | {"normalize": False},
        dimensions=6,
        evaluation_share=0.3,
    )
    project.refresh_from_db()
    embed_missing(project.pk)
    absorb_waiting(project.pk)
    answer_many(project, ben, 48)
    return project


def plain(project: Project, ada: User) -> FeatureVersion:
    """A version without text columns, built."""
    config = {"dimensions": 6, "columns": False, "encoder_options": OPTIONS | {"normalize": False}}
    job = versions.make(project, ada, "models/tiny", config, "plain")
    (built,) = run_all(project)
    assert built.state == "done", built.message
    return FeatureVersion.objects.get(pk=job.arguments["feature_version"])


def rewards(version: FeatureVersion) -> np.ndarray:
    state = build_state(version.project, version, estimator_rows(version.project, version))
    return load_features(version).astype(np.float64) @ state.reader.banks["production"].theta


def texts(version: FeatureVersion) -> list[str]:
    encoder = encoder_of(version)
    rows = version.project.responses.order_by("position").values_list("prompt__text", "text")
    return [encoder.compose(*pair) for pair in rows]


def test_the_zip_holds_a_model_whose_scores_are_ours(
    tuned: Project, ada: User, as_ada: Client, tmp_path: Path
) -> None:
    version = plain(tuned, ada)
    as_ada.post(reverse("version_export", args=["tides", version.pk]))
    (job,) = run_all(tuned)
    assert job.state == "done", job.message
    assert "BertForSequenceClassification" in job.message
    (file,) = job.result["files"]
    with zipfile.ZipFile(default_storage.open(file["path"])) as packed:
        packed.extractall(tmp_path / "out")
    folder = tmp_path / "out" / "tides-reward-model"
    names = {path.name for path in folder.iterdir()}
    assert {"README.md", "config.json", "model.safetensors", "tokenizer.json"} <= names
    assert np.allclose(scores(folder, texts(version)), rewards(version), atol=1e-4)
    assert rewards(version).std() > 0.1
    assert AuditEvent.objects.filter(verb="exported", subject__contains="reward model").exists()
    download = as_ada.get(reverse("job_file", args=["tides", job.pk, file["name"]]))
    assert download.status_code == 200
    assert "attachment" in download["Content-Disposition"]


def test_the_code_in_the_card_gives_the_score(tuned: Project, ada: User, tmp_path: Path) -> None:
    version = plain(tuned, ada)
    call_command("export_model", "tides", output=tmp_path / "out", feature_version=version.pk)
    card = (tmp_path / "out" / "README.md").read_text()
    for said in (
        "| control |",
        "BertForSequenceClassification",
        "sigmoid(score_1 - score_2)",
        "## Limits",
        "Log-loss",
    ):
        assert said in card
    code = card.split("```python\n")[1].split("```")[0].replace("this folder", str(tmp_path / "out"))
    response = tuned.responses.order_by("position").last()
    assert response is not None
    given: dict[str, Any] = {"prompt": response.prompt.text, "response": response.text}
    exec(code, given)  # noqa: S102 - the card's own
    assert float(given["score"]) == pytest.approx(rewards(version)[response.position], abs=1e-4)


def test_a_version_with_text_columns_leaves_with_their_weights_beside_the_classifier(
    tuned: Project, ada: User, tmp_path: Path
) -> None:
    """As a project with default settings has it: card and client give the reward of every response."""
    version, folder = tuned.feature_versions.get(), tmp_path / "out"
    call_command("export_model", "tides", output=folder)
    items = list(tuned.responses.order_by("position").values_list("prompt__text", "text"))
    ours = rewards(version)
    alone = scores(folder, texts(version))
    assert np.abs(alone - ours).max() > 0.01
    assert np.allclose(RewardModel.load(folder).score(items), ours, atol=1e-4)
    code = (folder / "README.md").read_text().split("```python\n")[1].split("```")[0]
    given: dict[str, Any] = {"prompt": items[-1][0], "response": items[-1][1]}
    exec(code.replace("this folder", str(folder)), given)  # noqa: S102 - the card's own
    assert float(given["score"]) == pytest.approx(ours[-1], abs=1e-4)


def test_the_client_loads_a_folder_without_text_columns_too(
    tuned: Project, ada: User, tmp_path: Path
) -> None:
    version = plain(tuned, ada)
    call_command("export_model", "tides", output=tmp_path / "out", feature_version=version.pk)
    items = list(tuned.responses.order_by("position").values_list("prompt__text", "text"))
    assert np.allclose(RewardModel.load(tmp_path / "out").score(items), rewards(version), atol=1e-4)


def test_the_command_overwrites_nothing(tuned: Project, ada: User, tmp_path: Path) -> None:
    (tmp_path / "kept.txt").write_text("kept")
    with pytest.raises(CommandError, match="is not empty"):
        call_command("export_model", "tides", output=tmp_path)
    with pytest.raises(CommandError, match="no such feature version"):
        call_command("export_model", "tides", output=tmp_path / "x", feature_version=9_999)


def test_a_version_that_learned_nothing_cannot_be_taken(project: Project, ada: User) -> None:
    version = project.feature_versions.create(encoder="hashing", config={"dimensions": 4})
    with pytest.raises(versions.TouchstoneError, match="learned nothing yet"):
        versions.export(version, ada)
    assert not Job.objects.exists()
