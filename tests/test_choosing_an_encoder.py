"""Any encoder by name or folder with its options: what is refused, where it is said, and what the first worker pins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from annotate import configuring, encoders
from annotate.errors import TouchstoneError
from annotate.models import FeatureVersion, Job, Project, Setback, User
from learner.errors import LearnerError
from learner.tasks import embedding, encoding
from tests.learner.test_encoders import small_llama
from tests.test_administering import sent

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.parametrize(
    ("name", "options", "where"),
    [
        ("../weights", {}, "encoder"),
        ("models/../../etc", {}, "encoder"),
        ("https://example.org/model", {}, "encoder"),
        ("owner/model", {"pooling": "max"}, "pooling"),
        ("owner/model", {"max_length": 4}, "max_length"),
        ("owner/model", {"max_length": True}, "max_length"),
        ("owner/model", {"dtype": "int8"}, "dtype"),
        ("owner/model", {"chat_template": "yes"}, "chat_template"),
        ("owner/model", {"revision": "../x"}, "revision"),
        ("models/mine", {"revision": "main"}, "revision"),
        ("hashing", {"pooling": "mean"}, "pooling"),
        ("owner/model", {"trust_remote_code": True}, "encoder"),
        ("owner/model", ["pooling"], "encoder"),
    ],
)
def test_what_cannot_be_is_refused_at_its_field(
    name: str, options: Any, where: str, project: Project, ada: User
) -> None:
    assert list(encoders.problems(name, options)) == [where]
    with pytest.raises(TouchstoneError):
        configuring.change_settings(project, ada, {"encoder": name, "encoder_options": options})


def test_another_model_is_named_with_its_options_on_the_page(project: Project, as_ada: Client) -> None:
    url = reverse("project_settings", args=[project.slug])
    asked = sent(project, encoder="other", encoder_name="owner/model", pooling="last", max_length="2048",
                 chat_template="yes", revision="a1b2c3", dtype="bfloat16")  # fmt: skip
    assert as_ada.post(url, asked).status_code == 302
    project.refresh_from_db()
    assert project.encoder == "owner/model"
    assert project.encoder_options == {
        "pooling": "last", "max_length": 2048, "chat_template": True, "revision": "a1b2c3", "dtype": "bfloat16",
    }  # fmt: skip
    page = as_ada.get(url).content.decode()
    assert 'value="owner/model"' in page
    refused = as_ada.post(url, sent(project, encoder_name="not a name"))
    assert "encoder_name" in refused.context["form"].errors


def test_a_folder_of_models_embeds_and_the_first_worker_pins_what_was_left_open(
    project: Project, settings: Any, tmp_path: Path
) -> None:
    settings.MODELS = tmp_path
    small_llama(tmp_path / "tiny")
    chosen = {"encoder": "models/tiny", "encoder_options": {"pooling": "last"}, "dimensions": 8}
    Project.objects.filter(pk=project.pk).update(**chosen)
    assert embedding.embed_missing(project.pk) == 48
    version = FeatureVersion.objects.get()
    assert version.state == "live"
    assert version.config["encoder_options"]["pooling"] == "last"
    assert version.config["encoder_options"]["dtype"] in encoders.DTYPES
    encoding._encoders.clear()
    assert encoding.encoder_of(version).digest == version.encoder_digest


def test_a_folder_outside_the_models_folder_is_out_of_reach(settings: Any, tmp_path: Path) -> None:
    settings.MODELS = tmp_path / "models"
    settings.MODELS.mkdir()
    small_llama(tmp_path / "outside")
    (settings.MODELS / "link").symlink_to(tmp_path / "outside")
    for name in ("models/../outside", "models/link", "models/none"):
        with pytest.raises(LearnerError, match="no folder"):
            encoding.place_of(name)


def test_a_hub_that_cannot_be_reached_is_said_in_one_sentence_and_tried_later(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    Project.objects.filter(pk=project.pk).update(encoder="nobody/nothing-here", encoder_options={})
    for _ in range(2):
        assert embedding.embed_missing(project.pk) == 0
        Setback.objects.update(next_at="2020-01-01T00:00:00Z")
    job = Job.objects.get()  # tried twice, one row
    assert job.state == "failed"
    assert "no hub can be reached" in job.message
    assert Setback.objects.get().failures == 2
