"""What the people who run a project look at: one page of answers, and its charts as files."""

from __future__ import annotations

from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import render
from django.utils.cache import get_conditional_response
from django.views.decorators.http import require_safe

from annotate import charts, progress
from annotate.access import project_view
from annotate.models import Project, Role


@require_safe
@project_view(Role.REVIEWER)
def dashboard(request: HttpRequest, project: Project) -> HttpResponseBase:
    """The whole page for a person, its parts alone for the script that refreshes it."""
    template = "dashboard/parts.html" if request.headers.get("HX-Request") else "dashboard/page.html"
    context = {"project": project, "overview": progress.overview(project)}
    response = render(request, template, context)
    response["Cache-Control"] = "no-store"
    response["Vary"] = "HX-Request, Cookie"
    return response


@require_safe
@project_view(Role.REVIEWER)
def chart(request: HttpRequest, project: Project, name: str, ext: str) -> HttpResponseBase:
    """A figure as a file. Its digest is the ETag, so numbers that did not change are not sent again."""
    frame = charts.Frame(request.GET.get("theme", "light"), request.GET.get("size", "wide"), ext)
    if name not in progress.FIGURES or not frame.is_known:
        raise Http404("There is no such chart.")
    figure = progress.figure(project, name)
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
