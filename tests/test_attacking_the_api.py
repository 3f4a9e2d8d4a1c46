"""What an attacker sends to the API: other people's cookies, swapped sides, and requests made to cost much."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from django.core.cache import cache
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from annotate import caching
from annotate.models import Judgment, Lease, Project, User
from tests.conftest import PASSWORD
from tests.programs import Program

pytestmark = pytest.mark.django_db


def test_a_cookie_alone_changes_nothing_so_there_is_nothing_to_forge(project: Project, ada: User) -> None:
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(ada, backend="allauth.account.auth_backends.AuthenticationBackend")
    for path in ("/projects/tides/next", "/projects/tides/undo", "/projects/tides/exports"):
        answer = browser.post(f"/api/v1{path}", "{}", content_type="application/json")
        assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")


def test_an_address_that_guesses_is_refused_unread_while_tokens_at_work_go_on(
    project: Project, ada: User, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.clear()
    monkeypatch.setattr(caching, "WINDOW", 10**9)  # a minute must not end meanwhile
    settings.API_FAILURES_A_MINUTE = 3
    working, other = Program(ada), Program(ada)
    assert working.get("/projects").status_code == 200
    guess = Client(headers={"Authorization": "Bearer tst_guess"})
    codes = [guess.get("/api/v1/projects").status_code for _ in range(3)]
    assert codes == [401, 401, 401]
    with CaptureQueriesContext(connection) as queries:
        refused = guess.get("/api/v1/projects")
    assert (refused.status_code, len(queries)) == (429, 0)
    assert 1 <= int(refused.headers["Retry-After"]) <= 61
    assert working.get("/projects").status_code == 200
    assert other.get("/projects").status_code == 429  # it was not at work: it waits a minute at most
    cache.clear()


def test_a_token_gets_no_session_and_signs_nobody_in(project: Project, ada: User) -> None:
    program = Program(ada)
    answer = program.get("/projects")
    assert not answer.cookies
    assert program.client.get("/projects/tides/").status_code == 302
    assert program.client.get("/admin/").status_code == 302


def test_the_way_back_after_signing_in_leads_to_no_other_site(project: Project, ada: User) -> None:
    for back in (
        "https://evil.example.org/",
        "//evil.example.org/",
        "/\\evil.example.org",
        "javascript:alert(1)",
    ):
        answer = Client().post(
            f"/accounts/login/?next={back}", {"login": "ada", "password": PASSWORD, "next": back}
        )
        assert "evil" not in answer.headers.get("Location", "")
        assert "javascript" not in answer.headers.get("Location", "")


@pytest.mark.parametrize("swapped", [False, True])
def test_an_answer_is_meant_for_the_side_that_was_shown(project: Project, ben: User, swapped: bool) -> None:
    program = Program(ben)
    program.post("/projects/tides/next", {})
    Lease.objects.update(swapped=swapped)
    [lease] = program.post("/projects/tides/next", {}).json()["leases"]
    program.post(f"/projects/tides/leases/{lease['id']}/judgment", {"answer": "left"})
    row = Judgment.objects.select_related("comparison__first", "comparison__second").get()
    chosen = getattr(row.comparison, row.answer)
    assert chosen.text == lease["left"]
    assert (row.answer == "second") is swapped


def test_a_skipped_or_answered_pair_of_a_removed_member_is_closed(
    project: Project, ada: User, ben: User
) -> None:
    from annotate import people

    program = Program(ben)
    [lease] = program.post("/projects/tides/next", {}).json()["leases"]
    people.remove(project.memberships.get(user=ben), ada)
    answer = program.post(f"/projects/tides/leases/{lease['id']}/judgment", {"answer": "left"})
    assert answer.status_code == 404
    assert not Judgment.objects.exists()


COSTLY: list[tuple[str, str, bytes]] = [
    ("deep", "application/json", b'{"prompts":' + b"[" * 200_000 + b"]" * 200_000 + b"}"),
    ("wide", "application/json", json.dumps({"prompts": [{}] * 60_000}).encode()),
    ("digits", "application/json", b'{"prompts": ' + b"9" * 2_000_000 + b"}"),
    ("keys", "application/json", json.dumps({f"k{i}": 1 for i in range(100_000)}).encode()),
    ("a key twice", "application/json", b"{" + b",".join(b'"k%d":1' % i for i in range(150_000)) + b',"k149999":1}'),
    ("boundary", "multipart/form-data; boundary=" + "x" * 5_000, b"--" + b"x" * 100_000),
    ("no boundary", "multipart/form-data", b"--x\r\n\r\n"),
    ("form", "application/x-www-form-urlencoded", b"&".join(b"a%d=b" % i for i in range(5_000))),
    ("tags", "application/json",
     b'{"prompts": [{"prompt": "p", "responses": ["a"], "tags": ["t"' + b',"t"' * 9_000 + b"]}]}"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "body"), [(kind, body) for _name, kind, body in COSTLY], ids=[c[0] for c in COSTLY]
)
def test_a_request_that_is_made_to_cost_much_is_refused_quickly(
    project: Project, ada: User, kind: str, body: bytes
) -> None:
    program, began = Program(ada), time.process_time()
    answer = program.client.post("/api/v1/projects/tides/prompts", body, content_type=kind)
    assert 400 <= answer.status_code < 500
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert len(answer.content) < 50_000
    assert time.process_time() - began < 5


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("/projects", {"cursor": "A" * 50_000}), ("/projects/tides/prompts", {"external_id": "x" * 50_000}),
        ("/projects/tides/responses", {"source": "\0"}), ("/projects/tides/responses", {"prompt": str(2**64)}),
        ("/projects/tides/exports/trl.jsonl", {"tag": ["(a+)+$"] * 400}), ("/projects/" + "a" * 5_000, {}),
        ("/projects/tides/jobs/1/files/..%2f..%2fsecret_key", {}), ("/projects/tides/jobs/" + "9" * 400, {}),
    ],
)  # fmt: skip
def test_long_and_odd_addresses_are_refused(
    project: Project, ada: User, path: str, query: dict[str, Any]
) -> None:
    answer = Program(ada).get(path, **query)
    assert answer.status_code in (404, 422), answer.content[:200]


def test_a_stored_script_is_data_with_a_type_that_no_browser_runs(project: Project, ada: User) -> None:
    program = Program(ada)
    evil = "<img src=x onerror=alert(1)>"
    program.post(
        "/projects/tides/prompts", {"prompts": [{"prompt": evil, "responses": [evil, "b"], "id": evil}]}
    )
    for path in ("/projects/tides/prompts", "/projects/tides/responses"):
        answer = program.get(path, limit=200)
        assert evil in json.dumps(answer.json())
        assert answer.headers["Content-Type"] == "application/json; charset=utf-8"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]


def test_errors_tell_nothing_of_the_inside(
    project: Project, ada: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    from annotate.api import projects

    def fail(*_: object) -> None:
        raise RuntimeError("secret of the inside")

    monkeypatch.setattr(projects, "page_of", fail)
    answer = Program(ada).get("/projects")
    assert answer.status_code == 500
    assert answer.json()["code"] == "error"
    assert b"inside" not in answer.content
