"""``manage.py export_data --project NAME --kind trl --output FILE``: a project as a dataset, with its card."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from annotate.errors import TouchstoneError
from annotate.exporting import FORMATS, KINDS, LEFT_OUT, Export, Filters, Wanted, card, export
from annotate.models import Arm, Project


class Command(BaseCommand):
    help = "Export a project: " + "; ".join(f"{name}: {kind.words}" for name, kind in KINDS.items()) + "."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--project", required=True, help="name or slug")
        parser.add_argument("--kind", choices=list(KINDS), default="trl")
        parser.add_argument("--format", choices=list(FORMATS), default="jsonl")
        parser.add_argument("--gzip", action="store_true")
        parser.add_argument("--output", type=Path, help="file to write; default: SLUG-KIND.FORMAT here")
        parser.add_argument("--card", type=Path, help="write the dataset card to this file too")
        parser.add_argument("--arm", action="append", default=[], choices=Arm.values)
        parser.add_argument("--split", action="append", default=[], choices=["train", "test"])
        parser.add_argument("--tag", action="append", default=[])
        parser.add_argument("--min-votes", type=int, default=1)
        parser.add_argument("--min-agreement", type=float, default=0.0)

    def handle(self, *args: Any, **options: Any) -> None:
        file = Wanted(options["kind"], options["format"], options["gzip"])
        try:
            project = project_named(options["project"])
            path = options["output"] or Path(f"{project.slug}-{file.name}")
            run = written(project, file, path, filters_of(options))
        except (TouchstoneError, OSError) as error:
            raise CommandError(str(error)) from None
        if options["card"]:
            options["card"].write_text(card(run, file))
        self.stdout.write(summary(run, path))


def project_named(name: str) -> Project:
    found = Project.objects.filter(slug=name).first() or Project.objects.filter(name=name).first()
    if found is None:
        raise TouchstoneError(f"There is no project {name!r}.", code="gone")
    return found


def filters_of(options: dict[str, Any]) -> Filters:
    return Filters(
        arms=tuple(options["arm"]),
        splits=tuple(options["split"]),
        tags=tuple(options["tag"]),
        min_votes=options["min_votes"],
        min_agreement=options["min_agreement"],
    )


def written(project: Project, file: Wanted, path: Path, filters: Filters) -> Export:
    """Write beside the target and rename, so that a reader never finds half a file."""
    part = path.with_name(path.name + ".part")
    try:
        with part.open("wb") as out:
            run = export(project, file.kind, out, format=file.format, packed=file.packed, filters=filters)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return run


def summary(run: Export, path: Path) -> str:
    left = [f"{count:,} {LEFT_OUT[name]}" for name, count in run.left_out.items() if count]
    return f"{run.rows:,} rows written to {path}" + (f"; left out: {', '.join(left)}." if left else ".")
