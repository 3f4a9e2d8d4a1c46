"""A person makes API tokens for themselves, sees their use, and revokes them."""

from __future__ import annotations

import re

import pytest
from django.test import Client

from annotate.models import AuditEvent, Project, Token, User
from tests.programs import Program

pytestmark = pytest.mark.django_db
PAGE = "/accounts/tokens/"


def made(client: Client, **sent: object) -> tuple[str, str]:
    page = client.post(PAGE, {"name": "Pipeline", "verbs": ["read"], "days": "30", **sent}).content.decode()
    found = re.search(r'value="(tst_[\w-]+)"', page)
    return page, found[1] if found else ""


def test_a_token_is_shown_once_and_opens_the_api(project: Project, as_ada: Client, ada: User) -> None:
    _page, text = made(as_ada, projects=[project.pk])
    assert Client().get("/api/v1/projects", headers={"Authorization": f"Bearer {text}"}).status_code == 200
    again = as_ada.get(PAGE)
    assert text not in again.content.decode()
    assert again.headers["Cache-Control"] == "no-store"
    assert AuditEvent.objects.get(project=project).verb == "made a token"
    token = Token.objects.get()
    assert (token.user, token.every_project, list(token.projects.all())) == (ada, False, [project])


def test_no_project_chosen_means_every_project_of_the_owners(project: Project, as_ben: Client) -> None:
    made(as_ben)
    assert Token.objects.get().every_project


BAD = [
    {"name": ""},
    {"verbs": []},
    {"verbs": ["admin"]},
    {"days": "3650"},
    {"name": "x" * 101},
    {"projects": ["0"]},
]


@pytest.mark.parametrize("sent", BAD)
def test_a_token_that_cannot_be_is_not_made(
    project: Project, as_ada: Client, sent: dict[str, object]
) -> None:
    assert made(as_ada, **sent)[1] == ""
    assert not Token.objects.exists()


def test_a_token_is_not_made_for_anothers_project(project: Project, as_dan: Client) -> None:
    page, text = made(as_dan, projects=[project.pk])
    assert text == ""
    assert "Tides" not in page


def test_a_revoked_token_opens_nothing_and_the_page_says_so(project: Project, as_ada: Client) -> None:
    _page, text = made(as_ada)
    as_ada.post(f"{PAGE}{Token.objects.get().pk}/revoke/")
    assert Client().get("/api/v1/projects", headers={"Authorization": f"Bearer {text}"}).status_code == 401
    assert "revoked" in as_ada.get(PAGE).content.decode()


def test_nobody_sees_or_revokes_anothers_token(project: Project, as_ada: Client, as_ben: Client) -> None:
    made(as_ada, name="Of Ada’s")
    assert "Of Ada’s" not in as_ben.get(PAGE).content.decode()
    assert as_ben.post(f"{PAGE}{Token.objects.get().pk}/revoke/").status_code == 404
    assert Token.objects.get().revoked_at is None


def test_a_stranger_is_asked_to_sign_in(db: None) -> None:
    assert Client().get(PAGE).status_code == 302
    assert Client().post(f"{PAGE}1/revoke/").status_code == 302


def test_a_token_cannot_make_or_read_tokens(project: Project, ada: User) -> None:
    program = Program(ada)
    assert program.client.get(PAGE).status_code == 302
    paths = program.client.get("/api/v1/openapi.json").json()["paths"]
    assert not [path for path in paths if "token" in path]


def test_a_name_is_shown_escaped(project: Project, as_ada: Client) -> None:
    page, _text = made(as_ada, name="<script>alert(1)</script>")
    assert "<script>alert(1)" not in page


def test_the_apis_page_names_every_operation_without_a_script_of_its_own(db: None) -> None:
    client = Client()
    page = client.get("/api/docs/")
    text = page.content.decode()
    for path, methods in client.get("/api/v1/openapi.json").json()["paths"].items():
        assert path in text
        assert all(operation["x-verb"] for operation in methods.values())
    assert "unsafe-inline" not in page.headers["Content-Security-Policy"]
    assert not re.search(
        r"<script(?![^>]* src=)|style=|https?://(?!127)", text.replace("https://example", "")
    )
