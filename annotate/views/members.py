"""The people of a project: who is in it, as what, and who is invited."""

from __future__ import annotations

import logging
from smtplib import SMTPException
from typing import Any

from django.conf import settings
from django.contrib import messages
from django.core.mail import EmailMessage, get_connection
from django.core.paginator import Paginator
from django.db.models import Case, Count, IntegerField, OuterRef, Q, QuerySet, Subquery, Value, When
from django.db.models.functions import Coalesce
from django.http import Http404, HttpRequest, HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_safe

from annotate import people
from annotate.access import REACH, form_view, project_view
from annotate.errors import TouchstoneError
from annotate.forms import InviteForm, RoleForm
from annotate.models import Judgment, Membership, Project, Role
from annotate.views.administration import back, get_or_post, person

logger = logging.getLogger(__name__)
PEOPLE_A_PAGE = 50


@require_safe
@project_view(Role.ADMIN)
def members(request: HttpRequest, project: Project) -> HttpResponseBase:
    return people_page(request, project, InviteForm())


def people_page(
    request: HttpRequest, project: Project, form: InviteForm, made: list[tuple[str, str]] | None = None
) -> HttpResponseBase:
    page = Paginator(with_judgments(project), PEOPLE_A_PAGE).get_page(request.GET.get("page"))
    context: dict[str, Any] = {
        "project": project,
        "page": page,
        "roles": Role.choices,
        "invitations": people.unused_invitations(project).select_related("created_by").order_by("-id"),
        "now": timezone.now(),
        "form": form,
        "made": made,
    }
    response = render(request, "administration/members.html", context)
    response["Cache-Control"] = "no-store"  # A page that shows a link once is not kept.
    return response


def with_judgments(project: Project) -> QuerySet[Membership]:
    """Admins first, then by name; each with the number of their judgments that stand."""
    made = Judgment.objects.filter(project=project, annotator=OuterRef("user"), replaced_at=None)
    counted = made.order_by().values("annotator").annotate(number=Count("pk")).values("number")
    reach = Case(*(When(role=role, then=Value(-rank)) for role, rank in REACH.items()), default=Value(0))
    return (
        project.memberships.select_related("user")
        .annotate(made=Coalesce(Subquery(counted, output_field=IntegerField()), 0), reach=reach)
        .order_by("reach", "user__username")
    )


@get_or_post
@project_view(Role.ADMIN)
def invite(request: HttpRequest, project: Project) -> HttpResponseBase:
    """Make invitations and show their links on this one answer: they are stored nowhere, so it cannot redirect."""
    if request.method != "POST":  # the answer's address, opened again
        return redirect("members", project.slug)
    form = InviteForm(request.POST)
    made: list[tuple[str, str]] = []
    if form.is_valid():
        sent = form.cleaned_data
        try:
            invited = people.invite(project, person(request), sent["role"], sent["emails"], sent["days"])
            made = [(people.name_of(one.invitation), link_of(request, one)) for one in invited]
            send(request, project, invited)
            form = InviteForm()
        except TouchstoneError as error:
            form.add_error("emails", str(error))
    return people_page(request, project, form, made)


def link_of(request: HttpRequest, invited: people.Invited) -> str:
    return request.build_absolute_uri(reverse("invitation", args=[invited.token]))


def send(request: HttpRequest, project: Project, invited: list[people.Invited]) -> None:
    """Send each link to its address; where that fails the link is on the page, and can be sent by hand."""
    letters = [letter(request, project, one) for one in invited if one.invitation.email]
    if not letters:
        return
    if settings.EMAIL_BACKEND.endswith("console.EmailBackend"):
        messages.info(request, _("No e-mail is set up on this installation: send the links yourself."))
        return
    try:
        get_connection(timeout=20).send_messages(letters)
    except (OSError, SMTPException) as error:
        logger.warning("invitations of project %s could not be sent: %s", project.pk, error)
        messages.warning(request, _("The e-mails could not be sent. Send the links yourself."))
        return
    said = ngettext("{n} invitation was sent.", "{n} invitations were sent.", len(letters))
    messages.success(request, said.format(n=len(letters)))


def letter(request: HttpRequest, project: Project, invited: people.Invited) -> EmailMessage:
    context = {
        "project": project,
        "inviter": person(request).name,
        "invitation": invited.invitation,
        "link": link_of(request, invited),
    }
    subject = _("Invitation to compare responses: {name}").format(name=project.name)
    body = render_to_string("administration/invitation_email.txt", context)
    return EmailMessage(" ".join(subject.split()), body, to=[invited.invitation.email])


@form_view(Role.ADMIN, "members")
def invitation_again(request: HttpRequest, project: Project, invitation_id: int) -> HttpResponseBase:
    """A new link in place of one that was lost or ran out, shown once like the first."""
    invitation = get_object_or_404(project.invitations, pk=invitation_id)
    try:
        one = people.invite_again(invitation, person(request))
    except TouchstoneError as error:
        return back(request, "members", project.slug, failed=str(error))
    made = [(people.name_of(one.invitation), link_of(request, one))]
    send(request, project, [one])
    return people_page(request, project, InviteForm(), made)


@form_view(Role.ADMIN, "members")
def invitation_revoke(request: HttpRequest, project: Project, invitation_id: int) -> HttpResponseBase:
    people.revoke(get_object_or_404(project.invitations, pk=invitation_id), person(request))
    return back(request, "members", project.slug, said=_("The invitation was withdrawn; its link is dead."))


@form_view(Role.ADMIN, "members")
def member_role(request: HttpRequest, project: Project, membership_id: int) -> HttpResponseBase:
    membership = get_object_or_404(project.memberships, pk=membership_id)
    form = RoleForm(request.POST)
    if not form.is_valid():
        raise Http404("There is no such role.")
    try:
        people.change_role(membership, person(request), form.cleaned_data["role"])
    except TouchstoneError as error:
        return back(request, "members", project.slug, failed=str(error))
    return after_change(request, project, _("The role was changed."))


@get_or_post
@project_view(Role.ADMIN)
def member_remove(request: HttpRequest, project: Project, membership_id: int) -> HttpResponseBase:
    membership = get_object_or_404(project.memberships.select_related("user"), pk=membership_id)
    if request.method != "POST":
        return render(request, "administration/remove.html", {"project": project, "membership": membership})
    try:
        people.remove(membership, person(request))
    except TouchstoneError as error:
        return back(request, "members", project.slug, failed=str(error))
    said = _("{name} was removed. Their open pairs are with the others again.")
    return after_change(request, project, said.format(name=membership.user.name))


def after_change(request: HttpRequest, project: Project, said: str) -> HttpResponseBase:
    """Back to the people, or home for somebody who just gave up their own right to see them."""
    user = person(request)
    still = user.is_superuser or project.memberships.filter(Q(user=user, role=Role.ADMIN)).exists()
    return back(request, *(["members", project.slug] if still else ["home"]), said=said)
