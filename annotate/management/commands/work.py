"""A worker for all queues on this machine: what ``up`` starts beside the web server."""

from __future__ import annotations

import os
import warnings
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from annotate.alive import end_with_parent
from annotate.celery import app


class Command(BaseCommand):
    help = "Run a Celery worker for the learn, embed, jobs and score queues in one process."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--queues", default="learn,embed,jobs,score", help="Queues to take from.")
        parser.add_argument(
            "--concurrency",
            type=int,
            default=4,  # two jobs, one that embeds, and one that learns
            help="Tasks at once: threads, or processes of a prefork pool.",
        )
        parser.add_argument(
            "--pool",
            choices=["threads", "prefork", "solo"],
            default="threads",
            help="How they run beside each other.",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        end_with_parent()
        warnings.filterwarnings("ignore", message="You're running the worker with superuser privileges")
        app.worker_main(
            [
                "--quiet",
                "worker",
                f"--hostname={options['queues'].replace(',', '-')}-{os.getpid()}@%h",
                f"--pool={options['pool']}",
                f"--concurrency={options['concurrency']}",
                f"--queues={options['queues']}",
                "--loglevel=WARNING",
                "--without-gossip",
                "--without-mingle",
                "--without-heartbeat",
            ]
        )
