"""Every kind of export in every format, as jobs of a worker, read back by pyarrow and ``datasets``.

A private installation (SQLite, or ``--database``) with a web server and a worker of the jobs queue, and a project of
as many judgments as asked for, two for every other comparison. A job is asked for by the page's form; its time is from
the worker's claim to its end. What it wrote is loaded by ``datasets`` (and Parquet by pyarrow) and checked against
TRL's rules for the fields of that kind of dataset.
"""

from __future__ import annotations

import argparse
import random
import tempfile
from typing import Any

from benchmarks.visiting import Site, finished, served, text, visitor

KINDS = ("trl", "trl_conversational", "trl_implicit", "trl_unpaired", "votes", "pool")
FORMATS = ("jsonl", "csv", "parquet")
BATCH = 5_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this benchmark."""
    parser.add_argument("--judgments", type=int, default=50_000)
    parser.add_argument("--responses", type=int, default=4)
    parser.add_argument("--words", type=int, default=60, help="of a response, on average")
    parser.add_argument("--database", default="", help="URL of an empty PostgreSQL database; default: SQLite")
    parser.add_argument("--seed", type=int, default=0)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Fill the project, export it in all ways, read every file."""
    with served(args.database) as site:
        fill(args)
        return measured(site, args)


def measured(site: Site, args: argparse.Namespace) -> dict[str, Any]:
    boss = visitor(site, "boss", boss=True)
    rows, most = [], 0.0
    for kind in KINDS:
        for form in FORMATS:
            with site.watched() as peak:
                sent = {
                    "kind": kind,
                    "format": form,
                    "weigh": "reliability",
                    "min_votes": 1,
                    "min_agreement": 0,
                }
                address = boss.post("/projects/judged/data/export/", action="job", **sent)
                job = finished(int(address.rstrip("/").rsplit("/", 1)[1]))
            seconds = (job.finished_at - job.started_at).total_seconds()
            size = job.result["files"][0]["size"] / 1e6
            row = {"kind": kind, "format": form, "rows": job.done, "megabytes": size, "seconds": seconds}
            rows.append({**row, "worker_megabytes": peak["worker"], "read": check(job, kind, form)})
            most = max(most, peak["worker"])
    return {
        "figures": {
            "judgments": args.judgments,
            "slowest_seconds": max(row["seconds"] for row in rows),
            "mean_seconds": sum(row["seconds"] for row in rows) / len(rows),
            "worker_megabytes": most,
            "files_read_back": len([row for row in rows if row["read"]]),
        },
        "rows": rows,
    }


def check(job: Any, kind: str, form: str) -> int:
    """The number of rows that ``datasets`` reads; all fields as TRL wants them, or an assertion fails."""
    import datasets
    import pyarrow.parquet as pq
    from django.core.files.storage import default_storage

    datasets.disable_progress_bars()
    path = default_storage.path(job.result["files"][0]["path"])
    how: dict[str, Any] = {"keep_default_na": False, "na_values": [""]} if form == "csv" else {}
    if form == "parquet":
        assert pq.ParquetFile(path).metadata.num_rows == job.done
    with tempfile.TemporaryDirectory() as cache:
        name = {"jsonl": "json"}.get(form, form)
        found = datasets.load_dataset(name, data_files=path, split="train", cache_dir=cache, **how)
        assert len(found) == job.done, (kind, form, len(found), job.done)
        if form != "csv":  # CSV has no lists: its conversations are JSON in their cells
            check_fields(found, kind)
        return len(found)


def check_fields(found: Any, kind: str) -> None:
    """TRL's rules: which fields, texts or lists of messages, a boolean label."""
    names, row = set(found.column_names), found[0]
    talk = kind in ("trl_conversational", "trl_implicit")
    if kind in ("trl", "trl_conversational", "trl_implicit"):
        assert {"chosen", "rejected"} <= names and ("prompt" in names) == (kind != "trl_implicit")
        assert row["chosen"] != row["rejected"]
        for name in names & {"prompt", "chosen", "rejected"}:
            assert is_talk(row[name]) if talk else isinstance(row[name], str)
    if kind == "trl_unpaired":
        assert {"prompt", "completion", "label"} <= names and isinstance(row["label"], bool)


def is_talk(value: Any) -> bool:
    return isinstance(value, list) and all({"role", "content"} == set(message) for message in value)


def fill(args: argparse.Namespace) -> None:
    """Prompts, responses, comparisons and judgments, straight into the tables."""
    from annotate.models import Membership, Project, Role, User

    rng = random.Random(args.seed)
    project = Project.objects.create(name="Judged", slug="judged")
    people = User.objects.bulk_create(User(username=f"annotator-{n}") for n in range(20))
    Membership.objects.bulk_create(
        Membership(project=project, user=user, role=Role.ANNOTATOR) for user in people
    )
    comparisons = args.judgments * 2 // 3
    prompts = max(1, comparisons // 2)
    for start in range(0, prompts, BATCH):
        batch(project, people, range(start, min(start + BATCH, prompts)), args, rng)
    project.prompt_count, project.response_count = prompts, prompts * args.responses
    project.largest_prompt = args.responses
    project.save()


def batch(
    project: Any, people: list[Any], numbers: range, args: argparse.Namespace, rng: random.Random
) -> None:
    """Some prompts, each with two comparisons: one judged by two people, one by one."""
    from annotate.models import Comparison, Prompt, Response

    prompts = Prompt.objects.bulk_create(
        Prompt(
            project=project, position=n, text=f"{n}: {text(rng, 20)}?", digest=f"{n:064x}", is_evaluation=n % 10 == 0,
            response_count=args.responses, tags=["tide"] if n % 3 else [],
        )
        for n in numbers
    )  # fmt: skip
    responses = Response.objects.bulk_create(
        Response(
            project=project, prompt=prompt, position=prompt.position * args.responses + k, source=f"model-{k}",
            text=f"{k} {text(rng, args.words)}", digest=f"{k:064x}", utility=float(k),
        )
        for prompt in prompts
        for k in range(args.responses)
    )  # fmt: skip
    firsts = [responses[i * args.responses : (i + 1) * args.responses] for i in range(len(prompts))]
    pairs = [
        (prompt, own[k], own[k + 1], k) for prompt, own in zip(prompts, firsts, strict=True) for k in (0, 1)
    ]
    comparisons = Comparison.objects.bulk_create(
        Comparison(
            project=project, prompt=prompt, first=first, second=second, rule="random", arm="control" if k else "active",
            state="done", wanted=2 - k, taken=2 - k, judged=2 - k, arm_probability=0.5, probability=0.01, width=0.3,
        )
        for prompt, first, second, k in pairs
    )  # fmt: skip
    judge(project, people, comparisons, rng)


def judge(project: Any, people: list[Any], comparisons: list[Any], rng: random.Random) -> None:
    from annotate.models import Judgment, Lease

    taken = [(row, user) for row in comparisons for user in rng.sample(people, row.wanted)]
    from django.utils import timezone

    now = timezone.now()
    leases = Lease.objects.bulk_create(
        Lease(
            project=project, comparison=row, annotator=user, outcome="judged", swapped=rng.random() < 0.5,
            expires_at=now, closed_at=now,
        )
        for row, user in taken
    )  # fmt: skip
    answers = rng.choices(["first", "second", "tie", "both_bad"], [60, 30, 7, 3], k=len(leases))
    Judgment.objects.bulk_create(
        Judgment(
            project=project, comparison=lease.comparison, annotator=lease.annotator, lease=lease, answer=answer,
            lead_time=rng.lognormvariate(2.5, 0.5),
        )
        for lease, answer in zip(leases, answers, strict=True)
    )  # fmt: skip
