"""Coming in and going out: invitations, roles, removal."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from django.core import mail
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from annotate import people, serving
from annotate.errors import TouchstoneError
from annotate.models import AuditEvent, Comparison, Invitation, Lease, Membership, Project, Role, User
from tests.conftest import PASSWORD, person, signed_in

pytestmark = pytest.mark.django_db
ACCOUNT = {"username": "fay", "email": "fay@example.org", "password": "quiet harbour lamp"}


def links(answer: Any) -> list[str]:
    """The links shown on the page, without their host."""
    return re.findall(r'value="http://testserver(/invitations/[\w-]+/)"', answer.content.decode())


def invite(client: Client, project: Project, **data: Any) -> Any:
    given = {"emails": "", "role": "annotator", "days": "7"} | data
    return client.post(reverse("invite", args=[project.slug]), given)


def token_for(project: Project, ada: User, role: str = Role.ANNOTATOR, email: str = "") -> str:
    return people.invite(project, ada, role, [email] if email else [])[0].token


def test_a_link_is_shown_once_and_only_its_digest_is_kept(project: Project, as_ada: Client) -> None:
    answer = invite(as_ada, project)
    (link,) = links(answer)
    assert answer["Cache-Control"] == "no-store"
    token = link.split("/")[2]
    row = Invitation.objects.get()
    assert row.token_digest == people.digest(token) and len(token) >= 40
    stored = [str(value) for row in Invitation.objects.values() for value in row.values()]
    assert token not in " ".join(stored) + str(list(AuditEvent.objects.values()))
    assert links(as_ada.get(reverse("members", args=[project.slug]))) == []


def test_the_address_of_the_answer_opened_again_shows_the_people(project: Project, as_ada: Client) -> None:
    answer = as_ada.get(reverse("invite", args=[project.slug]))
    assert (answer.status_code, answer["Location"]) == (302, reverse("members", args=[project.slug]))
    assert not Invitation.objects.exists()


def test_an_invitation_for_anyone_is_told_in_the_readers_language(project: Project, as_ada: Client) -> None:
    """And kept in no language: the reader's is not the inviter's."""
    as_ada.post(
        reverse("invite", args=[project.slug]),
        {"emails": "", "role": "annotator", "days": "7"},
        headers={"Accept-Language": "ar"},
    )
    assert AuditEvent.objects.get().subject == "anyone with the link"
    url = reverse("audit", args=[project.slug])
    page = as_ada.get(url, headers={"Accept-Language": "de"}).content.decode()
    assert "hat eingeladen: alle mit dem Link" in " ".join(page.split())
    assert "invited anyone with the link" in " ".join(as_ada.get(url).content.decode().split())


def test_one_invitation_goes_to_each_address_by_mail(project: Project, as_ada: Client) -> None:
    Project.objects.filter(pk=project.pk).update(name="Tides\n<b>& more</b>")
    answer = invite(
        as_ada, project, emails="Fay@example.org, gil@example.org\nfay@example.org", role="reviewer"
    )
    assert len(links(answer)) == 2
    assert [letter.to for letter in mail.outbox] == [["fay@example.org"], ["gil@example.org"]]
    letter = mail.outbox[0]
    assert "\n" not in letter.subject and "Tides <b>& more</b>" in letter.subject
    assert f"http://testserver{links(answer)[0]}" in letter.body
    assert "<b>& more</b>" in letter.body and "ada" in letter.body
    assert set(Invitation.objects.values_list("email", "role")) == {
        ("fay@example.org", "reviewer"), ("gil@example.org", "reviewer"),
    }  # fmt: skip


def test_a_mail_server_that_does_not_answer_costs_no_invitation(
    project: Project, as_ada: Client, settings: Any
) -> None:
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", 1
    answer = invite(as_ada, project, emails="fay@example.org")
    assert "could not be sent" in answer.content.decode()
    assert len(links(answer)) == 1


@pytest.mark.parametrize(
    "data",
    [
        {"emails": "not an address"},
        {"emails": "a@b.example\r\nBcc: x"},
        {"emails": ",".join(f"p{i}@example.org" for i in range(51))},
        {"emails": "ben@example.org"},
        {"role": "owner"},
        {"role": ""},
        {"days": "365"},
    ],
)
def test_what_is_not_an_invitation_is_refused(data: dict[str, str], project: Project, as_ada: Client) -> None:
    answer = invite(as_ada, project, **data)
    assert answer.context["form"].errors
    assert not Invitation.objects.exists() and not mail.outbox


def test_a_second_invitation_to_an_address_ends_the_first(project: Project, ada: User) -> None:
    first = token_for(project, ada, email="fay@example.org")
    second = token_for(project, ada, email="fay@example.org")
    with pytest.raises(TouchstoneError, match="withdrawn"):
        people.valid_invitation(first)
    assert people.valid_invitation(second)


def test_somebody_signed_in_joins_in_the_invitations_role(
    project: Project, ada: User, as_dan: Client, dan: User
) -> None:
    url = reverse("invitation", args=[token_for(project, ada, Role.REVIEWER)])
    page = as_dan.get(url)
    assert page.status_code == 200 and "Tides" in page.content.decode()
    assert not project.memberships.filter(user=dan).exists()  # looking changes nothing: mail scanners look
    assert as_dan.post(url, {"role": "admin", "project": "other"})["Location"] == reverse(
        "compare", args=["tides"]
    )
    assert project.memberships.get(user=dan).role == Role.REVIEWER
    event = AuditEvent.objects.get(verb="joined")
    assert (event.actor, event.details) == (dan, {"role": "reviewer"})


def test_a_stranger_makes_an_account_while_sign_up_is_closed(
    project: Project, ada: User, client: Client
) -> None:
    client.post(
        "/accounts/signup/", ACCOUNT | {"password1": ACCOUNT["password"], "password2": ACCOUNT["password"]}
    )
    assert not User.objects.filter(username="fay").exists()
    url = reverse("invitation", args=[token_for(project, ada)])
    assert client.get(url).status_code == 200
    # The address is the token: no other site gets it. Not "no-referrer", with which a browser's form fails CSRF.
    assert client.get(url)["Referrer-Policy"] == "same-origin"
    extra = {"is_superuser": "1", "is_staff": "1", "role": "admin", "is_synthetic": "1"}
    answer = client.post(f"{url}account/", ACCOUNT | extra)
    assert answer["Location"] == reverse("compare", args=["tides"])
    fay = User.objects.get(username="fay")
    assert fay.check_password(ACCOUNT["password"]) and fay.email == "fay@example.org"
    assert not (fay.is_superuser or fay.is_staff or fay.is_synthetic)
    assert project.memberships.get(user=fay).role == Role.ANNOTATOR
    assert client.get(answer["Location"]).status_code == 200  # signed in
    client.logout()
    data = {"login": "fay@example.org", "password": ACCOUNT["password"]}
    assert client.post("/accounts/login/", data).status_code == 302


def test_an_invitation_works_once(project: Project, ada: User, as_dan: Client, client: Client) -> None:
    url = reverse("invitation", args=[token_for(project, ada)])
    assert as_dan.post(url).status_code == 302
    assert client.get(url).status_code == 404
    assert client.post(f"{url}account/", ACCOUNT).status_code == 404
    assert not User.objects.filter(username="fay").exists()
    assert "Tides" not in client.get(url).content.decode()  # a dead invitation tells nothing


def test_of_two_who_come_at_once_one_gets_in_and_no_account_is_left_behind(
    project: Project, ada: User, dan: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = token_for(project, ada)
    both_saw = people.valid_invitation(token)
    people.accept(token, dan)
    monkeypatch.setattr(people, "valid_invitation", lambda _: both_saw)
    with pytest.raises(TouchstoneError, match="used already"):
        people.join_as_stranger(token, **ACCOUNT)
    assert not User.objects.filter(username="fay").exists()


def test_a_form_that_is_sent_twice_makes_one_account(
    project: Project, ada: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = token_for(project, ada)
    both_saw = people.valid_invitation(token)
    people.join_as_stranger(token, **ACCOUNT)
    monkeypatch.setattr(people, "valid_invitation", lambda _: both_saw)
    monkeypatch.setattr(people, "check_account", lambda *_: None)  # both looked before either was stored
    with pytest.raises(TouchstoneError, match="taken") as refused:
        people.join_as_stranger(token, **ACCOUNT)
    assert refused.value.code == "username"
    assert User.objects.filter(username="fay").count() == 1


@pytest.mark.parametrize("how", ["expired", "revoked", "unknown", "cut"])
def test_a_dead_invitation_opens_nothing(
    how: str, project: Project, ada: User, as_dan: Client, dan: User
) -> None:
    token = token_for(project, ada)
    if how == "expired":
        Invitation.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    if how == "revoked":
        people.revoke(Invitation.objects.get(), ada)
    token = {"unknown": "x" * 43, "cut": token[:-1]}.get(how, token)
    url = reverse("invitation", args=[token])
    for answer in (as_dan.get(url), as_dan.post(url)):
        assert answer.status_code == 404
        assert "Tides" not in answer.content.decode()
    assert not project.memberships.filter(user=dan).exists()


def test_an_invitation_bound_to_an_address_is_for_that_person(
    project: Project, ada: User, as_dan: Client, dan: User
) -> None:
    url = reverse("invitation", args=[token_for(project, ada, email="dan@example.org")])
    eve = person("eve")
    assert signed_in(eve).post(url).status_code == 403
    assert as_dan.post(url).status_code == 302
    assert project.memberships.filter(user=dan).exists() and not project.memberships.filter(user=eve).exists()


def test_a_stranger_cannot_change_the_address_an_invitation_names(
    project: Project, ada: User, client: Client
) -> None:
    url = reverse("invitation", args=[token_for(project, ada, email="fay@example.org")])
    client.post(f"{url}account/", ACCOUNT | {"email": "mallory@example.org"})
    assert User.objects.get(username="fay").email == "fay@example.org"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"username": "ben"}, "username"),
        ({"username": "BEN"}, "username"),
        ({"username": "ben@example.org"}, "username"),
        ({"username": "synthetic-1"}, "username"),
        ({"username": "a b"}, "username"),
        ({"email": "Ben@Example.org"}, "email"),
        ({"email": "nobody"}, "email"),
        ({"email": ""}, "email"),
        ({"password": "short"}, "password"),
        ({"password": "password123"}, "password"),
        ({"password": "fay@example.org"}, "password"),
    ],
)
def test_an_account_that_cannot_be_says_at_which_field(
    change: dict[str, str], field: str, project: Project, ada: User, client: Client
) -> None:
    url = reverse("invitation", args=[token_for(project, ada)])
    before = User.objects.count()
    answer = client.post(f"{url}account/", ACCOUNT | change)
    assert answer.status_code == 200 and list(answer.context["form"].errors) == [field]
    assert User.objects.count() == before
    assert Invitation.objects.get().accepted_at is None


def test_a_member_who_opens_an_invitation_keeps_their_role_and_the_invitation(
    project: Project, ada: User, as_ben: Client, ben: User
) -> None:
    url = reverse("invitation", args=[token_for(project, ada, Role.ADMIN)])
    as_ben.post(url)
    assert project.memberships.get(user=ben).role == Role.ANNOTATOR
    assert Invitation.objects.get().accepted_at is None


def test_the_pages_of_an_invitation_take_a_csrf_token(project: Project, ada: User) -> None:
    url = reverse("invitation", args=[token_for(project, ada)])
    client = Client(enforce_csrf_checks=True)
    assert client.post(f"{url}account/", ACCOUNT).status_code == 403
    assert not User.objects.filter(username="fay").exists()


def test_withdrawing_an_invitation_kills_its_link(project: Project, ada: User, as_ada: Client) -> None:
    token = token_for(project, ada)
    url = reverse("invitation_revoke", args=[project.slug, Invitation.objects.get().pk])
    assert as_ada.post(url).status_code == 302
    assert as_ada.post(url).status_code == 302
    with pytest.raises(TouchstoneError, match="withdrawn"):
        people.valid_invitation(token)
    assert AuditEvent.objects.filter(verb="revoked").count() == 1


@pytest.mark.parametrize("state", ["open", "ran out"])
def test_inviting_again_makes_a_new_link_and_ends_the_old(
    state: str, project: Project, ada: User, as_ada: Client
) -> None:
    old = token_for(project, ada, Role.REVIEWER, "fay@example.org")
    row = Invitation.objects.get()
    if state == "ran out":
        Invitation.objects.update(expires_at=timezone.now() - timedelta(days=2))
        assert "ran out" in as_ada.get(reverse("members", args=[project.slug])).content.decode()
    answer = as_ada.post(reverse("invitation_again", args=[project.slug, row.pk]))
    (link,) = links(answer)
    fresh = people.valid_invitation(link.split("/")[2])
    assert (fresh.role, fresh.email) == (Role.REVIEWER, "fay@example.org")
    assert fresh.expires_at > timezone.now() + timedelta(days=6)
    assert mail.outbox[-1].to == ["fay@example.org"]
    with pytest.raises(TouchstoneError, match="withdrawn"):
        people.valid_invitation(old)
    assert people.unused_invitations(project).count() == 1


def test_a_used_invitation_is_not_sent_again(
    project: Project, ada: User, as_ada: Client, as_dan: Client
) -> None:
    as_dan.post(reverse("invitation", args=[token_for(project, ada)]))
    url = reverse("invitation_again", args=[project.slug, Invitation.objects.get().pk])
    assert "used or withdrawn" in as_ada.post(url, follow=True).content.decode()
    assert Invitation.objects.count() == 1


def test_only_admins_invite_again(project: Project, ada: User, as_ben: Client, as_dan: Client) -> None:
    token_for(project, ada)
    url = reverse("invitation_again", args=[project.slug, Invitation.objects.get().pk])
    assert as_ben.post(url).status_code == as_dan.post(url).status_code == 404
    other = Project.objects.create(name="Other", slug="other")
    Membership.objects.create(project=other, user=User.objects.get(username="dan"), role=Role.ADMIN)
    assert as_dan.post(url.replace("tides", "other")).status_code == 404
    assert Invitation.objects.count() == 1


def test_without_a_mail_server_nothing_is_said_to_be_sent(
    project: Project, as_ada: Client, settings: Any
) -> None:
    settings.EMAIL_BACKEND = "django.core.mail.backends.console.EmailBackend"
    page = invite(as_ada, project, emails="fay@example.org").content.decode()
    assert "send the links yourself" in page and "was sent" not in page


# --- Roles and removal --------------------------------------------------------------------------------------


def member(project: Project, name: str) -> Membership:
    return project.memberships.get(user__username=name)


def test_an_admin_changes_a_role_and_the_log_has_both(project: Project, as_ada: Client) -> None:
    ben = member(project, "ben")
    url = reverse("member_role", args=[project.slug, ben.pk])
    as_ada.post(url, {"role": "reviewer", "user": "1", "project": "2"})
    ben.refresh_from_db()
    assert (ben.role, ben.project, ben.user.username) == (Role.REVIEWER, project, "ben")
    assert AuditEvent.objects.get().details == {"role": ["annotator", "reviewer"]}
    assert as_ada.post(url, {"role": "god"}).status_code == 404


def test_a_project_keeps_an_admin(project: Project, as_ada: Client, cho: User) -> None:
    ada = member(project, "ada")
    for name, data in (("member_role", {"role": "annotator"}), ("member_remove", {})):
        answer = as_ada.post(reverse(name, args=[project.slug, ada.pk]), data, follow=True)
        assert "A project needs an admin" in answer.content.decode()
    assert member(project, "ada").role == Role.ADMIN
    people.change_role(member(project, "cho"), cho, Role.ADMIN)
    answer = as_ada.post(reverse("member_role", args=[project.slug, ada.pk]), {"role": "annotator"})
    assert answer["Location"] == "/"  # no longer theirs to see
    assert as_ada.get(reverse("members", args=[project.slug])).status_code == 404


def test_an_admin_whose_account_is_closed_does_not_count(project: Project, ada: User, cho: User) -> None:
    people.change_role(member(project, "cho"), ada, Role.ADMIN)
    User.objects.filter(pk=cho.pk).update(is_active=False)
    with pytest.raises(TouchstoneError, match="needs an admin"):
        people.remove(member(project, "ada"), ada)


def test_removing_a_member_returns_their_leases_and_keeps_their_judgments(
    project: Project, as_ada: Client, as_ben: Client, ben: User, cho: User
) -> None:
    from annotate import judging

    first, _second = serving.leases_for(project, ben, 2)
    judgment = judging.record(ben, first.pk, judging.Submission("left"))
    held = serving.leases_for(project, ben, 2)
    url = reverse("member_remove", args=[project.slug, member(project, "ben").pk])
    assert as_ada.get(url).status_code == 200
    assert project.memberships.filter(user=ben).exists()
    as_ada.post(url)
    assert not project.memberships.filter(user=ben).exists()
    assert not Lease.objects.filter(annotator=ben, outcome=Lease.Outcome.OPEN).exists()
    for lease in held:
        assert Comparison.objects.get(pk=lease.comparison_id).taken == 0
    judgment.refresh_from_db()
    assert judgment.replaced_at is None and judgment.annotator == ben
    to_others = {serving.claim(project, cho).comparison_id for _ in held}  # type: ignore[union-attr]
    assert to_others == {lease.comparison_id for lease in held}
    late = as_ben.post(reverse("judge", args=[project.slug, held[0].pk]), {"side": "left"})
    assert late.status_code == 404
    assert AuditEvent.objects.get(verb="removed").details == {"role": "annotator", "leases": 2}


def test_an_admin_who_goes_leaves_no_door_open(project: Project, ada: User, cho: User) -> None:
    people.change_role(member(project, "cho"), ada, Role.ADMIN)
    own = token_for(project, cho, Role.ADMIN)
    adas = token_for(project, ada)
    people.remove(member(project, "cho"), ada)
    with pytest.raises(TouchstoneError, match="withdrawn"):
        people.accept(own, cho)
    assert people.valid_invitation(adas)


def test_the_people_page_asks_the_database_as_often_for_many_as_for_few(
    project: Project, as_ada: Client, django_assert_max_num_queries: Any
) -> None:
    for i in range(60):
        Membership.objects.create(project=project, user=person(f"member{i}"), role=Role.ANNOTATOR)
    with django_assert_max_num_queries(12):
        page = as_ada.get(reverse("members", args=[project.slug]))
    assert "Next" in page.content.decode()
    assert PASSWORD not in page.content.decode()
