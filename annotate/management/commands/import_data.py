"""``manage.py import_data FILE --project NAME``: prompts with responses, or pairs already labelled."""

from __future__ import annotations

import re
import sys
import time
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.utils.text import slugify

from annotate.errors import TouchstoneError
from annotate.importing import ImportResult, Options, import_file
from annotate.models import Project


class Command(BaseCommand):
    help = "Import prompts with responses, or pairs already labelled. Exit status 1: some rows were skipped."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "file", type=Path, help="JSONL, JSON, CSV or Parquet; JSONL, JSON and CSV also gzipped"
        )
        parser.add_argument("--project", required=True, help="name or slug; made if there is none")
        parser.add_argument("--utility-field", default="", help="a response's number that is its known worth")
        parser.add_argument("--utility-scale", choices=["raw", "logit"], default="raw")
        parser.add_argument(
            "--column", action="append", default=[], metavar="OURS=THEIRS", help="which column is which"
        )
        parser.add_argument(
            "--report", type=Path, help="where bad rows are written (default: the data folder)"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        path: Path = options["file"]
        try:
            project = project_named(options["project"])
            bar = Bar(self.stderr)
            result = import_file(
                project,
                path,
                options=Options(
                    options["utility_field"], options["utility_scale"], columns(options["column"])
                ),
                progress=bar.show,
                report=options["report"] or default_report(project, path),
            )
        except TouchstoneError as error:
            raise CommandError(str(error)) from None
        bar.end()
        self.stdout.write(summary(project, result, bar.seconds()))
        if result.bad:
            sys.exit(1)


def project_named(name: str) -> Project:
    """The project with this slug or name; a new one if there is none."""
    slug = slugify(name)[:80]
    found = Project.objects.filter(slug=name).first() or Project.objects.filter(name=name).first()
    if found is None and not slug:
        raise TouchstoneError(f"A project cannot be called {name!r}: it needs a letter or a digit.")
    return found or Project.objects.get_or_create(slug=slug, defaults={"name": name[:120]})[0]


def columns(pairs: list[str]) -> dict[str, str]:
    for pair in pairs:
        if "=" not in pair:
            raise TouchstoneError(f"--column wants OURS=THEIRS; this was {pair!r}.")
    return dict(pair.split("=", 1) for pair in pairs)


def default_report(project: Project, path: Path) -> Path:
    stem = re.sub(r"[^\w.-]+", "_", path.name)[:80]
    return settings.DATA / "logs" / f"import-{project.slug}-{stem}.bad.jsonl"


def summary(project: Project, result: ImportResult, seconds: float) -> str:
    words = [
        f"{result.read:,} rows read in {seconds:.1f} s: {result.prompts_added:,} prompts, "
        f"{result.responses_added:,} responses and {result.judgments_added:,} judgments added to "
        f"{project.name!r}; {result.duplicates:,} rows were there already."
    ]
    if result.gold_added:
        words.append(f"{result.gold_added:,} pairs are gold: their answers are known.")
    if result.repeats:
        words.append(f"{result.repeats:,} responses had the text of one that the prompt has already.")
    if result.bad:
        reasons = ", ".join(f"{code} {count:,}" for code, count in result.reasons.most_common())
        words.append(f"{result.bad:,} bad rows were skipped ({reasons}); each is named in {result.report}")
    return "\n".join(words)


class Bar:
    """A progress bar on a terminal; in a log, a line every ten seconds."""

    def __init__(self, out: Any) -> None:
        self.out, self.live = out, sys.stderr.isatty()
        self.started = self.said = time.monotonic()

    def seconds(self) -> float:
        return time.monotonic() - self.started

    def show(self, result: ImportResult, position: int, size: int) -> None:
        now, rows = time.monotonic(), result.read
        if now - self.said < (0.1 if self.live else 10):
            return
        self.said = now
        share = position / max(1, size)
        left = (now - self.started) * (1 - share) / max(share, 1e-6)
        text = f"{share:4.0%}  {rows:,} rows  {rows / (now - self.started):,.0f} rows/s  {left:,.0f} s left"
        done = "█" * round(30 * share)
        self.out.write(f"\r{done:░<30} {text}   " if self.live else text, ending="" if self.live else "\n")

    def end(self) -> None:
        if self.live:
            self.out.write("")
