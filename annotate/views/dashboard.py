"""What the people who run a project look at: one page of answers, and its charts as files."""

from __future__ import annotations

from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import render
from django.utils.cache import get_conditional_response
from django.views.decorators.http import require_safe

from annotate import charts, dryruns, progress
from annotate.access import project_view
from annotate.models import Project, Role


@require_safe
@project_view(Role.REVIEWER)
def dashboard(request: HttpRequest, project: Project) -> HttpResponseBase:
    """The whole page for a person, its parts alone for the script that refreshes it."""
    template = "dashboard/parts.html" if request.headers.get("HX-Request") else "dashboard/page.html"
    context = {"project": project, "overview": progress.overview(project, is_blind(request))}
    response = render(request, template, context)
    response["Cache-Control"] = "no-store"
    response["Vary"] = "HX-Request, Cookie"
    return response


def is_blind(request: HttpRequest) -> bool:
    """Reviewers know annotators by a number, here as in the data browser, so that their reviews are blind."""
    return bool(request.role != Role.ADMIN)  # type: ignore[attr-defined]


def figure_named(request: HttpRequest, project: Project, name: str) -> progress.Figure | None:
    """One of the dashboard's, or a dry run's."""
    if name in progress.FIGURES:
        return progress.figure(project, name, is_blind(request))
    return dryruns.figure(project, name)


@require_safe
@project_view(Role.REVIEWER)
def chart(request: HttpRequest, project: Project, name: str, ext: str) -> HttpResponseBase:
    """A figure as a file. Its digest is the ETag, so numbers that did not change are not sent again."""
    frame = charts.Frame(request.GET.get("theme", "light"), request.GET.get("size", "wide"), ext)
    figure = figure_named(request, project, name) if frame.is_known else None
    if figure is None:
        raise Http404("There is no such chart.")
    if not figure and ext != "csv":
        raise Http404("There is nothing to draw yet.")
    etag = f'"{figure.digest}-{charts.DRAWING}-{frame.theme}-{frame.size}-{ext}"'
    response = get_conditional_response(request, etag)
    if response is None:
        response = HttpResponse(charts.drawn(figure, frame), content_type=charts.MEDIA[ext])
        response["ETag"] = etag
    is_exact = request.GET.get("v") == figure.digest
    response["Cache-Control"] = f"private, {'max-age=86400, immutable' if is_exact else 'no-cache'}"
    return response
