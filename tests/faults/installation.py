"""A private installation for fault tests: its own data folder, port, web server and worker; and clients that retry."""

from __future__ import annotations

import atexit
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LEASE = re.compile(r'data-lease="([0-9a-f-]{36})"')


class Installation:
    """What `manage.py up` starts, with handles to kill its parts."""

    def __init__(self, data: Path, **environment: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.environment = {
            **{
                name: value
                for name, value in os.environ.items()
                if name not in ("DATABASE_URL", "CELERY_BROKER_URL")
            },
            "TOUCHSTONE_DATA": str(data),
            "OMP_NUM_THREADS": "1",
            "ANSWERS_A_MINUTE": "0",  # crowds answer without reading
            **environment,
        }
        self.log = (data.parent / f"{data.name}.log").open("ab")
        self.process: subprocess.Popen[bytes] | None = None

    def manage(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run one management command of this installation."""
        command = [sys.executable, str(ROOT / "manage.py"), *arguments]
        return subprocess.run(
            command, env=self.environment, cwd=ROOT, capture_output=True, text=True, timeout=120
        )

    def python(self, code: str) -> str:
        """Run code inside this installation's Django; what it printed."""
        result = self.manage("shell", "--no-imports", "-c", code)
        assert result.returncode == 0, result.stderr
        return result.stdout

    def seed(self, people: int, prompts: int = 30, responses: int = 5) -> list[str]:
        """A project with the hashing encoder and annotators; their session keys."""
        output = self.python(
            f"from tests.faults.seeding import seed\nprint(seed({people}, {prompts}, {responses}))"
        )
        return list(json.loads(output.strip().splitlines()[-1].replace("'", '"')))

    def start(self) -> None:
        """Start web server and worker, and wait until a page answers."""
        command = [sys.executable, str(ROOT / "manage.py"), "up", "--port", str(self.port)]
        self.process = subprocess.Popen(
            command, env=self.environment, cwd=ROOT, stdout=self.log, stderr=self.log
        )
        deadline = time.monotonic() + 60
        while not self.answers():
            assert time.monotonic() < deadline, "the site did not come up"
            time.sleep(0.2)

    def answers(self) -> bool:
        """Whether the sign-in page is served."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/accounts/login/", timeout=5):
                return True
        except OSError:
            return False

    def processes(self, part: str) -> list[int]:
        """Process ids of the worker ("work") or of the web server ("serve") of this installation."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                command = (folder / "cmdline").read_bytes().split(b"\0")
                environment = (folder / "environ").read_bytes()
            except OSError:
                continue
            ours = f"TOUCHSTONE_DATA={self.environment['TOUCHSTONE_DATA']}".encode() in environment
            if ours and part.encode() in command:
                found.append(int(folder.name))
        return found

    def kill(self, part: str) -> None:
        """Kill -9 the worker or the web server with its processes; one killed before may have to come back first."""
        deadline = time.monotonic() + 60
        while not (found := self.processes(part)):
            assert time.monotonic() < deadline, f"{part} did not come back"
            time.sleep(0.1)
        for process in found:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)

    def stop(self) -> None:
        """Ctrl-C."""
        if self.process:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(30)
        self.log.close()


@cache
def migrated() -> Path:
    """An SQLite database with all tables, made once: every installation that has no other begins with a copy."""
    folder = Path(tempfile.mkdtemp(prefix="touchstone-migrated-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    made = Installation(folder / "data").manage("migrate", "-v0")
    assert made.returncode == 0, made.stderr
    return folder / "data" / "touchstone.sqlite3"


@contextmanager
def installation(data: Path, **environment: str) -> Iterator[Installation]:
    """A migrated installation that is stopped at the end, whatever happens."""
    data.mkdir(parents=True)
    site = Installation(data, **environment)
    if "DATABASE_URL" in environment:
        made = site.manage("migrate", "-v0")
        assert made.returncode == 0, made.stderr
    else:
        shutil.copy(migrated(), data)
    try:
        yield site
    finally:
        site.stop()


class Annotator(threading.Thread):
    """A browser that answers until told to stop, and repeats an answer until it is acknowledged."""

    def __init__(self, site: Installation, session: str, stop: threading.Event, pause: float = 0.02) -> None:
        super().__init__(daemon=True)
        self.base = f"http://127.0.0.1:{site.port}/projects/faults/"
        self.cookies = f"sessionid={session}; csrftoken={'t' * 32}"
        self.stop_event, self.pause = stop, pause
        self.acknowledged: list[str] = []
        self.errors: list[str] = []

    def run(self) -> None:
        while not self.stop_event.is_set():
            page = self.ask("compare/")
            for lease in LEASE.findall(page or "")[:1]:
                self.answer(lease)
            time.sleep(self.pause)

    def answer(self, lease: str) -> None:
        """Send until the server says that it has it, or refuses it for good."""
        while self.ask(f"leases/{lease}/judgment/", f"side=left&lead_time=1.5&held={lease}") is None:
            if self.stop_event.is_set():
                return
            time.sleep(0.1)
        self.acknowledged.append(lease)

    def ask(self, path: str, form: str | None = None) -> str | None:
        """The answer's text; None when the server is away."""
        headers = {
            "Cookie": self.cookies,
            "HX-Request": "true",
            "X-CSRFToken": "t" * 32,
            "Referer": self.base,
        }
        request = urllib.request.Request(self.base + path, form.encode() if form else None, headers)  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=20) as response:  # noqa: S310
                return str(response.read().decode())
        except urllib.error.HTTPError as error:
            self.errors.append(f"{error.code} {error.read().decode()[:200]}")
            return None
        except (OSError, http.client.HTTPException):  # the second: killed in the middle of its answer
            return None
