"""A private installation for benchmarks: its own data folder and database, web server and workers, and their cost."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
TICKS = os.sysconf("SC_CLK_TCK")
SETTING = ("DATABASE_URL", "CELERY_BROKER_URL", "REDIS_URL", "PRODUCTION", "DEBUG", "SECRET_KEY")


class Site:
    """Processes of one installation, and what they used."""

    def __init__(self, data: Path, environment: dict[str, str]) -> None:
        self.data, self.port = data, free_port()
        kept = {name: value for name, value in os.environ.items() if name not in SETTING}
        self.environment = (
            kept
            | {"TOUCHSTONE_DATA": str(data), "OMP_NUM_THREADS": "1", "PYTHONFAULTHANDLER": "1"}
            | {"ANSWERS_A_MINUTE": "0"}  # its annotators answer without reading
            | environment
        )
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, *arguments: str) -> None:
        """Start ``manage.py`` with these arguments; its output goes to a file in the data folder."""
        with (self.data / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [sys.executable, "manage.py", *arguments],
                env=self.environment,
                cwd=ROOT,
                stdout=log,
                stderr=log,
            )

    def inside(self, *arguments: str) -> Any:
        """Run a module inside the installation; the JSON that it printed last."""
        done = subprocess.run(
            [sys.executable, *arguments], env=self.environment, cwd=ROOT, capture_output=True, text=True
        )
        if done.returncode:
            raise SystemExit(f"{' '.join(arguments)} failed:\n{done.stderr[-3000:]}")
        last = done.stdout.strip().splitlines()[-1:]
        return json.loads(last[0]) if last and last[0][0] in "[{" else None

    def wait_until_it_answers(self, seconds: float = 90) -> None:
        deadline = time.monotonic() + seconds
        while True:
            with (
                suppress(OSError),
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health/", timeout=5),
            ):
                return
            if time.monotonic() > deadline:
                raise SystemExit(f"the site did not come up:\n{(self.data / 'web.log').read_text()[-2000:]}")
            time.sleep(0.2)

    def cost(self) -> dict[str, dict[str, float]]:
        """CPU seconds and the largest resident memory so far, by process with its children."""
        return {name: cost_of(process.pid) for name, process in self.processes.items()}

    def must_live(self) -> None:
        """A process that ended by itself makes figures worthless; end with what it said."""
        for name, process in self.processes.items():
            if process.poll() is not None:
                said = (self.data / f"{name}.log").read_text()[-8000:]
                raise SystemExit(f"the {name} process ended with status {process.returncode}:\n{said}")

    def stop(self) -> None:
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def cost_of(pid: int) -> dict[str, float]:
    """Of a process and everything it started."""
    total = {"cpu": 0.0, "rss_mb": 0.0}
    with suppress(OSError, IndexError):  # it may be gone, or have ended and not been waited for
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        status = Path(f"/proc/{pid}/status").read_text()
        total["cpu"] = (int(fields[11]) + int(fields[12])) / TICKS
        total["rss_mb"] = int(status.split("VmHWM:")[1].split()[0]) / 1024
        for child in children:
            total = {name: total[name] + value for name, value in cost_of(int(child)).items()}
    return total


@contextmanager
def site(database: str | None, broker: str | None) -> Iterator[Site]:
    """A migrated installation in a folder of its own, gone afterwards; on a server, in a new database of its own."""
    data = Path(tempfile.mkdtemp(prefix="touchstone-benchmark-"))
    environment = {"CELERY_BROKER_URL": broker} if broker else {}
    name = f"benchmark_{secrets.token_hex(4)}"
    if database:
        on_server(database, f'CREATE DATABASE "{name}"')
        environment["DATABASE_URL"] = f"{database.rsplit('/', 1)[0]}/{name}"
    private = Site(data, environment)
    try:
        private.inside("manage.py", "migrate", "-v0")
        yield private
    finally:
        private.stop()
        if database:
            on_server(database, f'DROP DATABASE "{name}" WITH (FORCE)')
        shutil.rmtree(data, ignore_errors=True)


def on_server(database: str, statement: str) -> None:
    import psycopg

    with psycopg.connect(f"{database.rsplit('/', 1)[0]}/postgres", autocommit=True) as connection:
        connection.execute(statement.encode())
