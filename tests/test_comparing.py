"""An annotator compares: what the page shows, what it must not show, and what becomes of each answer."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.core.cache import cache
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from pytest_django.asserts import assertRedirects

from annotate import caching, serving
from annotate.models import Answer, Comparison, Judgment, Lease, Membership, Project, Response, Role, User
from tests.conftest import fill, signed_in
from tests.test_rendering import Collected

TOKEN = re.compile("[A-Za-z0-9]{64}")
SCRIPT = {"HTTP_HX_REQUEST": "true"}


def page_of(project: Project) -> str:
    return reverse("compare", args=[project.slug])


def judge_url(lease: Lease) -> str:
    return reverse("judge", args=[lease.project.slug, lease.pk])


def leases_on(html: str) -> list[str]:
    return re.findall(r'<article class="pair" data-lease="([0-9a-f-]{36})"', html)


def shown(client: Client, project: Project) -> list[Lease]:
    """The leases on the page, in its order."""
    html = client.get(page_of(project)).content.decode()
    return [Lease.objects.get(pk=pk) for pk in leases_on(html)]


def test_the_page_holds_a_pair_and_the_next_one_both_leased(
    as_ben: Client, ben: User, project: Project
) -> None:
    html = as_ben.get(page_of(project)).content.decode()
    assert leases_on(html) == [str(lease.pk) for lease in serving.open_leases(project, ben, timezone.now())]
    first, second = re.findall(r"<article[^>]*>", html)
    assert "hidden" not in first
    assert "hidden" in second


def test_reloading_shows_the_same_pairs(as_ben: Client, project: Project) -> None:
    assert shown(as_ben, project) == shown(as_ben, project)
    assert Lease.objects.count() == 2


def test_the_bar_is_that_of_the_pair_the_project_the_language_and_the_person(
    as_ben: Client, project: Project
) -> None:
    def answers() -> str:
        html = as_ben.get(page_of(project)).content.decode()
        bars = re.findall(r'<div class="answer-bar".*?</form>\s*</div>', html, re.DOTALL)
        for lease, bar in zip(leases_on(html), bars, strict=True):
            assert set(re.findall(r"/leases/([^/]+)/", bar)) == {lease}
            assert len(re.findall(f'name="csrfmiddlewaretoken" value="{TOKEN.pattern}"', bar)) == 3
        return bars[0]

    assert "Tie" in answers()
    Project.objects.update(question="Which <b>of both</b>?", allow_tie=False)
    assert "Which &lt;b&gt;of both" in answers()
    assert "Tie" not in answers()
    User.objects.update(keys={"left": "x"})
    assert "<kbd>x</kbd>A is better" in answers().replace("<span>", "")
    as_ben.cookies["django_language"] = "de"
    assert "A is better" not in answers()


@pytest.mark.parametrize("swapped", [False, True])
def test_the_sides_are_those_of_the_lease(as_ben: Client, project: Project, swapped: bool) -> None:
    lease = shown(as_ben, project)[0]
    Lease.objects.filter(pk=lease.pk).update(swapped=swapped)
    html = as_ben.get(page_of(project)).content.decode()
    left, right = (lease.comparison.second, lease.comparison.first)[:: 1 if swapped else -1]
    article = html[html.index("<article") : html.index("</article>")]
    side_a, side_b = article[article.index('data-side="left"') :].split('data-side="right"')
    assert left.text in side_a
    assert right.text in side_b


def test_the_page_says_nothing_of_arm_rule_source_or_worth(as_ben: Client, project: Project) -> None:
    Response.objects.update(source="Quartz-secret", utility=0.123456, external_id="ext-secret")
    as_ben.get(page_of(project))
    Comparison.objects.update(arm="gold", rule="rule-secret", predicted=0.654321, score=0.777123)
    html = re.sub(
        TOKEN, "", as_ben.get(page_of(project)).content.decode()
    ).lower()  # chance writes "gold" too
    for secret in ("secret", "0.123456", "0.654321", "0.777123", "gold", "control", "evaluation"):
        assert secret not in html


def test_an_answer_without_scripts_is_stored_and_leads_to_the_next_pair(
    as_ben: Client, project: Project
) -> None:
    first, second = shown(as_ben, project)
    answer = as_ben.post(judge_url(first), {"side": "left", "lead_time": "4.5"})
    assert answer.status_code == 302
    assert answer["Location"] == page_of(project)
    judgment = Judgment.objects.get()
    assert judgment.answer == (Answer.SECOND if first.swapped else Answer.FIRST)
    assert shown(as_ben, project)[0] == second


def test_an_answer_by_script_brings_the_pair_that_the_browser_lacks(as_ben: Client, project: Project) -> None:
    first, second = shown(as_ben, project)
    answer = as_ben.post(judge_url(first), {"side": "tie", "held": f"{second.pk}"}, **SCRIPT)
    html = answer.content.decode()
    assert answer.status_code == 200
    assert "<html" not in html
    (fresh,) = leases_on(html)
    assert fresh not in (str(first.pk), str(second.pk))
    assert "1 today" in html


def test_a_doubled_answer_is_one_judgment_and_the_first_stands(as_ben: Client, project: Project) -> None:
    lease = shown(as_ben, project)[0]
    as_ben.post(judge_url(lease), {"side": "left"})
    again = as_ben.post(judge_url(lease), {"side": "right"}, follow=True)
    assert Judgment.objects.count() == 1
    assert "that answer stands" in again.content.decode()


def test_reason_and_time_are_kept_and_nothing_else_that_was_sent(as_ben: Client, project: Project) -> None:
    lease = shown(as_ben, project)[0]
    Lease.objects.filter(pk=lease.pk).update(created_at=timezone.now() - timedelta(minutes=1))
    sent = {"side": "right", "lead_time": "12.25", "rationale": " clearer ", "annotator": "1", "arm": "gold"}
    as_ben.post(
        judge_url(lease), sent | {"created_at": "1999-01-01", "absorbed_step": "1", "probability": "1"}
    )
    judgment = Judgment.objects.get()
    assert (judgment.lead_time, judgment.rationale) == (12.25, "clearer")
    assert judgment.annotator is not None
    assert judgment.annotator.username == "ben"
    assert judgment.absorbed_step is None
    assert judgment.created_at.year > 1999


@pytest.mark.parametrize("lead_time", ["-5", "1e99", "nan", "inf", "soon", ""])
def test_an_absurd_time_never_exceeds_what_the_server_saw(
    as_ben: Client, project: Project, lead_time: str
) -> None:
    lease = shown(as_ben, project)[0]
    assert as_ben.post(judge_url(lease), {"side": "left", "lead_time": lead_time}).status_code == 302
    kept = Judgment.objects.get().lead_time
    assert kept is None or 0 <= kept < 60


@pytest.mark.parametrize(
    "sent",
    [{}, {"side": "up"}, {"side": "left", "rationale": "x" * 5001}, {"side": "left", "rationale": "a\0b"}],
)
def test_an_answer_that_is_none_is_refused_with_a_sentence(
    as_ben: Client, project: Project, sent: dict[str, str]
) -> None:
    lease = shown(as_ben, project)[0]
    refused = as_ben.post(judge_url(lease), sent, **SCRIPT)
    assert refused.status_code == 400
    assert refused["Content-Type"].startswith("text/plain")
    assert Judgment.objects.count() == 0


def test_more_answers_than_a_person_can_give_wait_and_none_is_lost(
    as_ben: Client, as_cho: Client, project: Project, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.clear()
    settings.ANSWERS_A_MINUTE = 2
    monkeypatch.setattr(caching, "WINDOW", 10**9)  # a minute must not end meanwhile
    answers = [
        as_ben.post(judge_url(shown(as_ben, project)[0]), {"side": "left"}, **SCRIPT) for _ in range(3)
    ]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[2].content.decode() == "That was a lot at once; wait a minute."
    waiting = shown(as_ben, project)[0]
    assert waiting.outcome == "open"
    assert as_cho.post(judge_url(shown(as_cho, project)[0]), {"side": "left"}, **SCRIPT).status_code == 200
    cache.clear()  # the minute is over
    assert as_ben.post(judge_url(waiting), {"side": "left"}, **SCRIPT).status_code == 200
    assert Judgment.objects.count() == 4


def test_another_annotators_lease_does_not_exist(as_ben: Client, as_cho: Client, project: Project) -> None:
    lease = shown(as_ben, project)[0]
    assert as_cho.post(judge_url(lease), {"side": "left"}, **SCRIPT).status_code == 404
    assert as_cho.post(judge_url(lease).replace("judgment", "skip"), **SCRIPT).status_code == 404
    assert as_cho.post(judge_url(lease).replace(str(lease.pk), str(uuid4())), **SCRIPT).status_code == 404
    assert Judgment.objects.count() == 0


def test_a_lease_answers_only_at_its_own_projects_address(
    as_ben: Client, ben: User, project: Project
) -> None:
    lease = shown(as_ben, project)[0]
    other = Project.objects.create(name="Other", slug="other")
    Membership.objects.create(project=other, user=ben, role=Role.ANNOTATOR)
    Membership.objects.filter(project=project, user=ben).delete()
    url = reverse("judge", args=["other", lease.pk])
    assert as_ben.post(url, {"side": "left"}, **SCRIPT).status_code == 404
    assert as_ben.post(judge_url(lease), {"side": "left"}).status_code == 404
    assert Judgment.objects.count() == 0


@pytest.mark.parametrize("name", ["compare", "undo", "renew"])
def test_a_stranger_finds_nothing_and_the_signed_out_are_asked_to_sign_in(
    as_dan: Client, project: Project, name: str
) -> None:
    url = reverse(name, args=[project.slug])
    method = "get" if name == "compare" else "post"
    missing = getattr(as_dan, method)(url)
    assert missing.status_code == 404
    assert project.name not in missing.content.decode()
    assert getattr(Client(), method)(url)["Location"].startswith("/accounts/login/")


def test_who_signs_out_in_one_web_process_is_signed_out_in_all(
    as_ben: Client, project: Project, settings: Any
) -> None:
    assert as_ben.get("/projects/tides/compare/").status_code == 200
    thief = Client()
    thief.cookies[settings.SESSION_COOKIE_NAME] = as_ben.cookies[settings.SESSION_COOKIE_NAME].value
    assert thief.get("/projects/tides/compare/").status_code == 200
    of_this_process = settings.CACHES
    backend = "django.core.cache.backends.locmem.LocMemCache"
    settings.CACHES = {"default": {"BACKEND": backend, "LOCATION": "another process"}}
    as_ben.post("/accounts/logout/")
    settings.CACHES = of_this_process
    assert thief.get("/projects/tides/compare/")["Location"].startswith("/accounts/login/")


def test_nothing_is_answered_by_following_a_link(as_ben: Client, project: Project) -> None:
    lease = shown(as_ben, project)[0]
    for url in (judge_url(lease), judge_url(lease).replace("judgment", "skip"), "/projects/tides/undo/"):
        assertRedirects(as_ben.get(url), "/projects/tides/compare/")
    assert as_ben.get("/projects/tides/renew/").status_code == 405
    assert not Judgment.objects.exists()


def test_an_answer_from_another_site_is_refused(ben: User, project: Project) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(ben, backend="allauth.account.auth_backends.AuthenticationBackend")
    lease = shown(client, project)[0]
    assert client.post(judge_url(lease), {"side": "left"}).status_code == 403
    assert Judgment.objects.count() == 0


def test_a_lease_that_ran_out_and_was_taken_is_explained_and_followed_by_another_pair(
    as_ben: Client, as_cho: Client, cho: User, project: Project
) -> None:
    lease = shown(as_ben, project)[0]
    Lease.objects.filter(pk=lease.pk).update(expires_at=timezone.now() - timedelta(seconds=1))
    serving.release_expired(project, timezone.now())
    assert lease.comparison_id in {other.comparison_id for other in shown(as_cho, project)}
    told = as_ben.post(judge_url(lease), {"side": "left"}, follow=True).content.decode()
    assert "somebody else has it now" in told
    assert leases_on(told)
    refused = as_ben.post(judge_url(lease), {"side": "left"}, **SCRIPT)
    assert refused.status_code == 409
    assert refused["Content-Type"].startswith("text/plain")


def test_a_visible_page_keeps_its_leases(as_ben: Client, project: Project) -> None:
    lease = shown(as_ben, project)[0]
    soon = timezone.now() + timedelta(seconds=5)
    Lease.objects.update(expires_at=soon)
    assert as_ben.post(reverse("renew", args=[project.slug])).json() == {"leases": 2}
    lease.refresh_from_db()
    assert lease.expires_at > soon + timedelta(seconds=60)


def nothing_on(client: Client, project: Project) -> str:
    found = re.search(r'data-nothing="(\w+)"', client.get(page_of(project)).content.decode())
    return found[1] if found else ""


def test_an_archived_project_says_so_and_leases_nothing(as_ben: Client, project: Project) -> None:
    Project.objects.update(archived_at=timezone.now())
    assert nothing_on(as_ben, project) == "archived"
    assert Lease.objects.count() == 0


def test_a_project_without_texts_says_so(as_ben: Client, ben: User, project: Project) -> None:
    empty = Project.objects.create(name="Empty", slug="empty")
    Membership.objects.create(project=empty, user=ben, role=Role.ANNOTATOR)
    assert nothing_on(as_ben, empty) == "empty"


def test_a_reached_budget_is_an_end_only_when_nobody_holds_a_pair(
    as_ben: Client, as_cho: Client, project: Project
) -> None:
    Project.objects.update(budget=2)
    pairs = shown(as_cho, project)
    assert nothing_on(as_ben, project) == "others"
    for lease in pairs:
        as_cho.post(judge_url(lease), {"side": "tie"})
    assert nothing_on(as_ben, project) == "budget"


def test_having_seen_every_pair_is_not_called_finished(as_ben: Client, ben: User) -> None:
    small = Project.objects.create(name="Small", slug="small", overlap_share=0.0)
    Membership.objects.create(project=small, user=ben, role=Role.ANNOTATOR)
    fill(small, prompts=1, responses=2)
    (lease,) = shown(as_ben, small)
    answered = as_ben.post(judge_url(lease), {"side": "left"}, **SCRIPT).content.decode()
    assert 'data-nothing="all_judged"' in answered
    assert "finished" not in answered.lower()


def test_an_answer_that_a_project_does_not_take_is_not_offered(as_ben: Client, project: Project) -> None:
    Project.objects.update(allow_tie=False, allow_both_bad=False)
    html = as_ben.get(page_of(project)).content.decode()
    assert 'value="left"' in html
    assert 'value="tie"' not in html
    assert 'value="both_bad"' not in html


def test_a_simulated_project_says_so_on_its_page(as_ben: Client, project: Project) -> None:
    banner = "Simulated: judgments come from synthetic annotators."
    assert banner not in as_ben.get(page_of(project)).content.decode()
    Project.objects.update(is_simulated=True)
    assert banner in as_ben.get(page_of(project)).content.decode()
    assert banner in as_ben.get("/").content.decode()


def test_a_conversation_is_shown_turn_by_turn(as_ben: Client, project: Project) -> None:
    turns = [("system", "Be brief."), ("user", "Why tides?"), ("assistant", "The moon."), ("user", "Really?")]
    messages = [{"role": role, "content": text} for role, text in turns]
    as_ben.get(page_of(project))
    for comparison in Comparison.objects.all():
        type(comparison.prompt).objects.filter(pk=comparison.prompt_id).update(messages=messages)
    html = as_ben.get(page_of(project)).content.decode()
    article = html[html.index("<article") : html.index("</article>")]
    places = [article.index(text) for _, text in turns]
    assert places == sorted(places)


ATTACK = "<script>alert(1)</script><img src=x onerror=alert(1)>\"'"


def test_what_others_wrote_never_becomes_markup(as_ben: Client, ben: User, project: Project) -> None:
    as_ben.get(page_of(project))
    Response.objects.update(text=ATTACK)
    for comparison in Comparison.objects.all():
        type(comparison.prompt).objects.filter(pk=comparison.prompt_id).update(
            messages=[{"role": ATTACK, "content": ATTACK}, {"role": "user", "content": ATTACK}]
        )
    Project.objects.update(name=ATTACK, question=ATTACK, guidelines=ATTACK)
    Membership.objects.update(guidelines_seen=1)
    User.objects.filter(pk=ben.pk).update(first_name=ATTACK[:100])
    for url in (page_of(project), "/"):
        html = as_ben.get(url).content.decode()
        tags = Collected(html).tags
        assert "alert(1)" in html
        assert all(tag != "img" and not any(name.startswith("on") for name in found) for tag, found in tags)
        assert all(found.get("src") for tag, found in tags if tag == "script")


def test_the_policy_of_the_page_allows_no_inline_script_or_style(as_ben: Client, project: Project) -> None:
    answer = as_ben.get(page_of(project))
    html = answer.content.decode()
    assert "unsafe" not in answer["Content-Security-Policy"]
    assert not re.search(r"<script(?![^>]*\ssrc=)", html)
    assert not re.search(r"\sstyle=|\son\w+=", html)
    assert answer["Cache-Control"] == "no-store"


def test_home_lists_my_projects_with_my_role_and_progress(
    as_ben: Client, as_dan: Client, as_ada: Client, project: Project
) -> None:
    Project.objects.create(name="Not mine", slug="not-mine")
    as_ben.post(judge_url(shown(as_ben, project)[0]), {"side": "left"})
    html = as_ben.get("/").content.decode()
    assert project.name in html
    assert "Annotator" in html
    assert "1 by you" in html
    assert "Not mine" not in html
    assert "Admin" in as_ada.get("/").content.decode()
    assert "You are in no project yet." in as_dan.get("/").content.decode()


def test_a_superuser_sees_every_project(project: Project) -> None:
    root = User.objects.create_superuser("root", "root@example.org", "x" * 12)
    html = signed_in(root).get("/").content.decode()
    assert project.name in html
    assert "Admin" in html


@pytest.mark.parametrize(
    "name", ["account_login", "account_signup", "account_reset_password", "account_reset_password_done"]
)
def test_the_entrance_has_the_sites_frame(db: None, name: str) -> None:
    html = Client().get(reverse(name)).content.decode()
    assert 'class="entrance"' in html
    assert "css/tokens.css" in html


@pytest.mark.parametrize("name", ["account_change_password", "account_logout", "mfa_index"])
def test_account_pages_have_the_sites_frame(as_ben: Client, name: str) -> None:
    assert "css/tokens.css" in as_ben.get(reverse(name)).content.decode()


def test_a_wrong_address_explains_itself(as_ben: Client) -> None:
    missing = as_ben.get("/no/such/page/")
    assert missing.status_code == 404
    assert "There is nothing at this address" in missing.content.decode()
