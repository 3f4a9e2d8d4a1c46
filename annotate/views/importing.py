"""Data coming in by the browser: a file is uploaded to the disk, looked at, and imported by a job."""

from __future__ import annotations

import shutil
from typing import Any

from django.conf import settings
from django.core.files.uploadedfile import TemporaryUploadedFile
from django.core.files.uploadhandler import TemporaryFileUploadHandler
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.csrf import csrf_exempt, csrf_protect

from annotate import jobs, outcomes
from annotate.access import project_view
from annotate.dataforms import MappingForm, UploadForm, too_large
from annotate.errors import TouchstoneError
from annotate.importing import Options, Preview, preview, sniff
from annotate.models import Job, Project, Role
from annotate.views.administration import get_or_post, person

RESERVE = 500 << 20  # bytes of the disk that uploads leave alone
ENVELOPE = 1 << 20  # what a request holds beside the file
RECENT = 5


@csrf_exempt  # ``receive`` checks the token: until it is known who asks, not a byte of the body is read
@get_or_post
@project_view(Role.ADMIN)
def import_page(request: HttpRequest, project: Project) -> HttpResponseBase:
    if request.method != "POST":
        return upload_page(request, project, UploadForm())
    if refusal := no_room(int(request.META.get("CONTENT_LENGTH") or 0)):
        form = UploadForm({})
        form.errors.clear()
        form.add_error(None, refusal)
        return upload_page(request, project, form)
    request.upload_handlers = [TemporaryFileUploadHandler(request)]
    return receive(request, project)


@csrf_protect
def receive(request: HttpRequest, project: Project) -> HttpResponseBase:
    form = UploadForm(request.POST, request.FILES)
    if form.is_valid():
        try:
            file = form.cleaned_data["file"]
            refuse_unreadable(file)
            job = jobs.draft(project, Job.Kind.IMPORT, person(request), file)
            return follow(request, reverse("import_check", args=[project.slug, job.pk]))
        except TouchstoneError as error:
            form.add_error("file", str(error))
    return upload_page(request, project, form)


def no_room(size: int) -> str:
    """Why a body of this size is not read at all; empty if it is."""
    if size > settings.UPLOAD_LIMIT + ENVELOPE:
        return too_large()
    if shutil.disk_usage(settings.FILE_UPLOAD_TEMP_DIR).free < size + RESERVE:
        return _("There is not enough room on the server's disk for this file.")
    return ""


def refuse_unreadable(file: TemporaryUploadedFile) -> None:
    """Say at once what is no file of data; by its own name, not by that of the temporary file."""
    sniff(file.temporary_file_path(), file.name or "")


def upload_page(request: HttpRequest, project: Project, form: UploadForm) -> HttpResponse:
    recent = project.jobs.filter(kind=Job.Kind.IMPORT).select_related("created_by").order_by("-id")[:RECENT]
    context = {"project": project, "form": form, "recent": recent, "most": settings.UPLOAD_LIMIT}
    return render(request, "importing/upload.html", context)


def follow(request: HttpRequest, url: str) -> HttpResponseBase:
    """To another page, also for a script that sent the form."""
    if not request.headers.get("HX-Request"):
        return redirect(url)
    return HttpResponse(headers={"HX-Redirect": url})


@get_or_post
@project_view(Role.ADMIN)
def import_check(request: HttpRequest, project: Project, job_id: int) -> HttpResponseBase:
    """What the file would bring, and how to read it; "start" lets a worker import it, anything else looks again."""
    job = get_object_or_404(project.jobs, pk=job_id, kind=Job.Kind.IMPORT)
    if job.state != Job.State.DRAFT:
        return redirect("job", project.slug, job.pk)
    found = seen(job, Options())
    form = MappingForm(request.POST or None, columns=found.columns)
    if request.method == "POST" and form.is_valid():
        if request.POST.get("action") == "start":
            jobs.submit(job, person(request), {**job.arguments, **form.arguments()})
            return redirect("job", project.slug, job.pk)
        found = seen(job, form.options())
    context: dict[str, Any] = {"project": project, "job": job, "form": form, "found": found}
    context["brings"] = outcomes.brings(found.responses, found.votes)
    context["shapes"] = [(_(name), count) for name, count in found.shapes.most_common()]
    return render(request, "importing/check.html", context)


def seen(job: Job, options: Options) -> Preview:
    try:
        with jobs.local_path(job.arguments["upload"]["path"]) as path:
            return preview(path, options)
    except OSError:
        raise Http404("The uploaded file is not here any more.") from None
