"""Running a project: create, configure, archive, copy, delete, and who may."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from django.conf import settings as django_settings
from django.test import Client
from django.urls import URLPattern, reverse
from django.urls.converters import UUIDConverter
from django.utils import timezone
from pytest_django.asserts import assertRedirects

from annotate import configuring, encoders, judging, projects, serving
from annotate.encoderform import FIELDS, OTHER
from annotate.encoderform import OFFERED as ENCODERS
from annotate.errors import TouchstoneError
from annotate.forms import HELP, OFFERED, RULES, SettingsForm
from annotate.judging import Submission
from annotate.models import (
    AuditEvent,
    Comparison,
    FeatureVersion,
    Invitation,
    Job,
    Judgment,
    Lease,
    Membership,
    Project,
    Prompt,
    Response,
    Role,
    User,
)
from annotate.urls import urlpatterns
from tests.conftest import PASSWORD, fill, person, signed_in

pytestmark = pytest.mark.django_db
XSS = "<script>alert(1)</script>"


def sent(project: Project, **changes: Any) -> dict[str, Any]:
    """What the browser sends from the settings page, with some fields changed."""
    form = SettingsForm(instance=Project.objects.get(pk=project.pk))
    data = {name: form[name].value() for name in form.fields}
    return {
        name: value for name, value in (data | changes).items() if value is not None and value is not False
    }


def settings_url(project: Project) -> str:
    return reverse("project_settings", args=[project.slug])


def pages(project: Project) -> dict[str, list[str]]:
    """Every address here that names something of the project, by method."""
    membership = project.memberships.get(user__username="ben")
    letter = Invitation.objects.create(
        project=project, role=Role.ANNOTATOR, token_digest="0" * 64, created_by=membership.user,
        expires_at=timezone.now() + timedelta(days=1),
    )  # fmt: skip
    at, one = [project.slug], [project.slug, membership.pk]
    look = ("project_setup", "project_settings", "project_manage", "audit", "members")
    act = ("archive", "unarchive", "duplicate", "delete")
    return {
        "get": [*(reverse(name, args=at) for name in look), reverse("member_remove", args=one)],
        "post": [
            *(reverse(f"project_{name}", args=at) for name in ("settings", *act)),
            *(reverse(f"member_{name}", args=one) for name in ("role", "remove")),
            reverse("invite", args=at),
            reverse("invitation_revoke", args=[*at, letter.pk]),
        ],
    }


# --- Who may ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("who", ["eve", "ben", "reviewer", "dan"])
def test_to_everyone_but_its_admins_the_pages_of_a_project_do_not_exist(
    who: str, project: Project, eve: User, ben: User, dan: User
) -> None:
    reviewer = person("rita")
    Membership.objects.create(project=project, user=reviewer, role=Role.REVIEWER)
    client = signed_in({"eve": eve, "ben": ben, "reviewer": reviewer, "dan": dan}[who])
    everything = {"role": "admin", "typed": "tides", "name": "x", "emails": "", "days": "7"}
    for method, urls in pages(project).items():
        for url in urls:
            assert getattr(client, method)(url, everything).status_code == 404, url
    assert not AuditEvent.objects.exists()
    assert project.memberships.get(user=ben).role == Role.ANNOTATOR


def test_a_stranger_is_asked_to_sign_in(project: Project, client: Client) -> None:
    for method, urls in pages(project).items():
        for url in urls:
            answer = getattr(client, method)(url)
            assert answer.status_code == 302 and answer["Location"].startswith("/accounts/login/"), url


def test_every_page_opens_for_the_admin(project: Project, as_ada: Client) -> None:
    for url in pages(project)["get"]:
        answer = as_ada.get(url)
        assert answer.status_code == 200, url
        assert "Tides" in answer.content.decode()


def test_what_changes_something_is_a_post_with_a_csrf_token(project: Project, ada: User) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(ada, backend="allauth.account.auth_backends.AuthenticationBackend")
    for url in pages(project)["post"]:
        assert client.post(url).status_code == 403, url
    for name in ("project_archive", "project_unarchive", "project_duplicate", "project_delete"):
        assertRedirects(client.get(reverse(name, args=[project.slug])), f"/projects/{project.slug}/manage/")
    project.refresh_from_db()
    assert project.archived_at is None


def test_no_address_of_a_form_is_an_empty_page_when_it_is_opened(project: Project, as_ada: Client) -> None:
    """A language chosen there, or a sign-in after the session ended, opens it."""
    parts = {"slug": project.slug, "ext": "svg"}
    named = [
        pattern for pattern in urlpatterns if isinstance(pattern, URLPattern) and pattern.name != "renew"
    ]
    for pattern in named:
        converters = pattern.pattern.converters
        given = {
            name: parts.get(name) or (uuid4() if isinstance(converter, UUIDConverter) else 1)
            for name, converter in converters.items()
        }
        url = reverse(str(pattern.name), kwargs=given)
        assert as_ada.get(url).status_code in (200, 302, 404, 403), url


def test_who_was_signed_out_is_told_that_nothing_was_saved_and_lands_on_a_page(
    project: Project, ada: User, client: Client
) -> None:
    url = reverse("member_role", args=[project.slug, project.memberships.get(user__username="ben").pk])
    answer = client.post(url, {"role": "admin"}, follow=True)
    assert "what you just sent was not saved" in answer.content.decode()
    (login, _) = answer.redirect_chain[-1]
    page = client.post(login, {"login": "ada", "password": PASSWORD, "next": url}, follow=True)
    assert page.redirect_chain[-1][0] == reverse("members", args=[project.slug])
    assert page.status_code == 200
    assert "was not saved" not in page.content.decode()
    assert "was not saved" not in Client().get(url, follow=True).content.decode()
    script = Client()
    script.post(url, headers={"HX-Request": "true"})
    assert "was not saved" not in script.get(login).content.decode()


def test_an_id_of_another_project_is_not_found_under_ones_own(project: Project, eve: User) -> None:
    client = signed_in(eve)
    theirs = project.memberships.get(user__username="ben")
    for name in ("member_role", "member_remove"):
        assert client.post(reverse(name, args=["other", theirs.pk]), {"role": "admin"}).status_code == 404
    letter = Invitation.objects.create(
        project=project, role=Role.ANNOTATOR, token_digest="1" * 64, created_by=theirs.user,
        expires_at=timezone.now() + timedelta(days=1),
    )  # fmt: skip
    assert client.post(reverse("invitation_revoke", args=["other", letter.pk])).status_code == 404
    letter.refresh_from_db()
    assert letter.revoked_at is None
    assert theirs.role == Role.ANNOTATOR


# --- Creating -----------------------------------------------------------------------------------------------


def test_only_staff_create_projects(project: Project, as_ada: Client, root: User) -> None:
    assert as_ada.get("/projects/new/").status_code == 403
    assert as_ada.post("/projects/new/", {"name": "Mine", "question": "?"}).status_code == 403
    assert signed_in(root).get("/projects/new/").status_code == 200
    with pytest.raises(TouchstoneError, match="staff"):
        projects.create_project(User.objects.get(username="ada"), "Mine")


def test_a_name_is_enough_for_a_project_that_works(root: User) -> None:
    client = signed_in(root)
    answer = client.post("/projects/new/", {"name": "New tides", "question": "Which is better?"})
    project = Project.objects.get(name="New tides")
    assert answer["Location"] == f"/projects/{project.slug}/setup/"
    assert client.get(answer["Location"]).status_code == 200
    assert project.memberships.get().user == root and project.memberships.get().role == Role.ADMIN
    assert (project.rule, project.control_share, project.allow_tie) == ("d_optimal", 0.20, False)
    assert AuditEvent.objects.get(project=project).verb == "created"
    fill(project, prompts=2, responses=2)
    assert serving.leases_for(project, root)


def test_a_double_click_makes_one_project(root: User) -> None:
    client = signed_in(root)
    for _ in range(2):
        client.post("/projects/new/", {"name": "Once", "question": "Which?"})
    assert Project.objects.filter(name="Once").count() == 1


@pytest.mark.parametrize(
    ("name", "slug"),
    [("New", "new-2"), ("Tides", "tides-2"), ("مد", "project"), ("A/../b?", "ab"), ("---", "project")],
)
def test_an_address_is_free_and_never_one_of_the_sites_own(name: str, slug: str, project: Project) -> None:
    assert projects.free_slug(name) == slug


def test_the_fields_of_the_wizard_are_all_that_can_be_set(root: User) -> None:
    more = {"seed": "ff" * 16, "slug": "mine", "is_simulated": "1", "prompt_count": 9, "control_share": 0.9}
    signed_in(root).post("/projects/new/", {"name": "Plain", "question": "Which?", **more})
    project = Project.objects.get(name="Plain")
    assert project.slug == "plain" and project.seed != "ff" * 16
    assert (project.is_simulated, project.prompt_count, project.control_share) == (False, 0, 0.2)


# --- Settings -----------------------------------------------------------------------------------------------


def test_the_rules_and_encoders_on_offer_are_those_of_the_learner() -> None:
    from learner.encoders import ENCODERS as LEARNER_ENCODERS
    from learner.selection import RULES as LEARNER_RULES

    assert set(configuring.RULE_NAMES) == set(LEARNER_RULES) == {name for name, _ in RULES}
    assert set(encoders.NAMES) == set(LEARNER_ENCODERS) == {name for name, _ in ENCODERS} - {OTHER}


def test_every_setting_is_explained_in_a_sentence_and_on_the_page(project: Project, as_ada: Client) -> None:
    page = as_ada.get(settings_url(project)).content.decode()
    assert set(HELP) == set(OFFERED) <= set(configuring.SETTINGS)
    for name in (*OFFERED, *FIELDS):
        assert f'name="{name}"' in page
        assert f"id_{name}_helptext" in page


def test_a_change_is_saved_and_logged_with_before_and_after(
    project: Project, as_ada: Client, ada: User
) -> None:
    answer = as_ada.post(
        settings_url(project), sent(project, control_share="35", question="Which is clearer?")
    )
    assert answer.status_code == 302
    project.refresh_from_db()
    assert (project.control_share, project.question) == (0.35, "Which is clearer?")
    event = AuditEvent.objects.get(project=project)
    assert (event.verb, event.actor) == ("changed", ada)
    assert event.details == {
        "question": ["Which response is better?", "Which is clearer?"],
        "control_share": [0.2, 0.35],
    }


def test_saving_what_is_there_changes_and_logs_nothing(project: Project, as_ada: Client) -> None:
    before = configuring.values_of(project)
    assert as_ada.post(settings_url(project), sent(project, allow_tie="on")).status_code == 302
    project.refresh_from_db()
    assert configuring.values_of(project) == before
    assert not AuditEvent.objects.exists()


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"control_share": "60", "evaluation_share": "41"}, "evaluation_share"),
        ({"control_share": "101"}, "control_share"),
        ({"control_share": "-1"}, "control_share"),
        ({"control_share": "nan"}, "control_share"),
        ({"control_share": "inf"}, "control_share"),
        ({"norm_cap": "0"}, "norm_cap"),
        ({"overlap": "0"}, "overlap"),
        ({"overlap": "51"}, "overlap"),
        ({"budget": "0"}, "budget"),
        ({"budget": "1e3"}, "budget"),
        ({"lease_seconds": "5"}, "lease_seconds"),
        ({"rule": "mine"}, "rule"),
        ({"encoder": "/etc/passwd"}, "encoder"),
        ({"dimensions": "1"}, "dimensions"),
        ({"name": " "}, "name"),
        ({"name": "a\x07b"}, "name"),
        ({"question": "x" * 301}, "question"),
        ({"guidelines": "x" * 20_001}, "guidelines"),
        ({"criteria": "a\nb\nc\nd\ne\nf\ng"}, "criteria"),
        ({"criteria": "tone\ntone"}, "criteria"),
        ({"criteria": "x" * 61}, "criteria"),
        ({"edit_minutes": "-1"}, "edit_minutes"),
    ],
)
def test_settings_that_do_not_hold_together_are_refused_at_the_field(
    change: dict[str, str], field: str, project: Project, as_ada: Client
) -> None:
    before = configuring.values_of(project)
    answer = as_ada.post(settings_url(project), sent(project, **change))
    assert answer.status_code == 200
    assert field in answer.context["form"].errors
    project.refresh_from_db()
    assert configuring.values_of(project) == before


@pytest.mark.parametrize(
    "values",
    [
        {"control_share": 0.6, "evaluation_share": 0.5},
        {"control_share": 1.5},
        {"rule": "mine"},
        {"encoder": "../weights"},
        {"lease_seconds": 1},
        {"seed": "00"},
        {"criteria": "tone"},
        {"criteria": [1]},
        {"criteria": ["a\nb"]},
        {"gold_share": 2.0},
        {"prompt_count": 3},
        {"archived_at": None},
    ],
)
def test_the_write_path_refuses_them_too_whoever_calls(
    values: dict[str, Any], project: Project, ada: User
) -> None:
    with pytest.raises(TouchstoneError):
        configuring.change_settings(project, ada, values)
    assert not AuditEvent.objects.exists()


def test_shares_that_add_up_to_exactly_one_hundred_percent_are_taken(
    project: Project, as_ada: Client
) -> None:
    for control, evaluation in [("90", "10"), ("70", "30"), ("33.3", "66.7"), ("100", "0"), ("0", "100")]:
        answer = as_ada.post(
            settings_url(project), sent(project, control_share=control, evaluation_share=evaluation)
        )
        assert answer.status_code == 302, (control, evaluation)
        assert as_ada.post(settings_url(project), sent(project)).status_code == 302
    project.refresh_from_db()
    assert project.active_share == 0
    assert AuditEvent.objects.filter(project=project).count() == 5  # saving what is there was no change


def test_criteria_are_typed_one_a_line(project: Project, as_ada: Client) -> None:
    as_ada.post(settings_url(project), sent(project, criteria=" accuracy \r\n\r\ntone\r\n"))
    project.refresh_from_db()
    assert project.criteria == ["accuracy", "tone"]
    assert AuditEvent.objects.get().details == {"criteria": [[], ["accuracy", "tone"]]}
    as_ada.post(settings_url(project), sent(project))
    assert AuditEvent.objects.count() == 1
    assert "accuracy, tone" in as_ada.get(reverse("audit", args=[project.slug])).content.decode()


def test_new_guidelines_are_a_new_version(project: Project, as_ada: Client) -> None:
    as_ada.post(settings_url(project), sent(project, guidelines="Right before nice."))
    as_ada.post(settings_url(project), sent(project, budget="500"))
    project.refresh_from_db()
    assert (project.guidelines_version, project.budget) == (2, 500)


def test_two_admins_cannot_overwrite_each_other_unknowingly(
    project: Project, as_ada: Client, root: User
) -> None:
    stale = sent(project, question="Mine?")
    signed_in(root).post(settings_url(project), sent(project, control_share="40"))
    answer = as_ada.post(settings_url(project), stale)
    assert "Somebody else changed the settings" in answer.content.decode()
    project.refresh_from_db()
    assert (project.control_share, project.question) == (0.4, "Which response is better?")


def test_a_change_leaves_alone_what_an_import_counted_meanwhile(project: Project, ada: User) -> None:
    held = Project.objects.get(pk=project.pk)
    Project.objects.filter(pk=project.pk).update(prompt_count=77, response_count=308)
    configuring.change_settings(held, ada, {"question": "Which?"})
    project.refresh_from_db()
    assert (project.prompt_count, project.response_count, project.question) == (77, 308, "Which?")


def test_settings_change_while_people_annotate_and_nothing_is_lost(
    project: Project, ada: User, ben: User
) -> None:
    lease = serving.leases_for(project, ben, 1)[0]
    drawn = Comparison.objects.get(pk=lease.comparison_id)
    values = {"control_share": 0.0, "overlap": 5, "overlap_share": 1.0, "budget": 1, "lease_seconds": 60}
    configuring.change_settings(project, ada, values)
    judgment = judging.record(ben, lease.pk, Submission("left"))
    assert judgment.comparison.wanted == drawn.wanted == 1
    assert judgment.comparison.arm == drawn.arm
    assert serving.leases_for(project, ben, 1) == []  # the budget is used up


@pytest.mark.parametrize("name", ["encoder", "dimensions"])
def test_features_are_fixed_once_responses_are_embedded(
    name: str, project: Project, ada: User, as_ada: Client
) -> None:
    value = {"encoder": "hashing", "dimensions": 48}[name]
    FeatureVersion.objects.create(project=project, encoder=project.encoder, embedded=48)
    with pytest.raises(TouchstoneError, match="new feature version"):
        configuring.change_settings(project, ada, {name: value})
    # The field is disabled: what is sent is nothing.
    as_ada.post(settings_url(project), sent(project, **{name: value}))
    project.refresh_from_db()
    assert getattr(project, name) != value


def test_features_are_fixed_while_responses_are_being_embedded(project: Project, ada: User) -> None:
    Job.objects.create(project=project, kind=Job.Kind.EMBED, state=Job.State.RUNNING)
    with pytest.raises(TouchstoneError, match="new feature version"):
        configuring.change_settings(project, ada, {"encoder": "hashing"})


def test_an_encoder_that_never_worked_can_be_replaced(project: Project, ada: User) -> None:
    from learner.tasks.embedding import first_version

    project.encoder = "Qwen/Qwen2.5-7B-Instruct"
    project.save()
    first_version(project)  # what a worker makes before it finds that the model cannot be loaded
    configuring.change_settings(project, ada, {"encoder": "hashing", "dimensions": 8})
    assert first_version(Project.objects.get(pk=project.pk)).encoder == "hashing"


def test_what_is_allowed_and_probably_not_meant_is_said(project: Project, ada: User) -> None:
    assert "Without overlap" in " ".join(configuring.cautions(project))
    values = {"overlap": 4, "overlap_share": 0.5, "control_share": 0.0, "norm_cap": 1.0, "lease_seconds": 30}
    configuring.change_settings(project, ada, values)
    said = " ".join(configuring.cautions(project))
    assert "waits for 4 annotators, and the project has 3 people" in said
    for part in ("Without a control arm", "Without a norm cap", "under two minutes"):
        assert part in said
    configuring.change_settings(project, ada, {"overlap": 3})
    assert "waits for" not in " ".join(configuring.cautions(project))


def test_a_budget_below_what_was_made_is_said(project: Project, ada: User, ben: User) -> None:
    judging.record(ben, serving.leases_for(project, ben, 1)[0].pk, Submission("left"))
    configuring.change_settings(project, ada, {"budget": 1})
    assert "budget is used up" in " ".join(configuring.cautions(project))


# --- Archive, copy, delete ----------------------------------------------------------------------------------


def test_an_archived_project_hands_out_nothing_and_takes_what_is_on_a_screen(
    project: Project, as_ada: Client, as_ben: Client, ben: User
) -> None:
    lease = serving.leases_for(project, ben, 1)[0]
    as_ada.post(reverse("project_archive", args=[project.slug]))
    as_ben.post(reverse("judge", args=[project.slug, lease.pk]), {"side": "left"})
    assert Judgment.objects.filter(lease=lease).exists()
    as_ben.get(reverse("compare", args=[project.slug]))
    assert not Lease.objects.filter(outcome=Lease.Outcome.OPEN).exists()
    as_ada.post(reverse("project_unarchive", args=[project.slug]))
    as_ben.get(reverse("compare", args=[project.slug]))
    assert Lease.objects.filter(outcome=Lease.Outcome.OPEN).exists()
    assert set(AuditEvent.objects.values_list("verb", flat=True)) == {"archived", "unarchived"}


def test_a_copy_has_the_settings_and_a_seed_of_its_own(project: Project, staff_ada: User) -> None:
    configuring.change_settings(
        project, staff_ada, {"control_share": 0.3, "guidelines": "Right before nice."}
    )
    client = signed_in(staff_ada)
    client.post(reverse("project_duplicate", args=[project.slug]), {"name": "Second tides"})
    copy = Project.objects.get(name="Second tides")
    same = {name: value for name, value in configuring.values_of(project).items() if name != "name"}
    assert {name: getattr(copy, name) for name in same} == same
    assert copy.seed != project.seed
    assert (copy.prompt_count, copy.prompts.count(), copy.memberships.count()) == (0, 0, 1)


def test_a_copy_brings_people_and_content_when_asked(project: Project, staff_ada: User) -> None:
    client = signed_in(staff_ada)
    data = {"name": "Whole", "people": "on", "content": "on"}
    client.post(reverse("project_duplicate", args=[project.slug]), data)
    copy = Project.objects.get(name="Whole")
    assert (copy.prompt_count, copy.response_count, copy.largest_prompt) == (12, 48, 4)
    texts = ("prompt__text", "position", "text", "source", "utility")
    assert list(copy.responses.values_list(*texts)) == list(project.responses.values_list(*texts))
    assert set(copy.memberships.values_list("user__username", "role")) == {
        ("ada", "admin"), ("ben", "annotator"), ("cho", "annotator"),
    }  # fmt: skip
    assert not copy.comparisons.exists()


def test_a_pool_too_large_for_a_request_is_not_copied(project: Project, staff_ada: User) -> None:
    Project.objects.filter(pk=project.pk).update(response_count=20_001)
    url = reverse("project_duplicate", args=[project.slug])
    answer = signed_in(staff_ada).post(url, {"name": "Big", "content": "on"})
    assert "import the file into the copy" in answer.content.decode()
    assert Project.objects.count() == 1


def test_an_admin_who_may_not_create_may_not_copy(project: Project, as_ada: Client) -> None:
    as_ada.post(reverse("project_duplicate", args=[project.slug]), {"name": "Mine"})
    assert Project.objects.count() == 1


@pytest.mark.parametrize("typed", ["", "Tides", "tide", "tides2"])
def test_nothing_is_deleted_without_its_address_typed(typed: str, project: Project, as_ada: Client) -> None:
    answer = as_ada.post(reverse("project_delete", args=[project.slug]), {"typed": typed})
    assert answer.status_code == 200
    project.refresh_from_db()
    assert project.archived_at is None
    assert project.responses.count() == 48


def test_deleting_takes_rows_and_files_and_leaves_a_line_in_the_log(
    project: Project, as_ada: Client, ben: User
) -> None:
    judgment = judging.record(ben, serving.leases_for(project, ben, 1)[0].pk, Submission("left"))
    Judgment.objects.filter(pk=judgment.pk).update(replaced_at=timezone.now())
    Judgment.objects.create(
        project=project, comparison=judgment.comparison, answer="tie", replaces=judgment, lease=judgment.lease
    )
    folder = Path(django_settings.DATA) / "projects" / str(project.pk) / "features"
    folder.mkdir(parents=True)
    kept = Project.objects.create(name="Kept", slug="kept")
    fill(kept, prompts=1, responses=2)
    answer = as_ada.post(reverse("project_delete", args=[project.slug]), {"typed": " tides "})
    assert answer["Location"] == "/"
    assert list(Project.objects.all()) == [kept]
    assert (Prompt.objects.count(), Response.objects.count()) == (1, 2)
    assert not (Judgment.objects.exists() or Lease.objects.exists() or Comparison.objects.exists())
    assert not folder.exists()
    assert AuditEvent.objects.get(verb="deleted").subject == "Tides (tides)"
    assert User.objects.filter(username="ben").exists()


# --- The audit log ------------------------------------------------------------------------------------------


def test_the_audit_log_pages_by_what_was_before_and_stays_in_its_project(
    project: Project, as_ada: Client, eve: User
) -> None:
    other = Project.objects.get(slug="other")
    AuditEvent.objects.create(project=other, verb="changed", subject="not yours")
    for i in range(60):
        AuditEvent.objects.create(
            project=project, verb="imported", subject=f"file {i}.jsonl", details={"rows": i}
        )
    url = reverse("audit", args=[project.slug])
    first = as_ada.get(url)
    assert "file 59.jsonl" in first.content.decode() and "file 9.jsonl" not in first.content.decode()
    AuditEvent.objects.create(project=project, verb="imported", subject="newer")
    second = as_ada.get(f"{url}?before={first.context['older']}").content.decode()
    assert "file 9.jsonl" in second and "file 10.jsonl" not in second
    assert "not yours" not in first.content.decode() + second
    for odd in ("x", "-1", "²", "9" * 30):
        assert as_ada.get(url, {"before": odd}).status_code == 200


def test_what_people_write_is_shown_as_text_on_every_page(
    project: Project, as_ada: Client, ada: User, root: User
) -> None:
    values = {"name": XSS, "question": XSS, "guidelines": XSS}
    configuring.change_settings(project, ada, values)
    User.objects.filter(username="ben").update(first_name=XSS)
    AuditEvent.objects.create(project=project, verb=XSS, subject=XSS, details={XSS: [XSS, XSS]})
    Prompt.objects.filter(project=project).update(text=XSS)
    site = signed_in(root)
    urls = ["/admin/annotate/prompt/", "/admin/annotate/project/", "/admin/annotate/auditevent/"]
    rows = [f"/admin/annotate/project/{project.pk}/change/"]
    bodies = [as_ada.get(url).content.decode() for url in pages(project)["get"]]
    bodies += [site.get(url).content.decode() for url in [*urls, *rows]]
    for body in bodies:
        assert "&lt;script&gt;" in body
        assert XSS not in body
