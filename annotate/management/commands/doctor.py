"""Look at everything an installation needs and say what to do about what is missing."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.core import mail
from django.core.cache import cache
from django.core.exceptions import ImproperlyConfigured
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage, storages
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor
from django.utils import timezone

from annotate import health
from annotate.checks import production
from annotate.models import Heartbeat, Project

Finding = tuple[bool, str, str]
LEAST_FREE = 2 * 2**30
LOCAL = ("localhost", "127.0.0.1", "[::1]")


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
    executor = MigrationExecutor(connection)
    plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    yield True, f"database answers ({connection.vendor})", ""
    yield (
        not plan,
        f"{len(plan)} migrations to apply" if plan else "tables are up to date",
        "manage.py prepare",
    )


def broker() -> Iterator[Finding]:
    fine = health.broker_answers()
    what = "broker answers" if fine else "broker does not answer"
    yield fine, what, "check CELERY_BROKER_URL; judgments are safe meanwhile, learning waits"


def caches() -> Iterator[Finding]:
    try:
        cache.set("doctor", "well", 10)
        fine = cache.get("doctor") == "well"
    except Exception:
        fine = False
    yield fine, "cache answers" if fine else "cache does not answer", "check REDIS_URL: rate limits are off"


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
    for queue in ("learn", "embed", "jobs", "score"):
        fine = queue in queues
        what = f"queue {queue} has a worker" if fine else f"queue {queue} has no worker"
        yield fine, what, f"manage.py work --queues {queue}"


def worker_here() -> Iterator[Finding]:
    since = timezone.now() - timedelta(seconds=60)
    name = os.uname().nodename
    fine = Heartbeat.objects.filter(host=name, seen_at__gte=since).exists()
    yield fine, f"worker on {name}", "it has not been heard for a minute: restart it"


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


def storage() -> Iterator[Finding]:
    """Where jobs read and write; and the static files, whose hashed names a production page cannot do without."""
    try:
        name = default_storage.save("incoming/doctor", ContentFile(b"well"))
        default_storage.delete(name)
        yield True, "storage of files takes and gives back", ""
    except OSError as error:
        yield (
            False,
            f"storage of files: {error.strerror}",
            f"let this user write to {settings.DATA / 'files'}",
        )
    try:
        storages["staticfiles"].url("css/base.css")
        yield True, "static files are there", ""
    except ValueError:
        yield (
            False,
            f"static files are not collected in {settings.STATIC_ROOT}",
            "manage.py collectstatic --noinput",
        )


def letters() -> Iterator[Finding]:
    if settings.EMAIL_BACKEND.endswith(("console.EmailBackend", "dummy.EmailBackend")):
        what = "e-mail goes to the log"
        yield (
            not settings.PRODUCTION,
            what,
            "set EMAIL_URL=smtp+tls://USER:PASSWORD@HOST:587, for forgotten passwords",
        )
        return
    try:
        with mail.get_connection(timeout=5):
            yield True, "e-mail: the server takes our connection", ""
    except (OSError, ImproperlyConfigured) as error:
        yield False, f"e-mail: {type(error).__name__}", "check EMAIL_URL: host, port, user, password"


def encoder() -> Iterator[Finding]:
    from learner.encoders import load_encoder
    from learner.errors import LearnerError

    try:
        names = set(Project.objects.values_list("encoder", flat=True)) or {"all-MiniLM-L6-v2"}
    except DatabaseError:
        return
    for name in sorted(names):
        try:
            load_encoder(name).encode(["one sentence"])
            yield True, f"encoder {name} works", ""
        except (LearnerError, OSError, ImportError) as error:
            yield False, f"encoder {name}: {error}", "install it, or choose another in the project's settings"


def safety() -> Iterator[Finding]:
    if not settings.PRODUCTION:
        yield True, "PRODUCTION is not set: made for one machine and its own people", ""
        return
    wrong = production(None)  # no command starts with these, so this is for whoever silenced them
    for error in wrong:
        yield False, error.msg.partition(". ")[0], error.msg.partition(". ")[2]
    if not wrong:
        yield True, f"DEBUG is off, SECRET_KEY has {len(settings.SECRET_KEY)} characters", ""
    yield from hosts()


def hosts() -> Iterator[Finding]:
    named = [host for host in settings.ALLOWED_HOSTS if host not in LOCAL]
    advice = "set ALLOWED_HOSTS to the names under which browsers reach the site"
    yield (
        bool(named),
        f"hosts: {', '.join(named)}" if named else "no host but this machine is allowed",
        advice,
    )
    secure = all(origin.startswith("https://") for origin in settings.CSRF_TRUSTED_ORIGINS)
    fine = bool(settings.CSRF_TRUSTED_ORIGINS) and secure
    what = "forms are taken behind the TLS proxy" if fine else "forms are refused behind a TLS proxy"
    yield fine, what, "set CSRF_TRUSTED_ORIGINS=https://YOUR.HOST"


LOOKS: list[Callable[[], Iterator[Finding]]] = [
    database, broker, caches, workers, files, storage, encoder, letters, safety,
]  # fmt: skip
