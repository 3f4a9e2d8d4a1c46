"""Jobs: how far long work is, and cancelling it."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from django.http import HttpRequest
from ninja import Query, Router, Schema
from pydantic import Field

from annotate import jobs
from annotate.api.bearer import Bearer, person, project_of
from annotate.api.paging import Page, Paging, page_of
from annotate.api.problems import Problem
from annotate.models import Job, Project, Role

router = Router(tags=["Jobs"])
State = Literal["draft", "waiting", "running", "done", "failed", "cancelled"]


COUNTS = ("read", "prompts_added", "responses_added", "judgments_added", "gold_added", "duplicates", "bad")


class FileOut(Schema):
    name: str
    size: int


class JobOut(Schema):
    id: int
    kind: str
    state: State
    done: int
    total: int | None
    message: str
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    files: list[FileOut]
    imported: dict[str, int] | None = Field(None, description="What an import has read and added until now.")

    @staticmethod
    def resolve_imported(job: Job) -> dict[str, int] | None:
        if job.kind != Job.Kind.IMPORT or not job.result:
            return None
        return {name: job.result[name] for name in COUNTS if name in job.result}

    @staticmethod
    def resolve_files(job: Job) -> list[dict[str, Any]]:
        return jobs.files_of(job)


class JobsQuery(Paging):
    state: State | None = Field(None, description="Only jobs in this state.")


@router.get("/projects/{slug:slug}/jobs", auth=Bearer("read"), response=Page[JobOut])
def list_jobs(request: HttpRequest, slug: str, query: Query[JobsQuery]) -> Any:
    """Jobs, the newest first."""
    rows = Job.objects.filter(project=project_of(request, slug, Role.REVIEWER))
    return page_of(rows.filter(state=query.state) if query.state else rows, query, newest_first=True)


@router.get("/projects/{slug:slug}/jobs/{int:job}", auth=Bearer("read"), response=JobOut)
def get_job(request: HttpRequest, slug: str, job: int) -> Any:
    """One job."""
    return job_of(project_of(request, slug, Role.REVIEWER), job)


@router.post("/projects/{slug:slug}/jobs/{int:job}/cancel", auth=Bearer("write"), response=JobOut)
def cancel_job(request: HttpRequest, slug: str, job: int) -> Any:
    """End a job; what it did until now stays. One that has ended stays as it ended."""
    found = job_of(project_of(request, slug, Role.ADMIN), job)
    jobs.cancel(found, person(request))
    return JobOut.from_orm(Job.objects.get(pk=found.pk))


def job_of(project: Project, job_id: int) -> Job:
    found = Job.objects.filter(project=project, pk=job_id).first()
    if found is None:
        raise Problem(404, "gone", "There is no such job in this project.")
    return found
