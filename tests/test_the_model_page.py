"""The model page: who sees it, what it says, and that everything on it asks before it loses anything."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.test import Client
from django.urls import reverse

from annotate.models import FeatureVersion, Job, Membership, Project, Refit, Role, User
from learner.tasks import states
from tests.learn import judge_forty, run_all

pytestmark = pytest.mark.django_db(transaction=True)
ASKED = {
    "label": "Small <b>", "encoder": "hashing", "dimensions": "6", "column_weight": "8",
}  # fmt: skip


@pytest.fixture(autouse=True)
def nothing_cached() -> Iterator[None]:
    states._cache.clear()
    yield
    states._cache.clear()


@pytest.fixture
def judged(project: Project, ben: User) -> Project:
    return judge_forty(project, ben)


def page(client: Client, project: Project, name: str = "model", *more: int) -> str:
    response = client.get(reverse(name, args=[project.slug, *more]))
    assert response.status_code == 200, response.status_code
    return response.content.decode()


def post(client: Client, name: str, *more: object, **data: str) -> int:
    return client.post(reverse(name, args=["tides", *more]), data).status_code


ADMINS = [
    "version_new",
    "fine_tune",
    "refit",
    "version_build",
    "version_switch",
    "version_drop",
    "version_export",
]


def test_strangers_and_annotators_find_nothing_and_reviewers_only_look(
    judged: Project, as_dan: Client, as_cho: Client, as_ben: Client, ben: User
) -> None:
    Membership.objects.filter(user=ben).update(role=Role.REVIEWER)
    pk = judged.feature_versions.get().pk
    for client in (as_dan, as_cho):
        assert client.get(reverse("model", args=["tides"])).status_code == 404
    text = page(as_ben, judged)
    assert "Log-loss" in text
    assert "Make a new version" not in text
    for name in ADMINS:
        arguments = [pk] if name.startswith("version_") and name != "version_new" else []
        for client in (as_dan, as_cho, as_ben):
            assert client.get(reverse(name, args=["tides", *arguments])).status_code in (404, 405)
            assert post(client, name, *arguments) in (404, 405)
    assert not Job.objects.filter(kind__in=["build", "refit", "fine_tune", "model"]).exists()


def test_another_projects_admin_cannot_reach_a_version(judged: Project, as_dan: Client, dan: User) -> None:
    other = Project.objects.create(name="Other", slug="other")
    Membership.objects.create(project=other, user=dan, role=Role.ADMIN)
    pk = judged.feature_versions.get().pk
    for name in ("version_switch", "version_drop", "version_build", "version_export"):
        assert as_dan.post(reverse(name, args=["other", pk])).status_code == 404
        assert as_dan.post(reverse(name, args=["tides", pk])).status_code == 404


def test_a_version_is_made_compared_and_switched_to(judged: Project, as_ada: Client) -> None:
    assert post(as_ada, "version_new", **ASKED) == 302
    assert "Small &lt;b&gt;" in page(as_ada, judged)
    assert "A job is working on it" in page(as_ada, judged)
    run_all(judged)
    text = page(as_ada, judged)
    version = FeatureVersion.objects.get(label="Small <b>")
    assert version.config["columns"] is False
    assert "prompts resampled" in text
    assert "Both refitted" in text
    assert "Switch to Small &lt;b&gt;?" in page(as_ada, judged, "version_switch", version.pk)
    version.refresh_from_db()
    assert version.state == "ready"
    assert post(as_ada, "version_switch", version.pk) == 302
    run_all(judged)
    version.refresh_from_db()
    assert version.state == "live"
    assert page(as_ada, judged).index("Small &lt;b&gt;") < page(as_ada, judged).index("Retired")


def test_dropping_asks_first_and_says_how_much_it_frees(judged: Project, as_ada: Client) -> None:
    post(as_ada, "version_new", **ASKED)
    run_all(judged)
    version = FeatureVersion.objects.get(label="Small <b>")
    assert "on the disk" in page(as_ada, judged, "version_drop", version.pk)
    assert FeatureVersion.objects.filter(pk=version.pk).exists()
    assert post(as_ada, "version_drop", version.pk) == 302
    assert not FeatureVersion.objects.filter(pk=version.pk).exists()
    live = judged.feature_versions.get()
    post(as_ada, "version_drop", live.pk)
    assert "cannot be dropped" in page(as_ada, judged)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"encoder": "other", "encoder_name": "../../etc"}, "An encoder is one of the list"),
        ({"encoder": "other", "encoder_name": "/etc"}, "An encoder is one of the list"),
        ({"encoder": "other"}, "Name the model"),
        ({"dimensions": "1"}, "greater than or equal to 2"),
        ({"column_weight": "nan"}, "Enter a number"),
    ],
)
def test_what_cannot_be_built_is_refused_where_it_was_typed(
    judged: Project, as_ada: Client, changed: dict[str, str], said: str
) -> None:
    response = as_ada.post(reverse("version_new", args=["tides"]), ASKED | changed)
    assert response.status_code == 200
    assert said in response.content.decode()
    assert judged.feature_versions.count() == 1


def test_a_check_is_asked_for_and_shown_with_its_alarm_on_page_and_dashboard(
    judged: Project, as_ada: Client
) -> None:
    assert post(as_ada, "refit") == 302
    run_all(judged)
    assert "It is early" in page(as_ada, judged)
    Refit.objects.update(judgments=500)
    assert "keeps up with the refit" in page(as_ada, judged)
    assert "One-pass and refit" in page(as_ada, judged, "dashboard")
    Refit.objects.update(is_alarming=True)
    assert "is behind its refit" in page(as_ada, judged)
    assert "is behind its refit" in page(as_ada, judged, "dashboard")


def test_an_encoder_without_layers_cannot_be_fine_tuned(judged: Project, as_ada: Client) -> None:
    response = as_ada.post(
        reverse("fine_tune", args=["tides"]),
        {"method": "lora", "layers": "1", "rank": "4", "optimizer": "adamw", "learning_rate": "0.001",
         "epochs": "1", "batch": "8", "seed": "0"},
    )  # fmt: skip
    assert "not a transformer" in response.content.decode()


def test_an_empty_project_says_what_will_come(project: Project, as_ada: Client) -> None:
    assert "None yet" in page(as_ada, project)
    assert as_ada.get(reverse("version_new", args=["tides"])).status_code == 302
