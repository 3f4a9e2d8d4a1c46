"""A file into a project: read row by row, written chunk by chunk, with progress, cancelling, and a report.

Reading and understanding happen outside transactions, so a chunk holds the write lock for milliseconds only.
Everything is recognised by its content: a run that was killed is simply run again, and ends in the same state.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

from django.db import DataError, IntegrityError, connection

from annotate.celery import ring
from annotate.errors import TouchstoneError
from annotate.importing import chunk
from annotate.importing.readers import Raw, Source, opened
from annotate.importing.rows import Options, Row
from annotate.importing.shapes import understand
from annotate.models import Comparison, Judgment, Project, Prompt, Response

# Rows of one transaction. SQLite has one writer, and whoever answers meanwhile waits for it; PostgreSQL has many.
CHUNK_ROWS = {"sqlite": 100, "postgresql": 500}
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
    "row",
]


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
    row: int = 0  # the number of the last row that was stored or refused
    cancelled: bool = False
    reasons: Counter[str] = field(default_factory=Counter)
    report: Path | None = None

    def as_json(self) -> dict[str, Any]:
        return {**{name: getattr(self, name) for name in COUNTS}, "reasons": dict(self.reasons)}

    def take_up(self, before: Mapping[str, Any]) -> None:
        """Go on counting where an earlier run's last stored chunk ended."""
        for name in COUNTS:
            setattr(self, name, before.get(name, 0))
        self.reasons.update(before.get("reasons", {}))


# The result so far, position, size (bytes, or rows of a Parquet file); False cancels the import.
Progress = Callable[[ImportResult, int, int], object]


def import_file(
    project: Project,
    path: Path | str,
    *,
    options: Options | None = None,
    progress: Progress | None = None,
    report: Path | None = None,
    before: Mapping[str, Any] | None = None,
) -> ImportResult:
    """Import a file of any shape that is known; bad rows are skipped, counted and written to ``report``.

    ``before`` is the result (as JSON) of a run of the same file that was stopped: its rows are passed over.
    """
    source = opened(Path(path))
    with source.file, Run(project, options or Options(), progress, report) as run:
        run.read(source, before or {})
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
    """One run of an import: keeps the result and the report up to date."""

    def __init__(
        self, project: Project, options: Options, progress: Progress | None, report: Path | None
    ) -> None:
        self.project, self.options, self.progress = project, options, progress
        self.result = ImportResult(report=report)
        self.log: TextIO | None = None

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_: object) -> None:
        if self.log:
            self.log.close()

    def read(self, source: Source, before: Mapping[str, Any]) -> None:
        self.result.take_up(before)
        skipped = self.result.row
        self.log = open_report(self.result.report, skipped)
        rows = (raw for raw in source.rows() if raw.number > skipped)
        while portion := list(portion_of(rows)):
            self.store(portion)
            self.result.row = portion[-1].number
            if self.progress and self.progress(self.result, source.position(), source.total) is False:
                self.result.cancelled = True
                return

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


def portion_of(rows: Iterator[Raw]) -> Iterator[Raw]:
    """The next rows to write in one transaction: bounded in number and in bytes."""
    size = 0
    for raw in islice(rows, CHUNK_ROWS[connection.vendor]):
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
