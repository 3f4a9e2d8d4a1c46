"""A pool of a million responses from a file to the first pair: import, embedding, the learner's start, serving; memory.

The pool is synthetic (prompts of about 25 words with four answers of about 60), the encoder the hashing one, so that
the plumbing is measured and not a model. Every stage runs in a process of its own, whose largest resident memory is
read from the system: ``rss`` counts mapped files too, which the system takes back when it needs them; ``private``
does not. Without ``--database`` it is SQLite in a temporary folder. The database must be empty and is left behind.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Row = dict[str, Any]
WORDS = 5000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this benchmark."""
    parser.add_argument("--responses", type=int, default=20_000)
    parser.add_argument("--per-prompt", type=int, default=4)
    parser.add_argument("--database", default="", help="URL of an empty database; SQLite when not given")
    parser.add_argument("--judgments", type=int, default=200, help="answered and learned from at the end")
    parser.add_argument("--dimensions", type=int, default=32)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Every stage in turn."""
    folder = Path(tempfile.mkdtemp(prefix="touchstone-largepool-"))
    try:
        rows = [staged(stage, args, folder) for stage in (write_pool, import_pool, embed_pool, serve_pool)]
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    figures: dict[str, Any] = {"responses": args.responses, "pairs": rows[-1]["pairs"]}
    for row in rows[1:]:
        figures[f"{row['stage']}_s"], figures[f"{row['stage']}_rss_mb"] = row["seconds"], row["rss_mb"]
    figures |= {
        key: rows[-1][key] for key in rows[-1] if key not in ("stage", "seconds", "rss_mb", "private_mb")
    }
    figures["total_s"] = sum(row["seconds"] for row in rows[1:])
    return {"figures": figures, "rows": rows}


def staged(stage: Callable[[argparse.Namespace, Path], Row], args: argparse.Namespace, folder: Path) -> Row:
    """Run a stage in a fresh process; its row."""
    context = multiprocessing.get_context("spawn")
    answers = context.SimpleQueue()
    process = context.Process(target=_stage, args=(stage, args, folder, answers))
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit(f"{stage.__name__} ended with {process.exitcode}")
    row: Row = answers.get()
    return row


def _stage(
    stage: Callable[[argparse.Namespace, Path], Row], args: argparse.Namespace, folder: Path, answers: Any
) -> None:
    os.environ |= {
        "TOUCHSTONE_DATA": str(folder / "data"),
        "CELERY_BROKER_URL": "memory://",
        "LOG_LEVEL": "ERROR",
    }
    os.environ["DJANGO_SETTINGS_MODULE"] = "annotate.settings"
    os.environ.pop("DATABASE_URL", None)
    if args.database:
        os.environ["DATABASE_URL"] = args.database
    import django

    django.setup()
    started = time.perf_counter()
    more = stage(args, folder)
    name = stage.__name__.removesuffix("_pool")
    answers.put({"stage": name, "seconds": time.perf_counter() - started, **memory(), **more})


def memory() -> Row:
    """Largest resident memory of this process so far, and what of it is private now, in MB."""
    fields = dict(
        line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line
    )
    return {
        "rss_mb": int(fields["VmHWM"].split()[0]) / 1024,
        "private_mb": int(fields["RssAnon"].split()[0]) / 1024,
    }


def write_pool(args: argparse.Namespace, folder: Path) -> Row:
    """The file that is imported, one prompt a line; and an empty database with a project."""
    from django.core.management import call_command

    call_command("migrate", verbosity=0, interactive=False)
    from annotate.models import Membership, Project, Role, User

    if Project.objects.exists():
        raise SystemExit("The database is not empty; give an empty one.")
    project = Project.objects.create(
        name="Large", slug="large", encoder="hashing", dimensions=args.dimensions
    )
    Membership.objects.create(project=project, user=User.objects.create(username="ben"), role=Role.ANNOTATOR)
    rng = np.random.default_rng(0)
    words = np.array([f"word{i}" for i in range(WORDS)])
    with (folder / "pool.jsonl").open("w") as file:
        for i in range(args.responses // args.per_prompt):
            drawn = words[rng.integers(WORDS, size=25 + 60 * args.per_prompt)]
            answers = [
                {"id": f"{i}-{k}", "text": " ".join(drawn[25 + 60 * k : 85 + 60 * k]), "source": f"model-{k}"}
                for k in range(args.per_prompt)
            ]
            file.write(
                json.dumps({"id": str(i), "prompt": " ".join(drawn[:25]), "responses": answers}) + "\n"
            )
    return {"megabytes": (folder / "pool.jsonl").stat().st_size / 1e6}


def import_pool(args: argparse.Namespace, folder: Path) -> Row:
    """Through the same code as the page and the command."""
    from annotate.importing import import_file
    from annotate.models import Project

    result = import_file(Project.objects.get(), folder / "pool.jsonl")
    return {"added": result.responses_added}


def embed_pool(args: argparse.Namespace, folder: Path) -> Row:
    """What the embed worker does."""
    from annotate.models import FeatureVersion, Project
    from learner.tasks.embedding import embed_missing

    embed_missing(Project.objects.get().pk)
    version = FeatureVersion.objects.get()
    if version.embedded != args.responses:
        raise SystemExit(f"embedded {version.embedded} of {args.responses}")
    return {"dimension": version.dimension}


def serve_pool(args: argparse.Namespace, folder: Path) -> Row:
    """The first pair, the learner's start, then answers that are learned from one by one."""
    from annotate import judging, serving
    from annotate.models import Project, User
    from learner.tasks.absorbing import absorb_waiting
    from learner.tasks.states import _cache, scores_of

    project, user = Project.objects.get(), User.objects.get(username="ben")
    times: dict[str, list[float]] = {"next": [], "submit": [], "absorb": []}
    started = time.perf_counter()
    serving.leases_for(project, user, 1)
    first = time.perf_counter()
    absorb_waiting(project.pk)
    ready = time.perf_counter()
    for i in range(args.judgments):
        lease = timed(times["next"], lambda: serving.leases_for(project, user, 1)[0])
        submission = judging.Submission("left" if i % 2 else "right")
        timed(times["submit"], lambda: judging.record(user, lease.pk, submission))  # noqa: B023
        timed(times["absorb"], lambda: absorb_waiting(project.pk))
    return {
        "pairs": scores_of(_cache[project.pk]).size,
        "first_pair_s": first - started,
        "learner_ready_s": ready - first,
    } | {
        f"{name}_p{q}_ms": 1e3 * float(np.quantile(spent, q / 100))
        for name, spent in times.items()
        for q in (50, 95)
    }


def timed(spent: list[float], act: Callable[[], Any]) -> Any:
    """Do it and note how long it took."""
    started = time.perf_counter()
    result = act()
    spent.append(time.perf_counter() - started)
    return result
