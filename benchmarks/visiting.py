"""Web server and worker of a private installation: their memory, and what a browser asks of them."""

from __future__ import annotations

import random
import re
import secrets
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from benchmarks.site import private_site

ROOT = Path(__file__).resolve().parent.parent
PIECE = 1 << 20
TIDES = "the tide turns because moon and sun pull on water that wants to lie level while the earth rolls"


@contextmanager
def served(database: str = "") -> Iterator[Site]:
    """A private installation with web server and worker running, one process each; stopped at the end."""
    with private_site(database):
        site = Site(free_port())
        try:
            site.start()
            yield site
        finally:
            site.stop()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Site:
    """The running processes."""

    port: int
    web: subprocess.Popen[bytes] | None = None
    worker: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.web = self.manage("serve", "--bind", f"127.0.0.1:{self.port}")
        self.worker = self.manage("work", "--queues", "jobs", "--concurrency", "2")
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with suppress(OSError):
                HTTPConnection("127.0.0.1", self.port, timeout=5).connect()
                return
            time.sleep(0.2)
        raise RuntimeError("the web server did not start in a minute")

    def manage(self, *command: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, str(ROOT / "manage.py"), *command], cwd=ROOT)

    def stop(self) -> None:
        for process in (self.web, self.worker):
            if process:
                process.terminate()
        for process in (self.web, self.worker):
            if process:
                try:
                    process.wait(15)
                except subprocess.TimeoutExpired:
                    process.kill()

    @contextmanager
    def watched(self) -> Iterator[dict[str, float]]:
        """The most memory that web server and worker had while inside, in megabytes; filled at the end."""
        assert self.web and self.worker
        pids, peak, ended = (
            {"web": self.web.pid, "worker": self.worker.pid},
            {"web": 0.0, "worker": 0.0},
            threading.Event(),
        )

        def look() -> None:
            while not ended.wait(0.05):
                for name, pid in pids.items():
                    peak[name] = max(peak[name], memory(pid))

        watcher = threading.Thread(target=look, daemon=True)
        watcher.start()
        try:
            yield peak
        finally:
            ended.set()
            watcher.join()


def memory(pid: int) -> float:
    """Resident megabytes of the largest of a process and its children: gunicorn's worker is a child."""
    return max((resident(one) for one in family(pid)), default=0.0)


def family(pid: int) -> list[int]:
    with suppress(OSError):
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [pid, *(int(child) for child in children)]
    return [pid]


def resident(pid: int) -> float:
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
    return 0.0


@dataclass
class Visitor:
    """Somebody signed in, with one request at a time."""

    site: Site
    session: str
    token: str = field(default_factory=lambda: secrets.token_hex(16))

    def get(self, path: str) -> str:
        return self.ask("GET", path)[1]

    def post(self, path: str, **sent: Any) -> str:
        """Where the answer leads."""
        body = urlencode(sent, doseq=True).encode()
        answer, text = self.ask("POST", path, body, {"Content-Type": "application/x-www-form-urlencoded"})
        return led(answer, text)

    def upload(self, path: str, file: Path) -> str:
        """Send a file as a browser does, a piece at a time; where the answer leads."""
        boundary = secrets.token_hex(8)
        head = (
            f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{file.name}"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n"
        ).encode()
        tail = f"\r\n--{boundary}--\r\n".encode()
        size = len(head) + file.stat().st_size + len(tail)
        sent = {"Content-Type": f"multipart/form-data; boundary={boundary}", "Content-Length": str(size)}
        answer, text = self.ask("POST", path, pieces(head, file, tail), sent)
        return led(answer, text)

    def ask(
        self, method: str, path: str, body: Any = None, sent: dict[str, str] | None = None
    ) -> tuple[HTTPResponse, str]:
        connection = HTTPConnection("127.0.0.1", self.site.port, timeout=600)
        cookie = f"sessionid={self.session}; csrftoken={self.token}"
        connection.request(method, path, body, {"Cookie": cookie, "X-CSRFToken": self.token, **(sent or {})})
        answer = connection.getresponse()
        text = answer.read().decode("utf-8", "replace")
        connection.close()
        if answer.status >= 400:
            raise RuntimeError(f"{method} {path}: {answer.status} {text[:300]}")
        return answer, text


def pieces(head: bytes, file: Path, tail: bytes) -> Iterator[bytes]:
    yield head
    with file.open("rb") as opened:
        while piece := opened.read(PIECE):
            yield piece
    yield tail


def led(answer: HTTPResponse, text: str) -> str:
    if answer.status != 302:
        said = re.findall(r'class="(?:errorlist|notice error)[^>]*>(.*?)</', text, re.S)
        raise RuntimeError(f"the form was not accepted: {said or text[:300]}")
    return str(answer.headers["Location"])


def visitor(site: Site, name: str, *, boss: bool = False) -> Visitor:
    """An account with a session, as after signing in."""
    from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
    from django.contrib.sessions.backends.db import SessionStore

    from annotate.models import User

    user = User.objects.create(username=name, is_superuser=boss, is_staff=boss)
    session = SessionStore()
    session[SESSION_KEY] = str(user.pk)
    session[BACKEND_SESSION_KEY] = "allauth.account.auth_backends.AuthenticationBackend"
    session[HASH_SESSION_KEY] = user.get_session_auth_hash()
    session.save()
    return Visitor(site, str(session.session_key))


@contextmanager
def asking(visitor: Visitor, path: str, every: float = 0.1) -> Iterator[list[float]]:
    """How long a page took, asked for again and again while inside, in milliseconds."""
    times: list[float] = []
    ended = threading.Event()

    def ask() -> None:
        while not ended.wait(every):
            began = time.perf_counter()
            visitor.get(path)
            times.append(1e3 * (time.perf_counter() - began))

    asker = threading.Thread(target=ask, daemon=True)
    asker.start()
    try:
        yield times
    finally:
        ended.set()
        asker.join()


def text(rng: random.Random, words: int) -> str:
    """Words in some order, as many as that on average."""
    return " ".join(rng.choices(TIDES.split(), k=rng.randint(words // 2, words + words // 2)))


def quantile(times: list[float], share: float) -> float:
    if len(times) < 2:
        return times[0] if times else float("nan")
    return statistics.quantiles(times, n=100, method="inclusive")[round(100 * share) - 1]


def finished(job_id: int, seconds: float = 3600.0) -> Any:
    """The job's row once it has ended."""
    from annotate.models import Job

    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        job = Job.objects.get(pk=job_id)
        if not job.is_open:
            if job.state != Job.State.DONE:
                raise RuntimeError(f"the job {job.state}: {job.message}")
            return job
        time.sleep(0.1)
    raise RuntimeError("the job did not end in time")
