"""Every call: who calls, what the token may do, and how errors, pages and repeated requests look."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone

from annotate import people, tokens
from annotate.models import KeptAnswer, Project, Token, User
from tests.programs import Program, token_of

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("scheme", ["Bearer", "Token", "bearer"])
def test_both_words_before_the_token_are_known(project: Project, ada: User, scheme: str) -> None:
    answer = Client().get("/api/v1/projects", headers={"Authorization": f"{scheme} {token_of(ada)}"})
    assert [one["slug"] for one in answer.json()["items"]] == ["tides"]


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer ", "Bearer tst_x", "Basic YTpi", "tst_x", "Bearer \x7f"]
)
def test_no_token_no_answer(project: Project, header: str) -> None:
    answer = Client().get("/api/v1/projects", headers={"Authorization": header} if header else {})
    assert answer.status_code == 401
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")


def test_a_session_is_no_way_into_the_api(project: Project, as_ada: Client) -> None:
    assert as_ada.get("/api/v1/projects").status_code == 401


def test_a_token_is_kept_as_its_digest_only_and_its_use_is_noted(project: Project, ada: User) -> None:
    program = Program(ada)
    assert program.get("/projects").status_code == 200
    row = Token.objects.get()
    assert program.token not in json.dumps({name: str(value) for name, value in vars(row).items()})
    assert row.used_at is not None


def test_a_token_ends_when_revoked_when_expired_and_with_its_owner(project: Project, ada: User) -> None:
    revoked, expired, left = (Program(ada) for _ in range(3))
    rows = list(Token.objects.order_by("id"))
    tokens.revoke(ada, rows[0].pk)
    Token.objects.filter(pk=rows[1].pk).update(expires_at=timezone.now() - timedelta(seconds=1))
    assert revoked.get("/projects").status_code == expired.get("/projects").status_code == 401
    assert left.get("/projects").status_code == 200
    User.objects.filter(pk=ada.pk).update(is_active=False)
    assert left.get("/projects").status_code == 401


def test_a_removed_members_token_reaches_the_project_no_more(project: Project, ada: User, ben: User) -> None:
    program = Program(ben, projects=[project])
    assert program.get("/projects/tides").status_code == 200
    people.remove(project.memberships.get(user=ben), ada)
    assert program.get("/projects/tides").status_code == 404
    assert program.get("/projects").json()["items"] == []


def test_a_token_reaches_no_project_outside_its_scope(project: Project, ada: User, dan: User) -> None:
    other = Project.objects.create(name="Other", slug="other")
    other.memberships.create(user=ada, role="admin")
    assert Program(ada, projects=[other]).get("/projects/tides").status_code == 404
    assert Program(dan).get("/projects/tides").status_code == 404
    assert Program(ada).get("/projects/other").status_code == 200


def test_a_token_does_only_what_its_verbs_say(project: Project, ada: User) -> None:
    answer = Program(ada, verbs=["annotate"]).get("/projects")
    assert answer.status_code == 403
    assert answer.json()["code"] == "forbidden"


def test_an_annotator_does_not_learn_how_pairs_are_chosen(project: Project, ada: User, ben: User) -> None:
    assert Program(ben).get("/projects/tides").json()["collection"] is None
    assert Program(ada).get("/projects/tides").json()["collection"]["rule"] == "d_optimal"


def test_a_project_that_did_not_change_is_not_sent_again(project: Project, ada: User) -> None:
    program = Program(ada)
    tag = {"If-None-Match": program.get("/projects/tides").headers["ETag"]}
    assert program.client.get("/api/v1/projects/tides", headers=tag).status_code == 304
    Project.objects.update(question="Which is truer?")
    assert program.client.get("/api/v1/projects/tides", headers=tag).json()["question"] == "Which is truer?"


def test_pages_follow_one_another_by_cursor(project: Project, ada: User) -> None:
    for n in range(4):
        Project.objects.create(name=f"P{n}", slug=f"p{n}").memberships.create(user=ada, role="admin")
    program, seen, cursor = Program(ada), [], ""
    while cursor is not None:
        page = program.get("/projects", limit=2, cursor=cursor).json()
        seen += [one["slug"] for one in page["items"]]
        cursor = page["next"]
    assert seen == ["tides", "p0", "p1", "p2", "p3"]


@pytest.mark.parametrize(
    "query",
    [
        {"limit": "0"}, {"limit": "100000"}, {"limit": "x"}, {"cursor": "!!"}, {"cursor": "abc"}, {"ordering": "seed"},
        {"memberships__user__password": "a"}, {"cursor": "azk5OTk5OTk5OTk5OTk5OTk5OTk5OTk5OTk5OTk"},
    ],
)  # fmt: skip
def test_a_parameter_that_is_not_known_or_not_right_is_named(
    project: Project, ada: User, query: dict[str, str]
) -> None:
    answer = Program(ada).get("/projects", **query)
    assert answer.status_code == 422
    assert f"query.{next(iter(query))}" in answer.json()["detail"]


@pytest.mark.parametrize(
    "path", ["/api/v1/nothing", "/api/v1/projects/no/such", "/api/v1/projects/%00", "/api/"]
)
def test_an_unknown_address_is_a_problem_too(db: None, path: str) -> None:
    answer = Client().get(path)
    assert (answer.status_code, answer.headers["Content-Type"]) == (404, "application/problem+json")


def test_another_method_is_a_problem_that_names_the_allowed(project: Project, ada: User) -> None:
    answer = Program(ada).delete("/projects")
    assert (answer.status_code, answer.headers["Allow"]) == (405, "GET")
    assert answer.headers["Content-Type"] == "application/problem+json"


def test_a_token_that_asks_too_often_is_told_when_to_come_back(
    project: Project, ada: User, ben: User, settings: object
) -> None:
    settings.API_REQUESTS_A_MINUTE = 2  # type: ignore[attr-defined]
    program = Program(ada)
    codes = [program.get("/projects").status_code for _ in range(4)]
    assert codes[:2] == [200, 200]
    assert 429 in codes[2:]
    if codes[3] == 429:
        assert 1 <= int(program.get("/projects").headers["Retry-After"]) <= 61
    assert Program(ben).get("/projects").status_code == 200


def test_kept_answers_are_forgotten_after_a_day(project: Project, ada: User) -> None:
    from annotate.api.repeating import forget_old

    Program(ada)
    KeptAnswer.objects.create(
        token=Token.objects.get(), key="k", fingerprint="f", created_at=timezone.now() - timedelta(days=2)
    )
    forget_old()
    assert not KeptAnswer.objects.exists()


def test_the_schema_names_every_answer_that_there_is(project: Project, ada: User) -> None:
    program = Program(ada)
    schema = program.client.get("/api/v1/openapi.json").json()["paths"]
    every = [one for methods in schema.values() for one in methods.values()]
    assert all({"4XX", "5XX"} <= set(one["responses"]) for one in every)
    unchanged = {one["operationId"] for one in every if "304" in one["responses"]}
    assert unchanged == {
        "get_project", "get_estimator", "get_label_efficiency", "get_sources", "stream_export",
    }  # fmt: skip
    export = schema["/api/v1/projects/{slug}/exports/{kind}.{format}"]["get"]["responses"]
    assert "content" in export["200"]
