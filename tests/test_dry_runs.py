"""Dry runs: who may, what is asked for, what comes out, that "no rule" can come out, and taking a rule over."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from django.test import Client
from django.urls import reverse
from pytest_django.asserts import assertRedirects

from annotate import dryruns
from annotate.errors import TouchstoneError
from annotate.models import AuditEvent, Comparison, Job, Judgment, Membership, Project, Response, Role, User
from learner.dryrun import Run, recommend
from learner.tasks import dryrunning
from learner.tasks.dryrunning import compare_rules
from learner.tasks.jobs import run
from tests.conftest import fill, person, signed_in
from tests.learn import embed_and_absorb

pytestmark = pytest.mark.django_db
GIVEN = {"rules": ["d_optimal"], "labels": "utility", "budget": 20, "seeds": 2}


@pytest.fixture
def embedded(project: Project) -> Project:
    fill(project, prompts=28, responses=4, start=12)
    embed_and_absorb(project)
    return project


def url(name: str, *arguments: object) -> str:
    return reverse(name, args=["tides", *arguments])


def finished(project: Project, actor: User, **given: Any) -> Job:
    job = dryruns.start(project, actor, {**GIVEN, **given})
    assert run(job.pk)
    job.refresh_from_db()
    return job


def voted(project: Project) -> None:
    """Every two neighbouring responses were judged elsewhere: the one of more worth was preferred."""
    project.comparisons.all().delete()
    for prompt in project.prompts.all():
        for first, second in pairwise(prompt.responses.order_by("pk")):
            comparison = Comparison.objects.create(
                project=project, prompt=prompt, first=first, second=second, arm="imported", rule="imported",
                state="done", wanted=1, taken=1, judged=1,
            )  # fmt: skip
            Judgment.objects.create(project=project, comparison=comparison, answer="second")


def test_only_admins_start_and_reviewers_look(
    embedded: Project, ada: User, as_ada: Client, as_ben: Client, as_dan: Client
) -> None:
    rae, eve = person("rae"), person("eve")
    Membership.objects.create(project=embedded, user=rae, role=Role.REVIEWER)
    other = Project.objects.create(name="Other", slug="other")
    Membership.objects.create(project=other, user=eve, role=Role.ADMIN)
    job = dryruns.start(embedded, ada, GIVEN)
    paths = [url("dry_runs"), url("dry_run", job.pk)]
    for path in paths:
        assert as_ada.get(path).status_code == signed_in(rae).get(path).status_code == 200
        for client in (as_ben, as_dan, signed_in(eve)):
            assert client.get(path).status_code == 404
    signed_in(rae).post(url("dry_runs"), {**GIVEN, "budget": 33})
    assert Job.objects.filter(kind="dry_run").count() == 1
    for client in (as_ben, as_dan, signed_in(eve), signed_in(rae)):
        assert client.post(url("dry_run_adopt", job.pk), {"rule": "random"}).status_code == 404
    assert as_ada.get(url("dry_run", 10**30)).status_code == 404
    assertRedirects(as_ada.get(url("dry_run_adopt", job.pk)), url("dry_run", job.pk))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"rules": []}, "required"),
        ({"rules": ["os.system"]}, "not one of the available choices"),
        ({"rules": ["bald", "entropy", "drts", "info_max", "d_optimal", "best_worst"]}, "at most 5"),
        ({"budget": 5}, "greater than or equal to 20"),
        ({"budget": 10**9}, "less than or equal to 2000"),
        ({"seeds": 0}, "greater than or equal to 1"),
        ({"labels": "votes"}, "not one of the available choices"),
    ],
)
def test_what_cannot_run_is_said(
    embedded: Project, as_ada: Client, wrong: dict[str, Any], words: str
) -> None:
    answer = as_ada.post(url("dry_runs"), {**GIVEN, **wrong})
    assert words in answer.content.decode()
    assert not Job.objects.filter(kind="dry_run").exists()


def test_without_answers_the_page_says_what_is_needed(project: Project, as_ada: Client) -> None:
    Response.objects.update(utility=None)
    assert "A dry run needs answers" in as_ada.get(url("dry_runs")).content.decode()


def test_a_run_leaves_curves_a_recommendation_and_warnings(
    embedded: Project, ada: User, as_ada: Client, as_ben: Client
) -> None:
    answer = as_ada.post(url("dry_runs"), GIVEN)
    job = Job.objects.get(kind="dry_run")
    assert answer["Location"] == url("dry_run", job.pk)
    assert "It begins as soon as a worker is free" in as_ada.get(url("dry_run", job.pk)).content.decode()
    assert "HX-Refresh" not in as_ada.get(url("job_progress", job.pk))
    assert run(job.pk)
    assert as_ada.get(url("job_progress", job.pk))["HX-Refresh"] == "true"
    job.refresh_from_db()
    assert (job.state, job.done) == ("done", 2 * 2 * 20)
    assert job.result["rules"]["random"]["counts"][-1] == 20
    text = as_ada.get(url("dry_run", job.pk)).content.decode()
    for words in ("Which rule?", "What this does not show", "With fewer than three seeds", "Use this"):
        assert words in text
    for ext, kind in (("svg", "image/svg+xml"), ("png", "image/png"), ("csv", "text/csv; charset=utf-8")):
        path = f"/projects/tides/charts/dry-run-{job.pk}-log-loss.{ext}"
        drawn = as_ada.get(path)
        assert (drawn.status_code, drawn["Content-Type"]) == (200, kind)
        assert as_ben.get(path).status_code == 404
    for name in (
        f"dry-run-{job.pk}-x",
        "dry-run-x-accuracy",
        f"dry-run-{10**17}-accuracy",
        f"dry-run-{job.pk}",
    ):
        assert as_ada.get(f"/projects/tides/charts/{name}.svg").status_code == 404


def test_the_same_seeds_give_the_same_numbers(embedded: Project, ada: User) -> None:
    one = finished(embedded, ada).result
    two = finished(embedded, ada).result
    assert one == two


def test_votes_answer_and_a_known_winner_is_learned(embedded: Project, ada: User) -> None:
    voted(embedded)
    assert [value for value, _label in dryruns.sources_of_labels(embedded)] == ["votes", "utility"]
    job = finished(embedded, ada, labels="votes", budget=40)
    assert job.state == "done", job.message
    curve = job.result["rules"]["random"]["log_loss"]
    assert curve[-1][0] < curve[0][0]  # it learns
    assert job.result["pairs"] == 3 * 30
    assert any("Only pairs that were judged" in one for one in dryruns.warnings(job))


def test_held_out_prompts_are_never_asked_about(embedded: Project) -> None:
    voted(embedded)
    for labels in ("votes", "utility"):
        pool = dryrunning.pool_of(embedded, labels)
        for seed in range(2):
            task = dryrunning.task_of(pool, seed)
            assert not set(task.prompt[task.first]) & set(task.test_prompt)
            assert (task.prompt[task.first] == task.prompt[task.second]).all()


def test_a_cancelled_run_stops_and_keeps_no_result(
    embedded: Project, ada: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = dryruns.start(embedded, ada, GIVEN)
    calls: list[int] = []

    def stop(_job: Job, done: int, message: str = "") -> bool:
        calls.append(done)
        return done < 7

    monkeypatch.setattr(dryrunning, "report", stop)
    assert "labels were tried" in compare_rules(job)
    assert calls[-1] == 7
    assert not job.result


def test_a_pool_without_features_fails_with_a_sentence(project: Project, ada: User) -> None:
    job = finished(project, ada)
    assert (job.state, "not embedded" in job.message) == ("failed", True)


def test_a_pool_with_too_little_fails_with_a_sentence(embedded: Project, ada: User) -> None:
    Response.objects.filter(prompt__position__gt=1).update(utility=None)
    job = finished(embedded, ada, budget=21)
    assert (job.state, "Too little" in job.message) == ("failed", True)


# --- The recommendation -----------------------------------------------------------------------------------------


def runs_with(gains: dict[str, float], noise: float = 0.05) -> tuple[dict[str, list[Run]], Any]:
    """Three seeds of losses that fall with the labels, each rule's lower by its gain."""
    rng = np.random.default_rng(3)
    runs = {
        rule: [
            Run(0.7 - gain + noise * rng.standard_normal((3, 200)), np.ones((3, 200)), np.ones(3))
            for _ in range(3)
        ]
        for rule, gain in gains.items()
    }
    return runs, np.repeat(np.arange(50), 4)


def test_no_rule_is_recommended_where_none_can_be_told_from_random() -> None:
    runs, clusters = runs_with({"random": 0.0, "bald": 0.0005, "entropy": 0.0}, noise=0.3)
    assert recommend(runs, (10, 20, 40), clusters).rule is None
    found = {
        "advice": {"rule": None, "best": "bald", "gain": [0.001, -0.01, 0.012], "rivals": [], "worse": []}
    }
    tone, sentence = dryruns.advice(found)
    assert tone == "open"
    assert "No rule can be told from random here" in sentence
    assert "-0.010 to +0.012" in sentence


def test_a_best_rule_that_was_behind_did_not_lower_anything() -> None:
    found = {
        "advice": {"rule": None, "best": "bald", "gain": [-0.007, -0.02, 0.006], "rivals": [], "worse": []}
    }
    tone, sentence = dryruns.advice(found)
    assert tone == "open"
    assert "The best, bald, raised log-loss by 0.007 on average" in sentence
    assert "anything from -0.006 to +0.020 fits" in sentence


@pytest.mark.parametrize(
    ("gain", "saved", "uneven"),
    [
        (0.023, [0.19, 0.08, 1.0, False], True),
        (0.023, [1.4, 0.9, 2.0, False], False),
        (-0.01, [0.8, 0.5, 1.1, False], False),
        (-0.01, [1.2, 0.5, 1.6, False], True),
        (-0.01, [1.0, 0.5, 1.0, True], True),
        (0.01, [1.0, 0.5, 1.0, True], False),
        (0.0, [1.0, 1.0, 1.0, False], False),
    ],
)
def test_no_worth_is_shown_that_contradicts_the_gain(
    embedded: Project, ada: User, as_ada: Client, gain: float, saved: list[Any], uneven: bool
) -> None:
    job = dryruns.start(embedded, ada, GIVEN)
    level = {"counts": [20], "log_loss": [[0.6, 0.5, 0.7]], "accuracy": [[0.6, 0.5, 0.7]], "area": 0.6}
    rules = {"random": level | {"gain": [[0.0, 0.0, 0.0]], "saved": [[1.0, 1.0, 1.0, False]]}}
    rules["d_optimal"] = level | {"gain": [[gain, -0.1, 0.1]], "saved": [saved]}
    advice = {"rule": None, "best": "d_optimal", "gain": [gain, -0.1, 0.1], "rivals": [], "worse": []}
    numbers = {"pairs": 90, "held_out": 30, "held_out_prompts": 10, "prompts": 40, "all_prompts": 40}
    result = {"rules": rules, "advice": advice, "seeds": 5, **numbers}
    Job.objects.filter(pk=job.pk).update(state="done", result=result)
    text = as_ada.get(url("dry_run", job.pk)).content.decode()
    assert ("the curves are too uneven to say" in text) == uneven
    assert (f"{saved[1]:.2f} to {saved[2]:.2f}" in text) != uneven


def test_where_every_rule_is_behind_random_that_is_what_is_said() -> None:
    found = {
        "advice": {"rule": None, "best": "bald", "gain": [-0.075, -0.136, -0.019], "rivals": [], "worse": []}
    }
    tone, sentence = dryruns.advice(found)
    assert tone == "warn"
    assert "No rule did better than random here: even the best, bald, was behind by 0.075" in sentence
    assert "(0.019 to 0.136)" in sentence


def test_the_better_rule_is_recommended_with_its_rivals_and_the_worse_are_named() -> None:
    runs, clusters = runs_with({"random": 0.0, "bald": 0.1, "entropy": 0.099, "drts": -0.1})
    found = recommend(runs, (10, 20, 40), clusters)
    assert found.rule in ("bald", "entropy")
    assert set(found.rivals) == {"bald", "entropy"} - {found.rule}
    assert found.worse == ("drts",)
    assert found.gain.estimate == pytest.approx(0.1, abs=0.01)


def test_random_is_rarely_beaten_by_rules_that_are_no_better() -> None:
    """Of 60 such comparisons of five rules, at most a few may recommend one (the promise is 5 %)."""
    rng = np.random.default_rng(0)
    clusters = np.repeat(np.arange(40), 3)
    wrong = 0
    for _ in range(60):
        prompt = rng.standard_normal((1, 40)).repeat(3, axis=1)
        runs = {
            rule: [
                Run(0.6 + 0.1 * prompt + 0.2 * rng.standard_normal((2, 120)), np.ones((2, 120)), np.ones(2))
                for _ in range(2)
            ]
            for rule in ("random", "a", "b", "c", "d", "e")
        }
        wrong += recommend(runs, (10, 20), clusters).rule is not None
    assert wrong <= 7


def test_a_rule_is_taken_over_with_a_line_in_the_audit_log(
    embedded: Project, ada: User, as_ada: Client
) -> None:
    job = finished(embedded, ada, rules=["bald"])
    as_ada.post(url("dry_run_adopt", job.pk), {"rule": "bald"})
    embedded.refresh_from_db()
    assert embedded.rule == "bald"
    event = AuditEvent.objects.get(verb="changed", subject=f"after dry run {job.pk}")
    assert event.details == {"rule": ["d_optimal", "bald"]}
    for rule in ("bald", "entropy", "", "x" * 500):
        with pytest.raises(TouchstoneError):
            dryruns.adopt(embedded, ada, job, rule)
