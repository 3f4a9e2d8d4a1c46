"""Pages of a large project: how many queries and milliseconds each costs, and what the text indexes cost an import.

Builds a project of its own in the database (SQLite in a temporary folder, or ``--database URL`` of an empty
PostgreSQL database), opens every page as its admin through Django's test client, and reports the median and the
slowest of ``--repeat`` requests after one that warms up. Nothing of another project is touched.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import numpy as np


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this benchmark."""
    parser.add_argument("--judgments", type=int, default=100_000)
    parser.add_argument("--responses", type=int, default=400_000)
    parser.add_argument("--per-prompt", type=int, default=4)
    parser.add_argument("--words", type=int, default=120, help="words of a response")
    parser.add_argument("--annotators", type=int, default=50)
    parser.add_argument("--database", help="URL of an empty database, or of one filled before")
    parser.add_argument("--repeat", type=int, default=7)
    parser.add_argument("--seed", type=int, default=0)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Build, measure, report."""
    with tempfile.TemporaryDirectory(prefix="touchstone-pages-") as folder:
        os.environ["TOUCHSTONE_DATA"] = folder
        os.environ["DATABASE_URL"] = args.database or f"sqlite:///{folder}/pages.sqlite3"
        os.environ["CELERY_BROKER_URL"] = "memory://"
        os.environ["DJANGO_SETTINGS_MODULE"] = "annotate.settings"
        import django

        django.setup()
        from benchmarks.pages_building import build

        figures = build(args)
        rows = list(measured(args))
    for row in rows:
        name = row["page"].replace(" ", "_")
        figures |= {f"{name}_ms": row["median_ms"], f"{name}_queries": float(row["queries"])}
    figures["slowest_page_ms"] = max(row["median_ms"] for row in rows)
    figures["most_queries"] = float(max(row["queries"] for row in rows))
    return {"figures": figures, "rows": rows}


def measured(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """One row a page."""
    from django.db import connection
    from django.test import Client
    from django.test.utils import CaptureQueriesContext

    from annotate.models import User

    client = Client()
    admin = User.objects.get(username="pages-admin")
    client.force_login(admin, backend="allauth.account.auth_backends.AuthenticationBackend")
    for name, path in addresses().items():
        began = time.perf_counter()
        if client.get(path, headers={"host": "localhost"}).status_code != 200:
            raise SystemExit(f"{path} did not answer 200")
        first = 1000 * (time.perf_counter() - began)
        took = []
        for _ in range(args.repeat):
            began = time.perf_counter()
            client.get(path, headers={"host": "localhost"})
            took.append(1000 * (time.perf_counter() - began))
        with CaptureQueriesContext(connection) as queries:
            client.get(path, headers={"host": "localhost"})
        slowest = max((float(q["time"]) for q in queries.captured_queries), default=0.0)
        yield {
            "page": name,
            "queries": len(queries),
            "first_ms": round(first, 1),
            "median_ms": round(float(np.median(took)), 1),
            "slowest_ms": round(max(took), 1),
            "slowest_query_ms": round(1000 * slowest, 1),
        }


def addresses() -> dict[str, str]:
    """Pages by name; deep pages, rare and common words, and filters that few rows pass are among them."""
    from annotate.models import Comparison, Judgment, Project, Prompt, Response, User

    project = Project.objects.get(slug="pages")
    last = Prompt.objects.filter(project=project).order_by("-position").values_list("position", flat=True)[0]
    comparison = Comparison.objects.filter(project=project).order_by("id")[0]
    judgment = Judgment.objects.filter(project=project, replaced_at=None).order_by("id")[0]
    someone = User.objects.get(username="pages-1").pk
    data = "/projects/pages/data"
    return {
        "home": "/",
        "dashboard": "/projects/pages/",
        "prompts": f"{data}/prompts/",
        "prompts deep": f"{data}/prompts/?after={int(last * 0.9)}",
        "prompts rare word": f"{data}/prompts/?q=w19999",
        "prompts common word": f"{data}/prompts/?q=w0",
        "prompts tag": f"{data}/prompts/?tag=code",
        "prompts never judged": f"{data}/prompts/?judged=no",
        "responses": f"{data}/responses/",
        "responses deep": f"{data}/responses/?after={Response.objects.filter(project=project).count() * 9 // 10}",
        "responses best": f"{data}/responses/?sort=best",
        "responses best of a source": f"{data}/responses/?sort=best&source=model-1",
        "responses rare word": f"{data}/responses/?q=w19999",
        "responses two words": f"{data}/responses/?q=w300+w200",
        "responses common word": f"{data}/responses/?q=w0",
        "comparisons": f"{data}/comparisons/",
        "comparisons widest": f"{data}/comparisons/?sort=widest",
        "comparisons of an arm": f"{data}/comparisons/?arm=evaluation",
        "comparisons judged differently": f"{data}/comparisons/?judged=differently",
        "comparisons rare word": f"{data}/comparisons/?q=w19999",
        "comparisons common word": f"{data}/comparisons/?q=w0",
        "judgments": f"{data}/judgments/",
        "judgments of one": f"{data}/judgments/?annotator={someone}",
        "judgments rare answer": f"{data}/judgments/?answer=both_bad",
        "judgments word": f"{data}/judgments/?q=w500",
        "prompt": f"{data}/prompts/{comparison.prompt_id}/",
        "comparison": f"{data}/comparisons/{comparison.pk}/",
        "judgment": f"{data}/judgments/{judgment.pk}/",
        "dry runs": f"{data}/dry-runs/",
    }
