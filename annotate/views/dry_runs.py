"""Dry runs: choose rules and start, look at the curves, take one rule over."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe

from annotate import dryruns
from annotate.access import form_view, project_view
from annotate.errors import TouchstoneError
from annotate.models import Job, Project, Role
from annotate.views.administration import back, get_or_post, person


@get_or_post
@project_view(Role.REVIEWER)
def dry_runs(request: HttpRequest, project: Project) -> HttpResponseBase:
    """The form (for admins) and the runs so far."""
    is_admin = request.role == Role.ADMIN  # type: ignore[attr-defined]
    form = dryruns.DryRunForm(request.POST or None, project=project)
    if request.method == "POST" and is_admin and form.is_valid():
        try:
            job = dryruns.start(project, person(request), form.cleaned_data)
            return redirect("dry_run", project.slug, job.pk)
        except TouchstoneError as error:
            form.add_error(None, str(error))
    offers, runs = dryruns.sources_of_labels(project), dryruns.newest(project)
    context = {"project": project, "form": form, "offers": offers, "runs": runs, "is_admin": is_admin}
    return render(request, "dry_runs/list.html", context)


@require_safe
@project_view(Role.REVIEWER)
def dry_run(request: HttpRequest, project: Project, job_id: int) -> HttpResponseBase:
    """One run: its progress while it works, and what it found."""
    job = get_object_or_404(project.jobs.select_related("created_by"), pk=job_id, kind=Job.Kind.DRY_RUN)
    context: dict[str, object] = {"project": project, "job": job}
    if job.result.get("rules"):
        tone, advice = dryruns.advice(job.result)
        context |= {
            "tone": tone,
            "advice": advice,
            "warnings": dryruns.warnings(job),
            "rows": dryruns.table(job.result),
            "figures": [dryruns.curves(job, metric) for metric in dryruns.METRICS],
        }
    return render(request, "dry_runs/page.html", context)


@form_view(Role.ADMIN, "dry_run", "job_id")
def dry_run_adopt(request: HttpRequest, project: Project, job_id: int) -> HttpResponseBase:
    job = get_object_or_404(project.jobs, pk=job_id, kind=Job.Kind.DRY_RUN)
    rule = request.POST.get("rule", "")
    try:
        dryruns.adopt(project, person(request), job, rule)
    except TouchstoneError as error:
        return back(request, "dry_run", project.slug, job.pk, failed=str(error))
    said = _("From the next pair on, the active arm chooses by %(rule)s.") % {"rule": rule}
    return back(request, "dry_run", project.slug, job.pk, said=said)
