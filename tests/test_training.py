"""The training round: gold pairs with the known answer after each, before real work."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from annotate import configuring, serving
from annotate.models import AuditEvent, Comparison, Judgment, Lease, Membership, Project, TrainingAnswer, User
from tests.conftest import signed_in

pytestmark = pytest.mark.django_db
ROUND = "/projects/tides/training/"


def gold(project: Project, count: int) -> list[Comparison]:
    made = []
    for prompt in project.prompts.filter(is_evaluation=False)[:count]:
        first, second = prompt.responses.order_by("pk")[:2]
        pair = {"project": project, "prompt": prompt, "first": first, "second": second}
        made.append(
            Comparison.objects.create(
                **pair, arm="gold", gold_answer="first", settled_note="It names the moon.", wanted=99
            )
        )
    return made


@pytest.fixture
def training(project: Project) -> Project:
    gold(project, 3)
    project.training_pairs = 2
    project.save()
    return project


def screen_side(project: Project, user: User, comparison: int, right: bool) -> str:
    from annotate.draws import is_swapped

    return "right" if is_swapped(project, comparison, user.pk) == right else "left"


def answer(client: Client, comparison: int, side: str) -> Any:
    return client.post(f"{ROUND}{comparison}/", {"side": side}, follow=True)


def test_no_pair_is_given_before_the_round_is_done(as_ben: Client, ben: User, training: Project) -> None:
    page = as_ben.get("/projects/tides/compare/")
    assert "A short training round first" in page.content.decode()
    assert not Lease.objects.exists()
    for right in (True, False):
        comparison = as_ben.get(ROUND).context["comparison"]
        page = answer(as_ben, comparison.pk, screen_side(training, ben, comparison.pk, right))
        said = "That is the known answer" if right else "The known answer is another"
        assert said in page.content.decode()
        assert "It names the moon." in page.content.decode()
    done = as_ben.get(ROUND).content.decode()
    assert "known answer to 1 of 2 pairs" in done
    assert Membership.objects.get(user=ben).trained_at is not None
    assert len(as_ben.get("/projects/tides/compare/").context["pairs"]) == 2


def test_nothing_of_the_round_is_a_judgment_and_the_first_answer_stands(
    as_ben: Client, ben: User, training: Project
) -> None:
    pair = as_ben.get(ROUND).context["comparison"]
    answer(as_ben, pair.pk, "left")
    answer(as_ben, pair.pk, "right")
    assert TrainingAnswer.objects.count() == 1
    assert not Judgment.objects.exists()
    assert not Lease.objects.exists()
    pair.refresh_from_db()
    assert (pair.taken, pair.judged) == (0, 0)


def test_the_known_answer_is_not_told_before_ones_own(as_ben: Client, training: Project) -> None:
    pair = as_ben.get(ROUND).context["comparison"]
    assert "moon." not in as_ben.get(ROUND).content.decode().split("</main>")[0].split("answer-bar")[1]
    assert as_ben.get(f"{ROUND}{pair.pk}/").status_code == 404


def test_a_pair_shown_in_the_round_is_never_mixed_in(as_ben: Client, ben: User, training: Project) -> None:
    for _ in range(2):
        answer(as_ben, as_ben.get(ROUND).context["comparison"].pk, "left")
    Project.objects.update(gold_share=1.0)
    training.refresh_from_db()
    trained_on = set(TrainingAnswer.objects.values_list("comparison", flat=True))
    met = {lease.comparison_id for lease in serving.leases_for(training, ben, 3)}
    assert not met & trained_on
    assert len(met & set(Comparison.objects.filter(arm="gold").values_list("pk", flat=True))) == 1


def test_admins_and_projects_without_gold_have_no_round(
    as_ada: Client, as_ben: Client, training: Project
) -> None:
    assert as_ada.get("/projects/tides/compare/").context["pairs"]
    Comparison.objects.all().delete()
    assert as_ben.get("/projects/tides/compare/").context["pairs"]
    assert "There is no training round" in as_ben.get(ROUND).content.decode()


def test_only_pairs_of_the_round_and_real_answers_are_taken(as_ben: Client, training: Project) -> None:
    outside = Comparison.objects.order_by("-pk")[0]
    assert "not part of the training round" in answer(as_ben, outside.pk, "left").content.decode()
    pair = as_ben.get(ROUND).context["comparison"]
    assert "Choose one of the answers" in answer(as_ben, pair.pk, "up").content.decode()
    assert not TrainingAnswer.objects.exists()


def test_strangers_find_no_round(as_dan: Client, training: Project) -> None:
    pair = Comparison.objects.order_by("pk")[0]
    for path in (reverse("training", args=["tides"]), reverse("training_pair", args=["tides", pair.pk])):
        assert as_dan.get(path).status_code == 404
        assert as_dan.post(path).status_code in (404, 405)
        assert Client().get(path).status_code == 302


def test_another_projects_gold_is_not_answered_here(as_ben: Client, ada: User, training: Project) -> None:
    other = Project.objects.create(name="Other", slug="other", training_pairs=2)
    Membership.objects.create(project=other, user=ada, role="admin")
    assert as_ben.get("/projects/other/training/").status_code == 404
    assert signed_in(ada).get("/projects/other/training/").status_code == 200
    pair = Comparison.objects.order_by("pk")[0]
    signed_in(ada).post(f"/projects/other/training/{pair.pk}/", {"side": "left"})
    assert not TrainingAnswer.objects.exists()


def test_who_falls_short_of_the_pass_mark_tries_again(as_ben: Client, ben: User, training: Project) -> None:
    Project.objects.update(training_pass=0.75)  # of two pairs: both
    take(as_ben, ben, training, right=1)
    page = as_ben.get(ROUND).content.decode()
    assert "Not passed yet" in page
    assert "known answer to 1 of 2 pairs; this project asks for 2 before real work" in page
    assert "Start comparing" not in page
    assert Membership.objects.get(user=ben).trained_at is None
    assert "A short training round first" in as_ben.get("/projects/tides/compare/").content.decode()
    assert as_ben.post(ROUND).status_code == 302
    assert not TrainingAnswer.objects.exists()
    event = AuditEvent.objects.get(verb="retook training")
    assert (event.actor, event.details) == (ben, {"right": 1, "pairs": 2, "needed": 2})
    take(as_ben, ben, training, right=2)
    assert "The training round is done" in as_ben.get(ROUND).content.decode()
    assert Membership.objects.get(user=ben).trained_at is not None
    as_ben.post(ROUND)
    assert TrainingAnswer.objects.count() == 2  # a round that was passed is kept


def test_a_lowered_pass_mark_lets_those_in_who_reach_it(as_ben: Client, ben: User, training: Project) -> None:
    Project.objects.update(training_pass=1.0)
    take(as_ben, ben, training, right=1)
    Project.objects.update(training_pass=0.5)
    assert "The training round is done" in as_ben.get(ROUND).content.decode()
    assert len(as_ben.get("/projects/tides/compare/").context["pairs"]) == 2


def test_an_admin_sets_the_round_and_its_pass_mark(as_ada: Client, project: Project) -> None:
    page = as_ada.get("/projects/tides/settings/")
    form = page.context["form"]
    sent = {name: form[name].value() for name in form.fields}
    sent = {name: value for name, value in sent.items() if value is not None and value is not False}
    sent |= {"training_pairs": "5", "training_pass": "80", "weigh_by_reliability": "on"}
    assert as_ada.post("/projects/tides/settings/", sent).status_code == 302
    project.refresh_from_db()
    assert (project.training_pairs, project.training_pass, project.weigh_by_reliability) == (5, 0.8, True)


def take(client: Client, user: User, project: Project, right: int) -> None:
    """The whole round, the first so many as known."""
    for number in range(project.training_pairs):
        pair = client.get(ROUND).context["comparison"]
        answer(client, pair.pk, screen_side(project, user, pair.pk, number < right))


def test_settings_say_when_gold_is_short(training: Project) -> None:
    assert not configuring.gold_cautions(training)
    training.training_pairs = 4
    assert "there are 3 gold pairs" in configuring.gold_cautions(training)[0]
    training.training_pairs, training.gold_share = 3, 0.1
    assert "used up" in configuring.gold_cautions(training)[0]
    Comparison.objects.all().delete()
    assert "no gold pairs yet" in configuring.gold_cautions(training)[0]
