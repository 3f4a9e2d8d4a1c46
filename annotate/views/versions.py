"""The model page: feature versions, the checks on the reward model, fine-tuning it, and taking it away."""

from __future__ import annotations

from collections.abc import Callable

from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe

from annotate import versions
from annotate.access import form_view, project_view
from annotate.errors import TouchstoneError
from annotate.models import FeatureVersion, Job, Project, Role
from annotate.progress import checking
from annotate.versionforms import FineTuneForm, VersionForm
from annotate.views.administration import back, get_or_post, person


@require_safe
@project_view(Role.REVIEWER)
def model(request: HttpRequest, project: Project) -> HttpResponseBase:
    running, ended = checking.model_jobs(project)
    context = {
        "project": project,
        "rows": checking.shown(project),
        "checks": checking.checks(project),
        "running": running,
        "ended": ended,
        "limit": versions.GAP_LIMIT,
    }
    response = render(request, "versions/page.html", context)
    response["Cache-Control"] = "no-store"
    return response


def asked(request: HttpRequest, project: Project, ask: Callable[[], Job]) -> HttpResponseBase:
    """Ask for a job, and go back to the page that follows it."""
    try:
        ask()
    except TouchstoneError as error:
        return back(request, "model", project.slug, failed=str(error))
    return redirect("model", project.slug)


@get_or_post
@project_view(Role.ADMIN)
def version_new(request: HttpRequest, project: Project) -> HttpResponseBase:
    live = versions.live_version(project)
    if live is None:
        return back(request, "model", project.slug, failed=_("There is no live version yet."))
    form = VersionForm(request.POST or None, live=live)
    if request.method == "POST" and form.is_valid():
        encoder, label = form.given[0], form.cleaned_data["label"].strip()
        return asked(
            request, project, lambda: versions.make(project, person(request), encoder, form.config(), label)
        )
    return render(request, "versions/new.html", {"project": project, "form": form})


@get_or_post
@project_view(Role.ADMIN)
def fine_tune(request: HttpRequest, project: Project) -> HttpResponseBase:
    form = FineTuneForm(request.POST or None, project=project)
    if request.method == "POST" and form.is_valid():
        return asked(
            request, project, lambda: versions.fine_tune(project, person(request), form.cleaned_data)
        )
    return render(request, "versions/fine_tune.html", {"project": project, "form": form})


@form_view(Role.ADMIN, "model")
def refit(request: HttpRequest, project: Project) -> HttpResponseBase:
    return asked(request, project, lambda: versions.refit(project, person(request)))


@form_view(Role.ADMIN, "model")
def version_build(request: HttpRequest, project: Project, version_id: int) -> HttpResponseBase:
    version = get_object_or_404(project.feature_versions, pk=version_id)
    return asked(request, project, lambda: versions.build_on(version, person(request)))


@get_or_post
@project_view(Role.ADMIN)
def version_switch(request: HttpRequest, project: Project, version_id: int) -> HttpResponseBase:
    version = get_object_or_404(project.feature_versions, pk=version_id)
    if request.method == "POST":
        return asked(request, project, lambda: versions.switch(version, person(request)))
    return confirm(request, project, version, "versions/switch.html")


@get_or_post
@project_view(Role.ADMIN)
def version_drop(request: HttpRequest, project: Project, version_id: int) -> HttpResponseBase:
    version = get_object_or_404(project.feature_versions, pk=version_id)
    if request.method != "POST":
        return confirm(request, project, version, "versions/drop.html")
    try:
        versions.drop(version, person(request))
    except TouchstoneError as error:
        return back(request, "model", project.slug, failed=str(error))
    return back(request, "model", project.slug, said=_("The version was dropped."))


def confirm(
    request: HttpRequest, project: Project, version: FeatureVersion, template: str
) -> HttpResponseBase:
    row = next((row for row in checking.shown(project) if row.version == version), None)
    return render(request, template, {"project": project, "version": version, "row": row})


@form_view(Role.ADMIN, "model")
def version_export(request: HttpRequest, project: Project, version_id: int) -> HttpResponseBase:
    version = get_object_or_404(project.feature_versions, pk=version_id)
    return asked(request, project, lambda: versions.export(version, person(request)))
