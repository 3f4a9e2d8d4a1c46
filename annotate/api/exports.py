"""Taking data away: a file that streams at once, or a job that makes it and keeps it for a while."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from django.core.files.storage import default_storage
from django.db.models import Count, Max
from django.http import FileResponse, HttpRequest, HttpResponseBase, StreamingHttpResponse
from ninja import Query, Router, Schema, Status
from pydantic import Field

from annotate import auditing, jobs
from annotate.api.bearer import Bearer, person, project_of
from annotate.api.jobs import JobOut, job_of
from annotate.api.problems import Problem
from annotate.api.schemas import Input, Name
from annotate.api.tagging import TAGGED, etag_of, marked, unchanged
from annotate.exporting import MEDIA, Filters, Wanted, begin, stream
from annotate.models import Estimator, Job, Project, Role

router = Router(tags=["Exports"])
Kind = Literal["trl", "trl_conversational", "trl_implicit", "trl_unpaired", "votes", "pool"]
Format = Literal["jsonl", "csv", "parquet"]
ArmName = Literal["active", "control", "evaluation", "gold", "imported", "deployment"]
BYTES = {"schema": {"type": "string", "format": "binary"}}
FILE = {"responses": {200: {"content": dict.fromkeys([*MEDIA.values(), "application/gzip"], BYTES)}}}
Arms = Annotated[list[ArmName], Field(max_length=6)]
Splits = Annotated[list[Literal["train", "test"]], Field(max_length=2)]
Tags = Annotated[list[Name], Field(max_length=50)]


class Part(Schema):
    """Which part of the project; the defaults take everything."""

    arm: Arms = []
    split: Splits = []
    tag: Tags = []
    min_votes: int = Field(1, ge=1, le=1_000)
    min_agreement: float = Field(0.0, ge=0, le=1, allow_inf_nan=False)
    gzip: bool = False


class ExportIn(Input):
    kind: Kind = "trl"
    format: Format = "jsonl"
    gzip: bool = False
    weigh: Literal["majority", "reliability"] = "majority"
    arms: Arms = []
    splits: Splits = []
    tags: Tags = []
    min_votes: int = Field(1, ge=1, le=1_000)
    min_agreement: float = Field(0.0, ge=0, le=1, allow_inf_nan=False)


@router.get(
    "/projects/{slug:slug}/exports/{kind}.{format}", auth=Bearer("export"),
    openapi_extra={"responses": FILE["responses"] | TAGGED["responses"]},
)  # fmt: skip
def stream_export(
    request: HttpRequest, slug: str, kind: Kind, format: Format, part: Query[Part]
) -> HttpResponseBase:
    """The file at once, as it is made. Its tag changes when anything that it is made of does."""
    project = project_of(request, slug, Role.ADMIN)
    file = Wanted(kind, format, part.gzip)
    file.check()
    etag = etag_of(f"{file.name} {part!r} {state_of(project)}".encode())
    if same := unchanged(request, etag):
        return same
    filters = Filters(tuple(part.arm), tuple(part.split), tuple(part.tag), part.min_votes, part.min_agreement)
    auditing.record(project, person(request), "exported", file.name, **part.model_dump(exclude_defaults=True))
    media = "application/gzip" if file.packed else MEDIA[file.format]
    response = StreamingHttpResponse(stream(begin(project, kind, filters), file), content_type=media)
    response["Content-Disposition"] = f'attachment; filename="{project.slug}-{file.name}"'
    return marked(response, etag)


def state_of(project: Project) -> str:
    """Everything that an export depends on, in one line of counts and newest rows."""
    judgments = project.judgments.aggregate(Count("pk"), Max("pk"), Max("replaced_at"))
    comparisons = project.comparisons.aggregate(Count("pk"), Max("pk"), Max("settled_at"))
    learned = Estimator.objects.filter(project=project).aggregate(Max("step"), Max("updated_at"))
    pool = [project.prompt_count, project.response_count, project.question]
    return json.dumps([pool, judgments, comparisons, learned], default=str)


@router.post("/projects/{slug:slug}/exports", auth=Bearer("export"), response={202: JobOut})
def start_export(request: HttpRequest, slug: str, sent: ExportIn) -> Any:
    """Let a worker make the file; the answer's job says how far it is, and then which files there are."""
    project = project_of(request, slug, Role.ADMIN)
    Wanted(sent.kind, sent.format, sent.gzip).check()
    job = jobs.start(project, Job.Kind.EXPORT, sent.model_dump(), person(request))
    return Status(202, JobOut.from_orm(job))


@router.get("/projects/{slug:slug}/jobs/{int:job}/files/{name}", auth=Bearer("export"), openapi_extra=FILE)
def download(request: HttpRequest, slug: str, job: int, name: str) -> HttpResponseBase:
    """A file that a job made."""
    project = project_of(request, slug, Role.ADMIN)
    files = {file["name"]: file for file in jobs.files_of(job_of(project, job))}
    if name not in files:
        raise Problem(404, "gone", "The job has no such file, or it was removed.")
    auditing.record(project, person(request), "exported", name, job=job)
    return FileResponse(default_storage.open(files[name]["path"]), as_attachment=True, filename=name)
