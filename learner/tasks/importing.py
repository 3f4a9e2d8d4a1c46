"""An import as a job: the uploaded file into the project, with progress, and the bad rows as a file to take away."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from django.conf import settings

from annotate import auditing, jobs, outcomes
from annotate.errors import TouchstoneError
from annotate.exporting.formats import cell
from annotate.importing import ImportResult, Options, import_file
from annotate.models import Job, Project
from learner.tasks.jobs import report

MOST_SHOWN = 10


def import_upload(job: Job) -> str:
    """Import the job's file; one that was killed goes on after its last stored chunk."""
    project, upload = job.project, job.arguments.get("upload")
    if project is None or not upload:
        raise TouchstoneError("The file of this import is not here any more; upload it again.")
    bad = report_path(job)
    before = job.result if bad.exists() else {}  # without the report, rows are read again to be named again
    with jobs.local_path(upload["path"]) as path:
        result = import_file(
            project,
            path,
            options=options_of(job.arguments),
            progress=lambda result, at, size: tell(job, result, at, size),
            report=bad,
            before=before,
        )
    job.result, job.done, job.total = result.as_json(), result.read, result.read
    keep_report(job, bad)
    record(job, project, result)
    if not result.cancelled:
        jobs.forget_upload(job)
    return outcomes.imported(result.as_json())


def options_of(arguments: dict[str, Any]) -> Options:
    return Options(
        utility_field=arguments.get("utility_field", ""),
        utility_scale=arguments.get("utility_scale", "raw"),
        columns=arguments.get("columns", {}),
    )


def report_path(job: Job) -> Path:
    return Path(settings.DATA) / "projects" / str(job.project_id) / "imports" / f"{job.pk}.bad.jsonl"


def tell(job: Job, result: ImportResult, at: int, size: int) -> bool:
    """Rows read, of about how many: the share of the file that they took says it."""
    job.total = max(result.read, round(result.read * size / max(1, at)))
    job.result = result.as_json()
    return report(job, result.read, outcomes.imported(job.result))


def keep_report(job: Job, bad: Path) -> None:
    """The report as a table to download, and its first lines for the page."""
    if job.result["bad"]:
        job.result["first_bad"] = list(islice(lines_of(bad), MOST_SHOWN))
        with jobs.new_file(job, "bad-rows.csv", "Bad rows") as file:
            text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
            table = csv.writer(text)
            table.writerow(["row", "code", "reason"])
            table.writerows([row["row"], row["code"], cell(row["reason"])] for row in lines_of(bad))
            text.detach()
    bad.unlink(missing_ok=True)


def lines_of(bad: Path) -> Iterator[dict[str, Any]]:
    with bad.open() as file:
        yield from map(json.loads, file)


def record(job: Job, project: Project, result: ImportResult) -> None:
    counts = {"prompts": result.prompts_added, "responses": result.responses_added}
    counts |= {"judgments": result.judgments_added, "gold": result.gold_added, "bad": result.bad}
    auditing.record(project, job.created_by, "imported", job.arguments["name"], job=job.pk, **counts)
