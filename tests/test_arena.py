"""The arena: a prompt, two anonymous answers that stream in, a choice, the sources, and the conversation going on."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from django.core.cache import cache
from django.test import Client, override_settings

from annotate import arena, caching, generating
from annotate.models import (
    AuditEvent,
    Deployment,
    DeploymentRequest,
    Generation,
    Generator,
    Judgment,
    PolicyReport,
    Project,
    User,
)
from tests.endpoint import Endpoint, fake_endpoint
from tests.learn import teach
from tests.serving_worker import scoring_worker

__all__ = ["scoring_worker"]

pytestmark = pytest.mark.django_db
HERE = "/projects/tides/arena/"
SEEING = {"HX-Request": "true"}


@pytest.fixture
def endpoint(settings: Any) -> Iterator[Endpoint]:
    cache.clear()
    with fake_endpoint(settings) as found:
        yield found


@pytest.fixture
def opened(project: Project, ada: User, endpoint: Endpoint, scoring_worker: None) -> Project:
    """An arena with two sources, where two answers are always shown."""
    teach(project, 12)
    Deployment.objects.create(project=project, is_on=True, baseline_share=0.0, optimism=50.0)
    endpoint.by_model = {
        "moon": ["The moon ", "pulls the sea."],
        "wind": ["The **wind** pushes it, " * 3, "says <b>Bo</b>."],
    }
    for source in ("moon", "wind"):
        generating.save(Generator(project=project, source=source, model=source, url=endpoint.url), ada)
    return project


def work() -> None:
    from learner.tasks.generating import write_waiting
    from learner.tasks.scoring import answer_waiting

    write_waiting()
    answer_waiting()


def ask(client: Client, text: str = "Why the tide?", base: str = HERE, **more: str) -> str:
    answer = client.post(f"{base}ask/", {"prompt": text, **more})
    assert answer.status_code == 302, answer.content
    return str(answer.headers["Location"])


def test_a_member_asks_chooses_and_then_sees_who_wrote_what(
    opened: Project, as_ben: Client, ben: User
) -> None:
    page = ask(as_ben)
    waiting = as_ben.get(page).content.decode()
    assert "Two answers are being written" in waiting
    assert 'hx-trigger="every 600ms"' in waiting
    work()
    shown = as_ben.get(page).content.decode()
    assert "hx-trigger" not in shown
    assert "The moon pulls the sea." in shown
    assert "<strong>wind</strong>" in shown
    assert 'class="source"' not in shown
    assert "A is better" in shown
    request = DeploymentRequest.objects.get()
    assert as_ben.post(f"{page}choose/", {"side": "left"}).status_code == 302
    judgment = Judgment.objects.get(comparison=request.comparison)
    assert judgment.annotator == ben
    after = as_ben.get(page).content.decode()
    assert "your choice" in after
    for source in ("moon", "wind"):
        assert f'<span class="source">{source}</span>' in after
    Deployment.objects.update(reveals_sources=False)
    assert 'class="source"' not in as_ben.get(page).content.decode()


def test_the_two_answers_grow_on_the_sides_where_they_stay(opened: Project, as_ben: Client) -> None:
    for n in range(6):
        page = ask(as_ben, f"Why the tide {n}?")
        request = DeploymentRequest.objects.latest("created_at")
        Generation.objects.filter(request=request, source="moon").update(state="running", text="The moon ")
        early = as_ben.get(page, headers=SEEING).content.decode()
        Generation.objects.filter(request=request).update(state="waiting", text="")
        work()
        late = as_ben.get(page, headers=SEEING).content.decode()
        assert early.lstrip().startswith("<section")
        moon_is_left = early.index("The moon") < early.index("<h2>B")
        assert (late.index("The moon") < late.index("<h2>B")) == moon_is_left


def test_the_conversation_goes_on_with_what_was_chosen(
    opened: Project, as_ben: Client, endpoint: Endpoint
) -> None:
    page = ask(as_ben)
    work()
    first = DeploymentRequest.objects.get()
    early = as_ben.post(f"{HERE}ask/", {"prompt": "And then?", "parent": str(first.pk)})
    assert early.headers["Location"] == page, "a choice comes before the next turn"
    as_ben.post(f"{page}choose/", {"side": "right"})
    second = ask(as_ben, "And then?", parent=str(first.pk))
    work()
    assert first.right is not None
    said = [(one["role"], one["content"]) for one in endpoint.requests[-1][2]["messages"]]
    assert said == [("user", "Why the tide?"), ("assistant", first.right.text), ("user", "And then?")]
    shown = as_ben.get(second).content.decode()
    assert "And then?" in shown
    assert len(arena.newest(arena.Guest(opened, HERE, User.objects.get(username="ben")))) == 1


@pytest.mark.parametrize(
    ("side", "says", "goes_on"), [("tie", "a tie", True), ("both_bad", "both bad", False)]
)
def test_a_tie_and_both_bad_are_taken(
    opened: Project, as_ben: Client, side: str, says: str, goes_on: bool
) -> None:
    page = ask(as_ben)
    work()
    as_ben.post(f"{page}choose/", {"side": side})
    shown = as_ben.get(page).content.decode()
    assert says in shown
    assert ('name="parent"' in shown) == goes_on
    assert Judgment.objects.get(comparison__arm="deployment").answer == side


def test_with_more_sources_progress_is_shown_until_two_are_chosen(opened: Project, as_ben: Client) -> None:
    Generator.objects.filter(source="moon").update(samples=2)
    page = ask(as_ben)
    assert "0 of 3 answers written" in as_ben.get(page).content.decode()
    work()
    assert "A is better" in as_ben.get(page).content.decode()


def test_a_single_answer_asks_nothing_and_goes_on(opened: Project, as_ben: Client) -> None:
    Deployment.objects.update(explores=False)
    page = ask(as_ben)
    work()
    shown = as_ben.get(page).content.decode()
    assert "nothing to ask you" in shown
    assert "is better</button>" not in shown
    assert 'name="parent"' in shown


def test_when_no_source_answers_the_page_says_so(opened: Project, as_ben: Client, endpoint: Endpoint) -> None:
    endpoint.status = 500
    page = ask(as_ben)
    work()
    assert "No generator wrote an answer." in as_ben.get(page).content.decode()


HOSTILE = """<script>alert(1)</script> <img src=x onerror=alert(1)> [a](javascript:alert(1)) ![b](https://evil.example.org/p.png)
```"><script>alert(2)</script>
x
```
$\\href{javascript:alert(3)}{y}$ <style>*{display:none}</style>"""


def test_hostile_answers_and_prompts_stay_text(opened: Project, as_ben: Client, endpoint: Endpoint) -> None:
    endpoint.by_model = {"moon": [HOSTILE], "wind": [HOSTILE + " again"]}
    Generator.objects.filter(source="moon").update(source="<script>alert(4)</script>")
    page = ask(as_ben, HOSTILE)
    request = DeploymentRequest.objects.get()
    Generation.objects.filter(request=request).update(text=HOSTILE)
    growing = as_ben.get(page)
    Generation.objects.filter(request=request).update(text="")
    work()
    as_ben.post(f"{page}choose/", {"side": "left"})
    for answer in (growing, as_ben.get(page), as_ben.get(page, headers=SEEING), as_ben.get(HERE)):
        html = answer.content.decode()
        assert "<script>alert" not in html
        assert "<img" not in html
        assert "<style>" not in html
        assert 'href="javascript' not in html
        assert "onerror=alert" not in html.replace("&lt;img src=x onerror=alert(1)&gt;", "")
    policy = as_ben.get(page).headers["Content-Security-Policy"]
    assert "unsafe-inline" not in policy


def test_another_members_conversation_does_not_exist(
    opened: Project, as_ben: Client, as_cho: Client, as_ada: Client, as_dan: Client
) -> None:
    page = ask(as_ben)
    work()
    key = str(DeploymentRequest.objects.get().pk)
    for client in (as_cho, as_ada, as_dan):
        assert client.get(page).status_code == 404
        assert client.post(f"{page}choose/", {"side": "left"}).status_code == 404
    assert as_cho.post(f"{HERE}ask/", {"prompt": "x", "parent": key}).status_code == 404
    assert Client().get(page).headers["Location"].startswith("/accounts/login/")
    assert not Judgment.objects.filter(comparison__arm="deployment").exists()


def test_strangers_have_no_arena(opened: Project, as_dan: Client) -> None:
    assert as_dan.get(HERE).status_code == 404
    assert as_dan.post(f"{HERE}ask/", {"prompt": "x"}).status_code == 404
    assert as_dan.get(f"{HERE}{uuid4()}/").status_code == 404


def test_the_public_address_is_closed_until_it_is_opened(opened: Project, as_ada: Client) -> None:
    settings = Deployment.objects.get()
    address = f"/arena/{settings.link}/"
    assert Client().get(address).status_code == 404
    Deployment.objects.update(is_public=True)
    visitor, other = Client(), Client()
    assert visitor.get(address).status_code == 200
    page = ask(visitor, base=address)
    work()
    assert page.startswith(address)
    assert visitor.post(f"{page}choose/", {"side": "left"}).status_code == 302
    judgment = Judgment.objects.get(comparison__arm="deployment")
    assert judgment.annotator is None
    assert other.get(page).status_code == 404, "another session has not this conversation"
    key = DeploymentRequest.objects.get().pk
    assert as_ada.get(f"{HERE}{key}/").status_code == 404
    assert "dashboard" not in visitor.get(address).content.decode().lower()
    assert as_ada.post("/projects/tides/deployment/link/").status_code == 302
    assert visitor.get(address).status_code == 404
    Deployment.objects.update(link=settings.link, is_on=False)
    assert visitor.get(address).status_code == 404
    assert visitor.get("/arena/%00/").status_code == 404


@pytest.mark.parametrize(
    ("proxies", "refused"), [(0, [False, True, True, True]), (1, [False, False, True, True])]
)
def test_visitors_are_counted_by_the_address_that_our_own_proxy_saw(
    opened: Project, monkeypatch: pytest.MonkeyPatch, proxies: int, refused: list[bool]
) -> None:
    monkeypatch.setattr(arena, "MOST_A_WINDOW", 1)
    monkeypatch.setattr(caching, "WINDOW", 10**9)  # a minute must not end meanwhile
    Deployment.objects.update(is_public=True)
    address = f"/arena/{Deployment.objects.get().link}/"
    # The last with a forged entry before.
    seen = ["192.0.2.1", "192.0.2.2", "192.0.2.2", "198.51.100.7, 192.0.2.2"]
    found = []
    for forwarded in seen:
        visitor = Client(headers={"X-Forwarded-For": forwarded})
        with override_settings(ALLAUTH_TRUSTED_PROXY_COUNT=proxies):
            answer = visitor.post(f"{address}ask/", {"prompt": "Why?"}, follow=True)
        found.append("wait a minute" in answer.content.decode())
    assert found == refused


def test_a_form_from_elsewhere_is_refused(opened: Project, ben: User) -> None:
    from tests.conftest import signed_in

    client = Client(enforce_csrf_checks=True)
    client.cookies = signed_in(ben).cookies
    assert client.post(f"{HERE}ask/", {"prompt": "x"}).status_code == 403
    Deployment.objects.update(is_public=True)
    address = f"/arena/{Deployment.objects.get().link}/"
    assert Client(enforce_csrf_checks=True).post(f"{address}ask/", {"prompt": "x"}).status_code == 403


@pytest.mark.parametrize("text", ["", "   ", "x" * 20_001, "a\0b"])
def test_what_is_no_prompt_is_refused_with_a_sentence(opened: Project, as_ben: Client, text: str) -> None:
    answer = as_ben.post(f"{HERE}ask/", {"prompt": text}, follow=True)
    assert answer.redirect_chain[-1][0] == HERE
    assert 'class="message' in answer.content.decode() or "notice" in answer.content.decode()
    assert not DeploymentRequest.objects.exists()


def test_a_choice_is_one_of_four_and_comes_once(opened: Project, as_ben: Client) -> None:
    page = ask(as_ben)
    work()
    as_ben.post(f"{page}choose/", {"side": "middle"})
    assert not Judgment.objects.filter(comparison__arm="deployment").exists()
    for side in ("left", "right", "left"):
        as_ben.post(f"{page}choose/", {"side": side, "rule": "random", "probability": "1", "annotator": "1"})
    assert Judgment.objects.filter(comparison__arm="deployment").count() == 1


def test_too_many_prompts_a_minute_are_refused(
    opened: Project, as_ben: Client, as_cho: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(caching, "WINDOW", 10**9)  # a minute must not end meanwhile
    for n in range(arena.MOST_A_WINDOW):
        ask(as_ben, f"Why {n}?")
    answer = as_ben.post(f"{HERE}ask/", {"prompt": "Why?"}, follow=True)
    assert "wait a minute" in answer.content.decode()
    ask(as_cho)


# --- Running it ---------------------------------------------------------------------------------------------


RUNNING = (
    ("get", "model/policies/", "reviewer"),
    ("post", "model/policies/report/", "reviewer"),
    ("get", "deployment/", "reviewer"),
    ("get", "deployment/settings/", "admin"),
    ("post", "deployment/settings/", "admin"),
    ("post", "deployment/link/", "admin"),
    ("get", "deployment/generators/new/", "admin"),
    ("post", "deployment/generators/new/", "admin"),
)


@pytest.mark.parametrize(("method", "path", "role"), RUNNING)
def test_who_may_see_and_change_what(
    opened: Project,
    as_ada: Client,
    as_ben: Client,
    as_dan: Client,
    cho: User,
    as_cho: Client,
    method: str,
    path: str,
    role: str,
) -> None:
    opened.memberships.filter(user=cho).update(role="reviewer")
    address = f"/projects/tides/{path}"
    assert getattr(as_dan, method)(address).status_code == 404
    assert getattr(as_ben, method)(address).status_code == 404
    assert getattr(as_cho, method)(address).status_code == (
        404 if role == "admin" else 200 if method == "get" else 302
    )
    assert getattr(as_ada, method)(address).status_code in (200, 302)
    assert getattr(Client(), method)(address).headers["Location"].startswith("/accounts/login/")


def test_another_projects_generator_is_not_reached(opened: Project, as_dan: Client, dan: User) -> None:
    other = Project.objects.create(name="Other", slug="other")
    other.memberships.create(user=dan, role="admin")
    key = Generator.objects.latest("pk").pk
    for path in (f"generators/{key}/", f"generators/{key}/remove/"):
        assert as_dan.get(f"/projects/other/deployment/{path}").status_code == 404
        assert as_dan.post(f"/projects/other/deployment/{path}").status_code == 404


def test_settings_are_changed_with_a_line_in_the_log(opened: Project, as_ada: Client) -> None:
    sent = {
        "is_on": "on",
        "explores": "on",
        "optimism": "0.7",
        "baseline_share": "25",
        "link": "mine",
        "project": "9",
    }
    as_ada.post("/projects/tides/deployment/settings/", sent)
    row = Deployment.objects.get()
    assert (row.optimism, row.baseline_share, row.is_public, row.reveals_sources) == (0.7, 0.25, False, False)
    assert row.link != "mine"
    event = AuditEvent.objects.filter(verb="deployment").latest("pk")
    assert event.details["baseline_share"] == [0.0, 0.25]
    bad = as_ada.post("/projects/tides/deployment/settings/", {**sent, "optimism": "-1"})
    assert bad.status_code == 200
    assert Deployment.objects.get().optimism == 0.7


def test_generators_are_added_changed_and_removed_by_forms(
    opened: Project, as_ada: Client, endpoint: Endpoint
) -> None:
    sent = {
        "source": "tide", "kind": "endpoint", "model": "m", "url": endpoint.url, "samples": "2", "temperature": "0.5",
        "longest": "100", "is_on": "on", "key": "sk-1", "sealed_key": "x",
    }  # fmt: skip
    assert as_ada.post("/projects/tides/deployment/generators/new/", sent).status_code == 302
    row = Generator.objects.get(source="tide")
    before = row.sealed_key
    assert before not in ("", "x")
    assert (
        as_ada.post(
            f"/projects/tides/deployment/generators/{row.pk}/", {**sent, "key": "", "samples": "3"}
        ).status_code
        == 302
    )
    row.refresh_from_db()
    assert (row.samples, row.sealed_key) == (3, before)
    as_ada.post(f"/projects/tides/deployment/generators/{row.pk}/", {**sent, "key": "", "forget_key": "on"})
    row.refresh_from_db()
    assert row.sealed_key == ""
    refused = as_ada.post(
        f"/projects/tides/deployment/generators/{row.pk}/", {**sent, "url": "http://169.254.169.254/"}
    )
    assert "not among the hosts" in refused.content.decode()
    assert as_ada.post(f"/projects/tides/deployment/generators/{row.pk}/remove/").status_code == 302
    assert not Generator.objects.filter(source="tide").exists()


@pytest.mark.parametrize(
    ("gap", "badge", "sentence"),
    [
        ((0.06, 0.02, 0.11), "", "Send traffic to Best: it is ahead of every other source"),
        ((0.02, -0.02, 0.06), "not told apart", "it cannot be told from Rival yet"),
        ((-0.06, -0.11, -0.02), "ahead", "Rival is ahead of it by +0.06 (+0.02 to +0.11)"),
    ],
)
def test_the_words_about_two_sources_are_those_of_their_interval(
    project: Project, as_ada: Client, gap: tuple[float, float, float], badge: str, sentence: str
) -> None:
    rival = {"name": "Rival", "prompts": 9} | dict(zip(("ahead", "low", "high"), gap, strict=True))
    PolicyReport.objects.create(
        project=project, step=9, judgments=9, beta=1.0, gaps={"best": "Best", "rivals": [rival]}
    )
    html = as_ada.get("/projects/tides/model/policies/").content.decode()
    assert sentence in html
    row = html.partition('<th scope="row">Rival')[2].partition("</th>")[0]
    assert re.sub("<[^>]*>", "", row).strip() == badge


def test_the_pages_show_what_users_were_answered(opened: Project, as_ada: Client, as_ben: Client) -> None:
    from learner.tasks.reporting import report_policies

    for n in range(3):
        page = ask(as_ben, f"Why {n}?")
        work()
        as_ben.post(f"{page}choose/", {"side": "left"})
    assert report_policies(opened.pk)
    html = as_ada.get("/projects/tides/deployment/").content.decode()
    assert "Eq. 6 and 7 (ours)" in html
    for name in ("served-regret", "served-reward", "drift", "policy-sources", "policy-policies"):
        for ext in ("svg", "csv", "json", "png"):
            assert as_ada.get(f"/projects/tides/charts/{name}.{ext}").status_code == 200, (name, ext)
    policies = as_ada.get("/projects/tides/model/policies/").content.decode()
    assert "source-3" in policies
