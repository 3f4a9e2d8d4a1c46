"""A project's jobs: the list, one job while it works and after, cancelling it, and the files that it left."""

from __future__ import annotations

from typing import Any

from django.core.files.storage import default_storage
from django.core.paginator import Paginator
from django.http import FileResponse, Http404, HttpRequest, HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe

from annotate import jobs
from annotate.access import form_view, project_view
from annotate.errors import TouchstoneError
from annotate.models import Job, Project, Role
from annotate.views.administration import back, get_or_post, person

JOBS_A_PAGE = 25


@require_safe
@project_view(Role.REVIEWER)
def data(request: HttpRequest, project: Project) -> HttpResponseBase:
    """Where "Data" leads."""
    return redirect("browse_prompts", project.slug)


@require_safe
@project_view(Role.REVIEWER)
def jobs_list(request: HttpRequest, project: Project) -> HttpResponseBase:
    rows = project.jobs.select_related("created_by").order_by("-id")
    page = Paginator(rows, JOBS_A_PAGE).get_page(request.GET.get("page"))
    return render(request, "jobs/list.html", {"project": project, "page": page})


@require_safe
@project_view(Role.REVIEWER)
def job_page(request: HttpRequest, project: Project, job_id: int) -> HttpResponseBase:
    context = shown(project, job_id)
    job = context["job"]
    if job.state == Job.State.DRAFT and job.kind == Job.Kind.IMPORT:
        return redirect("import_check", project.slug, job.pk)
    return render(request, "jobs/page.html", context)


@require_safe
@project_view(Role.REVIEWER)
def job_progress(request: HttpRequest, project: Project, job_id: int) -> HttpResponseBase:
    """The fragment that asks for itself until the job has ended; any page may include it."""
    context = shown(project, job_id)
    response = render(request, "jobs/progress.html", context)
    response["Cache-Control"] = "no-store"
    if context["job"].kind == Job.Kind.DRY_RUN and not context["job"].is_open:
        response["HX-Refresh"] = "true"  # the page that asks shows what it found
    return response


def shown(project: Project, job_id: int) -> dict[str, Any]:
    job = get_object_or_404(project.jobs.select_related("created_by"), pk=job_id)
    return {"project": project, "job": job, "may_run_again": jobs.may_run_again(job)}


@form_view(Role.ADMIN, "job", "job_id")
def job_again(request: HttpRequest, project: Project, job_id: int) -> HttpResponseBase:
    """Run a failed import or export once more, with the same file and the same choices."""
    job = get_object_or_404(project.jobs, pk=job_id)
    try:
        if jobs.run_again(job, person(request)):
            return redirect("job", project.slug, job.pk)
    except TouchstoneError as error:
        return back(request, "job", project.slug, job.pk, failed=str(error))
    return back(request, "job", project.slug, job.pk, failed=_("This job cannot be run again."))


@get_or_post
@project_view(Role.ADMIN)
def job_cancel(request: HttpRequest, project: Project, job_id: int) -> HttpResponseBase:
    """Ask first, on a page of its own; then cancel."""
    job = get_object_or_404(project.jobs, pk=job_id)
    if request.method != "POST" and jobs.may_cancel(job):
        return render(request, "jobs/cancel.html", {"project": project, "job": job})
    if request.method == "POST" and jobs.cancel(job, person(request)):
        return back(request, "job", project.slug, job.pk, said=_("The job was cancelled."))
    return back(request, "job", project.slug, job.pk, failed=_("The job has ended already."))


@require_safe
@project_view(Role.ADMIN)
def job_file(request: HttpRequest, project: Project, job_id: int, name: str) -> HttpResponseBase:
    """A file that the job left, always as a download: what is in it may come from anybody."""
    job = get_object_or_404(Job, pk=job_id, project=project)
    file = next((file for file in jobs.files_of(job) if file["name"] == name), None)
    if file is None or not default_storage.exists(file["path"]):
        raise Http404("There is no such file, or it was removed.")
    return FileResponse(
        default_storage.open(file["path"]),
        as_attachment=True,
        filename=f"{project.slug}-{name}",
        content_type="application/octet-stream",
    )
