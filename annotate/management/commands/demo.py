"""The demo: one project to work in, and one that synthetic annotators have filled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser

from annotate.celery import ring
from annotate.importing import import_file
from annotate.models import Job, Membership, Project, Role, User

CONTENT = Path(settings.BASE_DIR) / "annotate" / "demo"
GUIDELINES = """\
Choose the response that would help the person who asked.

1. **Right before nice.** A wrong answer loses to a correct one, however well it is written.
2. **What was asked.** Format, length and constraints of the prompt count.
3. **Enough, not more.** Padding is a fault; a missing step that the reader needs is one too.
4. A refusal is right only where helping would do harm.

Choose *tie* when you would be equally happy with either, *both bad* when you would show neither.
"""


class Command(BaseCommand):
    help = "Make the two demo projects, if they are not there."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--judgments", type=int, default=600, help="Synthetic judgments in the simulated project."
        )

    def handle(self, *args: Any, **options: Any) -> None:
        owner = User.objects.filter(is_superuser=True).order_by("pk").first()
        if not Project.objects.filter(slug="demo").exists():
            self.make("demo", "Everyday assistants", owner, evaluation_prompt_share=0.15)
        if not Project.objects.filter(slug="simulated").exists():
            project = self.make(
                "simulated", "Simulated crowd", owner, is_simulated=True, evaluation_prompt_share=0.4,
                evaluation_share=0.2, control_share=0.3,
            )  # fmt: skip
            job = Job.objects.create(
                project=project, kind=Job.Kind.SIMULATE, arguments={"judgments": options["judgments"]}
            )
            ring("run_job", job.pk)

    def make(self, slug: str, name: str, owner: User | None, **settings: Any) -> Project:
        """A project with the demo's prompts, its owner as admin and the demo annotator as annotator."""
        project = Project.objects.create(
            slug=slug, name=name, guidelines=GUIDELINES, created_by=owner,
            question="Which response would you rather have received?", **settings,
        )  # fmt: skip
        if owner:
            Membership.objects.create(project=project, user=owner, role=Role.ADMIN)
        annotator = User.objects.filter(username="annotator").first()
        if annotator and not project.is_simulated:
            Membership.objects.create(project=project, user=annotator, role=Role.ANNOTATOR)
        for file in sorted(CONTENT.glob("prompts_*.jsonl")):
            import_file(project, file)
        project.refresh_from_db()
        self.stdout.write(f"{name}: {project.prompt_count} prompts, {project.response_count} responses.")
        return project
