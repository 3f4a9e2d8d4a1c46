"""A file of prompts with responses imported through the browser's path: upload, look, start, a worker's job.

A private installation (SQLite, or ``--database``) with a web server and a worker of the jobs queue. Memory is the
resident size of the two processes, sampled twenty times a second. Meanwhile an annotator asks for the compare page of
another project ten times a second; before the import, the same for five seconds, is what it is compared with.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.visiting import Site, asking, finished, quantile, served, text, visitor


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this benchmark."""
    parser.add_argument("--prompts", type=int, default=100_000)
    parser.add_argument("--responses", type=int, default=4)
    parser.add_argument("--words", type=int, default=60, help="of a response, on average")
    parser.add_argument("--bad", type=int, default=1_000, help="rows among them that cannot be used")
    parser.add_argument("--database", default="", help="URL of an empty PostgreSQL database; default: SQLite")
    parser.add_argument("--seed", type=int, default=0)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Write the file, import it, count."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "pool.jsonl"
        write(file, args)
        with served(args.database) as site:
            return measured(site, file, args)


def write(file: Path, args: argparse.Namespace) -> None:
    rng = random.Random(args.seed)
    every = (args.prompts + args.bad) // args.bad if args.bad else 0
    with file.open("w") as out:
        good = 0
        for row in range(args.prompts + args.bad):
            if every and row % every == 0 and row // every < args.bad:
                out.write('{"prompt": "", "responses": [NaN]}\n')
                continue
            good += 1
            responses = [
                {"text": f"{k} {text(rng, args.words)}", "source": f"model-{k}"}
                for k in range(args.responses)
            ]
            out.write(json.dumps({"prompt": f"{good}: {text(rng, 20)}?", "responses": responses}) + "\n")


def measured(site: Site, file: Path, args: argparse.Namespace) -> dict[str, Any]:
    from annotate.models import Membership, Project, Role, User

    boss, annotator = visitor(site, "boss", boss=True), visitor(site, "annotator")
    project, other = (
        Project.objects.create(name=name, slug=name, encoder="hashing") for name in ("large", "small")
    )
    Membership.objects.create(project=other, user=User.objects.get(username="annotator"), role=Role.ANNOTATOR)
    fill(other)
    page = "/projects/small/compare/"
    annotator.get(page)
    with asking(annotator, page) as before:
        time.sleep(5)
    with site.watched() as peak, asking(annotator, page) as during:
        began = time.perf_counter()
        address = boss.upload("/projects/large/data/import/", file)
        uploaded = time.perf_counter()
        boss.get(address)
        looked = time.perf_counter()
        job_page = boss.post(address, action="start", utility_scale="raw")
        job = finished(int(job_page.rstrip("/").rsplit("/", 1)[1]))
        ended = time.perf_counter()
    project.refresh_from_db()
    assert (project.prompt_count, job.result["bad"]) == (args.prompts, args.bad), job.result
    return report(args, file, job, before, during, peak, [began, uploaded, looked, ended])


def fill(project: Any) -> None:
    """A small pool, so that the compare page has a pair to show."""
    from annotate.importing import import_file

    with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as file:
        for n in range(200):
            file.write(
                json.dumps({"prompt": f"Question {n}?", "responses": [f"a {n}", f"b {n}", f"c {n}"]}) + "\n"
            )
        file.flush()
        import_file(project, file.name)


def report(
    args: argparse.Namespace, file: Path, job: Any, before: list[float], during: list[float],
    peak: dict[str, float], times: list[float],
) -> dict[str, Any]:  # fmt: skip
    began, uploaded, looked, ended = times
    size = file.stat().st_size / 1e6
    seconds = (job.finished_at - job.started_at).total_seconds()
    figures = {
        "rows_per_second": job.result["read"] / seconds,
        "import_seconds": seconds,
        "upload_megabytes_per_second": size / (uploaded - began),
        "look_milliseconds": 1e3 * (looked - uploaded),
        "worker_megabytes": peak["worker"],
        "web_megabytes": peak["web"],
        "page_p50_before": quantile(before, 0.5),
        "page_p95_before": quantile(before, 0.95),
        "page_p50_during": quantile(during, 0.5),
        "page_p95_during": quantile(during, 0.95),
        "bad_rows_named": job.result["bad"],
    }
    row = {"prompts": args.prompts, "responses": args.responses, "megabytes": size, "seconds": ended - began}
    return {"figures": figures, "rows": [row]}
