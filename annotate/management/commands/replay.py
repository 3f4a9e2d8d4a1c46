"""Prove that what was learned is a function of the log."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from annotate.models import Project


class Command(BaseCommand):
    help = "Rebuild every estimator of a project from the judgment log and compare digests bit for bit."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("project", help="The project's name in its address (slug).")

    def handle(self, *args: Any, **options: Any) -> None:
        from learner.errors import LearnerError
        from learner.tasks.replaying import replay

        project = Project.objects.filter(slug=options["project"]).first()
        if project is None:
            slugs = ", ".join(Project.objects.values_list("slug", flat=True)) or "none yet"
            raise CommandError(f"There is no project {options['project']!r}. Projects: {slugs}.")
        try:
            compared = replay(project)
        except LearnerError as error:
            raise CommandError(str(error)) from error
        for row in compared:
            verdict = "same" if row.same else f"DIFFERENT: replayed {row.replayed[:16]}"
            self.stdout.write(
                f"step {row.step:>8}  {row.role:<10}  {row.what:<10}  {row.stored[:16]}  {verdict}"
            )
        if not all(row.same for row in compared):
            raise CommandError("The stored states are not what the log gives.")
        self.stdout.write(f"{len(compared)} states compared, all the same bits.")
