"""How far each annotator is trusted: random and one-sided ones are seen, and weighed if the project wants it."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
from django.test import Client

from annotate import judging, serving
from annotate.judging import Submission
from annotate.models import Agreement, Judgment, Lease, Membership, Project, Reliability, Role, User
from learner.efficiency import Interval
from learner.quality import AnnotatorModel
from learner.tasks.absorbing import absorb_waiting
from learner.tasks.replaying import replay
from learner.tasks.states import forget_cached
from tests.conftest import fill, person
from tests.learn import embed_and_absorb
from tests.test_trusting import imported_votes

pytestmark = pytest.mark.django_db
KINDS = ("careful", "steady", "honest", "random", "left")


@pytest.fixture
def crowd(project: Project) -> dict[str, User]:
    """Three who mostly see what is better, one who answers at random, one who always takes the left."""
    project.overlap, project.overlap_share, project.evaluation_share = 5, 1.0, 0.0
    project.criteria = ["Tone"]
    fill(project, prompts=12, responses=4, start=12)
    people = {kind: person(kind) for kind in KINDS}
    for user in people.values():
        Membership.objects.create(project=project, user=user, role=Role.ANNOTATOR)
    embed_and_absorb(project)
    return people


def side_of(kind: str, lease: Lease, rng: random.Random) -> str:
    if kind == "left":
        return "left"
    worth = [getattr(side, "utility", 0.0) for side in (lease.left, lease.right)]
    sees = kind != "random" and rng.random() < 0.9
    return ("left" if worth[0] > worth[1] else "right") if sees else rng.choice(["left", "right"])


def work(project: Project, people: dict[str, User], pairs: int, seed: int = 0) -> None:
    rng = random.Random(seed)
    for _ in range(pairs):
        for kind, user in people.items():
            for lease in serving.leases_for(project, user, 1):
                side = side_of(kind, lease, rng)
                judging.record(user, lease.pk, Submission(side, criteria={"Tone": side}, lead_time=8.0))
    absorb_waiting(project.pk)


def reliability_of(people: dict[str, User]) -> dict[str, Reliability]:
    rows = {row.annotator_id: row for row in Reliability.objects.all()}
    return {kind: rows[user.pk] for kind, user in people.items()}


def test_who_answers_at_random_or_always_left_is_seen(project: Project, crowd: dict[str, User]) -> None:
    work(project, crowd, 45)
    found = reliability_of(crowd)
    worst_honest = min(found[kind].estimate for kind in KINDS[:3])
    assert worst_honest > 0.8
    for kind in ("random", "left"):
        assert found[kind].weight < 0.5
    assert found["random"].high < 1.0
    assert found["left"].side_low > 1.0
    assert found["left"].longest_run == found["left"].judgments
    assert all(found[kind].side_low < 0 < found[kind].side_high for kind in KINDS[:3])


def test_agreement_is_kept_for_the_answer_and_for_every_criterion(
    project: Project, crowd: dict[str, User]
) -> None:
    work(project, crowd, 20)
    found = {row.criterion: row for row in Agreement.objects.all()}
    assert set(found) == {"", "Tone"}
    assert found[""].pairs > 10
    assert found["Tone"].alpha == found[""].alpha  # They gave the same answers here.
    assert found[""].pairwise is not None
    assert 0.5 < found[""].pairwise < 0.95


def test_the_weight_of_a_row_is_that_of_the_fit() -> None:
    even = Interval(0.0, -0.1, 0.1, 0.95)
    for rho, bias in ((1.2, 0.0), (0.7, 1.5), (-0.3, 0.0), (2.7, -40.0), (3.0, 0.2)):
        intervals = [replace(even, estimate=rho)], [replace(even, estimate=bias)]
        one = AnnotatorModel([1], *intervals, [9], np.zeros(2), 0, 1, 1)
        row = Reliability(estimate=rho, side_bias=bias)
        assert row.weight == pytest.approx(one.weights()[1], abs=1e-9)


def test_nothing_is_weighed_unless_the_project_wants_it(project: Project, crowd: dict[str, User]) -> None:
    work(project, crowd, 10)
    work(project, crowd, 10, seed=1)
    assert Reliability.objects.exists()
    assert set(Judgment.objects.values_list("weight", flat=True)) == {1.0}


def test_a_weight_is_fixed_at_its_step_and_replays_to_the_same_bits(
    project: Project, crowd: dict[str, User]
) -> None:
    Project.objects.update(weigh_by_reliability=True)
    for wave in range(4):
        work(project, crowd, 10, seed=wave)
    kept = dict(Judgment.objects.values_list("pk", "weight"))
    assert len(set(kept.values())) > 5
    left = Judgment.objects.filter(annotator=crowd["left"]).order_by("-pk")[0]
    careful = Judgment.objects.filter(annotator=crowd["careful"]).order_by("-pk")[0]
    assert left.weight < 0.6 < careful.weight
    Reliability.objects.all().delete()
    forget_cached(project.pk)
    assert all(one.same for one in replay(project))
    judging.undo(crowd["random"], project)  # A rebuild from a checkpoint reads the same weights.
    absorb_waiting(project.pk)
    assert all(one.same for one in replay(project))
    assert dict(Judgment.objects.values_list("pk", "weight")) == kept


def test_an_import_does_not_put_off_when_people_are_measured(
    project: Project, crowd: dict[str, User], as_ada: Client
) -> None:
    work(project, crowd, 1)
    imported_votes(project, *["first"] * 400)
    absorb_waiting(project.pk)
    page = as_ada.get(f"/projects/tides/people/{crowd['left'].pk}/judgments/")
    assert "Not measured yet" in page.content.decode()
    work(project, crowd, 5)
    assert set(reliability_of(crowd)) == set(KINDS)


def test_the_answers_of_evaluation_are_no_part_of_it(project: Project, crowd: dict[str, User]) -> None:
    Project.objects.update(evaluation_share=1.0, control_share=0.0)
    project.refresh_from_db()
    project.comparisons.all().delete()
    absorb_waiting(project.pk)
    project.comparisons.exclude(arm="evaluation").delete()
    for kind, user in crowd.items():
        for lease in serving.leases_for(project, user, 8):
            if lease.comparison.arm == "evaluation":
                judging.record(user, lease.pk, Submission(side_of(kind, lease, random.Random(1))))
    absorb_waiting(project.pk)
    assert Judgment.objects.filter(absorbed_step__isnull=False).count() >= 20
    assert not Reliability.objects.exists()


def measured_row(project: Project, user: User, **values: float) -> Reliability:
    even = {"estimate": 1.0, "low": 0.6, "high": 1.4, "side_bias": 0.0, "side_low": -0.3, "side_high": 0.3}
    row = Reliability(project=project, annotator=user, judgments=40, step=40, **(even | values))
    row.save()
    return row


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({}, "Nothing stands out"),
        ({"low": 0.0, "high": 0.3}, "little more than coin flips"),
        ({"side_low": 0.9, "side_bias": 1.5, "side_high": 2.0}, "One side of the screen"),
        ({"low": 0.3, "high": 0.9}, "less than the average does"),
        ({"hasty": 12}, "too quickly"),
        ({"longest_run": 30, "run_chance": 1e-6}, "a run of one side"),
    ],
)
def test_the_record_says_what_stands_out(
    as_ada: Client, project: Project, ben: User, values: dict[str, float], said: str
) -> None:
    measured_row(project, ben, **values)
    assert said in as_ada.get(f"/projects/tides/people/{ben.pk}/judgments/").content.decode()


def test_an_annotator_is_told_nothing_of_it(as_ben: Client, project: Project, ben: User) -> None:
    measured_row(project, ben, low=0.0, high=0.3)
    for path in ("compare", "earlier"):
        assert "coin flips" not in as_ben.get(f"/projects/tides/{path}/").content.decode()
    assert as_ben.get(f"/projects/tides/people/{ben.pk}/judgments/").status_code == 404


def test_the_dashboard_names_the_careless_and_shows_agreement_by_criterion(
    as_ada: Client, project: Project, crowd: dict[str, User]
) -> None:
    work(project, crowd, 8)
    Reliability.objects.all().delete()
    measured_row(project, crowd["random"], estimate=0.1, low=-0.2, high=0.4)
    html = as_ada.get("/projects/tides/").content.decode()
    assert "Look at random: their answers are little better than coin flips" in html
    assert "Agreement, question by question" in html
    assert ">Tone</th>" in html
    assert f"/people/{crowd['random'].pk}/judgments/" in html
