"""Prompts and their responses: read them a page at a time, add some by JSON or many as a file that streams in."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Annotated, Any, Literal

from django.conf import settings
from django.core.files import File
from django.db import DataError, transaction
from django.http import HttpRequest
from ninja import Query, Router, Schema, Status
from pydantic import Field

from annotate import auditing, jobs
from annotate.api.bearer import Bearer, person, project_of
from annotate.api.jobs import COUNTS, JobOut
from annotate.api.paging import Page, Paging, page_of
from annotate.api.problems import MOST_ERRORS, Problem
from annotate.api.repeating import pieces
from annotate.api.schemas import ErrorAt, Input, Name, Note, Text
from annotate.celery import ring
from annotate.errors import TouchstoneError
from annotate.importing import ImportResult, Options, chunk, import_file, sniff
from annotate.importing.rows import Row
from annotate.importing.shapes import understand
from annotate.models import Job, Project, Prompt, Response, Role

router = Router(tags=["Prompts and responses"])
BYTES = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}


class Message(Input):
    role: Literal["system", "user", "assistant", "tool"]
    content: Text


class ResponseIn(Input):
    text: Text
    id: Name = ""
    source: Name = ""


class PromptIn(Input):
    prompt: Text | Annotated[list[Message], Field(min_length=1, max_length=200)]
    responses: Annotated[list[Text | ResponseIn], Field(min_length=1, max_length=1_000)]
    id: Name = ""
    tags: Annotated[list[Annotated[Name, Field(min_length=1)]], Field(max_length=100)] = []


class PromptsIn(Input):
    prompts: Annotated[list[PromptIn], Field(min_length=1, max_length=500)]


class Added(Schema):
    """What was new, what was there before (by content), and the rows that could not be used."""

    read: int
    prompts_added: int
    responses_added: int
    judgments_added: int = 0
    gold_added: int = 0
    duplicates: int
    bad: int = 0
    errors: list[ErrorAt] = []


class PromptOut(Schema):
    id: int
    external_id: str
    text: str
    messages: list[Any] | None
    tags: list[Any]
    is_evaluation: bool
    response_count: int
    created_at: datetime


class ResponseOut(Schema):
    id: int
    prompt_id: int
    external_id: str
    text: str
    source: str
    metadata: dict[str, Any]
    created_at: datetime


class PromptsQuery(Paging):
    external_id: Note = Field("", max_length=200, description="Only prompts with this id of yours.")


class ResponsesQuery(Paging):
    prompt: int | None = Field(None, ge=1, le=2**63 - 1, description="Only the responses of this prompt.")
    source: Note = Field("", max_length=200, description="Only responses of this source.")


@router.get("/projects/{slug:slug}/prompts", auth=Bearer("read"), response=Page[PromptOut])
def list_prompts(request: HttpRequest, slug: str, query: Query[PromptsQuery]) -> Any:
    """Prompts in the order in which they came."""
    rows = Prompt.objects.filter(project=project_of(request, slug, Role.REVIEWER))
    return page_of(rows.filter(external_id=query.external_id) if query.external_id else rows, query)


@router.get("/projects/{slug:slug}/responses", auth=Bearer("read"), response=Page[ResponseOut])
def list_responses(request: HttpRequest, slug: str, query: Query[ResponsesQuery]) -> Any:
    """Responses in the order in which they came."""
    rows = Response.objects.filter(project=project_of(request, slug, Role.REVIEWER))
    rows = rows.filter(prompt=query.prompt) if query.prompt else rows
    return page_of(rows.filter(source=query.source) if query.source else rows, query)


@router.post("/projects/{slug:slug}/prompts", auth=Bearer("write"), response=Added)
def add_prompts(request: HttpRequest, slug: str, sent: PromptsIn) -> Any:
    """Add up to 500 prompts with responses, all or nothing. What is there already, by content, is left alone."""
    project = project_of(request, slug, Role.ADMIN)
    rows = understood(sent)
    with transaction.atomic():
        tally = stored(project, rows)
        auditing.record(
            project, person(request), "imported", "API", prompts=tally.prompts, responses=tally.responses
        )
        transaction.on_commit(lambda: ring("embed", project.pk))
    return Added(
        read=len(rows),
        prompts_added=tally.prompts,
        responses_added=tally.responses,
        duplicates=tally.duplicates,
    )


def understood(sent: PromptsIn) -> list[Row]:
    """The rows as an import understands them, or every one that it does not, with its place."""
    rows, errors = [], []
    for n, one in enumerate(sent.prompts):
        try:
            rows.append(understand(n + 1, one.model_dump(exclude_defaults=True), Options()))
        except TouchstoneError as error:
            errors.append({"where": f"body.prompts.{n}", "what": str(error)})
    if errors:
        words = f"{errors[0]['where']}: {errors[0]['what']}"
        raise Problem(422, "invalid", words, errors=errors[:MOST_ERRORS])
    return rows


def stored(project: Project, rows: list[Row]) -> chunk.Tally:
    try:
        return chunk.write(project.pk, rows)
    except (DataError, ValueError, OverflowError) as error:
        raise Problem(422, "invalid", f"The database refused the rows: {str(error)[:200]}") from None


class ImportQuery(Input):
    """How to read the file, as the page that imports asks."""

    name: Name = Field("", description="The file's name; its ending tells CSV from TSV.")
    utility_field: Name = Field("", description="The field of a response that says how good it is.")
    utility_scale: Literal["raw", "logit"] = "raw"


@router.post(
    "/projects/{slug:slug}/files", auth=Bearer("write"), response=Added,
    openapi_extra={"requestBody": {"required": True, "content": BYTES}},
)  # fmt: skip
def add_file(request: HttpRequest, slug: str) -> Any:
    """Send a file as the body: JSONL or any other shape that an import reads, gzipped if you like.

    Rows that cannot be used are counted and named; the others are stored. Sent again, what is there is left alone.
    The answer comes when all is stored: send what takes longer than a request should to ``imports``.
    """
    project = project_of(request, slug, Role.ADMIN)
    check_length(request)
    with TemporaryDirectory(dir=settings.DATA, prefix="sent-") as folder:
        body, report = Path(folder) / "body", Path(folder) / "report"
        with body.open("wb") as file:
            take(request, file)
        result = import_file(project, body, report=report)
        errors = named_in(report)
    auditing.record(project, person(request), "imported", "API", **counts(result))
    return Added(**counts(result), errors=errors)


@router.post(
    "/projects/{slug:slug}/imports", auth=Bearer("write"), response={202: JobOut},
    openapi_extra={"requestBody": {"required": True, "content": BYTES}},
)  # fmt: skip
def start_import(request: HttpRequest, slug: str, query: Query[ImportQuery]) -> Any:
    """Send a file of any size as the body and let a worker import it; the answer's job says how far it is."""
    project = project_of(request, slug, Role.ADMIN)
    check_length(request)
    with jobs.temporary(name_of(query.name)) as file:
        take(request, file)
        file.size = file.tell()
        file.seek(0)
        sniff(file.temporary_file_path(), file.name or "")
        job = jobs.draft(project, Job.Kind.IMPORT, person(request), file)
    asked = query.model_dump(include={"utility_field", "utility_scale"})
    jobs.submit(job, person(request), {**job.arguments, **asked})
    return Status(202, JobOut.from_orm(Job.objects.get(pk=job.pk)))


def name_of(given: str) -> str:
    """What names no file is called something."""
    name = jobs.last_part(given)
    return "sent" if name in ("", ".", "..") else name


def check_length(request: HttpRequest) -> None:
    length = int(request.headers.get("Content-Length") or 0)
    if not length:
        raise Problem(422, "empty", "Send the file as the body, with its Content-Length.")
    if length > settings.API_LARGEST_FILE:
        most = settings.API_LARGEST_FILE
        raise Problem(413, "long", f"The file has {length:,} bytes; the most is {most:,}. Send it in parts.")


def take(request: HttpRequest, file: IO[bytes] | File[bytes]) -> None:
    """The body into a file, a piece at a time."""
    for piece in pieces(request):
        file.write(piece)


def named_in(report: Path) -> list[ErrorAt]:
    """The first bad rows."""
    if not report.exists():
        return []
    with report.open() as lines:
        rows = [json.loads(line) for line, _ in zip(lines, range(MOST_ERRORS), strict=False)]
    return [ErrorAt(where=f"row {row['row']}", what=sayable(row["reason"])) for row in rows]


def sayable(reason: str) -> str:
    """A reason may quote the row, and so hold what neither an answer nor a database can."""
    return reason.encode("utf-8", "replace").decode().replace("\0", "�")


def counts(result: ImportResult) -> dict[str, int]:
    return {name: getattr(result, name) for name in COUNTS}
