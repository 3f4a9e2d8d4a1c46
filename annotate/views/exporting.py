"""Data going out by the browser: what to export, by a job, at once, or on a schedule."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _

from annotate import jobs, scheduling
from annotate.access import project_view
from annotate.dataforms import ExportForm, ScheduleForm
from annotate.errors import TouchstoneError
from annotate.exporting.asking import wanted_by
from annotate.models import Job, Project, Role
from annotate.views.administration import back, get_or_post, person

RECENT = 10


@get_or_post
@project_view(Role.ADMIN)
def export_page(request: HttpRequest, project: Project) -> HttpResponseBase:
    form = ExportForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            return begun(request, project, form.arguments())
        except TouchstoneError as error:
            form.add_error(None, str(error))
    recent = project.jobs.filter(kind=Job.Kind.EXPORT).select_related("created_by").order_by("-id")[:RECENT]
    context = {"project": project, "form": form, "recent": [(job, jobs.files_of(job)) for job in recent]}
    return render(request, "exporting/page.html", context | {"schedule": project.export_schedule})


def begun(request: HttpRequest, project: Project, arguments: dict[str, Any]) -> HttpResponseBase:
    """A job, or the stream of the same rows if somebody wants to wait for it."""
    if request.POST.get("action") == "now":
        name = wanted_by(arguments).name
        return redirect(f"{reverse('export', args=[project.slug, name])}?{address(arguments)}")
    job = jobs.start(project, Job.Kind.EXPORT, arguments, person(request))
    return redirect("job", project.slug, job.pk)


def address(arguments: dict[str, Any]) -> str:
    """The arguments as the address of a stream has them; what is as usual is left out."""
    parts = [("arm", arm) for arm in arguments["arms"]] + [("split", split) for split in arguments["splits"]]
    parts += [("tag", tag) for tag in arguments["tags"]]
    usual = {"min_votes": 1, "min_agreement": 0.0, "since": None, "weigh": "majority"}
    parts += [(name, arguments[name]) for name, value in usual.items() if arguments[name] != value]
    return urlencode(parts)


@get_or_post
@project_view(Role.ADMIN)
def export_schedule(request: HttpRequest, project: Project) -> HttpResponseBase:
    form = ScheduleForm(request.POST or None, initial=as_sent(project.export_schedule))
    if request.method == "POST" and form.is_valid():
        sent = form.cleaned_data
        scheduling.change_schedule(project, person(request), sent["every"], sent["keep"], form.arguments())
        said = _("Exports by themselves are off.") if sent["every"] == "off" else _("The schedule was saved.")
        return back(request, "export_page", project.slug, said=said)
    last = scheduling.scheduled(project).first()
    context = {"project": project, "form": form, "schedule": project.export_schedule, "last": last}
    return render(request, "exporting/schedule.html", context)


def as_sent(schedule: dict[str, Any]) -> dict[str, Any]:
    """What the form shows for a stored schedule."""
    if not schedule:
        return {}
    stored = schedule["arguments"]
    shown = {"tags": ", ".join(stored.get("tags", [])), "min_agreement": 100 * stored.get("min_agreement", 0)}
    since = {"since": (stored.get("since") or "")[:10] or None}
    return {**stored, **shown, **since, "every": schedule["every"], "keep": schedule["keep"]}
