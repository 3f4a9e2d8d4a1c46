"""A private installation for benchmarks of the whole product: its own data folder, database, web server and worker."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


@contextmanager
def private_site(database: str = "") -> Iterator[Path]:
    """Django set up in this process on a data folder that is gone afterwards; once a process.

    ``database`` is the URL of an empty PostgreSQL database; without one, SQLite in the folder.
    """
    with TemporaryDirectory(prefix="touchstone-benchmark-") as folder:
        for name in ("DATABASE_URL", "PRODUCTION", "DEBUG", "SECRET_KEY", "REDIS_URL"):
            os.environ.pop(name, None)
        os.environ |= {
            "TOUCHSTONE_DATA": folder,
            "DJANGO_SETTINGS_MODULE": "annotate.settings",
            "CELERY_BROKER_URL": os.environ.get("TOUCHSTONE_BENCHMARK_BROKER_URL", "filesystem://"),
            "API_REQUESTS_A_MINUTE": "100000000",
            "ANSWERS_A_MINUTE": "0",
            "LOG_LEVEL": "ERROR",
            "ALLOWED_HOSTS": "localhost,127.0.0.1,testserver",
        }
        if database:
            os.environ["DATABASE_URL"] = database
        import django
        from django.core.management import call_command

        django.setup()
        call_command("migrate", verbosity=0, interactive=False)
        yield Path(folder)


@contextmanager
def running(folder: Path) -> Iterator[int]:
    """Web server and worker of the private site; the port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    command = [sys.executable, str(ROOT / "manage.py"), "up", "--port", str(port)]
    with (folder / "up.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
        try:
            wait_for(port)
            yield port
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(60)


def wait_for(port: int, seconds: float = 120.0) -> None:
    """Until a page answers and the worker has been heard."""
    from annotate.models import Heartbeat

    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with suppress(OSError):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/health/")
            if connection.getresponse().status == 200 and Heartbeat.objects.exists():
                return
        time.sleep(0.2)
    raise TimeoutError("the site did not come up")


class Caller:
    """A program that calls the running site's API over one connection."""

    def __init__(self, port: int, token: str) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        self.headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}

    def post(self, path: str, body: Any) -> Any:
        self.connection.request("POST", f"/api/v1{path}", json.dumps(body).encode(), self.headers)
        answer = self.connection.getresponse()
        content = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{path}: {answer.status} {content[:500].decode(errors='replace')}")
        return json.loads(content)
