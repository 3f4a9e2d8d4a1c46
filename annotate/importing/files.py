"""A file into a project: read row by row, written chunk by chunk, with progress, cancelling, and a report.

Reading and understanding happen outside transactions, so a chunk holds the write lock for milliseconds only.
Everything is recognised by its content: a run that was killed is simply run again, and ends in the same state.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

from django.db import DataError, IntegrityError, connection
from django.utils import timezone

from annotate.celery import ring
from annotate.errors import TouchstoneError
from annotate.importing import chunk
from annotate.importing.readers import Raw, Source, opened
from annotate.importing.rows import Options, Row
from annotate.importing.shapes import understand
from annotate.models import Comparison, Job, Judgment, Project, Prompt, Response

CHUNK_ROWS = 500
CHUNK_BYTES = 8 << 20
MOST_REPORTED = 100_000
MANY = 5_000
COUNTS = [
    "read",
    "prompts_added",
    "responses_added",
    "judgments_added",
    "gold_added",
    "duplicates",
    "bad",
    "repeats",
]
Progress = Callable[[int, int, int], None]  # rows read, position, size (bytes, or rows of a Parquet file)


@dataclass
class ImportResult:
    """What an import did. ``duplicates``: rows that brought nothing new; ``repeats``: response texts seen before."""

    read: int = 0
    prompts_added: int = 0
    responses_added: int = 0
    judgments_added: int = 0
    gold_added: int = 0
    duplicates: int = 0
    bad: int = 0
    repeats: int = 0
    cancelled: bool = False
    reasons: Counter[str] = field(default_factory=Counter)
    report: Path | None = None

    def as_json(self) -> dict[str, Any]:
        counts = {name: getattr(self, name) for name in COUNTS}
        return {**counts, "reasons": dict(self.reasons), "report": str(self.report or "")}


def import_file(
    project: Project,
    path: Path | str,
    *,
    options: Options | None = None,
    progress: Progress | None = None,
    resume: bool = True,
    report: Path | None = None,
    job: Job | None = None,
) -> ImportResult:
    """Import a file of any shape that is known; bad rows are skipped, counted and written to ``report``.

    ``resume`` passes over the rows that an earlier run of the same ``job`` had stored, without looking at them.
    """
    with Run(project, job, options or Options(), progress, report) as run:
        source = opened(Path(path))
        with source.file:
            run.read(source, resume)
    if run.result.responses_added + run.result.judgments_added >= MANY:
        refresh_statistics()
    project.refresh_from_db(fields=["prompt_count", "response_count", "largest_prompt"])
    if run.result.prompts_added or run.result.responses_added:
        ring("embed", project.pk)
    if run.result.judgments_added:
        ring("absorb", project.pk)
    return run.result


def refresh_statistics() -> None:
    """Let the planner know how large the tables have become: until it does, it reads them whole for a page."""
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute("PRAGMA analysis_limit = 1000")
        for model in (Prompt, Response, Comparison, Judgment):
            cursor.execute(f"ANALYZE {connection.ops.quote_name(model._meta.db_table)}")


class Run:
    """One run of an import: keeps the result, the report and the job's row up to date."""

    def __init__(
        self,
        project: Project,
        job: Job | None,
        options: Options,
        progress: Progress | None,
        report: Path | None,
    ) -> None:
        self.project, self.job, self.options, self.progress = project, job, options, progress
        self.result = ImportResult(report=report)
        self.log: TextIO | None = None
        self.started, self.skipped = time.monotonic(), 0

    def __enter__(self) -> Run:
        now = timezone.now()
        self.update_job(state=Job.State.RUNNING, started_at=now, heartbeat_at=now)
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if self.log:
            self.log.close()
        done = Job.State.CANCELLED if self.result.cancelled else Job.State.DONE
        state = Job.State.FAILED if error else done
        self.update_job(state=state, message=str(error or ""), finished_at=timezone.now())

    def update_job(self, **fields: Any) -> int:
        return Job.objects.filter(pk=self.job.pk).update(**fields) if self.job else 0

    def read(self, source: Source, resume: bool) -> None:
        if resume and self.job and self.job.result.get("row"):
            self.take_up(self.job.result)
        self.log = open_report(self.result.report, self.skipped)
        rows = (raw for raw in source.rows() if raw.number > self.skipped)
        while portion := list(portion_of(rows)):
            self.store(portion)
            if not self.tell(source, portion[-1].number):
                self.result.cancelled = True
                return

    def take_up(self, before: dict[str, Any]) -> None:
        """Go on counting where the job's last stored chunk ended."""
        self.skipped = before["row"]
        for name in COUNTS:
            setattr(self.result, name, before.get(name, 0))
        self.result.reasons.update(before.get("reasons", {}))

    def store(self, portion: list[Raw]) -> None:
        self.result.read += len(portion)
        rows = [row for raw in portion if (row := self.understood(raw))]
        for tally in written(self.project.pk, rows):
            self.result.prompts_added += tally.prompts
            self.result.responses_added += tally.responses
            self.result.judgments_added += tally.judgments
            self.result.gold_added += tally.gold
            self.result.duplicates += tally.duplicates
            self.result.repeats += tally.repeats
            for number, problem in tally.problems:
                self.refuse(number, problem)
        if self.log:
            self.log.flush()

    def understood(self, raw: Raw) -> Row | None:
        try:
            if raw.problem:
                raise raw.problem
            return understand(raw.number, raw.value, self.options)
        except TouchstoneError as problem:
            self.refuse(raw.number, problem)
            return None

    def refuse(self, number: int, problem: TouchstoneError) -> None:
        self.result.bad += 1
        self.result.reasons[problem.code] += 1
        if self.log and self.result.bad <= MOST_REPORTED:
            self.log.write(json.dumps({"row": number, "code": problem.code, "reason": str(problem)}) + "\n")

    def tell(self, source: Source, row: int) -> bool:
        """Say how far the import is; False if somebody cancelled it."""
        position = source.position()
        if self.progress:
            self.progress(self.result.read, position, source.total)
        if self.job is None:
            return True
        running = self.update_job(
            done=position,
            total=source.total,
            rate=(row - self.skipped) / max(1e-3, time.monotonic() - self.started),
            heartbeat_at=timezone.now(),
            result={**self.result.as_json(), "row": row},
        )
        return bool(running) and not Job.objects.filter(pk=self.job.pk, state=Job.State.CANCELLED).exists()


def portion_of(rows: Iterator[Raw]) -> Iterator[Raw]:
    """The next rows to write in one transaction: bounded in number and in bytes."""
    size = 0
    for raw in islice(rows, CHUNK_ROWS):
        yield raw
        size += raw.size
        if size > CHUNK_BYTES:
            return


def written(project_id: int, rows: list[Row]) -> Iterator[chunk.Tally]:
    """Write rows; if the database refuses something nobody foresaw, find the one row and lose no other."""
    if not rows:
        return
    try:
        yield chunk.write(project_id, rows)
    except (DataError, IntegrityError, ValueError, OverflowError) as error:
        if len(rows) > 1:
            for row in rows:
                yield from written(project_id, [row])
        else:
            problem = TouchstoneError(f"the database refused the row: {str(error)[:200]}.", code="database")
            yield chunk.Tally(problems=[(rows[0].number, problem)])


def open_report(path: Path | None, kept: int) -> TextIO | None:
    """The report of bad rows; of an earlier run's, the rows that will not be read again stay."""
    if path is None:
        return None
    path.parent.mkdir(parents=True, exist_ok=True)
    old = path.read_text().splitlines(keepends=True) if kept and path.exists() else []
    file = path.open("w")
    file.writelines(line for line in old if json.loads(line)["row"] <= kept)
    return file
