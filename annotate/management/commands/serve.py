"""The web server: gunicorn with threads."""

from __future__ import annotations

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
        Server(
            config | {"worker_class": "gthread", "loglevel": "warning", "timeout": 120, "graceful_timeout": 5}
        ).run()
