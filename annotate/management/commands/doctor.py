"""Look at everything an installation needs and say what to do about what is missing."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor
from django.utils import timezone

from annotate import alive, health
from annotate.models import Heartbeat, Project

Finding = tuple[bool, str, str]
LEAST_FREE = 2 * 2**30


class Command(BaseCommand):
    help = "Check database, broker, workers, files, encoder and settings; exit 1 if something needs a hand."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--worker", action="store_true", help="Only ask whether this machine's worker is alive."
        )

    def handle(self, *args: Any, **options: Any) -> None:
        looks = [worker_here] if options["worker"] else LOOKS
        failed = 0
        for look in looks:
            for fine, what, advice in look():
                failed += not fine
                self.stdout.write(f"{'ok  ' if fine else 'LOOK'}  {what}{'' if fine else '  -> ' + advice}")
        if failed:
            raise CommandError(f"{failed} thing{'s need' if failed > 1 else ' needs'} a hand.")


def database() -> Iterator[Finding]:
    if not health.database_answers():
        yield False, "database does not answer", "check DATABASE_URL and that the server runs"
        return
    plan = MigrationExecutor(connection).migration_plan(
        MigrationExecutor(connection).loader.graph.leaf_nodes()
    )
    yield True, f"database answers ({connection.vendor})", ""
    yield (
        not plan,
        f"{len(plan)} migrations to apply" if plan else "tables are up to date",
        "manage.py migrate",
    )


def broker() -> Iterator[Finding]:
    fine = health.broker_answers()
    what = "broker answers" if fine else "broker does not answer"
    yield fine, what, "check CELERY_BROKER_URL; judgments are safe meanwhile, learning waits"


def workers() -> Iterator[Finding]:
    try:
        since = timezone.now() - timedelta(seconds=30)
        queues = {
            queue
            for names in Heartbeat.objects.filter(seen_at__gte=since).values_list("queues", flat=True)
            for queue in names.split(",")
        }
    except DatabaseError:
        return
    for queue in ("learn", "embed", "jobs"):
        fine = queue in queues
        what = f"queue {queue} has a worker" if fine else f"queue {queue} has no worker"
        yield fine, what, f"manage.py work --queues {queue}"


def worker_here() -> Iterator[Finding]:
    since = timezone.now() - timedelta(seconds=60)
    name = alive.worker_name(f"celery@{os.uname().nodename}")
    fine = Heartbeat.objects.filter(worker=name, seen_at__gte=since).exists()
    yield fine, f"worker {name}", "it has not been heard for a minute: restart it"


def files() -> Iterator[Finding]:
    try:
        with tempfile.NamedTemporaryFile(dir=settings.DATA):
            pass
    except OSError as error:
        yield False, f"data folder {settings.DATA}: {error.strerror}", "let this user write there"
        return
    free = shutil.disk_usage(settings.DATA).free
    yield free > LEAST_FREE, f"{free / 2**30:,.1f} GiB free for files", "make room: checkpoints need it"
    key = settings.DATA / "secret_key"
    if key.exists():
        mode = key.stat().st_mode & 0o777
        yield mode == 0o600, f"key file has mode {mode:o}", f"chmod 600 {key}"


def encoder() -> Iterator[Finding]:
    from learner.encoders import load_encoder
    from learner.errors import LearnerError

    names = set(Project.objects.values_list("encoder", flat=True)) or {"all-MiniLM-L6-v2"}
    for name in sorted(names):
        try:
            load_encoder(name).encode(["one sentence"])
            yield True, f"encoder {name} works", ""
        except (LearnerError, OSError, ImportError) as error:
            yield False, f"encoder {name}: {error}", "install it or change the project's encoder"


def safety() -> Iterator[Finding]:
    if not settings.PRODUCTION:
        yield True, "PRODUCTION is not set: made for one machine and its own people", ""
        return
    yield not settings.DEBUG, "DEBUG is off" if not settings.DEBUG else "DEBUG is on", "unset DEBUG"
    yield (
        len(settings.SECRET_KEY) >= 40,
        f"SECRET_KEY has {len(settings.SECRET_KEY)} characters",
        "use 50 or more",
    )
    yield (
        bool(settings.CSRF_TRUSTED_ORIGINS),
        "CSRF_TRUSTED_ORIGINS",
        "set it to https://your.host behind a TLS proxy",
    )


LOOKS: list[Callable[[], Iterator[Finding]]] = [database, broker, workers, files, encoder, safety]
