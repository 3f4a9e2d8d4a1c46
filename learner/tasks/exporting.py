"""An export as a job: streamed to a file in the storage, with its dataset card beside it."""

from __future__ import annotations

from annotate import auditing, jobs, outcomes, scheduling
from annotate.errors import TouchstoneError
from annotate.exporting import Wanted, begin, card, stream
from annotate.exporting.asking import filters_by, wanted_by, weigh_by
from annotate.models import Comparison, Job, Project
from learner.tasks.jobs import report


def export_project(job: Job) -> str:
    """Write the file anew, however far a killed run had come; list it when it is whole."""
    project = job.project
    if project is None:
        raise TouchstoneError("The project is not here any more.")
    file = wanted_by(job.arguments)
    weigh = weigh_by(project, job.arguments.get("weigh", ""))
    run = begin(project, file.kind, filters_by(job.arguments), weigh)
    job.total = expected(project, file)
    with jobs.new_file(job, scheduling.dated(job, file.name), "The data", scheduling.folder_for(job)) as out:
        for piece in stream(run, file):
            out.write(piece)
            if not report(job, min(run.rows, job.total)):
                raise TouchstoneError("Cancelled before the file was whole; nothing was kept.")
    with jobs.new_file(
        job, scheduling.dated(job, "README.md"), "Dataset card", scheduling.folder_for(job)
    ) as out:
        out.write(card(run, file).encode())
    job.done = job.total = run.rows
    job.result = {**job.result, "rows": run.rows, "left_out": run.left_out}
    auditing.record(project, job.created_by, "exported", file.name, job=job.pk, rows=run.rows)
    scheduling.let_older_go(job)
    return outcomes.exported(run.rows, run.left_out)


def expected(project: Project, file: Wanted) -> int:
    """About how many rows there will be: what a progress bar needs to know beforehand."""
    if file.kind == "pool":
        return max(1, project.prompt_count)
    if file.kind == "votes":
        return max(1, project.judgments.count())
    return max(1, Comparison.objects.filter(project=project, judged__gt=0).count())
