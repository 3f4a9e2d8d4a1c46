"""``manage.py export_model PROJECT --output FOLDER``: the reward model as a standard transformers folder."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from annotate.errors import TouchstoneError
from annotate.management.commands.export_data import project_named
from annotate.models import FeatureVersion, Project


class Command(BaseCommand):
    help = "Write the reward model as a folder for AutoModelForSequenceClassification, with its card."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("project", help="name or slug")
        parser.add_argument("--output", type=Path, help="folder to write; default: SLUG-reward-model here")
        parser.add_argument("--feature-version", type=int, help="its number; default: the live one")

    def handle(self, *args: Any, **options: Any) -> None:
        from learner.errors import LearnerError
        from learner.tasks.releasing import said, write

        try:
            project = project_named(options["project"])
            version = version_named(project, options["feature_version"])
            folder = options["output"] or Path(f"{project.slug}-reward-model")
            if folder.exists() and any(folder.iterdir()):
                raise CommandError(f"{folder} is not empty.")
            done = write(project, version, folder)
        except (TouchstoneError, LearnerError, OSError) as error:
            raise CommandError(str(error)) from None
        self.stdout.write(f"Written to {folder}: {said(done)}")


def version_named(project: Project, number: int | None) -> FeatureVersion:
    versions = project.feature_versions.filter(embedded__gt=0)
    found = versions.filter(pk=number).first() if number else versions.filter(state="live").first()
    if found is None:
        raise TouchstoneError(
            f"{project.name} has no such feature version with embedded responses.", code="gone"
        )
    return found
