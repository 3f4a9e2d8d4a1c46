"""Jobs that run while others annotate: ``python -m benchmarks.meanwhile UNTIL refit import``, inside an installation.

The project of the annotators is refitted again and again; a large file is imported into a project beside it. Whatever
runs at the end is cancelled. Prints one line of JSON: how many ended, and how many rows were imported.
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks import filling  # sets Django up

from django.core.files.uploadedfile import SimpleUploadedFile  # isort: skip

from annotate import jobs, versions
from annotate.models import Job, Project, User

PROMPTS, RESPONSES = 40_000, 4
BETWEEN = 0.2


def refit(boss: User) -> Job:
    return versions.refit(Project.objects.get(slug="serving"), boss)


def import_file(boss: User) -> Job:
    """A file as the page uploads it; no two have the same rows."""
    project, _ = Project.objects.get_or_create(
        slug="beside", defaults={"name": "Beside", "encoder": "hashing"}
    )
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "pool.jsonl"
        write(file, project.jobs.count())
        job = jobs.draft(project, Job.Kind.IMPORT, boss, SimpleUploadedFile(file.name, file.read_bytes()))
    jobs.submit(job, boss, job.arguments)
    return job


def write(file: Path, number: int) -> None:
    rng = random.Random(number)
    with file.open("w") as out:
        for row in range(PROMPTS):
            responses = [{"text": filling.prose(rng, 40), "source": f"model-{k}"} for k in range(RESPONSES)]
            prompt = f"{number}/{row}: {filling.prose(rng, 20)}?"
            out.write(json.dumps({"prompt": prompt, "responses": responses}) + "\n")


KINDS: dict[str, Callable[[User], Job]] = {"refit": refit, "import": import_file}


def run(until: float, kinds: list[str]) -> dict[str, int]:
    """Keep one job of each kind running until then."""
    boss, _ = User.objects.get_or_create(username="boss", defaults={"is_superuser": True})
    begun = {kind: [KINDS[kind](boss)] for kind in kinds}
    while time.time() < until:
        for kind, started in begun.items():
            started[-1].refresh_from_db()
            if started[-1].state not in jobs.OPEN:
                started.append(KINDS[kind](boss))
        time.sleep(BETWEEN)
    found: dict[str, int] = {}
    for kind, started in begun.items():
        started[-1].refresh_from_db()
        jobs.cancel(started[-1], boss)
        found[f"{kind}s"] = len(started)
        found[f"{kind}s_failed"] = sum(job.state == Job.State.FAILED for job in started)
        if kind == "import":
            found["rows_imported"] = sum(job.done for job in started)
    return found


if __name__ == "__main__":
    sys.stdout.write(json.dumps(run(float(sys.argv[1]), sys.argv[2:])) + "\n")
