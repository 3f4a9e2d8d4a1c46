"""Django's admin, kept for support: who sees what there, and what may be changed."""

from __future__ import annotations

import pytest
from django.contrib.admin import site
from django.contrib.admin.utils import flatten_fieldsets
from django.test import Client, RequestFactory

from annotate import judging, serving
from annotate.admin import LOOKED_AT
from annotate.judging import Submission
from annotate.models import (
    AuditEvent,
    Comparison,
    Invitation,
    Lease,
    Membership,
    Project,
    Role,
    User,
)
from tests.conftest import fill, signed_in
from tests.test_administering import pages

pytestmark = pytest.mark.django_db

MODELS = (
    "project", "membership", "invitation", "prompt", "response", "comparison", "lease", "judgment",
    "featureversion", "estimator", "checkpoint", "job", "auditevent",
    *(model._meta.model_name for model, *_ in LOOKED_AT),
)  # fmt: skip


def test_the_admin_site_spells_its_plurals(root: User) -> None:
    page = signed_in(root).get("/admin/").content.decode()
    assert "Deliveries" in page and "Reliabilities" in page
    assert "ys</a>" not in page


def test_the_admin_site_shows_everything_to_a_superuser_and_lets_next_to_nothing_change(
    project: Project, ben: User, root: User
) -> None:
    judgment = judging.record(ben, serving.leases_for(project, ben, 1)[0].pk, Submission("left"))
    site = signed_in(root)
    for model in (*MODELS, "heartbeat", "user"):
        assert site.get(f"/admin/annotate/{model}/").status_code == 200, model
    for model in MODELS:
        assert site.get(f"/admin/annotate/{model}/add/").status_code == 403, model
    page = f"/admin/annotate/judgment/{judgment.pk}/"
    assert site.get(f"{page}change/").status_code == 200
    assert site.post(f"{page}change/", {"answer": "tie"}).status_code == 403
    assert site.post(f"{page}delete/", {"post": "yes"}).status_code == 403
    assert site.get(f"/admin/annotate/user/{ben.pk}/change/").status_code == 200
    assert site.post(f"/admin/annotate/user/{ben.pk}/delete/", {"post": "yes"}).status_code == 403


def test_staff_see_in_the_admin_site_what_they_are_admin_of(
    project: Project, staff_ada: User, eve: User
) -> None:
    other = Project.objects.get(slug="other")
    fill(other, prompts=1, responses=2)
    Membership.objects.create(project=other, user=staff_ada, role=Role.ANNOTATOR)
    site = signed_in(staff_ada)
    body = site.get("/admin/annotate/prompt/").content.decode()
    assert ">Tides<" in body and ">Other<" not in body
    theirs = other.prompts.get()
    # As if it did not exist.
    assert site.get(f"/admin/annotate/prompt/{theirs.pk}/change/").status_code == 302
    for model in ("user", "heartbeat"):
        assert site.get(f"/admin/annotate/{model}/").status_code == 403
    assert site.get("/admin/account/emailaddress/").status_code == 403
    assert site.get("/admin/annotate/lease/?annotator__password__startswith=a").status_code == 400


def test_the_admin_site_is_closed_to_others_and_signs_in_by_the_sites_own_door(
    project: Project, as_ben: Client, client: Client
) -> None:
    assert client.get("/admin/")["Location"].startswith("/admin/login/")
    assert client.get("/admin/login/")["Location"].startswith("/accounts/login/")
    assert client.post("/admin/login/", {"username": "ada", "password": "x"})["Location"].startswith(
        "/accounts/login/"
    )
    assert as_ben.get("/admin/annotate/judgment/").status_code == 302
    assert as_ben.get("/admin/login/").status_code == 403


def test_the_seed_and_the_tokens_digest_are_shown_to_nobody(project: Project, root: User) -> None:
    pages(project)
    letter = Invitation.objects.get()
    site = signed_in(root)
    assert project.seed not in site.get(f"/admin/annotate/project/{project.pk}/change/").content.decode()
    assert (
        letter.token_digest
        not in site.get(f"/admin/annotate/invitation/{letter.pk}/change/").content.decode()
    )


def test_what_opens_something_is_never_among_the_fields_that_are_shown() -> None:
    secrets = {"password", "seed", "token_digest", "digest", "sealed_key", "salt", "url", "link", "visitor"}
    fingerprints = ("prompt", "response", "featureversion", "checkpoint", "estimator")
    harmless = {(name, "digest") for name in fingerprints}
    harmless |= {("user", "password")}  # Django's own field shows the algorithm, not the hash
    request = RequestFactory().get("/")
    request.user = User(is_superuser=True, is_staff=True, is_active=True)
    for model, page in site._registry.items():
        if model._meta.app_label != "annotate":
            continue
        shown = {*page.list_display, *flatten_fieldsets(page.get_fieldsets(request, model()))}
        found = {(model._meta.model_name, name) for name in shown & secrets}
        assert found <= harmless, found


@pytest.mark.parametrize("model", [model._meta.model_name for model, *_ in LOOKED_AT])
def test_nothing_is_assigned_through_the_admin_site(model: str, project: Project, root: User) -> None:
    site = signed_in(root)
    assert site.post(f"/admin/annotate/{model}/add/", {"project": project.pk}).status_code == 403
    data = {"action": "delete_selected", "_selected_action": ["1"], "post": "yes"}
    assert site.post(f"/admin/annotate/{model}/", data).status_code in (200, 302)
    assert "delete_selected" not in site.get(f"/admin/annotate/{model}/").content.decode()


def test_support_gives_a_lease_back(project: Project, staff_ada: User, ben: User) -> None:
    lease = serving.leases_for(project, ben, 1)[0]
    data = {"action": "release", "_selected_action": [str(lease.pk)]}
    signed_in(staff_ada).post("/admin/annotate/lease/", data)
    lease.refresh_from_db()
    assert lease.outcome == Lease.Outcome.EXPIRED
    assert Comparison.objects.get(pk=lease.comparison_id).taken == 0
    assert AuditEvent.objects.get(verb="released").project == project
