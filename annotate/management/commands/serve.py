"""The web server: gunicorn with threads."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import warnings
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from gunicorn.app.base import BaseApplication

from annotate.alive import end_with_parent


class Server(BaseApplication):  # type: ignore[misc]
    """gunicorn, configured here instead of in a file of its own."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config
        super().__init__()

    def load_config(self) -> None:
        for key, value in self.config.items():
            self.cfg.set(key, value)

    def load(self) -> Any:
        from annotate.wsgi import application

        return application


class Command(BaseCommand):
    help = "Serve the site with gunicorn."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--bind", default="127.0.0.1:8000", help="Address and port.")
        parser.add_argument("--workers", type=int, default=1, help="Processes.")
        parser.add_argument("--threads", type=int, default=8, help="Threads in each process.")

    def handle(self, *args: Any, **options: Any) -> None:
        end_with_parent()
        warnings.filterwarnings("ignore", message="No directory at")  # no collectstatic outside production
        config = {name: options[name] for name in ("bind", "workers", "threads")}
        folder, parent = tempfile.mkdtemp(prefix="touchstone-metrics-"), os.getpid()
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder  # one process answers /metrics for all
        settled = {"worker_class": "gthread", "loglevel": "warning", "timeout": 120, "graceful_timeout": 5}
        try:
            Server(config | settled | {"post_worker_init": begin, "child_exit": forget}).run()
        finally:
            if os.getpid() == parent:  # the children that it forks end here, too
                shutil.rmtree(folder, ignore_errors=True)


def begin(worker: Any) -> None:
    """What each process does before its first request."""
    from annotate.celery import SWITCH, bells
    from annotate.scoring import let_wait

    sys.setswitchinterval(SWITCH)
    let_wait(worker.cfg.threads // 2)
    bells.start()


def forget(server: Any, worker: Any) -> None:
    """What a process that ended counted stays; its gauges go."""
    from prometheus_client.multiprocess import mark_process_dead

    mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]
