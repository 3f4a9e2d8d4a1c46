"""Running a project: create it, set it up, change its settings, read its audit log, archive, copy or delete it."""

from __future__ import annotations

from typing import Any, cast

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_safe

from annotate import auditing, configuring, people, projects
from annotate.access import form_view, project_view
from annotate.errors import TouchstoneError
from annotate.forms import DeleteForm, DuplicateForm, InviteForm, NewProjectForm, SettingsForm
from annotate.models import AuditEvent, Project, Role, User

EVENTS_A_PAGE = 50
get_or_post = require_http_methods(["GET", "HEAD", "POST"])


def person(request: HttpRequest) -> User:
    return cast(User, request.user)


def back(
    request: HttpRequest, url: str, *arguments: object, said: str = "", failed: str = ""
) -> HttpResponseBase:
    """Redirect to a page of ours, with what was done, or could not be done, as a message there."""
    if failed:
        messages.error(request, failed)
    elif said:
        messages.success(request, said)
    return redirect(url, *arguments)


@get_or_post
@login_required
def project_new(request: HttpRequest) -> HttpResponseBase:
    if not projects.may_create(person(request)):
        raise PermissionDenied
    form = NewProjectForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            project = projects.create_project(person(request), **form.cleaned_data)
            return redirect("project_setup", project.slug)
        except TouchstoneError as error:
            form.add_error(None, str(error))
    return render(request, "administration/new.html", {"form": form})


@require_safe
@project_view(Role.ADMIN)
def project_setup(request: HttpRequest, project: Project) -> HttpResponseBase:
    context = {
        "project": project,
        "form": InviteForm(),
        "members": project.memberships.count(),
        "invited": people.open_invitations(project).count(),
        "cautions": configuring.cautions(project),
    }
    return render(request, "administration/setup.html", context)


@get_or_post
@project_view(Role.ADMIN)
def project_settings(request: HttpRequest, project: Project) -> HttpResponseBase:
    form = SettingsForm(request.POST or None, instance=project)
    if request.method == "POST" and form.is_valid():
        try:
            changes = configuring.change_settings(
                Project.objects.get(pk=project.pk), person(request), form.values(), form.cleaned_data["seen"]
            )
            said = (
                _("Saved. New pairs are drawn with these settings.") if changes else _("Nothing was changed.")
            )
            return back(request, "project_settings", project.slug, said=said)
        except TouchstoneError as error:
            form.add_error(None, str(error))
    stored = Project.objects.get(pk=project.pk)  # The form has put what was sent into its instance.
    context = {
        "project": stored,
        "form": form,
        "fixed": configuring.features_are_fixed(stored),
        "cautions": configuring.cautions(stored),
    }
    return render(request, "administration/settings.html", context)


@require_safe
@project_view(Role.ADMIN)
def audit(request: HttpRequest, project: Project) -> HttpResponseBase:
    """The newest events, or those before one: an address that shows the same rows while new ones come."""
    events = AuditEvent.objects.filter(project=project).select_related("actor")
    before = request.GET.get("before", "")
    if before.isascii() and before.isdigit() and len(before) < 19:
        events = events.filter(pk__lt=int(before))
    found = list(events[: EVENTS_A_PAGE + 1])
    shown = found[:EVENTS_A_PAGE]
    context = {
        "project": project,
        "rows": [(event, auditing.sentence(event), list(auditing.details(event))) for event in shown],
        "older": shown[-1].pk if len(found) > EVENTS_A_PAGE else None,
        "before": before,
    }
    return render(request, "administration/audit.html", context)


@form_view(Role.ADMIN, "project_manage")
def project_archive(request: HttpRequest, project: Project) -> HttpResponseBase:
    projects.archive(project, person(request))
    said = _("Archived. Nobody is given another pair; everything can still be read.")
    return back(request, "project_manage", project.slug, said=said)


@form_view(Role.ADMIN, "project_manage")
def project_unarchive(request: HttpRequest, project: Project) -> HttpResponseBase:
    projects.unarchive(project, person(request))
    said = _("Out of the archive: pairs are handed out again.")
    return back(request, "project_manage", project.slug, said=said)


@require_safe
@project_view(Role.ADMIN)
def project_manage(request: HttpRequest, project: Project) -> HttpResponseBase:
    """Archive, copy, delete, on a page of their own, away from the settings that one changes daily."""
    copy = DuplicateForm(initial={"name": _("Copy of {name}").format(name=project.name)[:120]})
    return manage_page(request, project, copy, DeleteForm())


def manage_page(
    request: HttpRequest, project: Project, copy: DuplicateForm, delete: DeleteForm
) -> HttpResponseBase:
    context: dict[str, Any] = {
        "project": project,
        "copy": copy,
        "delete": delete,
        "may_create": projects.may_create(person(request)),
        "judgments": project.judgments.filter(replaced_at=None).count(),
    }
    return render(request, "administration/manage.html", context)


@form_view(Role.ADMIN, "project_manage")
def project_duplicate(request: HttpRequest, project: Project) -> HttpResponseBase:
    form = DuplicateForm(request.POST)
    if form.is_valid():
        try:
            copy = projects.duplicate(project, person(request), **form.cleaned_data)
            return back(request, "project_setup", copy.slug, said=_("This is the copy."))
        except TouchstoneError as error:
            form.add_error(None, str(error))
    return manage_page(request, project, form, DeleteForm())


@form_view(Role.ADMIN, "project_manage")
def project_delete(request: HttpRequest, project: Project) -> HttpResponseBase:
    form = DeleteForm(request.POST)
    if form.is_valid():
        try:
            projects.delete_project(project, person(request), form.cleaned_data["typed"])
            return back(request, "home", said=_("{name} was deleted.").format(name=project.name))
        except TouchstoneError as error:
            form.add_error("typed", str(error))
    return manage_page(request, project, DuplicateForm(initial={"name": project.name}), form)
