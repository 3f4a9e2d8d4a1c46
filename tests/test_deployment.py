"""A user's request: candidates in, a pair or a single response out, and the choice learned from at once."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from django.db import connections

from annotate import correcting, deploying, scoring, serving
from annotate.deploying import Candidate
from annotate.errors import TouchstoneError
from annotate.importing import texts
from annotate.judging import Submission
from annotate.models import (
    Comparison,
    Deployment,
    DeploymentRequest,
    Estimator,
    Job,
    Judgment,
    Project,
    Prompt,
    Response,
    User,
)
from tests.learn import teach
from tests.programs import Program
from tests.serving_worker import scoring_worker

__all__ = ["scoring_worker"]

pytestmark = pytest.mark.django_db
PROMPT = "Why is the sky blue on some days?"
ANSWERS = [
    "Because of scattering.",
    "It is not blue.",
    "Air scatters blue light most. " * 3,
    "- air\n- light\n**blue**",
]


@pytest.fixture
def deployed(project: Project, scoring_worker: None) -> Project:
    """A project that has learned and answers users, by Eq. 6 and 7 alone."""
    teach(project)
    Deployment.objects.create(project=project, is_on=True, baseline_share=0.0, optimism=2.0)
    return project


def ask(
    project: Project, user: User, prompt: object = PROMPT, answers: list[str] | None = None
) -> DeploymentRequest:
    request = deploying.ask(
        project, prompt, [Candidate(text, f"m{i}") for i, text in enumerate(answers or ANSWERS)], user
    )
    return scoring.wait_for(request, 20)


def absorb(project: Project) -> None:
    from learner.tasks.absorbing import absorb_waiting

    absorb_waiting(project.pk)


def test_the_pair_is_that_of_the_equations(deployed: Project, ada: User) -> None:
    from learner.selection import deployment_pair
    from learner.tasks.embedding import load_features
    from learner.tasks.following import follow

    request = ask(deployed, ada)
    held = follow(deployed.pk)
    assert held is not None
    positions = [Response.objects.get(pk=pk).position for pk in request.candidates]
    phi = load_features(held.version, positions).astype(float)
    first, second = deployment_pair(held.bank.theta, held.bank.covariance, phi, 2.0)
    assert first != second
    assert {request.left_id, request.right_id} == {request.candidates[first], request.candidates[second]}
    comparison = request.comparison
    assert comparison is not None
    assert (comparison.arm, comparison.rule, comparison.probability) == ("deployment", "optimistic", 1.0)
    z = phi[first] - phi[second]
    assert comparison.width == pytest.approx(
        float(np.sqrt(z @ np.asarray(held.bank.covariance) @ z)), rel=1e-4
    )


def test_one_response_is_shown_when_no_rival_is_plausible(deployed: Project, ada: User) -> None:
    Deployment.objects.update(optimism=0.0)
    request = ask(deployed, ada)
    assert request.state == "answered"
    assert not request.is_pair
    assert request.comparison is None
    with pytest.raises(TouchstoneError, match="nothing to compare"):
        deploying.judge(request.pk, deployed, Submission("left"), ada)


@pytest.mark.parametrize("change", [{"explores": False}, {}])
def test_without_exploration_or_a_choice_there_is_one_response(
    deployed: Project, ada: User, change: dict[str, Any]
) -> None:
    Deployment.objects.update(**{"baseline_share": 1.0, **change})
    answers = ANSWERS if change else [ANSWERS[0], f"  {ANSWERS[0]} "]
    assert not ask(deployed, ada, answers=answers).is_pair


def test_the_baselines_get_their_share_by_lot_and_the_probability_is_kept(deployed: Project) -> None:
    settings = Deployment.objects.get()
    settings.baseline_share = 0.4
    drawn = [deploying.drawn_rule(deployed, settings, uuid4()) for _ in range(2_000)]
    counts = Counter(rule for rule, _ in drawn)
    assert {rule for rule, _ in drawn} == {"optimistic", *deploying.BASELINES}
    assert abs(counts["optimistic"] / 2_000 - 0.6) < 0.05
    assert all(p == (0.6 if rule == "optimistic" else 0.1) for rule, p in drawn)
    key = uuid4()
    assert deploying.drawn_rule(deployed, settings, key) == deploying.drawn_rule(deployed, settings, key)


def test_the_rules_are_those_of_the_learner() -> None:
    from learner.selection import DEPLOYMENT_RULES

    assert {deploying.OURS, *deploying.BASELINES} == set(DEPLOYMENT_RULES)


def test_a_choice_is_learned_from_at_once_and_replayed_to_the_same_bits(deployed: Project, ada: User) -> None:
    from learner.tasks.replaying import replay
    from learner.tasks.states import _cache

    before = Estimator.objects.get(project=deployed, role="production")
    state = _cache[deployed.pk]
    request = ask(deployed, ada)
    judgment = deploying.judge(request.pk, deployed, Submission("left", lead_time=3.0), ada)
    absorb(deployed)
    judgment.refresh_from_db()
    after = Estimator.objects.get(project=deployed, role="production")
    assert judgment.absorbed_step == before.step + 1
    assert after.judgments == before.judgments + 1
    assert after.digest != before.digest
    assert _cache[deployed.pk] is state, "the pool grew by a user's rows, so nothing is built anew"
    others = Estimator.objects.filter(project=deployed).exclude(role="production")
    assert {row.judgments for row in others} == {
        bank.judgments for role, bank in state.reader.banks.items() if role != "production"
    }
    assert [one for one in replay(deployed) if not one.same] == []
    _cache.clear()
    assert all(one.same for one in replay(deployed))


def test_the_answer_is_in_terms_of_the_sides_that_were_shown(deployed: Project, ada: User) -> None:
    seen = set()
    for n in range(12):
        request = ask(deployed, ada, f"{PROMPT} ({n})")
        judgment = deploying.judge(request.pk, deployed, Submission("right"), ada)
        comparison = judgment.comparison
        chosen = comparison.first if judgment.answer == "first" else comparison.second
        assert chosen == request.right
        seen.add(request.is_swapped)
    assert seen == {True, False}


def test_a_choice_sent_twice_is_one_judgment(deployed: Project, ada: User) -> None:
    request = ask(deployed, ada)
    first = deploying.judge(request.pk, deployed, Submission("left"), ada)
    assert deploying.judge(request.pk, deployed, Submission("right"), ada) == first
    assert Judgment.objects.filter(comparison__arm="deployment").count() == 1


@pytest.mark.django_db(transaction=True)
def test_twenty_choices_at_once_are_one_judgment(deployed: Project, ada: User) -> None:
    request = ask(deployed, ada)

    def choose(number: int) -> int:
        try:
            return deploying.judge(
                request.pk, deployed, Submission("left" if number % 2 else "right"), ada
            ).pk
        finally:
            connections.close_all()

    with ThreadPoolExecutor(20) as pool:
        keys = set(pool.map(choose, range(20)))
    assert len(keys) == 1
    assert Judgment.objects.filter(comparison__arm="deployment").count() == 1
    assert Comparison.objects.get(arm="deployment").judged == 1


def test_two_users_may_be_shown_the_same_pair(deployed: Project, ada: User, ben: User) -> None:
    one, two = ask(deployed, ada), ask(deployed, ben)
    assert set(one.candidates) == set(two.candidates)
    assert Prompt.objects.filter(project=deployed, is_deployment=True).count() == 1
    for request, user in ((one, ada), (two, ben)):
        deploying.judge(request.pk, deployed, Submission("left"), user)
    absorb(deployed)
    assert Judgment.objects.filter(comparison__arm="deployment", absorbed_step__isnull=False).count() == 2


def test_annotators_are_never_asked_about_what_users_brought(deployed: Project, ada: User, ben: User) -> None:
    request = ask(deployed, ada)
    deployed.refresh_from_db()
    absorb(deployed)
    while leases := serving.leases_for(deployed, ben, 1):
        assert not leases[0].comparison.prompt.is_deployment
        assert leases[0].comparison.arm != "deployment"
        from annotate import judging

        judging.record(ben, leases[0].pk, Submission("left"))
        absorb(deployed)
    deploying.judge(request.pk, deployed, Submission("left"), ada)


def test_a_question_of_the_evaluation_set_teaches_nothing(deployed: Project, ada: User) -> None:
    prompt = Prompt.objects.filter(project=deployed, is_evaluation=True)[0]
    prompt.digest = texts.digest_of_messages([{"role": "user", "content": prompt.text}])
    prompt.save()
    before = Estimator.objects.get(project=deployed, role="production")
    request = ask(deployed, ada, prompt.text, ["An answer of mine.", "Quite another, and longer. " * 5])
    assert request.prompt_id == prompt.pk
    deploying.judge(request.pk, deployed, Submission("left"), ada)
    absorb(deployed)
    after = Estimator.objects.get(project=deployed, role="production")
    assert after.step == before.step + 1
    assert after.judgments == before.judgments


def test_the_features_are_there_before_the_choice_without_a_job(deployed: Project, ada: User) -> None:
    jobs = Job.objects.count()
    ask(deployed, ada)
    version = deployed.feature_versions.get(state="live")
    deployed.refresh_from_db()
    assert version.embedded == deployed.response_count == 48 + len(ANSWERS)
    assert Job.objects.count() == jobs


def test_what_is_off_archived_or_malformed_is_refused(deployed: Project, ada: User) -> None:
    with pytest.raises(TouchstoneError, match="Between 1 and 64"):
        deploying.ask(deployed, PROMPT, [Candidate("x")] * 65, ada)
    with pytest.raises(TouchstoneError, match="ends with the assistant"):
        deploying.ask(deployed, [{"role": "assistant", "content": "x"}], [Candidate("x")], ada)
    Deployment.objects.update(is_on=False)
    with pytest.raises(TouchstoneError, match="deployment is off") as refused:
        ask(deployed, ada)
    assert refused.value.code == "unready"
    assert not DeploymentRequest.objects.exists()


# --- By the API ---------------------------------------------------------------------------------------------


def body(**more: Any) -> dict[str, Any]:
    return {
        "prompt": PROMPT,
        "responses": [{"text": text, "source": f"m{i}"} for i, text in enumerate(ANSWERS)],
        **more,
    }


def test_a_program_asks_shows_and_reports(deployed: Project, ada: User) -> None:
    program = Program(ada)
    answer = program.post("/projects/tides/deployment", body())
    assert answer.status_code == 200, answer.content
    told = answer.json()
    assert (told["state"], told["kind"], told["judged"]) == ("answered", "pair", False)
    assert [ANSWERS[one["index"]] for one in told["responses"]] == [one["text"] for one in told["responses"]]
    assert all(one["source"] is None for one in told["responses"])
    feedback = program.post(f"/projects/tides/deployment/{told['id']}/judgment", {"answer": "right"})
    assert feedback.status_code == 200, feedback.content
    assert feedback.json()["answer"] == "right"
    assert feedback.json()["sources"] == [f"m{one['index']}" for one in told["responses"]]
    again = program.get(f"/projects/tides/deployment/{told['id']}").json()
    assert again["judged"]
    assert [one["source"] for one in again["responses"]] == feedback.json()["sources"]
    Deployment.objects.update(reveals_sources=False)
    assert program.get(f"/projects/tides/deployment/{told['id']}").json()["responses"][0]["source"] is None


def test_what_a_reviewer_withdrew_is_not_chosen_again(deployed: Project, ada: User) -> None:
    request = ask(deployed, ada)
    judgment = deploying.judge(request.pk, deployed, Submission("left"), ada)
    correcting.withdraw(ada, deployed, judgment.pk, "a mistake")
    again = Program(ada).post(f"/projects/tides/deployment/{request.pk}/judgment", {"answer": "left"})
    assert (again.status_code, again.json()["code"]) == (409, "expired")
    assert not deployed.judgments.filter(comparison=request.comparison, replaced_at=None).exists()


def test_a_program_scores_and_chooses_the_best(deployed: Project, ada: User) -> None:
    program = Program(ada)
    items = [{"prompt": PROMPT, "response": text} for text in ANSWERS]
    told = program.post("/projects/tides/score", {"items": items}).json()
    assert len(told["rewards"]) == 4
    assert set(told["rewards"][0]) == {"reward", "low", "high", "width", "pessimistic"}
    best = program.post("/projects/tides/best-of", {"prompt": PROMPT, "responses": ANSWERS}).json()
    assert set(best["chosen"]) == {"greedy", "averaged", "pessimistic"}
    greedy = max(range(4), key=lambda i: told["rewards"][i]["reward"])
    assert best["chosen"]["greedy"]["index"] == greedy
    fetched = program.get(f"/projects/tides/best-of/{best['id']}").json()
    assert fetched == best
    conversation = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Yes?"},
        {"role": "user", "content": PROMPT},
    ]
    assert (
        program.post(
            "/projects/tides/score", {"items": [{"prompt": conversation, "response": "x"}]}
        ).status_code
        == 200
    )


def test_what_takes_longer_than_the_caller_waits_is_accepted_and_fetched_later(
    deployed: Project, ada: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    from learner.tasks.scoring import answer_waiting

    monkeypatch.setattr(scoring, "between_looks", lambda _seconds: None)
    program = Program(ada)
    answer = program.post("/projects/tides/deployment?wait=0", body())
    assert answer.status_code == 202
    assert answer.json()["responses"] == []
    early = program.post(f"/projects/tides/deployment/{answer.json()['id']}/judgment", {"answer": "left"})
    assert (early.status_code, early.json()["code"]) == (409, "expired")
    answer_waiting()
    assert program.get(f"/projects/tides/deployment/{answer.json()['id']}").json()["kind"] == "pair"


@pytest.mark.parametrize("path", ["score", "best-of", "deployment"])
def test_only_reviewers_with_the_verb_are_served(
    deployed: Project, ada: User, ben: User, dan: User, path: str
) -> None:
    sent = {
        "score": {"items": [{"prompt": "p", "response": "r"}]},
        "best-of": {"prompt": "p", "responses": ["r"]},
        "deployment": body(),
    }[path]
    address = f"/projects/tides/{path}"
    assert Program(dan).post(address, sent).status_code == 404
    assert Program(ben).post(address, sent).status_code == 403
    assert Program(ada, ["read", "annotate", "write", "export"]).post(address, sent).status_code == 403
    assert Program(ada, ["deploy"]).post(address, sent).status_code == 200


def test_a_request_belongs_to_whoever_made_it(deployed: Project, ada: User, dan: User) -> None:
    deployed.memberships.create(user=dan, role="admin")
    key = Program(ada).post("/projects/tides/deployment", body()).json()["id"]
    assert Program(dan).get(f"/projects/tides/deployment/{key}").status_code == 404
    assert (
        Program(dan).post(f"/projects/tides/deployment/{key}/judgment", {"answer": "left"}).status_code == 404
    )
    other = Project.objects.create(name="Other", slug="other")
    other.memberships.create(user=ada, role="admin")
    assert Program(ada).get(f"/projects/other/deployment/{key}").status_code == 404
    assert Program(ada).get(f"/projects/tides/score/{key}").status_code == 404


@pytest.mark.parametrize(
    "sent",
    [
        {}, {"prompt": ""}, body(rule="random"), body(probability=1), body(user=1), body(prompt=[]), body(prompt=["x"]),
        body(responses=[""]), body(responses=[{"text": "a", "position": 1}]), body(responses=["a\0"]),
        body(responses=["x"] * 65),
        body(prompt=[{"role": "root", "content": "x"}]), [], "x", None,
    ],
)  # fmt: skip
def test_what_is_sent_is_checked_field_by_field(deployed: Project, ada: User, sent: Any) -> None:
    answer = Program(ada).post("/projects/tides/deployment", sent)
    assert answer.status_code in (400, 422), answer.content
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert not DeploymentRequest.objects.exists()
    assert not Comparison.objects.filter(arm="deployment").exists()


@pytest.mark.parametrize(
    "sent",
    [
        {},
        {"answer": "first"},
        {"answer": "left", "strength": 9},
        {"answer": "left", "lead_time": -1},
        {"answer": "left", "arm": "active"},
    ],
)
def test_feedback_is_checked_field_by_field(deployed: Project, ada: User, sent: Any) -> None:
    program = Program(ada)
    key = program.post("/projects/tides/deployment", body()).json()["id"]
    assert program.post(f"/projects/tides/deployment/{key}/judgment", sent).status_code == 422
    assert not Judgment.objects.filter(comparison__arm="deployment").exists()
